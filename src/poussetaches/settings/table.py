"""The table of settings; environment names, flags, file keys and the docs are derived from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from poussetaches.settings.kinds import (
    HOST_NAME,
    Boolean,
    Choice,
    HeaderNames,
    HostPatterns,
    Hosts,
    Integer,
    Kind,
    Number,
    PathName,
    Rate,
    SigningSecrets,
    Statuses,
    Targets,
    Text,
    Url,
)

PREFIX = "POUSSETACHES_"

LISTENER = "Listener"
STORAGE = "Storage"
LOGGING = "Logging and alerts"
SECURITY = "Security"
LIMITS = "Delivery and limits"
RETRIES = "Retries"
ORIGINAL = "Retries of tasks pushed by POST /"
RETENTION = "Retention"
TESTING = "Test mode"

DAY = 86_400.0  # seconds
TEN_YEARS = 315_360_000.0  # seconds; nothing may be planned farther ahead
LONGEST_SOCKET_PATH = 107  # bytes; what Linux has room for in sockaddr_un
MAX_SIZE = 268_435_456  # bytes; a body is held in memory while it is sent
MAX_COUNT = 1_000_000_000

# What a header's value can carry unchanged: ASCII, no space at either end.
HEADER_VALUE = r"[!-~]([ -~]*[!-~])?"
HEADER_TEXT = Text("printable ASCII text without a space at either end", HEADER_VALUE)


@dataclass(frozen=True)
class Setting:
    """One row of the table. A setting whose default is None may be set to ``none``."""

    group: str
    name: str
    type: Kind
    default: object
    help: str
    secret: bool = False

    @property
    def env(self) -> str:
        """The name of its environment variable."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str | None:
        """The command line's option; secrets have none, since everybody may list processes."""
        return None if self.secret else "--" + self.name.replace("_", "-")

    @property
    def is_list(self) -> bool:
        """Tell whether its flag may be repeated."""
        return isinstance(self.default, tuple)

    @property
    def allowed(self) -> str:
        """What may be given."""
        optional = self.default is None and not self.secret
        return f"{self.type.allowed}, or none" if optional else self.type.allowed

    def read(self, raw: object) -> object:
        """Return the value of what was given.

        Raises:
            ValueError: it is not allowed.
        """
        if raw == "none" and self.default is None and not self.secret:
            return None
        return self.type.read(raw)


