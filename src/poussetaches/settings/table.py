"""The table of settings: name, type, default and help of each, in typed groups.

Environment variables, flags, keys of the file, docs/settings.md and the options of ``serve`` are
derived from it. The defaults of queues and retries are those of the core.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from poussetaches.core.defaults import HOLD_FOR, HOST, MAX_IN_FLIGHT, PORT
from poussetaches.core.queue import QueueSettings, Retention
from poussetaches.core.queue_fields import Burst, Count, Slots, Timeout
from poussetaches.core.retry import Attempts, Jitter, Multiplier, RetryPolicy, Wait
from poussetaches.settings.setting import Group, optional, setting, settings_in
from poussetaches.settings.value_types import (
    HEADER_NAMES,
    HOST_NAME,
    HOST_PATTERNS,
    HOSTS,
    TARGETS,
    Boolean,
    Choice,
    FilePath,
    Integer,
    Number,
    Rate,
    SigningSecrets,
    Statuses,
    Text,
    Url,
)

DAY = 86_400.0  # seconds
MAX_SOCKET_PATH = 107  # bytes; the room that Linux has in sockaddr_un
MAX_SIZE = 268_435_456  # bytes; a body is held in memory while it is sent

# The value of a header is unchanged on its way: ASCII, no space at either end.
HEADER_VALUE = r"[!-~]([ -~]*[!-~])?"
HEADER_TEXT = Text("printable ASCII text without a space at either end", HEADER_VALUE)

QUEUE = QueueSettings()
RETRY = RetryPolicy()


@dataclass(frozen=True, kw_only=True)
class Listener(Group):
    """The address that the server listens on."""

    title = "Listener"

    host: str = setting(
        Text("a host name or an IP address", HOST_NAME), HOST, "Address to listen on."
    )
    port: int = setting(
        Integer(0, 65_535),
        PORT,
        "Port to listen on; 0 is any free port. `run` takes a free one if the default is in use.",
    )
    uds: Path | None = optional(
        FilePath(MAX_SOCKET_PATH), "Unix socket to listen on instead of host and port."
    )


@dataclass(frozen=True, kw_only=True)
class Storage(Group):
    """The location of the stored tasks, and the timing of commits."""

    title = "Storage"

    data_dir: Path = setting(
        FilePath(), Path("poussetaches_data"), "Data folder; created if it does not exist."
    )
    commit_window: float = setting(
        Number(0, 1),
        0.002,
        "Maximum time that a commit waits for further writes while they keep arriving; a single "
        "write is committed at once.",
    )


@dataclass(frozen=True, kw_only=True)
class Logging(Group):
    """The form and level of the log, and the address of alerts."""

    title = "Logging and alerts"

    log_format: str = setting(Choice(("text", "json")), "text", "Format of log lines.")
    log_level: str = setting(
        Choice(("debug", "info", "warning", "error")), "info", "Minimum log level."
    )
    alert_url: str | None = optional(
        Url(),
        "Webhook that alerts are posted to, in the format of Slack and Mattermost.",
        secret=True,
    )


@dataclass(frozen=True, kw_only=True)
class Security(Group):
    """Access to the API, and the server's own credentials."""

    title = "Security"

    api_token: str | None = optional(
        HEADER_TEXT,
        "Token required from every API client, as a Bearer token or as the password of Basic "
        "authentication.",
        secret=True,
    )
    read_token: str | None = optional(
        HEADER_TEXT, "Token of API clients with read-only access.", secret=True
    )
    allow_unauthenticated: bool = setting(
        Boolean(),
        False,
        "Listen without an API token on an address that other machines can reach.",
    )
    allow_host: tuple[str, ...] = setting(
        HOST_PATTERNS,
        (),
        "Host name by which clients may address the server if no API token is set; names without "
        "a dot are always allowed.",
    )
    allow_target: tuple[str, ...] = setting(
        TARGETS,
        (),
        "The only targets that tasks may be sent to; if empty, all are allowed. Unless base_url "
        "is set, run adds the address of its application.",
    )
    auth_key: str | None = optional(
        HEADER_TEXT,
        "Key sent to the application in the header Poussetaches-Auth-Key.",
        secret=True,
    )
    key_target: tuple[str, ...] = setting(
        HOSTS,
        (),
        "Host that may get the auth key and request signatures, in addition to private addresses "
        "and names without a dot. Unless base_url is set, run adds the host of its application.",
    )
    signing_secret: tuple[bytes, ...] = setting(
        SigningSecrets(), (), "Secret that signs deliveries; two during a rotation.", secret=True
    )
    secret_header: tuple[str, ...] = setting(
        HEADER_NAMES,
        (),
        "Header whose value the API hides, in addition to Authorization, Proxy-Authorization and "
        "Cookie.",
    )


