from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from poussetaches.core.errors import SettingsError
from poussetaches.core.queue import QueueSettings
from poussetaches.settings import SETTINGS, Setting, Settings, load_settings
from poussetaches.settings.value_types import env_text

SECRET = "correct-horse"
WEBHOOK_SECRET = "whsec_" + "A" * 22 + "=="  # 16 bytes


def from_flags(**flags: object) -> Settings:
    return load_settings(flags, {}, None)


def from_environment(**environ: str) -> Settings:
    return load_settings(
        {}, {f"POUSSETACHES_{name}": text for name, text in environ.items()}, None
    )


def error_of(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags or {}, environ or {}, config)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "poussetaches.toml"


def value_of(settings: Settings, name: str) -> object:
    """Return the value of a setting by its name in the file."""
    for field in fields(settings):
        group = getattr(settings, field.name)
        if hasattr(group, name.removeprefix(group.prefix)) and name.startswith(group.prefix):
            return getattr(group, name.removeprefix(group.prefix))
    raise AssertionError(name)


def test_no_two_settings_have_one_name() -> None:
    names = [setting.name for setting in SETTINGS]

    assert len(names) == len(set(names))


# An empty list and the lack of a secret are "written" by leaving them out.
WRITTEN = [setting for setting in SETTINGS if setting.default != () and not setting.secret]


@pytest.mark.parametrize("setting", WRITTEN, ids=lambda setting: setting.name)
def test_every_default_is_allowed_in_writing(setting: Setting) -> None:
    assert setting.read(env_text(setting.default)) == setting.default


def test_without_anything_given_the_defaults_hold() -> None:
    settings = load_settings({}, {}, None)

    assert settings == Settings()
    assert settings.queue_settings == QueueSettings()
    assert settings.retries.max_attempts == settings.original_retries.max_attempts == 12


def test_names_in_the_three_places_are_derived() -> None:
    setting = next(setting for setting in SETTINGS if setting.name == "max_in_flight")

    assert (setting.env, setting.flag) == ("POUSSETACHES_MAX_IN_FLIGHT", "--max-in-flight")


def test_flag_goes_over_environment_over_file_over_default(config: Path) -> None:
    config.write_text("port = 1\nconcurrency = 1\nburst = 1\nmax_attempts = 1\n")
    environ = {"POUSSETACHES_PORT": "2", "POUSSETACHES_CONCURRENCY": "2"}

    settings = load_settings({"port": "3", "burst": None}, environ, config)

    assert (settings.listener.port, settings.queue.concurrency, settings.queue.burst) == (3, 2, 1)
    assert (settings.retries.max_attempts, settings.retries.multiplier) == (1, 4.0)


def test_environment_can_name_the_file(config: Path) -> None:
    config.write_text("port = 1234\n")

    settings = load_settings({}, {"POUSSETACHES_CONFIG": str(config)}, None)

    assert settings.listener.port == 1234


def test_what_applications_read_may_be_in_the_same_environment() -> None:
    environ = {
        "POUSSETACHES_URL": "http://127.0.0.1:7991",
        "POUSSETACHES_MODE": "immediate",
        "POUSSETACHES_PUBLIC_PREFIX": "/shop",
    }

    assert load_settings({}, environ, None) == load_settings({}, {}, None)


