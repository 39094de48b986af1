"""The Django application: it finds the projects' tasks, and checks the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import autodiscover_modules

MIDDLEWARE = "poussetaches.django.Middleware"


class PousseTachesConfig(AppConfig):
    """What ``INSTALLED_APPS`` names."""

    name = "poussetaches.django"
    label = "poussetaches"
    verbose_name = "Background tasks"

    def ready(self) -> None:
        """Import the ``tasks`` module of each application, and register the check."""
        register(check_middleware)
        autodiscover_modules("tasks")


def check_middleware(**_: Any) -> Sequence[CheckMessage]:
    """Tell when deliveries have to pass something before they reach the middleware."""
    if [*settings.MIDDLEWARE[:1]] == [MIDDLEWARE]:
        return []
    return [
        Error(
            f"{MIDDLEWARE} is not the first of MIDDLEWARE",
            hint="What stands before it could refuse deliveries: put it first.",
            id="poussetaches.E001",
        )
    ]