@dataclass(frozen=True, kw_only=True)
class Delivery(Group):
    """The start of attempts, and the end of those in flight."""

    title = "Delivery"

    start_paused: bool = setting(Boolean(), False, "Start paused; POST /v1/resume resumes.")
    drain_timeout: float = setting(
        Number(0, DAY), 30.0, "How long attempts in flight may take to end when the server stops."
    )
    max_in_flight: int = setting(
        Integer.within(Slots),
        MAX_IN_FLIGHT,
        "Maximum concurrent attempts in all queues; a low limit of open files reduces it.",
    )
    connect_timeout: float = setting(
        Number(0.1, 600), 10.0, "Maximum time to connect to a target."
    )
    hold_for: float = setting(
        Number.within(Wait),
        HOLD_FOR,
        "Time that an origin may be unreachable before its due tasks are charged attempts.",
    )


@dataclass(frozen=True, kw_only=True)
class QueueDefaults(Group):
    """The settings of queues that do not set their own."""

    title = "Queues"

    queues: str = setting(
        Choice(("open", "declared")),
        "open",
        "Whether a push to an unknown queue creates the queue (open) or is refused (declared).",
    )
    base_url: str | None = optional(
        Url(is_base=True), "Base URL of tasks whose URL is a path.", default=QUEUE.base_url
    )
    concurrency: int = setting(
        Integer.within(Slots),
        QUEUE.concurrency,
        "Maximum concurrent attempts per queue; keep it below the application's workers.",
    )
    origin_concurrency: int | None = optional(
        Integer.within(Slots),
        "Maximum concurrent attempts per queue and origin; none divides the queue's fairly.",
        default=QUEUE.origin_concurrency,
    )
    rate: float | None = optional(
        Rate(), "Maximum rate at which a queue starts attempts.", default=QUEUE.rate
    )
    burst: int = setting(
        Integer.within(Burst),
        QUEUE.burst,
        "Attempts that an idle queue with a rate may start at once.",
    )
    timeout: float = setting(
        Number.within(Timeout), QUEUE.timeout, "Maximum duration of an attempt."
    )


@dataclass(frozen=True, kw_only=True)
class Requests(Group):
    """The maximum sizes of requests to the API."""

    title = "Request sizes"

    max_body: int = setting(Integer(1, MAX_SIZE), 1_048_576, "Maximum size of a task's body.")
    max_request: int = setting(
        Integer(1, 2 * MAX_SIZE),
        2_097_152,
        "Maximum size of a request other than a batch, and of one task in a batch.",
    )
    max_batch: int = setting(Integer(1, 4 * MAX_SIZE), 67_108_864, "Maximum size of a batch.")


@dataclass(frozen=True, kw_only=True)
class Retries(Group):
    """The retry policy of tasks and queues that do not set it."""

    title = "Retries"

    max_attempts: int = setting(
        Integer.within(Attempts), RETRY.max_attempts, "Maximum attempts, including the first."
    )
    min_backoff: float = setting(
        Number.within(Wait), RETRY.min_backoff, "Wait after the first attempt."
    )
    multiplier: float = setting(
        Number.within(Multiplier),
        RETRY.multiplier,
        "Factor by which the wait grows after each attempt.",
    )
    max_backoff: float | None = setting(
        Number.within(Wait), RETRY.max_backoff, "Maximum wait between two attempts."
    )
    jitter: float = setting(
        Number.within(Jitter),
        RETRY.jitter,
        "Random part of each wait: 0.1 makes it up to 10% shorter or longer.",
    )
    max_age: float | None = optional(
        Number.within(Wait),
        "Maximum age of a task, from when it was first due; an older one is not retried.",
        default=RETRY.max_age,
    )
    max_retry_after: float = setting(
        Number.within(Wait),
        RETRY.max_retry_after,
        "Maximum wait that the Retry-After of a response can ask for.",
    )
    dead_on: tuple[int | str, ...] = setting(
        Statuses(), RETRY.dead_on, "Status that makes a task dead without a retry."
    )


