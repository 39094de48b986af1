"""The fields of tasks, queues and retry policies are the same in every place that lists them."""

from __future__ import annotations

import msgspec
import pytest

from poussetaches.client import request_fields as client
from poussetaches.client import results
from poussetaches.core import queue, retry, task_fields
from poussetaches.core.queue_fields import QueueFields
from poussetaches.core.schedule import OF_ONE_RUN
from poussetaches.core.task import Task

BODIES = {"json", "text", "body_base64"}


def names_of(kind: type) -> set[str]:
    """Return the names of the fields of a struct or a typed dictionary."""
    if issubclass(kind, msgspec.Struct):
        return set(kind.__struct_fields__) - {"unknown"}
    return set(kind.__annotations__)


@pytest.mark.parametrize(
    "kind",
    [
        retry.RetryOverrides,
        retry.RetryFields,
        retry.RetrySources,
        client.Retry,
        client.RetryInfo,
    ],
)
def test_field_of_the_retry_policy_is_everywhere(kind: type) -> None:
    assert names_of(kind) == names_of(retry.RetryPolicy)


@pytest.mark.parametrize(
    "kind", [queue.QueueOverrides, QueueFields, queue.QueueSources, client.QueueFields]
)
def test_setting_of_a_queue_is_everywhere(kind: type) -> None:
    assert names_of(kind) == names_of(queue.QueueSettings)


@pytest.mark.parametrize("kind", [queue.ShownQueue, results.QueueInfo])
def test_setting_of_a_queue_is_in_responses(kind: type) -> None:
    assert names_of(kind) >= names_of(queue.QueueSettings)


@pytest.mark.parametrize("kind", [client.PushFields, client.NewTask])
def test_field_of_a_push_can_be_pushed_by_the_client(kind: type) -> None:
    pushed = names_of(task_fields.TaskFields) - {"body_base64"} | {"body"}

    assert names_of(kind) | {"url"} == pushed


def test_field_of_a_patch_can_be_changed_by_the_client() -> None:
    assert names_of(client.TaskPatch) == names_of(task_fields.TaskChanges)


@pytest.mark.parametrize(
    "kind",
    [
        task_fields.TemplatePatch,
        task_fields.TemplateView,
        client.TaskTemplate,
        results.TemplateInfo,
    ],
)
def test_field_of_a_template_is_everywhere(kind: type) -> None:
    assert names_of(kind) == names_of(task_fields.TaskTemplate)


def test_field_of_a_template_has_a_source() -> None:
    fields = names_of(task_fields.TaskTemplate) - BODIES | {"body"}

    assert names_of(task_fields.TemplateSources) == fields


def test_push_has_the_fields_of_a_template_and_those_of_one_run() -> None:
    fields = names_of(task_fields.TaskTemplate) | set(OF_ONE_RUN)

    assert names_of(task_fields.TaskFields) == fields


def test_field_in_responses_is_one_of_the_task_and_of_the_client_s_results() -> None:
    shown = names_of(task_fields.ShownTask)

    assert shown <= names_of(Task)
    assert shown <= names_of(results.TaskInfo)