SETTINGS: tuple[Setting, ...] = (
    Setting(
        LISTENER,
        "host",
        Text("a host name or an IP address", HOST_NAME),
        "127.0.0.1",
        "Address to listen on.",
    ),
    Setting(
        LISTENER,
        "port",
        Integer(0, 65_535),
        7991,
        "Port to listen on; 0 is any free port. `run` uses a free one if the default is in use.",
    ),
    Setting(
        LISTENER,
        "uds",
        PathName(LONGEST_SOCKET_PATH),
        None,
        "Unix socket to listen on, instead of host and port.",
    ),
    Setting(
        STORAGE,
        "data_dir",
        PathName(),
        Path("poussetaches_data"),
        "Folder for the tasks; made when it does not exist.",
    ),
    Setting(
        STORAGE,
        "commit_window",
        Number(0, 1),
        0.002,
        "How long a commit waits for company, at most, while more comes; an idle server does not.",
    ),
    Setting(LOGGING, "log_format", Choice(("text", "json")), "text", "Form of the log's lines."),
    Setting(
        LOGGING,
        "log_level",
        Choice(("debug", "info", "warning", "error")),
        "info",
        "Least important events to log.",
    ),
    Setting(
        LOGGING,
        "alert_url",
        Url(),
        None,
        "Where alerts are posted to, as Slack and Mattermost take them.",
        secret=True,
    ),
    Setting(
        SECURITY,
        "api_token",
        HEADER_TEXT,
        None,
        "Asked of everybody who uses the API, as a Bearer token or as Basic's password.",
        secret=True,
    ),
    Setting(
        SECURITY,
        "read_token",
        HEADER_TEXT,
        None,
        "As api_token, for those who may look but change nothing.",
        secret=True,
    ),
    Setting(
        SECURITY,
        "allow_unauthenticated",
        Boolean(),
        False,
        "Listen on an address that others can reach though no API token is set.",
    ),
    Setting(
        SECURITY,
        "allow_host",
        HostPatterns(),
        (),
        "Name that the server may be called by when no API token is set, besides those without "
        "a dot.",
    ),
    Setting(
        SECURITY,
        "allow_target",
        Targets(),
        (),
        "Where tasks may be sent, and nowhere else; everywhere when it is empty.",
    ),
    Setting(
        SECURITY,
        "auth_key",
        HEADER_TEXT,
        None,
        "Sent to the application in the header Poussetaches-Auth-Key.",
        secret=True,
    ),
    Setting(
        SECURITY,
        "key_target",
        Hosts(),
        (),
        "Host that may get the auth key and request signatures, in addition to private addresses "
        "and names without a dot.",
    ),
    Setting(
        SECURITY,
        "signing_secret",
        SigningSecrets(),
        (),
        "Signs deliveries; two secrets while receivers change to the new one.",
        secret=True,
    ),
    Setting(
        SECURITY,
        "secret_header",
        HeaderNames(),
        (),
        "Header that answers hide, besides Authorization, Proxy-Authorization and Cookie.",
    ),
    Setting(
        LIMITS,
        "base_url",
        Url(is_base=True),
        None,
        "What is put before a task's URL that is a path, in queues without one of their own.",
    ),
    Setting(
        LIMITS,
        "queues",
        Choice(("open", "declared")),
        "open",
        "Whether a push to an unknown queue makes it, or is refused.",
    ),
    Setting(LIMITS, "start_paused", Boolean(), False, "Start paused, until a POST /resume comes."),
    Setting(
        LIMITS,
        "drain_timeout",
        Number(0, DAY),
        30.0,
        "How long attempts in flight may take to end when the server stops.",
    ),
    Setting(
        LIMITS,
        "max_in_flight",
        Integer(1, 10_000),
        256,
        "Maximum concurrent attempts, over all queues; a low limit of open files lowers it.",
    ),
    Setting(
        LIMITS,
        "concurrency",
        Integer(1, 10_000),
        4,
        "Attempts on the wire at once in one queue; keep it below the application's workers.",
    ),
    Setting(
        LIMITS,
        "origin_concurrency",
        Integer(1, 10_000),
        None,
        "Attempts on the wire at once to one origin of a queue; none shares the queue's fairly.",
    ),
    Setting(LIMITS, "rate", Rate(), None, "Attempts that one queue may start in a time."),
    Setting(
        LIMITS,
        "burst",
        Integer(1, 1_000_000),
        1,
        "Attempts that a queue with a rate may save up while it is idle.",
    ),
    Setting(LIMITS, "timeout", Number(0.1, DAY), 600.0, "Longest time for one attempt."),
    Setting(
        LIMITS, "connect_timeout", Number(0.1, 600), 10.0, "Longest time to connect to a target."
    ),
    Setting(
        LIMITS,
        "hold_for",
        Number(0, TEN_YEARS),
        3600.0,
        "How long an unreachable origin holds its tasks before they are charged attempts.",
    ),
    Setting(LIMITS, "max_body", Integer(1, MAX_SIZE), 1_048_576, "Largest body of a task."),
    Setting(
        LIMITS,
        "max_request",
        Integer(1, 2 * MAX_SIZE),
        2_097_152,
        "Maximum size of a request other than a batch, and of one task in a batch.",
    ),
    Setting(
        LIMITS,
        "max_batch",
        Integer(1, 4 * MAX_SIZE),
        67_108_864,
        "Largest request that pushes many tasks.",
    ),
    Setting(RETRIES, "max_attempts", Integer(1, 1000), 12, "Attempts in all, the first included."),
    Setting(RETRIES, "min_backoff", Number(0, TEN_YEARS), 1.0, "Wait after the first attempt."),
    Setting(
        RETRIES, "multiplier", Number(1, 1000), 4.0, "How much longer each wait is than the last."
    ),
    Setting(RETRIES, "max_backoff", Number(0, TEN_YEARS), 21_600.0, "Longest wait."),
    Setting(RETRIES, "jitter", Number(0, 1), 0.3, "Random part of each wait, in both directions."),
    Setting(
        RETRIES,
        "max_age",
        Number(0, TEN_YEARS),
        None,
        "How long after it was first due a task is tried again.",
    ),
    Setting(
        RETRIES,
        "max_retry_after",
        Number(0, TEN_YEARS),
        3600.0,
        "Longest wait that an answer's Retry-After can ask for.",
    ),
    Setting(
        RETRIES, "dead_on", Statuses(), (), "Status after which a task is dead, not tried again."
    ),
    Setting(
        ORIGINAL, "original_max_attempts", Integer(1, 1000), 12, "As max_attempts, for POST /."
    ),
    Setting(
        ORIGINAL,
        "original_min_backoff",
        Number(0, TEN_YEARS),
        1.0,
        "As min_backoff, for POST /.",
    ),
    Setting(ORIGINAL, "original_multiplier", Number(1, 1000), 4.0, "As multiplier, for POST /."),
    Setting(
        ORIGINAL,
        "original_max_backoff",
        Number(0, TEN_YEARS),
        None,
        "As max_backoff, for POST /; none is no limit.",
    ),
    Setting(ORIGINAL, "original_jitter", Number(0, 1), 0.3, "As jitter, for POST /."),
    Setting(
        RETENTION,
        "keep_succeeded_count",
        Integer(0, MAX_COUNT),
        10_000,
        "Succeeded tasks kept for each queue.",
    ),
    Setting(
        RETENTION,
        "keep_succeeded_age",
        Number(0, TEN_YEARS),
        DAY,
        "How long succeeded tasks are kept.",
    ),
    Setting(
        RETENTION,
        "keep_dead_count",
        Integer(0, MAX_COUNT),
        100_000,
        "Dead tasks kept for each queue.",
    ),
    Setting(
        RETENTION, "keep_dead_age", Number(0, TEN_YEARS), 90 * DAY, "How long dead tasks are kept."
    ),
    Setting(
        TESTING,
        "test_mode",
        Boolean(),
        False,
        "Keep everything in memory, and move time only by API calls; the default timeout is 5 s,"
        " and all ended tasks are kept.",
    ),
)
