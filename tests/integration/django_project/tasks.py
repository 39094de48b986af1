"""The tasks of the project, found without being imported by anything."""

from __future__ import annotations

from django.contrib.auth.models import User

from poussetaches.django import Tasks

tasks = Tasks()


@tasks.task(name="double")
def double(number: int) -> int:
    return 2 * number


@tasks.task(name="greet", queue="mail")
def greet(user_id: int) -> str:
    return f"hello {User.objects.get(pk=user_id).username}"


@tasks.task(name="count")
async def count() -> int:
    return len([user async for user in User.objects.all()])


@tasks.cron("0 6 * * *", name="report")
def report() -> None: ...


tasks.queue("mail", rate="2/s")
