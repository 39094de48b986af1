"""Takes over the data folder of the original: one JSON file for each task.

Everything is committed before the files are set aside, and nothing may be delivered before that:
so this can be cut off anywhere and done again, leaving alone what is known by then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Annotated

import msgspec

from poussetaches.core.defect import describe_defect, stack_of
from poussetaches.core.errors import (
    CannotOpenStore,
    InvalidSchedule,
    InvalidTask,
    StoreUnavailable,
)
from poussetaches.core.moment import SECOND, Moment
from poussetaches.core.original import CONNECTION_ERROR, DEFAULT_EXPECTED, OWNER
from poussetaches.core.schedule import Schedule, as_seconds_first, next_occurrence
from poussetaches.core.target import check_absolute_url
from poussetaches.core.task import Attempt, DeliveryForm, Reason, Task, TaskState
from poussetaches.store.advice import advice_on
from poussetaches.store.atomic_file import sync_folder
from poussetaches.store.base import Store

# Ended tasks come first: one that is in two folders must not run again.
FOLDERS = {
    "success": TaskState.SUCCEEDED,
    "dead": TaskState.DEAD,
    "waiting": TaskState.WAITING,
}
SLICE = 500  # files in one transaction: keeps the write lock under ~50 ms
SLICE_BYTES = 32 * 1024 * 1024  # a slice of large payloads ends earlier
LATEST = 2**63 - 1  # nanoseconds, in 2262: the last moment that the original can hold

log = logging.getLogger(__name__)


class TakeOver(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of new tasks and schedules, of broken files, and of files imported earlier."""

    waiting: int = 0
    succeeded: int = 0
    dead: int = 0
    schedules: int = 0
    broken: int = 0
    skipped: int = 0


async def take_over(folder: Path, store: Store, *, now: Moment) -> TakeOver:
    """Bring the tasks of the original in a data folder into the store, and set its files aside.

    Does nothing where there are none. The caller delivers nothing until this has returned: a
    task that ends and is pruned while its file is still there would come back.

    Raises:
        CannotOpenStore: the files cannot be listed or set aside.
        StoreUnavailable: what was not committed yet is left for the next time.
    """
    folders = await asyncio.to_thread(_folders_in, folder)
    if not folders:
        return TakeOver()
    taken = TakeOver()
    broken: list[Path] = []
    for path in folders:
        state = FOLDERS[path.name]
        files = iter(await asyncio.to_thread(_files_in, path))
        while (found := await asyncio.to_thread(_read_slice, files, state, now)).file_count:
            taken = _sum(taken, await _keep(found, state, store, now))
            broken += [file for file, _ in found.broken]
    await asyncio.to_thread(_set_aside, folder, folders, broken)
    log.info(
        "tasks of the original taken over",
        extra={**msgspec.structs.asdict(taken), "files": str(folder / "original")},
    )
    return taken


_Int = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class _OriginalTask(msgspec.Struct, frozen=True):
    """A file of the original, as Go writes it; earlier versions had fewer of the keys."""

    id: Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,200}\Z")]  # it goes into a header
    url: str
    payload: bytes | None = None
    expected: _Int = 0
    schedule: str = ""
    next_run: int = 0  # nanoseconds, as the two below
    next_scheduled_run: int = 0
    last_run: int = 0
    tries: _Int = 0
    last_error_status_code: _Int = 0
    last_error_body: bytes | None = None


_decode = msgspec.json.Decoder(_OriginalTask).decode


class _BrokenFile(Exception):
    """The file has no valid task."""


class _Slice(msgspec.Struct):
    """What some files hold; with each schedule, its expression as the original had it."""

    file_count: int = 0
    tasks: list[tuple[Task, list[Attempt]]] = []
    schedules: list[tuple[Schedule, str]] = []
    broken: list[tuple[Path, str]] = []