def test_config_flag_goes_over_the_environments_file(config: Path) -> None:
    config.write_text("port = 1234\n")

    settings = load_settings({}, {"POUSSETACHES_CONFIG": "/nonexistent"}, config)

    assert settings.listener.port == 1234


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        pytest.param("host", "::1", "::1", id="IPv6 address"),
        pytest.param("host", "project_web_1", "project_web_1", id="name with underscores"),
        pytest.param("port", "0", 0, id="any free port"),
        pytest.param("uds", "/run/p.sock", Path("/run/p.sock"), id="socket path"),
        pytest.param("uds", "none", None, id="no socket"),
        pytest.param("drain_timeout", "0.5", 0.5, id="fraction"),
        pytest.param("drain_timeout", "1e2", 100.0, id="exponent"),
        pytest.param("start_paused", "true", True, id="true"),
        pytest.param("start_paused", "0", False, id="zero"),
        pytest.param("start_paused", "Yes", True, id="yes in any case"),
        pytest.param("log_format", "json", "json", id="choice"),
        pytest.param("rate", "2.5", 2.5, id="number a second"),
        pytest.param("rate", "100/h", 100 / 3600, id="rate an hour"),
        pytest.param("rate", "30/min", 0.5, id="rate a minute"),
        pytest.param("rate", "2/s", 2.0, id="rate a second"),
        pytest.param("rate", "none", None, id="no rate"),
        pytest.param("dead_on", "404, 4xx", (404, "4xx"), id="statuses and classes"),
        pytest.param("key_target", "a.example,B.example", ("a.example", "b.example"), id="hosts"),
        pytest.param(
            "allow_host",
            "Tasks.example, *.b.example",
            ("tasks.example", "*.b.example"),
            id="names",
        ),
        pytest.param(
            "allow_target",
            "*.Example.com:443, 10.0.0.0/8, [::1]:80, fc00::/7",
            ("*.example.com:443", "10.0.0.0/8", "[::1]:80", "fc00::/7"),
            id="names and networks",
        ),
        pytest.param("auth_key", "none", "none", id="a secret is never read as none"),
        pytest.param("original_max_backoff", "none", None, id="no limit"),
        pytest.param("api_token", "two words", "two words", id="token with a space"),
        pytest.param("secret_header", "X-Key, x_b", ("x-key", "x_b"), id="names of headers"),
        pytest.param("base_url", "http://app:5000/in", "http://app:5000/in", id="base URL"),
        pytest.param("alert_url", "https://a/b?t=1", "https://a/b?t=1", id="URL with a query"),
        pytest.param("queues", "declared", "declared", id="declared queues"),
        pytest.param("signing_secret", "x" * 16, (b"x" * 16,), id="secret in plain text"),
        pytest.param("signing_secret", WEBHOOK_SECRET, (bytes(16),), id="secret in base64"),
        pytest.param(
            "signing_secret",
            f"{WEBHOOK_SECRET}, {'y' * 20}",
            (bytes(16), b"y" * 20),
            id="two secrets",
        ),
    ],
)
def test_text_is_read(name: str, text: str, value: object) -> None:
    settings = from_environment(**{name.upper(): text})

    assert value_of(settings, name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("host", "a b", id="host with a space"),
        pytest.param("host", "http://a", id="host with a scheme"),
        pytest.param("port", "65536", id="above the maximum"),
        pytest.param("port", "-1", id="below the minimum"),
        pytest.param("port", "80.0", id="fraction of a port"),
        pytest.param("port", "9" * 5000, id="endless number"),
        pytest.param("port", "8\uff10", id="digit that is not ASCII"),
        pytest.param("uds", "/" + "x" * 107, id="socket path that does not fit"),
        pytest.param("data_dir", "a\x00b", id="path with a control character"),
        pytest.param("drain_timeout", "nan", id="not a number"),
        pytest.param("drain_timeout", "inf", id="infinity"),
        pytest.param("drain_timeout", "1e999", id="infinity by overflow"),
        pytest.param("drain_timeout", "soon", id="word for a number"),
        pytest.param("timeout", "none", id="none where it is not allowed"),
        pytest.param("start_paused", "maybe", id="word for a boolean"),
        pytest.param("log_level", "loud", id="not a choice"),
        pytest.param("rate", "0", id="no rate at all"),
        pytest.param("rate", "-1/s", id="negative rate"),
        pytest.param("rate", "3/day", id="unknown unit"),
        pytest.param("rate", "1/2/s", id="two units"),
        pytest.param("rate", "1e-320/h", id="rate that vanishes"),
        pytest.param("dead_on", "600", id="status out of range"),
        pytest.param("dead_on", "6xx", id="class out of range"),
        pytest.param("dead_on", "404,,410", id="empty item"),
        pytest.param("key_target", "https://example.com", id="URL for a host"),
        pytest.param("key_target", "example.com:443", id="port after a host"),
        pytest.param("allow_host", "a.*.example", id="wildcard within a name"),
        pytest.param("allow_host", "tasks.example:80", id="port after a name"),
        pytest.param("allow_target", "10.0.0.1/8", id="address for a network"),
        pytest.param("allow_target", "http://app/", id="URL for a target"),
        pytest.param("jitter", "1.1", id="jitter above the whole wait"),
        pytest.param("secret_header", "X-Key:", id="name of a header with a colon"),
        pytest.param("base_url", "http://app/?a=1", id="base URL with a query"),
        pytest.param("base_url", "http://app/#a", id="base URL with a fragment"),
        pytest.param("base_url", "app:5000", id="base URL without a scheme"),
        pytest.param("queues", "closed", id="not a kind of queues"),
    ],
)
def test_impossible_value_is_refused_by_name_source_and_rule(name: str, text: str) -> None:
    setting = next(setting for setting in SETTINGS if setting.name == name)

    message = error_of(environ={setting.env: text})

    assert message.startswith(f"{name}: ")
    assert f"environment {setting.env} is not valid" in message
    assert message.endswith(f"give {setting.allowed}")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("port = true", id="boolean for a number"),
        pytest.param("port = 80.0", id="fraction for a whole number"),
        pytest.param("port = [80]", id="list for a number"),
        pytest.param("timeout = nan", id="not a number"),
        pytest.param("timeout = true", id="boolean for a duration"),
        pytest.param("max_age = 1" + "0" * 400, id="number that no float holds"),
        pytest.param("host = 1", id="number for a text"),
        pytest.param("start_paused = 1", id="number for a boolean"),
        pytest.param("log_format = ['text']", id="list for a choice"),
        pytest.param("dead_on = [true]", id="boolean for a status"),
        pytest.param("dead_on = {a = 1}", id="table for a list"),
        pytest.param("data_dir = 1979-05-27", id="date for a path"),
        pytest.param('data_dir = "a\\nb"', id="path with a new line"),
        pytest.param('host = ""', id="empty text"),
    ],
)
def test_value_of_a_wrong_type_in_the_file_is_refused(config: Path, line: str) -> None:
    config.write_text(line)

    message = error_of(config=config)

    assert f"from {config} is not valid" in message


