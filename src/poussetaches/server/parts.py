"""``Parts``: the parts of a server that share one store, from the engine to the API."""

from __future__ import annotations

from random import Random

from poussetaches.api.app import App, build_app
from poussetaches.api.auth import Tokens
from poussetaches.api.bulk_edit import BulkEditor
from poussetaches.api.event_hub import EventHub
from poussetaches.api.request_limits import RequestLimits
from poussetaches.api.task_wait import TaskWaiters
from poussetaches.api.test_mode_routes import TestMode
from poussetaches.core.target_allowlist import AllowedTargets
from poussetaches.engine.alerts import Alerts
from poussetaches.engine.clock import Bell, Clock, SystemClock
from poussetaches.engine.engine import Engine
from poussetaches.engine.limited_sender import LimitedSender
from poussetaches.engine.loop import Loop
from poussetaches.engine.observer import Observer
from poussetaches.engine.resolver import Resolver
from poussetaches.engine.sender import HttpSender, Sender
from poussetaches.engine.stats import Stats
from poussetaches.server.configuration import engine_config, secret_mask
from poussetaches.server.descriptors import Descriptors
from poussetaches.server.endpoints import DIALECTS, Services, endpoints_of
from poussetaches.server.trust_store import report_trust
from poussetaches.settings import Settings
from poussetaches.settings.table import Delivery
from poussetaches.store.base import Store


class Parts:
    """The parts of one server. They are loaded, started, drained and closed, in this order.

    ``observer`` observes attempts: ``stats``, or an observer that forwards to it. Without
    a ``sender``, attempts are made over HTTP. Without ``descriptors``, only the settings limit
    the parts.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        descriptors: Descriptors | None = None,
        clock: Clock,
        random: Random,
        stats: Stats,
        observer: Observer,
        sender: Sender | None = None,
        test_mode: TestMode | None = None,
    ) -> None:
        self._store = store
        self._stats = stats
        if descriptors is None:
            descriptors = Descriptors(max_in_flight=settings.delivery.max_in_flight)
        config = engine_config(settings, descriptors)
        resolver = Resolver(most=descriptors.lookups)
        http_sender = HttpSender(
            connect_timeout=settings.delivery.connect_timeout,
            now=clock.now,
            resolver=resolver,
            most_idle=descriptors.idle,
            on_repeat=stats.request_repeated,
            secret_mask=secret_mask(settings),
        )
        if sender is None:
            sender = http_sender
            report_trust(http_sender)
        self.engine = Engine(
            store=store,
            sender=_limited(sender, http_sender, config.allowed, resolver, settings.delivery),
            clock=clock,
            random=random,
            config=config,
            observer=observer,
        )
        self._bulk = BulkEditor(store=store, now=clock.now)
        self._waiters = TaskWaiters()
        # Event streams use real time, in test mode too.
        self._hub = EventHub(now=clock.now, clock=SystemClock(), random=random)
        defects = self.engine.defects
        self.chores = [Loop("statistics", stats.tick, bell=Bell(), clock=clock, defects=defects)]
        # Not limited by allow_target: the operator sets the URL of alerts.
        self._alerts = self._alerting(settings, clock=clock, sender=sender)
        services = Services(
            store=store,
            engine=self.engine,
            stats=stats,
            bulk=self._bulk,
            waiters=self._waiters,
            hub=self._hub,
            request_limits=RequestLimits(descriptors.connections),
            now=clock.now,
            random=random,
        )
        self.app = _app(services, settings, test_mode=test_mode)

    async def load(self) -> None:
        """Read the state of the store, and listen to its commits from then on."""
        await self.engine.load()
        for listener in (self._waiters, self._hub, self._stats, self._alerts):
            if listener is not None:
                self._store.listen(listener)

    def start(self) -> None:
        """Start deliveries, statistics and alerts."""
        self.engine.start()
        for loop in self.chores:
            loop.start()

    async def drain(self, limit: float) -> None:
        """Start no more attempts, and give those in flight some seconds to end."""
        if self._alerts is not None:
            await self._alerts.stop()  # it shares the engine's connections
        await self.engine.stop(limit)

    async def end_requests(self) -> None:
        """End long requests: bulk edits, waits and event streams."""
        await self._bulk.stop()
        self._waiters.stop()
        await self._hub.close()

    async def close(self) -> None:
        """Store the statistics; the store must still be open."""
        for loop in self.chores:
            await loop.stop()
        await self._stats.flush()

    def _alerting(self, settings: Settings, *, clock: Clock, sender: Sender) -> Alerts | None:
        if settings.logging.alert_url is None:
            return None
        bell = Bell()
        alerts = Alerts(
            settings.logging.alert_url,
            store=self._store,
            sender=sender,
            watched=self.engine,
            clock=clock,
            bell=bell,
            defects=self.engine.defects,
        )
        self.chores.append(
            Loop("alerts", alerts.tick, bell=bell, clock=clock, defects=self.engine.defects)
        )
        return alerts


def _limited(
    sender: Sender,
    http_sender: HttpSender,
    allowed: AllowedTargets,
    resolver: Resolver,
    delivery: Delivery,
) -> Sender:
    """Return a sender for allowed targets only; it is the same one if all are allowed."""
    if allowed.is_everywhere:
        return sender
    return LimitedSender(
        sender,
        allowed=allowed,
        http_sender=http_sender,
        resolver=resolver,
        connect_timeout=delivery.connect_timeout,
    )


def _app(services: Services, settings: Settings, *, test_mode: TestMode | None) -> App:
    return build_app(
        endpoints_of(services, settings, test_mode=test_mode),
        dialects=DIALECTS,
        tokens=_tokens(settings),
        request_limits=services.request_limits,
        hosts=(*settings.security.allow_host, settings.listener.host.lower()),
        count_failure=services.engine.defects.count_logged,
    )


def _tokens(settings: Settings) -> Tokens | None:
    if settings.security.api_token is None:
        return None
    return Tokens(settings.security.api_token, settings.security.read_token)
