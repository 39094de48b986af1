"""Background tasks. Each may run twice, so each checks whether its work is done already."""

from __future__ import annotations

import io
import time

from django.core.mail import send_mail
from django.db import transaction
from PIL import Image, UnidentifiedImageError

from poussetaches.django import GiveUp, RetryLater, Tasks

from .models import Member, Picture, Print

THUMBNAIL_SIZE = (128, 128)  # pixels, at most
PRINTER_CALLS = 2  # that the printer's API accepts in each second of the clock

tasks = Tasks()
tasks.queue("images", concurrency=1)  # a thumbnail takes a processor
tasks.queue("printer", rate="2/s")  # what its API allows


@tasks.task(queue="mail", max_attempts=5)
def send_welcome(member_id: int) -> None:
    with transaction.atomic():
        member = Member.objects.select_for_update().get(pk=member_id)
        if not member.was_welcomed:
            send_mail("Welcome!", "The gallery is yours.", None, [member.email])
            member.was_welcomed = True
            member.save()


@tasks.task(queue="images")
def make_thumbnail(picture_id: int) -> None:
    picture, thumbnail = Picture.objects.get(pk=picture_id), io.BytesIO()
    try:
        with Image.open(io.BytesIO(picture.original)) as image:
            image.thumbnail(THUMBNAIL_SIZE)
            image.convert("RGB").save(thumbnail, "JPEG")
    except (UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise GiveUp(f"picture {picture_id} is no image") from exc
    picture.thumbnail = thumbnail.getvalue()
    picture.save()


@tasks.task(queue="printer")
def order_print(picture_id: int) -> None:
    second = int(time.time())
    if Print.objects.filter(picture_id=picture_id).exists():
        return
    if Print.objects.filter(second=second).count() >= PRINTER_CALLS:
        raise RetryLater("the printer wants fewer calls", after=1)
    Print.objects.create(picture_id=picture_id, second=second)


@tasks.cron("0 3 * * *", timezone="Europe/Paris", queue="mail")
def nightly_report() -> None:
    count = Member.objects.count()
    send_mail("Report", f"{count} members so far.", None, ["gallery@gallery.example"])
