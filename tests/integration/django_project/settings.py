"""Settings that refuse ordinary requests: CSRF, https, hosts, login."""

from __future__ import annotations

SECRET_KEY = "of the tests"  # nothing is secret here
DEBUG = False
ALLOWED_HOSTS = ["shop.example"]
SECURE_SSL_REDIRECT = True
ROOT_URLCONF = "tests.integration.django_project.urls"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "poussetaches.django",
    "tests.integration.django_project",
]
MIDDLEWARE = [
    "poussetaches.django.Middleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = True
POUSSETACHES = {"AUTH_KEY": "the key", "NAME": "shop"}
