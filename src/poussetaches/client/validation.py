"""Checks options and settings in the code by the server's rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from poussetaches.client.arguments import ArgumentError, DefinitionError
from poussetaches.client.request_json import encode_request
from poussetaches.core.errors import Invalid
from poussetaches.core.schedule import RunRules

V = TypeVar("V")

RUN_RULES_EXAMPLES: Mapping[str, object] = {
    "misfire": "skip",
    "misfire_grace": 3600,
    "overlap": "skip",
}


def check_known(subject: str, given: Iterable[str], known: Iterable[str], *, noun: str) -> None:
    """Check the names of options, or of settings.

    Raises:
        DefinitionError: one is unknown.
    """
    names = list(known)
    for name in given:
        if name not in names:
            raise DefinitionError(
                f"{subject}: unknown {noun} {name!r}; the {noun}s are {', '.join(names)}"
            )


def check_task_options(subject: str, options: Mapping[str, object]) -> None:
    """Check the options of a task. Callbacks that are tasks are checked elsewhere.

    Raises:
        DefinitionError: every server refuses one; the error says what is allowed.
    """
    given = _given(options)
    if given and (refusal := _refusal_of_options(given)) is not None:
        raise DefinitionError(f"{subject}: {_in_words(given, refusal, _option_examples())}")


def check_push_options(task: str, options: Mapping[str, object]) -> None:
    """Check the options of a task's push. Callbacks that are tasks are checked elsewhere.

    Raises:
        ArgumentError: every server refuses one; the error says what is allowed.
    """
    given = _given(options)
    if given and (refusal := _refusal_of_options(given)) is not None:
        raise ArgumentError("", _in_words(given, refusal, _option_examples()), task=task)


def check_queue_settings(subject: str, settings: Mapping[str, object]) -> None:
    """Check settings of a queue. Callbacks that are tasks are checked elsewhere.

    Raises:
        DefinitionError: every server refuses one; the error says what is allowed.
    """
    given = _given(settings)
    if not given:
        return
    # Imported here: it is slow, and most applications have no such settings.
    from poussetaches.core.queue_fields import (  # noqa: PLC0415
        EXAMPLES,
        QueueFields,
        check_queue,
    )

    refusal = _refusal_of(given, QueueFields, lambda it: check_queue(it.overrides()))
    if refusal is not None:
        raise DefinitionError(f"{subject}: {_in_words(given, refusal, EXAMPLES)}")


def check_run_rules(subject: str, rules: Mapping[str, object]) -> None:
    """Check the run rules of a schedule: misfire, misfire_grace and overlap.

    Raises:
        DefinitionError: every server refuses one; the error says what is allowed.
    """
    if (refusal := _refusal_of(rules, RunRules)) is not None:
        raise DefinitionError(f"{subject}: {_in_words(rules, refusal, RUN_RULES_EXAMPLES)}")


class _Refusal(NamedTuple):
    """An invalid field, such as ``retry.dead_on[0]``, and the reason."""

    field: str
    reason: str


def _given(options: Mapping[str, object]) -> dict[str, object]:
    # Callbacks that are tasks have no URL yet: the base URL of a queue may be declared later.
    return {
        name: value
        for name, value in options.items()
        if value is not None and (name not in ("on_success", "on_dead") or isinstance(value, str))
    }


def _refusal_of_options(given: Mapping[str, object]) -> _Refusal | None:
    from poussetaches.client.option_rules import (  # noqa: PLC0415  # see check_queue_settings
        OptionFields,
        check_option_fields,
    )

    refusal = _refusal_of(given, OptionFields, check_option_fields)
    labels = given.get("labels")
    if refusal is None or refusal.field != "labels[...]" or not isinstance(labels, Mapping):
        return refusal
    for name, value in labels.items():
        if (found := _refusal_of({"labels": {name: value}}, OptionFields)) is not None:
            return found._replace(field=f"labels[{name!r}]")
    return refusal


def _option_examples() -> Mapping[str, object]:
    from poussetaches.client.option_rules import EXAMPLES  # noqa: PLC0415  # see above

    return EXAMPLES


def _refusal_of(
    settings: Mapping[str, object], kind: type[V], check: Callable[[V], None] | None = None
) -> _Refusal | None:
    """Return the first field that the server would refuse, reading the settings as a type."""
    from poussetaches.core.msgspec_errors import (  # noqa: PLC0415  # see check_queue_settings
        field_and_reason,
    )

    try:
        fields = msgspec.json.decode(encode_request(settings), type=kind)
        if check is not None:
            check(fields)
    except msgspec.ValidationError as exc:
        return _Refusal(*field_and_reason(str(exc), kind))
    except ArgumentError as exc:
        return _Refusal(exc.argument, exc.reason)
    except Invalid as exc:
        return _Refusal(exc.field, exc.reason)
    return None


def _in_words(
    settings: Mapping[str, object], refusal: _Refusal, examples: Mapping[str, object]
) -> str:
    setting = re.split(r"[.\[]", refusal.field)[0]
    if setting not in settings:
        return refusal.reason
    within = "" if refusal.field == setting else f"{refusal.field} "
    return (
        f"{setting}={settings[setting]!r} is not allowed: {within}{refusal.reason}; for example"
        f" {setting}={examples[setting]!r}"
    )