async def _keep(found: _Slice, state: TaskState, store: Store, now: Moment) -> TakeOver:
    for file, reason in found.broken:
        log.error(
            "broken file of the original set aside",
            extra={"file": f"{file.parent.name}/{file.name}", "error": reason},
        )
    new_tasks = await store.restore(found.tasks) if found.tasks else 0
    # Together, so that they share a commit.
    were_new = await asyncio.gather(
        *(_keep_schedule(schedule, store, now) for schedule, _ in found.schedules)
    )
    for (schedule, was), is_new in zip(found.schedules, were_new, strict=True):
        if is_new and schedule.cron != was:
            log.warning(
                "schedule of the original written with six fields, seconds first",
                extra={"schedule": schedule.name, "was": was, "cron": schedule.cron},
            )
    new_schedules = sum(were_new)
    return TakeOver(
        waiting=new_tasks if state is TaskState.WAITING else 0,
        succeeded=new_tasks if state is TaskState.SUCCEEDED else 0,
        dead=new_tasks if state is TaskState.DEAD else 0,
        schedules=new_schedules,
        broken=len(found.broken),
        skipped=len(found.tasks) - new_tasks + len(found.schedules) - new_schedules,
    )


async def _keep_schedule(schedule: Schedule, store: Store, now: Moment) -> bool:
    """Store a schedule unless its name exists; return whether it is new."""
    is_new = False

    def keep(known: Schedule | None) -> Schedule:
        nonlocal is_new
        is_new = known is None
        return known or schedule

    try:
        await store.edit_schedule(schedule.name, keep, now=now)
    except StoreUnavailable:
        raise
    except Exception as exc:  # no schedule may keep the server from starting
        log.error(
            "schedule of the original not taken over",
            extra={
                "schedule": schedule.name,
                "error": describe_defect(exc),
                "stack": stack_of(exc),
            },
        )
        return False
    return is_new


def _sum(one: TakeOver, other: TakeOver) -> TakeOver:
    counts = msgspec.structs.asdict(other)
    return TakeOver(**{name: n + counts[name] for name, n in msgspec.structs.asdict(one).items()})


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in FOLDERS if (folder / name).is_dir()]
    except OSError as exc:
        raise _unreadable(folder, exc) from exc


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as exc:
        raise _unreadable(folder, exc) from exc


def _unreadable(folder: Path, exc: OSError) -> CannotOpenStore:
    return CannotOpenStore(
        f"the original's folder {folder} cannot be read: {exc.strerror}{advice_on(exc)}"
    )


def _read_slice(files: Iterator[Path], state: TaskState, now: Moment) -> _Slice:
    """Read the next files, up to a slice of them."""
    found, size = _Slice(), 0
    while found.file_count < SLICE and size < SLICE_BYTES:
        file = next(files, None)
        if file is None:
            break
        found.file_count += 1
        try:
            content = _content_of(file)
            size += len(content)
            original = _decode(content)
            check_absolute_url(original.url)
            if original.schedule and state is TaskState.WAITING:
                found.schedules.append((_schedule(original, now), original.schedule))
            else:
                task = _task(original, state, now)
                found.tasks.append((task, _attempts(original, state)))
        except OSError as exc:
            found.broken.append((file, exc.strerror or str(exc)))
        except (
            *(_BrokenFile, InvalidTask, InvalidSchedule),
            *(msgspec.DecodeError, UnicodeDecodeError, RecursionError),
        ) as exc:
            found.broken.append((file, str(exc)))
        except Exception as exc:  # no file may keep the server from starting
            found.broken.append((file, f"internal error: {describe_defect(exc)}"))
    return found


def _content_of(file: Path) -> bytes:
    # Before opening it: opening a named pipe would wait for a writer.
    if not stat.S_ISREG(file.stat().st_mode):
        raise _BrokenFile("not a regular file")
    content = file.read_bytes()
    if not content:
        raise _BrokenFile("the file is empty")
    return content


def _task(original: _OriginalTask, state: TaskState, now: Moment) -> Task:
    status, error = _last_error(original)
    if state is TaskState.SUCCEEDED:
        status, error = _expected(original), None
    attempt_count = max(0, original.tries)
    return Task(
        id=original.id,
        url=original.url,
        created_at=now,
        run_at=_moment(original.next_run),
        # When a plain task was first due; it stays while next_run moves with each attempt.
        due_at=_moment(original.next_scheduled_run or original.next_run),
        body=original.payload or b"",
        delivery=DeliveryForm.ENVELOPE,
        expected=(_expected(original),),
        schedule=original.id if original.schedule else None,
        state=state,
        reason=Reason.EXHAUSTED if state is TaskState.DEAD else None,
        # For retention it ends now, or an old dead letter would be pruned on its first day.
        ended_at=None if state is TaskState.WAITING else now,
        attempt_count=attempt_count,
        attempt_total=attempt_count,
        last_status=status,
        last_error=error,
    )


