from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from poussetaches.logs import (
    configure_logging,
    dropped_line_count,
    log_python_errors,
)
from poussetaches.logs.formatter import OURS, JsonFormatter, TextFormatter
from poussetaches.logs.setup import LineHandler

NOON = 1_795_435_200.123  # 2026-11-23T12:00:00.123Z


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """Logging is global: give the other tests back what they had."""
    loggers = [logging.getLogger(name) for name in ("", OURS)]
    before = [(logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def record(phrase: str, /, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "poussetaches.engine.dispatcher",
            "levelname": "INFO",
            "msg": phrase,
            "created": NOON,
            **extra,
        }
    )


def text_of(value: object) -> str:
    line = TextFormatter().format(record("event", field=value))
    return line.partition("field=")[2]


def test_text_line_has_time_level_logger_event_and_fields() -> None:
    line = TextFormatter().format(record("attempt failed", task="0190", status=503))

    assert line == (
        "2026-11-23T12:00:00.123Z info engine.dispatcher attempt failed task=0190 status=503"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("plain", "plain", id="plain text"),
        pytest.param("http://a:1/b?c", "http://a:1/b?c", id="URL"),
        pytest.param("déjà", "déjà", id="letters beyond ASCII"),
        pytest.param("two words", '"two words"', id="space"),
        pytest.param('a"b', '"a\\"b"', id="quote"),
        pytest.param("a=b", '"a=b"', id="equals sign"),
        pytest.param("a\nb", '"a\\nb"', id="new line"),
        pytest.param("a\u2028b", '"a\\u2028b"', id="line separator"),
        pytest.param("a\x1b[31m", '"a\\u001b[31m"', id="terminal escape"),
        pytest.param("\ud800", '"\\ud800"', id="lone surrogate"),
        pytest.param("", '""', id="empty"),
        pytest.param(1.5, "1.5", id="number"),
        pytest.param(None, "null", id="nothing"),
        pytest.param(True, "true", id="boolean"),
        pytest.param(Path("/a"), '"/a"', id="another object"),
        pytest.param([1, 2], '"[1, 2]"', id="list"),
    ],
)
def test_text_value_is_quoted_only_when_it_could_be_misread(value: object, shown: str) -> None:
    assert text_of(value) == shown


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028", "\x85"], ids=repr)
def test_event_is_one_line_whatever_is_in_it(end: str) -> None:
    event = record(f"one{end}two", field=f"three{end}four")

    assert len(TextFormatter().format(event).splitlines()) == 1
    assert len(JsonFormatter().format(event).splitlines()) == 1


def test_json_line_has_the_same_as_fields_of_an_object() -> None:
    line = JsonFormatter().format(record("attempt failed", task="0190", status=503))

    assert json.loads(line) == {
        "time": "2026-11-23T12:00:00.123Z",
        "level": "info",
        "logger": "engine.dispatcher",
        "event": "attempt failed",
        "task": "0190",
        "status": 503,
    }


def test_field_cannot_take_the_place_of_the_event() -> None:
    line = json.loads(JsonFormatter().format(record("real", event="false", level="false")))

    assert (line["event"], line["level"]) == ("real", "info")


@pytest.mark.parametrize("format", ["text", "json"])
def test_exception_is_in_the_same_line(format: str) -> None:
    stream = io.StringIO()
    configure_logging(format, "info", stream)

    try:
        raise OSError("disk\nfull")
    except OSError:
        logging.getLogger("poussetaches.store").exception("cannot write")

    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert "OSError: disk\\nfull" in lines[0]
    assert "Traceback (most recent call last)" in lines[0]


def test_field_called_error_is_kept_beside_the_traceback() -> None:
    try:
        raise OSError("disk full")
    except OSError as exc:
        event = record("failed", error="ours", exc_info=(type(exc), exc, exc.__traceback__))

    assert json.loads(JsonFormatter().format(event))["error"] == "ours"


@pytest.mark.parametrize(
    ("level", "logger", "at", "shown"),
    [
        ("info", "poussetaches.engine", logging.INFO, True),
        ("info", "poussetaches.engine", logging.DEBUG, False),
        ("debug", "poussetaches.engine", logging.DEBUG, True),
        ("debug", "asyncio", logging.INFO, False),
        ("info", "asyncio", logging.WARNING, True),
        ("error", "asyncio", logging.WARNING, False),
    ],
)
def test_level_is_ours_and_libraries_start_at_warning(
    level: str, logger: str, at: int, shown: bool
) -> None:
    stream = io.StringIO()
    configure_logging("text", level, stream)

    logging.getLogger(logger).log(at, "event")

    assert bool(stream.getvalue()) is shown


def test_second_call_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("text", "info", first)
    configure_logging("json", "info", second)

    logging.getLogger("poussetaches").info("event")

    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    out, into = os.pipe()
    with os.fdopen(into, "w") as stream:
        yield out, stream
        os.close(out)
        configure_logging("text", "info", io.StringIO())  # the thread ends


def test_pipe_is_written_by_a_thread(pipe: tuple[int, TextIO]) -> None:
    out, stream = pipe
    configure_logging("text", "info", stream)

    logging.getLogger("poussetaches").info("event", extra={"half": "\ud800"})

    handler = logging.getLogger().handlers[-1]
    assert isinstance(handler, LineHandler)
    assert os.read(out, 1000).endswith(b'poussetaches event half="\\ud800"\n')
    assert dropped_line_count() == 0


def test_event_with_a_field_that_cannot_be_formatted_is_still_logged(
    pipe: tuple[int, TextIO],
) -> None:
    class Bad:
        def __str__(self) -> str:
            raise ValueError("no text")

    out, stream = pipe
    configure_logging("json", "info", stream)

    logging.getLogger("poussetaches").info("event", extra={"field": Bad()})

    assert b"'event' cannot be formatted: ValueError('no text')" in os.read(out, 1000)


def test_dropped_lines_are_reported_as_an_event(pipe: tuple[int, TextIO]) -> None:
    _, stream = pipe
    configure_logging("json", "info", stream)
    handler = logging.getLogger().handlers[-1]
    assert isinstance(handler, LineHandler)

    line = json.loads(handler.report(7))

    assert (line["level"], line["event"], line["count"]) == (
        "warning",
        "log lines dropped, the reader is too slow",
        7,
    )


def test_warnings_and_errors_of_python_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in ((sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(place, name, getattr(place, name))  # so that it is put back
    stream = io.StringIO()
    configure_logging("text", "info", stream)
    log_python_errors()

    class Bad:
        def __del__(self) -> None:
            raise ValueError("in the end")

    def fail() -> None:
        raise OSError("in a thread")

    Bad()
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("beware", stacklevel=1)
        logging.captureWarnings(False)

    lines = stream.getvalue().splitlines()
    assert [text in line for text, line in zip(SAID, lines, strict=True)] == [True] * 3


SAID = ("ValueError: in the end", "OSError: in a thread", "UserWarning: beware")
