"""A third party's API, replaced by a file that accepts two calls a second."""

from __future__ import annotations

import json
import time
from pathlib import Path

from flask import current_app

MOST_CALLS = 2  # within a second of the clock


class TooManyCalls(Exception):
    """The API would answer 429; ``retry_after`` is in seconds."""

    retry_after = 1.0


def put_reader(address: str) -> None:
    """Add a reader, who may be one already.

    Raises:
        TooManyCalls: there were two calls in this second.
    """
    folder: Path = current_app.config["FOLDER"]
    file = folder / "newsletter.jsonl"
    calls = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    second = int(time.time())
    if sum(call["second"] == second for call in calls) >= MOST_CALLS:
        raise TooManyCalls
    with file.open("a") as readers:
        readers.write(json.dumps({"second": second, "address": address}) + "\n")
