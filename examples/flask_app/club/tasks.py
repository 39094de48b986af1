"""Background tasks. Each may run twice, so each checks whether its work is done already."""

from __future__ import annotations

from flask import current_app
from PIL import Image, UnidentifiedImageError

from poussetaches.flask import GiveUp, RetryLater, Tasks

from . import newsletter, outbox

THUMBNAIL_SIZE = (128, 128)  # pixels, at most

tasks = Tasks()
tasks.queue("images", concurrency=1)  # a thumbnail takes a processor
tasks.queue("newsletter", rate="2/s")  # what its API allows


@tasks.task(queue="mail", max_attempts=5)
def send_welcome(address: str) -> None:
    if not outbox.has_mail(address, "Welcome!"):
        outbox.send(address, "Welcome!")


@tasks.task(queue="images")
def make_thumbnail(name: str) -> None:
    portrait = current_app.config["FOLDER"] / name
    try:
        with Image.open(portrait) as image:
            image.thumbnail(THUMBNAIL_SIZE)
            image.convert("RGB").save(portrait.with_suffix(".jpg"))
    except (UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise GiveUp(f"{name} is no image") from exc


@tasks.task(queue="newsletter")
def subscribe(address: str) -> None:
    try:
        newsletter.put_reader(address)
    except newsletter.TooManyCalls as exc:
        raise RetryLater(after=exc.retry_after) from exc


@tasks.cron("0 3 * * *", timezone="Europe/Paris", queue="mail")
def nightly_report() -> None:
    members = outbox.count("Welcome!")
    outbox.send("board@club.example", f"The club has {members} members.")
