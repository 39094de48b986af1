"""A photo studio's API: a FastAPI application whose slow work is done in the background."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, EmailStr

from poussetaches.client import NotFound
from poussetaches.fastapi import GiveUp, RetryLater, Tasks

FOLDER = Path(os.environ.get("STUDIO_FOLDER", "studio_data")).absolute()
THUMBNAIL_SIZE = (128, 128)  # pixels, at most
LARGEST_PHOTO = 8_000_000  # bytes
COURIER_CALLS = 2  # that the courier's API accepts in each second of the clock

app = FastAPI(title="Studio")
tasks = Tasks(app)
tasks.queue("images", concurrency=1)  # a thumbnail takes a processor
tasks.queue("courier", rate="2/s")  # what its API allows


class Customer(BaseModel):
    """A person who signs up."""

    email: EmailStr
    name: str


class Ledger:
    """Lines of JSON in a file, instead of a mail server or a third party's API."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self) -> list[dict[str, object]]:
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def add(self, **line: object) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def outbox() -> Iterator[Ledger]:
    """Yield the mails that were sent; a real application would connect to a mail server."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    yield Ledger(FOLDER / "outbox.jsonl")


def courier() -> Iterator[Ledger]:
    """Yield the parcels that the courier has accepted."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    yield Ledger(FOLDER / "courier.jsonl")


NOBODY = Ledger(Path(os.devnull))  # a default, so that pushes can omit dependencies
Outbox = Annotated[Ledger, Depends(outbox)]
Courier = Annotated[Ledger, Depends(courier)]


# Each task may run twice, so each checks whether its work is done already.


@tasks.task(queue="mail", max_attempts=5)
async def send_welcome(customer: Customer, mails: Outbox = NOBODY) -> None:
    mail = {"to": customer.email, "text": f"Welcome, {customer.name}!"}
    if mail not in mails.lines():
        mails.add(**mail)


@tasks.task(queue="images")
def make_thumbnail(photo_id: str) -> list[int]:
    try:
        with Image.open(FOLDER / f"{photo_id}.upload") as image:
            image.thumbnail(THUMBNAIL_SIZE)
            image.convert("RGB").save(FOLDER / f"{photo_id}.jpg")
            return list(image.size)
    except (UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise GiveUp(f"{photo_id} is no image") from exc


@tasks.task(queue="courier")
async def order_courier(order_id: int, parcels: Courier = NOBODY) -> None:
    second, known = int(time.time()), parcels.lines()
    if any(parcel["order"] == order_id for parcel in known):
        return
    if sum(parcel["second"] == second for parcel in known) >= COURIER_CALLS:
        raise RetryLater("the courier wants fewer calls", after=1)
    parcels.add(order=order_id, second=second)


@tasks.cron("0 3 * * *", timezone="Europe/Paris", queue="mail")
async def nightly_report(mails: Outbox = NOBODY) -> None:
    welcomes = sum(str(mail["text"]).startswith("Welcome") for mail in mails.lines())
    mails.add(to="studio@studio.example", text=f"{welcomes} customers so far.")


# Slow work is pushed, so no request waits for it.


@app.post("/customers", status_code=202)
async def sign_up(customer: Customer) -> dict[str, str]:
    # Signing up twice sends one mail: with the same key, both pushes are one task.
    pushed = await send_welcome.options(key=f"welcome-{customer.email}").apush(customer)
    return {"task": pushed.id}


@app.post("/photos", status_code=202)
async def add_photo(request: Request) -> dict[str, str]:
    photo_id, photo = secrets.token_hex(8), await request.body()
    if len(photo) > LARGEST_PHOTO:
        raise HTTPException(413, f"a photo has at most {LARGEST_PHOTO} bytes")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{photo_id}.upload").write_bytes(photo)
    return {"photo": photo_id, "task": (await make_thumbnail.apush(photo_id)).id}


@app.get("/photos/{photo_id}")
async def show_thumbnail(photo_id: str) -> FileResponse:
    thumbnail = FOLDER / f"{photo_id}.jpg"
    if not photo_id.isalnum() or not thumbnail.exists():
        raise HTTPException(404, "there is no thumbnail (yet)")
    return FileResponse(thumbnail)


@app.post("/orders/{order_id}", status_code=202)
async def order(order_id: int) -> dict[str, str]:
    return {"task": (await order_courier.options(unique=f"order-{order_id}").apush(order_id)).id}


@app.get("/tasks/{task_id}")
async def show_progress(task_id: str) -> dict[str, object]:
    try:
        task = await tasks.async_client().get(task_id)
    except NotFound:
        raise HTTPException(404, "there is no such task (any more)") from None
    return {"state": task.state, "attempts": task.attempt_count, "error": task.last_error}
