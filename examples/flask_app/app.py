"""A Flask application whose mails are sent in the background, by poussetaches."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime
from hmac import compare_digest
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

AUTH_KEY = os.environ["POUSSETACHES_AUTH_KEY"]
POUSSETACHES_URL = os.environ.get("POUSSETACHES_URL", "http://127.0.0.1:7991")
OWN_URL = os.environ.get("OWN_URL", "http://127.0.0.1:5000")  # how poussetaches reaches us
OUTBOX = Path(os.environ.get("OUTBOX", "outbox.jsonl"))  # in place of a mail server

LISTINGS = ("waiting", "success", "dead", "cron")

app = Flask(__name__)
# Whatever proxy the environment names, poussetaches is not behind it.
opener = build_opener(ProxyHandler({}))


@app.get("/")
def show_form() -> str:
    # Pushing the same schedule again changes nothing, so there is no set-up step to forget.
    push("/tasks/digest", {}, schedule="@every 1h")
    return render_template("form.html")


@app.post("/sign-up")
def sign_up() -> Response:
    address = request.form.get("address", "").strip()
    if "@" not in address:
        abort(400, "this is not a mail address")
    task_id = push("/tasks/welcome", {"address": address})
    return redirect(url_for("show_progress", task_id=task_id), 303)


@app.get("/progress/<task_id>")
def show_progress(task_id: str) -> str:
    for listing in LISTINGS:
        task = next((task for task in listed(listing) if task["id"] == task_id), None)
        if task is not None:
            return render_template("progress.html", listing=listing, task=task)
    return abort(404, "there is no such task (any more)")


@app.get("/admin")
def show_admin() -> str:
    # In production this page needs a login: it shows what is in the tasks.
    push("/tasks/digest", {}, schedule="@every 1h")
    return render_template("admin.html", listings={name: listed(name) for name in LISTINGS})


@app.post("/tasks/welcome")
def send_welcome() -> str:
    mail = payload_of_task()
    # An attempt whose answer was lost is made again; who signed up gets one mail all the same.
    if mail["address"] not in {sent["to"] for sent in sent_mails()}:
        send_mail(mail["address"], "Welcome!")
    return ""


@app.post("/tasks/digest")
def send_digest() -> str:
    payload_of_task()
    send_mail("admin@localhost", f"{len(sent_mails())} mails were sent so far.")
    return ""


def payload_of_task() -> Any:
    """Return what was pushed, if it is poussetaches that calls."""
    key = request.headers.get("Poussetaches-Auth-Key", "")
    if not compare_digest(key.encode(), AUTH_KEY.encode()):
        abort(403)
    envelope = json.loads(request.data)
    return json.loads(base64.b64decode(envelope["payload"]))


def push(path: str, payload: object, *, schedule: str = "", delay: int = 0) -> str:
    """Push a task and return its id; the delay is in minutes."""
    task = {
        "url": OWN_URL + path,
        "payload": base64.b64encode(json.dumps(payload).encode()).decode(),
        "expected": 200,
        "schedule": schedule,
        "delay": delay,
    }
    with opener.open(call("/", json.dumps(task).encode()), timeout=10) as answer:
        task_id: str = answer.headers["Poussetaches-Task-ID"]
        return task_id


def listed(listing: str) -> list[dict[str, Any]]:
    """Return the tasks of one of the four listings."""
    with opener.open(call(f"/{listing}"), timeout=10) as answer:
        tasks: list[dict[str, Any]] = json.load(answer)["tasks"]
        return tasks


def call(path: str, body: bytes | None = None) -> Request:
    return Request(POUSSETACHES_URL + path, data=body)  # noqa: S310 - the address is our own


def sent_mails() -> list[dict[str, str]]:
    if not OUTBOX.exists():
        return []
    return [json.loads(line) for line in OUTBOX.read_text().splitlines()]


def send_mail(to: str, text: str) -> None:
    with OUTBOX.open("a") as outbox:
        outbox.write(json.dumps({"to": to, "text": text}) + "\n")


@app.template_filter()
def moment(nanoseconds: int) -> str:
    if not nanoseconds:
        return "-"
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


@app.template_filter()
def decoded(text: str | None) -> str:
    return base64.b64decode(text or "").decode("utf-8", "replace")
