"""The Django application, which imports the project's tasks and registers checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register
from django.utils.module_loading import autodiscover_modules

from poussetaches.django.checks import check_middleware, check_names, check_settings


class PousseTachesConfig(AppConfig):
    """The configuration of the Django application."""

    name = "poussetaches.django"
    label = "poussetaches"
    verbose_name = "Background tasks"

    def ready(self) -> None:
        """Import the ``tasks`` module of each application, and register the checks."""
        for check in (check_middleware, check_names, check_settings):
            register(check)
        autodiscover_modules("tasks")
