"""``testing``: an application's tasks in its tests, without a server and without waiting.

```python
with testing(tasks, "record") as box:
    sign_up("ada@example.com")
    assert box.pushed(send_welcome)[0].arguments == {"user_id": 42}
```

Of the modules for applications, only this one imports the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, overload

from poussetaches.client.arguments import ArgumentError
from poussetaches.client.installation import check_server_modules
from poussetaches.client.tasks import Tasks

check_server_modules("poussetaches.testing")

from poussetaches.testing.record_box import Record, RecordBox  # noqa: E402  # needs these modules
from poussetaches.testing.run_box import RunBox, running  # noqa: E402

__all__ = ["Record", "RecordBox", "RunBox", "testing"]


@overload
def testing(tasks: Tasks, mode: Literal["record"]) -> AbstractContextManager[RecordBox]: ...


@overload
def testing(tasks: Tasks, mode: Literal["run"]) -> AbstractContextManager[RunBox]: ...


def testing(
    tasks: Tasks, mode: Literal["record", "run"]
) -> AbstractContextManager[RecordBox] | AbstractContextManager[RunBox]:
    """Send the pushes of an application to a box, within the block.

    ``record`` collects them. ``run`` keeps them in a server of the test in this process,
    in virtual time. It delivers through the application's test client when the test runs tasks.

    Raises:
        ArgumentError: the mode is neither, or the first argument is not the ``Tasks``.
    """
    if not isinstance(tasks, Tasks):
        raise ArgumentError("tasks", f"must be the Tasks() of the application, not {tasks!r}")
    if mode not in MODES:
        raise ArgumentError("mode", f"must be one of {', '.join(MODES)}, not {mode!r}")
    return MODES[mode](tasks)


testing.__test__ = False  # type: ignore[attr-defined]  # or pytest collects it


@contextmanager
def recording(tasks: Tasks) -> Iterator[RecordBox]:
    """Collect pushes."""
    box = RecordBox(tasks)
    with tasks.use(box):
        yield box
        tasks.push_pending_in_test()


MODES: Mapping[
    str, Callable[[Tasks], AbstractContextManager[RecordBox] | AbstractContextManager[RunBox]]
] = {"record": recording, "run": running}