@dataclass(frozen=True, kw_only=True)
class OriginalRetries(Group):
    """The retry policy of tasks that are pushed by the original's route."""

    title = "Retries of tasks pushed by POST /"
    prefix = "original_"

    max_attempts: int = setting(
        Integer.within(Attempts), RETRY.max_attempts, "Same as max_attempts, for POST /."
    )
    min_backoff: float = setting(
        Number.within(Wait), RETRY.min_backoff, "Same as min_backoff, for POST /."
    )
    multiplier: float = setting(
        Number.within(Multiplier), RETRY.multiplier, "Same as multiplier, for POST /."
    )
    max_backoff: float | None = optional(
        Number.within(Wait), "Same as max_backoff, for POST /; none is no limit."
    )
    jitter: float = setting(Number.within(Jitter), RETRY.jitter, "Same as jitter, for POST /.")


@dataclass(frozen=True, kw_only=True)
class SucceededRetention(Group):
    """The number of succeeded tasks that are kept, and their maximum age."""

    title = "Retention"
    prefix = "keep_succeeded_"

    count: int = setting(
        Integer.within(Count), QUEUE.keep_succeeded.count, "Succeeded tasks kept per queue."
    )
    age: float = setting(
        Number.within(Wait), QUEUE.keep_succeeded.age, "How long succeeded tasks are kept."
    )


@dataclass(frozen=True, kw_only=True)
class DeadRetention(Group):
    """The number of dead tasks that are kept, and their maximum age."""

    title = "Retention"
    prefix = "keep_dead_"

    count: int = setting(
        Integer.within(Count), QUEUE.keep_dead.count, "Dead tasks kept per queue."
    )
    age: float = setting(Number.within(Wait), QUEUE.keep_dead.age, "How long dead tasks are kept.")


@dataclass(frozen=True, kw_only=True)
class Testing(Group):
    """Test mode."""

    title = "Test mode"

    test_mode: bool = setting(
        Boolean(),
        False,
        "Keep everything in memory, and advance the time by API calls only. The default timeout "
        "is 5 s, and all ended tasks are kept.",
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one server, by group."""

    listener: Listener = Listener()
    storage: Storage = Storage()
    logging: Logging = Logging()
    security: Security = Security()
    delivery: Delivery = Delivery()
    queue: QueueDefaults = QueueDefaults()
    requests: Requests = Requests()
    retries: Retries = Retries()
    original_retries: OriginalRetries = OriginalRetries()
    keep_succeeded: SucceededRetention = SucceededRetention()
    keep_dead: DeadRetention = DeadRetention()
    testing: Testing = Testing()

    @property
    def queue_settings(self) -> QueueSettings:
        """The settings of queues that do not set them."""
        return QueueSettings(
            rate=self.queue.rate,
            burst=self.queue.burst,
            concurrency=self.queue.concurrency,
            origin_concurrency=self.queue.origin_concurrency,
            timeout=self.queue.timeout,
            retry=RetryPolicy(**asdict(self.retries)),
            base_url=self.queue.base_url,
            keep_succeeded=Retention(**asdict(self.keep_succeeded)),
            keep_dead=Retention(**asdict(self.keep_dead)),
        )

    @property
    def original_retry_policy(self) -> RetryPolicy:
        """The retry policy of tasks that are pushed by the original's route."""
        return RetryPolicy(**asdict(self.original_retries))


SETTINGS = tuple(settings_in(Settings()))