def test_file_can_use_the_types_of_toml(config: Path) -> None:
    config.write_text(
        "port = 1\ntimeout = 5\nstart_paused = true\nrate = 2\ndead_on = [404, '5xx']\n"
        "key_target = ['example.com']\ndata_dir = 'tasks'\nmax_age = 'none'\n"
    )

    settings = load_settings({}, {}, config)

    assert (settings.listener.port, settings.queue.timeout, settings.delivery.start_paused) == (
        1,
        5.0,
        True,
    )
    assert (settings.queue.rate, settings.retries.dead_on) == (2.0, (404, "5xx"))
    assert (settings.security.key_target, settings.storage.data_dir) == (
        ("example.com",),
        Path("tasks"),
    )
    assert settings.retries.max_age is None


def test_flag_is_named_in_its_error() -> None:
    message = error_of({"port": "http"})

    assert message == (
        "port: 'http' from flag --port is not valid; give a whole number from 0 to 65535"
    )


def test_repeated_flags_are_one_list() -> None:
    settings = from_flags(dead_on=["404", "410,5xx"], key_target=[])

    assert settings.retries.dead_on == (404, 410, "5xx")
    assert settings.security.key_target == ()


def test_long_bad_value_is_cut_in_the_error() -> None:
    assert len(error_of({"port": "x" * 10_000})) < 300


def test_unknown_variable_is_refused_with_the_nearest_name() -> None:
    message = error_of(environ={"POUSSETACHES_MAX_IN_FLIHGT": "5"})

    assert message == (
        "environment POUSSETACHES_MAX_IN_FLIHGT is not a setting;"
        " did you mean POUSSETACHES_MAX_IN_FLIGHT?"
    )


def test_unknown_key_in_the_file_is_refused_with_the_nearest_name(config: Path) -> None:
    config.write_text("data-dir = 'x'\n")

    message = error_of(config=config)

    assert message == f"{config}: 'data-dir' is not a setting; did you mean data_dir?"


