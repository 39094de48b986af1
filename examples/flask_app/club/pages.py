"""The pages of the website. Slow work is pushed, so no page waits for it."""

from __future__ import annotations

import secrets
from pathlib import Path

from flask import (
    Blueprint,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    send_from_directory,
    url_for,
)
from werkzeug.wrappers import Response

from poussetaches.client import NotFound, PushFailed

from .tasks import make_thumbnail, send_welcome, subscribe, tasks

LONGEST_ADDRESS = 150  # characters
SHOWN_TASKS = 50

pages = Blueprint("pages", __name__)


@pages.get("/")
def show_form() -> str:
    return render_template("form.html")


@pages.post("/sign-up")
def sign_up() -> Response:
    address = request.form.get("address", "").strip().lower()
    if "@" not in address or len(address) > LONGEST_ADDRESS:
        abort(400, "this is not a mail address")
    # Sending the form twice sends one mail: with the same key, both pushes are one task.
    welcome = send_welcome.options(key=f"welcome-{address}").push(address)
    subscribe.options(key=f"subscribe-{address}").push(address)
    return redirect(url_for("pages.show_progress", task_id=welcome.id), 303)


@pages.post("/portraits")
def add_portrait() -> Response:
    name = f"{secrets.token_hex(8)}.upload"
    request.files["portrait"].save(folder() / name)
    task = make_thumbnail.push(name)
    return redirect(url_for("pages.show_progress", task_id=task.id), 303)


@pages.get("/portraits/<name>")
def show_portrait(name: str) -> Response:
    return send_from_directory(folder(), f"{name}.jpg")


@pages.get("/progress/<task_id>")
def show_progress(task_id: str) -> str:
    try:
        task = tasks.client().get(task_id)
    except NotFound:
        abort(404, "there is no such task (any more)")
    return render_template("progress.html", task=task)


@pages.get("/admin")
def show_admin() -> str:
    # In production, this page needs a login: it shows the contents of tasks.
    found = tasks.client().list(page_size=SHOWN_TASKS)
    recent = [task for _, task in zip(range(SHOWN_TASKS), found, strict=False)]
    return render_template("admin.html", queues=tasks.client().queues(), tasks=recent)


@pages.app_errorhandler(PushFailed)
def show_push_failed(_: PushFailed) -> tuple[str, int]:
    return "We cannot take this at the moment. Please try again in a minute.", 503


def folder() -> Path:
    found: Path = current_app.config["FOLDER"]
    return found
