"""Settings of the gallery."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(os.environ.get("GALLERY_FOLDER", "gallery_data")).absolute()
FOLDER.mkdir(parents=True, exist_ok=True)

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "for development alone")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "gallery.urls"
INSTALLED_APPS = ["poussetaches.django", "gallery"]
MIDDLEWARE = [
    "poussetaches.django.Middleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"  # writes mails to files
EMAIL_FILE_PATH = FOLDER / "mails"
DATA_UPLOAD_MAX_MEMORY_SIZE = 8_000_000  # bytes of a picture
USE_TZ = True