def test_unknown_name_that_resembles_nothing_is_sent_to_the_docs() -> None:
    message = error_of(environ={"POUSSETACHES_XYZZY": "1"})

    assert message.endswith("is not a setting; `poussetaches serve --help` lists them all")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("POUSSETACHES_SERVICE_HOST", "10.0.0.1"),
        ("POUSSETACHES_SERVICE_PORT", "7991"),
        ("POUSSETACHES_SERVICE_PORT_HTTP", "7991"),
        ("POUSSETACHES_PORT", "tcp://10.0.0.1:7991"),
        ("POUSSETACHES_PORT_7991_TCP", "tcp://10.0.0.1:7991"),
        ("POUSSETACHES_PORT_7991_TCP_ADDR", "10.0.0.1"),
        ("POUSSETACHES_NAME", "/web/poussetaches"),
        ("POUSSETACHES_ENV_GOPATH", "/go"),
        ("POUSSETACHES_MAX_BODY", ""),
        ("POUSSETACHES_NOT_A_SETTING", ""),
        ("OTHER_PORT", "1"),
    ],
)
def test_variables_that_nobody_meant_for_us_are_ignored(name: str, text: str) -> None:
    assert load_settings({}, {name: text}, None) == load_settings({}, {}, None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"port = ", "Invalid value", id="not TOML"),
        pytest.param(b"\xff", "utf-8", id="not text"),
        pytest.param(None, "No such file", id="missing"),
    ],
)
def test_file_that_cannot_be_read_is_named(
    config: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        config.write_bytes(content)

    message = error_of(config=config)

    assert message.startswith(f"flag --config: cannot read '{config}'")
    assert reason in message


def test_variable_that_names_an_unreadable_file_is_named() -> None:
    message = error_of(environ={"POUSSETACHES_CONFIG": "/nonexistent/file.toml"})

    assert message.startswith("environment POUSSETACHES_CONFIG: cannot read '/nonexistent/file")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"], ids=["none", "unix", "windows"])
def test_secret_is_read_from_its_file_without_the_line_ending(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "key"
    file.write_bytes((SECRET + ending).encode())

    assert from_environment(AUTH_KEY_FILE=str(file)).security.auth_key == SECRET


def test_secret_can_be_in_the_environment_or_the_file(config: Path) -> None:
    config.write_text(f"auth_key = '{SECRET}'\n")

    assert from_environment(AUTH_KEY=SECRET).security.auth_key == SECRET
    assert load_settings({}, {}, config).security.auth_key == SECRET


def test_secret_given_twice_is_refused_without_showing_it(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET)

    message = error_of(
        environ={"POUSSETACHES_AUTH_KEY": SECRET, "POUSSETACHES_AUTH_KEY_FILE": str(file)}
    )

    assert "auth_key: given by environment POUSSETACHES_AUTH_KEY and" in message
    assert SECRET not in message


@pytest.mark.parametrize("content", [f"{SECRET}\n\n", f"{SECRET}\x00", ""], ids=repr)
def test_impossible_secret_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)

    message = error_of(environ={"POUSSETACHES_AUTH_KEY_FILE": str(file)})

    assert message.startswith("auth_key: the secret from file")
    assert SECRET not in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("API_TOKEN", f"{SECRET} ", id="token with a space at its end"),
        pytest.param("READ_TOKEN", f"{SECRET}\xe9", id="token that is not ASCII"),
        pytest.param("SIGNING_SECRET", SECRET, id="short secret"),
        pytest.param("SIGNING_SECRET", f"whsec_{SECRET}", id="secret that is not base64"),
        pytest.param("SIGNING_SECRET", "whsec_QUJD", id="short secret in base64"),
        pytest.param("SIGNING_SECRET", ",".join([SECRET * 2] * 3), id="three secrets"),
        pytest.param("SIGNING_SECRET", f"{SECRET * 2},", id="second secret empty"),
        pytest.param("ALERT_URL", f"ftp://{SECRET}", id="alerts by another protocol"),
    ],
)
def test_secret_that_breaks_its_rule_is_refused_without_showing_it(name: str, text: str) -> None:
    message = error_of(environ={f"POUSSETACHES_{name}": text})

    assert message.startswith(f"{name.lower()}: the secret from environment")
    assert SECRET not in message


@pytest.mark.parametrize("url", ["http://u:{}[@app", "ftp://u:{}@app", "http://u:{}/@app"])
def test_password_of_a_base_url_that_is_refused_is_not_shown(url: str) -> None:
    message = error_of(environ={"POUSSETACHES_BASE_URL": url.format(SECRET)})

    assert "://***@app' from environment POUSSETACHES_BASE_URL is not valid" in message
    assert SECRET not in message


def test_two_signing_secrets_can_be_a_list_in_the_file(config: Path) -> None:
    config.write_text(f"signing_secret = ['{'n' * 16}', '{'o' * 16}']\n")

    assert load_settings({}, {}, config).security.signing_secret == (b"n" * 16, b"o" * 16)


def test_read_token_alone_is_refused() -> None:
    message = error_of(environ={"POUSSETACHES_READ_TOKEN": SECRET})

    assert message.startswith(
        "read_token: environment POUSSETACHES_READ_TOKEN requires an api_token"
    )
    assert SECRET not in message


