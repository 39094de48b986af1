"""Errors that type checkers must find in an application; ``# E:`` names the kind of error.

This file is never run: tests/test_types.py has it checked.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from poussetaches import Client
from poussetaches.celery_style import celery_style
from poussetaches.client.results import EndedTask
from poussetaches.client.tasks import Tasks
from poussetaches.django import push_on_commit
from poussetaches.testing import testing

tasks = Tasks()


@tasks.task(queue="mail", max_attempts=5)
def send_welcome(user_id: int, *, text: str = "") -> str:
    return text * user_id


@tasks.task
async def resize(name: str) -> int:
    return len(name)


@celery_style
@tasks.task
def mail(user_id: int) -> None: ...


@tasks.task
def notify(ended: EndedTask) -> str:
    return ended.name


@tasks.task(name="anotify")
async def anotify(ended: EndedTask, /) -> None: ...


@tasks.task(on_success=anotify, on_dead=notify)
def watched() -> None: ...


@tasks.cron("@daily", on_dead=notify, on_success="/done")
def daily() -> None: ...


# Fine: the decorator keeps the signature and the result.
text: str = send_welcome.push(42, text="hello").result(timeout=1)
length: int = resize.push("a.png").result(timeout=1)
again: str = send_welcome(1)
send_welcome.options(delay=60, run_at=datetime.now(UTC)).push(42)
mail.delay(42)
tasks.queue("mail", on_dead=notify)
send_welcome.options(on_dead=notify, on_success="").push(42)
send_welcome.options(delay=timedelta(hours=1), retry={"max_age": timedelta(days=1)}).push(42)
tasks.queue("mail", timeout=timedelta(minutes=1), keep_dead={"age": timedelta(days=7)})
tasks.schedule("daily", watched, cron="@daily", misfire_grace=timedelta(hours=1))
Client().push("http://a.test/", delay=timedelta(hours=1))
push_on_commit(send_welcome)(42)

send_welcome.push("x")  # E: arg-type
send_welcome.push()  # E: call-arg
send_welcome.push(1, 2)  # E: call-arg, arg-type
send_welcome.push(1, texts="x")  # E: call-arg
send_welcome("x")  # E: arg-type
send_welcome.options(delay="1h")  # E: arg-type
send_welcome.options(later=60)  # E: call-arg
send_welcome.options(delay=60).push("x")  # E: arg-type
tasks.queue("mail", slots=2)  # E: call-arg
tasks.schedule("daily", watched, cron="@daily", zone="UTC")  # E: call-arg
tasks.schedule("daily", len, cron="@daily")  # E: arg-type
number: int = send_welcome.push(42).result(timeout=1)  # E: assignment
word: str = resize.push("a.png").result(timeout=1)  # E: assignment
mail.delay("x")  # E: arg-type
mail.s()  # E: call-arg
push_on_commit(send_welcome)("x")  # E: arg-type
push_on_commit(send_welcome, on_error="ignore")  # E: arg-type
testing(tasks, "replay")  # E: call-overload
Client().push("http://a.test/", delay="1h")  # E: arg-type
send_welcome.options(on_dead=send_welcome)  # E: arg-type
send_welcome.options(on_dead=notify.options(queue="slow"))  # E: arg-type
tasks.queue("mail", on_dead=resize)  # E: arg-type


async def pushing() -> None:
    """Push from asynchronous code."""
    await resize.apush("a.png")
    await resize.apush(1)  # E: arg-type


@tasks.task(priority="high")  # E: call-overload, untyped-decorator
def urgent() -> None: ...


@tasks.task(on_dead=resize)  # E: arg-type
def unwatched() -> None: ...
