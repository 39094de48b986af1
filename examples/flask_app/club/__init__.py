"""A club's website: a Flask application whose slow work is done in the background."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask

from . import pages
from .tasks import tasks


def create_app() -> Flask:
    """Return the application; ``flask --app club`` and ``gunicorn 'club:create_app()'`` do."""
    app = Flask(__name__)
    app.config["FOLDER"] = Path(os.environ.get("CLUB_FOLDER", "club_data")).absolute()
    app.config["MAX_CONTENT_LENGTH"] = 8_000_000  # bytes of a portrait
    app.config["FOLDER"].mkdir(parents=True, exist_ok=True)
    app.register_blueprint(pages.pages)
    tasks.init_app(app)
    return app
