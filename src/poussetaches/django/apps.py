"""The Django application: it finds the projects' tasks, and has the settings checked."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register
from django.utils.module_loading import autodiscover_modules

from poussetaches.django.checks import check_middleware, check_names, check_settings


class PousseTachesConfig(AppConfig):
    """What ``INSTALLED_APPS`` names."""

    name = "poussetaches.django"
    label = "poussetaches"
    verbose_name = "Background tasks"

    def ready(self) -> None:
        """Import the ``tasks`` module of each application, and register the checks."""
        for check in (check_middleware, check_names, check_settings):
            register(check)
        autodiscover_modules("tasks")
