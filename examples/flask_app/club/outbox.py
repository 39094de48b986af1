"""Mails, written to a file instead of being sent."""

from __future__ import annotations

import json
from pathlib import Path

from flask import current_app


def send(address: str, text: str) -> None:
    with _file().open("a") as outbox:
        outbox.write(json.dumps({"to": address, "text": text}) + "\n")


def has_mail(address: str, text: str) -> bool:
    """Return whether this was sent already."""
    return {"to": address, "text": text} in _mails()


def count(text: str) -> int:
    """Return how many mails with this text were sent."""
    return sum(mail["text"] == text for mail in _mails())


def _mails() -> list[dict[str, str]]:
    file = _file()
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _file() -> Path:
    folder: Path = current_app.config["FOLDER"]
    return folder / "outbox.jsonl"