def test_read_token_that_is_the_api_token_is_refused() -> None:
    message = error_of(
        environ={"POUSSETACHES_READ_TOKEN": SECRET, "POUSSETACHES_API_TOKEN": SECRET}
    )

    assert message.startswith(
        "read_token: environment POUSSETACHES_READ_TOKEN is the same as the api_token"
    )
    assert SECRET not in message


def test_two_tokens_are_possible() -> None:
    settings = from_environment(API_TOKEN="writes", READ_TOKEN="reads")

    assert (settings.security.api_token, settings.security.read_token) == ("writes", "reads")


@pytest.mark.parametrize(
    ("flags", "timeout"),
    [
        pytest.param({"test_mode": True}, 5.0, id="short by itself"),
        pytest.param({"test_mode": True, "timeout": "600"}, 600.0, id="as given"),
        pytest.param({"test_mode": False}, 600.0, id="without test mode"),
    ],
)
def test_attempts_time_out_soon_in_test_mode(flags: dict[str, object], timeout: float) -> None:
    assert load_settings(flags, {}, None).queue.timeout == timeout


def test_secret_of_a_wrong_type_is_not_shown(config: Path) -> None:
    config.write_text(f"auth_key = ['{SECRET}']\n")

    assert SECRET not in error_of(config=config)


def test_unreadable_secret_file_is_named() -> None:
    message = error_of(environ={"POUSSETACHES_AUTH_KEY_FILE": "/nonexistent/key"})

    assert message.startswith(
        "environment POUSSETACHES_AUTH_KEY_FILE: cannot read '/nonexistent/key' (No such file"
    )


def test_secrets_have_no_flag_and_others_have_no_file_variable() -> None:
    assert [setting.name for setting in SETTINGS if setting.flag is None] == [
        "alert_url",
        "api_token",
        "read_token",
        "auth_key",
        "signing_secret",
    ]
    assert "is not a setting" in error_of(environ={"POUSSETACHES_PORT_FILE": "x"})


@pytest.mark.parametrize("other", ["host", "port"])
def test_socket_and_address_together_are_refused(other: str) -> None:
    values = {"host": "127.0.0.1", "port": "7991"}

    message = error_of({"uds": "/run/p.sock"}, {f"POUSSETACHES_{other.upper()}": values[other]})

    assert message == (
        f"uds: flag --uds conflicts with {other} from environment POUSSETACHES_{other.upper()};"
        " remove one of them"
    )


@pytest.mark.parametrize("prefix", ["", "original_"], ids=["ours", "the original's"])
def test_shortest_backoff_above_the_longest_is_refused(prefix: str) -> None:
    message = error_of({f"{prefix}min_backoff": "10", f"{prefix}max_backoff": "5"})

    assert message.startswith(f"{prefix}min_backoff: 10 from flag --")
    assert f"is greater than {prefix}max_backoff, 5 from flag" in message


def test_equal_backoffs_and_no_longest_backoff_are_possible() -> None:
    settings = from_flags(min_backoff="5", max_backoff="5", original_min_backoff="1000000")

    assert (settings.retries.min_backoff, settings.original_retries.max_backoff) == (5.0, None)


def test_longest_backoff_below_the_default_shortest_names_the_defaults() -> None:
    message = error_of({"max_backoff": "0.5"})

    assert "min_backoff: 1 from the defaults is greater than max_backoff, 0.5 from flag" in message


def test_every_setting_is_documented() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    text = page.read_text()

    missing = [setting.name for setting in SETTINGS if f"| `{setting.name}`<br>" not in text]

    assert missing == []


def test_own_environment_is_not_read_behind_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POUSSETACHES_PORT", "1")

    assert load_settings({}, {}, None).listener.port == 7991
    assert load_settings({}, os.environ, None).listener.port == 1


def test_invalid_value_is_refused_even_if_a_flag_takes_precedence(config: Path) -> None:
    config.write_text("port = 7991.0\n")

    in_file = error_of({"port": "8000"}, config=config)
    in_environment = error_of({"port": "8000"}, {"POUSSETACHES_PORT": "abc"})

    assert in_file.startswith(f"port: 7991.0 from {config} is not valid")
    assert in_environment.startswith("port: 'abc' from environment POUSSETACHES_PORT is not valid")