def _attempts(original: _OriginalTask, state: TaskState) -> list[Attempt]:
    """Return the last attempt and, if the task succeeded, the last failed attempt."""
    number = original.tries
    if state is not TaskState.SUCCEEDED:
        return [_failed(original, number)] if number >= 1 else []
    attempts = []
    if number > 1 and original.last_error_status_code:
        attempts.append(_failed(original, number - 1))
    if number >= 1:
        attempts.append(_attempt(original, number, succeeded=True, status=_expected(original)))
    return attempts


def _failed(original: _OriginalTask, number: int) -> Attempt:
    status, error = _last_error(original)
    body = b"" if error is not None else original.last_error_body or b""
    return _attempt(
        original, number, succeeded=False, status=status, error=error, response_body=body
    )


def _attempt(
    original: _OriginalTask,
    number: int,
    *,
    succeeded: bool,
    status: int | None,
    error: str | None = None,
    response_body: bytes = b"",
) -> Attempt:
    return Attempt(
        round=1,
        number=number,
        request_id="",  # the original kept none, and no duration
        started_at=_moment(original.last_run),
        duration=0.0,
        succeeded=succeeded,
        status=status,
        error=error,
        response_body=response_body,
    )


def _last_error(original: _OriginalTask) -> tuple[int | None, str | None]:
    """Return the status of the last failed attempt, or its error if there was no response."""
    code = original.last_error_status_code
    if code == 0:
        return None, None
    if code != CONNECTION_ERROR:
        return code, None
    text = (original.last_error_body or b"").decode("utf-8", "replace")
    return None, text or "connection error"


def _expected(original: _OriginalTask) -> int:
    return original.expected or DEFAULT_EXPECTED


def _schedule(original: _OriginalTask, now: Moment) -> Schedule:
    """Return a schedule whose next run is the planned one, due if it was missed or failed.

    A run that waited for a retry becomes the due run, without its attempts.
    """
    cron = as_seconds_first(original.schedule)
    upcoming = next_occurrence(cron, anchor=now, after=now)
    if upcoming is None:
        raise _BrokenFile(f"the schedule {original.schedule!r} never matches")
    planned = original.next_scheduled_run if original.next_scheduled_run > 0 else original.next_run
    next_run_at = _moment(planned) if planned > 0 else upcoming
    # Such that the planned run is the first occurrence: @every counts from the anchor.
    before = upcoming - now if cron.startswith("@every ") else SECOND
    return Schedule(
        name=original.id,
        owner=OWNER,
        cron=cron,
        task=Task(
            id=original.id,
            url=original.url,
            created_at=now,
            run_at=next_run_at,
            due_at=next_run_at,
            body=original.payload or b"",
            delivery=DeliveryForm.ENVELOPE,
            expected=(_expected(original),),
        ),
        created_at=now,
        anchor_at=Moment(next_run_at - before),
        next_run_at=next_run_at,
    )


def _moment(nanoseconds: int) -> Moment:
    """Return a time of the original, rounded up to a microsecond; no task starts early."""
    return Moment(-(-min(max(0, nanoseconds), LATEST) // 1000))


def _set_aside(folder: Path, folders: Sequence[Path], broken: Sequence[Path]) -> None:
    aside = folder / "original"
    aside_broken = aside / "broken"
    try:
        aside.mkdir(mode=0o700, exist_ok=True)
        if broken:
            aside_broken.mkdir(exist_ok=True)
        for file in broken:
            # One that cannot be moved, such as for the length of its name, goes with its folder.
            with suppress(OSError):
                file.rename(_free(aside_broken / f"{file.parent.name}-{file.name}"))
        for path in folders:
            path.rename(_free(aside / path.name))
        # Renames that a power cut undoes would bring back tasks that have ended since.
        for path in (*([aside_broken] if broken else []), aside, folder):
            sync_folder(path)
    except OSError as exc:
        raise CannotOpenStore(
            f"the original's files in {folder} cannot be moved to {aside}: {exc.strerror}; move "
            f"the folders {', '.join(path.name for path in folders)} away by hand: their tasks "
            "are already in the store"
        ) from exc


def _free(path: Path) -> Path:
    """Return an unused path: the given one, or one with a number appended."""
    if not os.path.lexists(path):
        return path
    numbered = (path.with_name(f"{path.name}-{n}") for n in count(2))
    return next(other for other in numbered if not os.path.lexists(other))
