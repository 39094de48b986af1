"""Tasks of a Django project: ``Tasks()`` in an application's ``tasks`` module, and two settings.

``"poussetaches.django"`` belongs in ``INSTALLED_APPS``, and ``"poussetaches.django.Middleware"``
at the top of ``MIDDLEWARE``.
"""

from __future__ import annotations

from poussetaches.client.current_task import TaskLogFilter, current_task
from poussetaches.client.handler_exception import GiveUp, RetryLater
from poussetaches.client.push_handle import Pushed
from poussetaches.client.results import EndedTask
from poussetaches.django.commit_batch import push_on_commit
from poussetaches.django.middleware import Middleware
from poussetaches.django.project_tasks import Tasks

__all__ = [
    "EndedTask",
    "GiveUp",
    "Middleware",
    "Pushed",
    "RetryLater",
    "TaskLogFilter",
    "Tasks",
    "current_task",
    "push_on_commit",
]
