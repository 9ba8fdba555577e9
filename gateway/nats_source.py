"""The NATS source: brings a JetStream stream's messages into this hub, each stored once and in the stream's order.

How far the stream has been read is written in the same transaction as the messages; JetStream is told only after
that commit. What comes again, because an acknowledgement got lost with a connection or a process, is known by its
number. Messages keep the identity they were born with, so none goes round in circles.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.nats_intake import Fate, Intake, PassedOver
from gateway.nats_place import SELECT, UPSERT
from gateway.nats_reading import Delivery, Reading, Wanted
from gateway.nats_seen import Seen
from gateway.upstream.backoff import Backoff
from gateway.upstream.errors import SinkError, SinkOffline, SinkRefused
from gateway.upstream.nats_config import NatsServers
from gateway.upstream.nats_link import NatsLink
from gateway.upstream.sink import UpstreamState
from hub.access import Principal
from hub.errors import LogFull
from hub.hub import Hub
from hub.log import Write
from hub.message import Message

log = logging.getLogger("gateway.nats")

RECALLED = 8192  # newest messages of the log that are looked through for copies, at the first connection
RECALL_STEP = 256  # of them, before others have their turn: about 2 ms
STEADY_S = 10.0  # a connection that stood this long ends an outage
MAX_CHANNELS = 100  # named in one consumer; without names it is sent all

_NEWEST = "SELECT min(seq) FROM (SELECT seq FROM log ORDER BY seq DESC LIMIT ?)"

_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
_TOKENS = re.compile(r"[\w-]{1,64}(\.[\w-]{1,64}){0,7}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NatsSourceConfig:
    """Which messages to bring here. Raises ValueError where a setting can never work."""

    name: str  # names the place in the stream: keep it
    cluster: NatsServers
    stream: str = "channels"
    subject: str = "channels"  # what stands before .<channel>[.<subtopic>]
    channels: tuple[str, ...] = ()  # ids; empty: all
    thing: str = ""  # as whom to publish here; "": as a part of the gateway, to every channel there is
    backlog: bool = True  # a new source begins with what the stream holds; False: with what comes next

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or not _NAME.fullmatch(self.stream):
            raise ValueError("name and stream have 1 to 64 letters, digits, - or _")
        if not _TOKENS.fullmatch(self.subject):
            raise ValueError("subject is words of letters, digits, - or _, joined by dots")
        if len(self.channels) > MAX_CHANNELS or not all(map(_NAME.fullmatch, self.channels)):
            raise ValueError(f"channels are at most {MAX_CHANNELS} ids; leave them out to take all")

    def filters(self) -> list[str]:
        """The subjects to be sent."""
        if not self.channels:
            return [f"{self.subject}.>"]
        return [f"{self.subject}.{each}{end}" for each in self.channels for end in ("", ".>")]


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How the source fares, for the pages and the API. Counts are since the gateway started."""

    name: str
    state: UpstreamState
    detail: str  # "" while connected
    stored: int
    again: int  # known already: sent again by the server, or a copy in the stream
    passed_over: dict[str, int] = field(default_factory=dict)  # by nats_intake.Fate
    passed_over_detail: str = ""  # why the latest was
    behind: int = 0  # messages still to come, as the server said last
    since: float = 0.0  # Unix seconds at which `state` was entered


class NatsSource:
    """One stream's reader. `run` is a task; everything else is called on the same loop."""

    def __init__(
        self,
        hub: Hub,
        config: NatsSourceConfig,
        gateway: str,
        *,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`gateway` names this gateway (its EUI, 16 hex digits); its own messages are passed over."""
        self._hub = hub
        self._config = config
        self._gateway = gateway
        self._wanted = Wanted(
            config.stream,
            f"fluxgate-{gateway}-{config.name}",
            config.filters(),
            backlog=config.backlog,
        )
        self._intake = Intake(
            hub.access,
            Principal("thing", config.thing) if config.thing else Principal.internal("upstream"),
            gateway=gateway,
            subject=config.subject,
            max_payload=hub.settings.max_payload,
        )
        self._backoff = backoff or Backoff()
        self._servers = config.cluster.addresses()
        (rng or random.Random()).shuffle(self._servers)
        self._link: NatsLink | None = None
        self._reading: Reading | None = None
        self._created = ""  # of the stream read now
        self._position = 0  # number in that stream; everything up to there is stored or passed over
        self._seen: Seen | None = None
        self._stored = 0
        self._again = 0
        self._passed_over: Counter[str] = Counter()
        self._passed_over_detail = ""
        self._behind = 0
        self._state = UpstreamState.CONNECTING
        self._detail = ""
        self._entered = time.monotonic()

    def status(self) -> SourceStatus:
        return SourceStatus(
            self._config.name,
            self._state,
            self._detail,
            stored=self._stored,
            again=self._again,
            passed_over=dict(self._passed_over),
            passed_over_detail=self._passed_over_detail,
            behind=self._behind,
            # counted back from now: the wall clock may be set while the state lasts
            since=time.time() - (time.monotonic() - self._entered),
        )

    async def run(self) -> None:
        """Bring messages until cancelled."""
        while True:  # noqa: ASYNC110 - the pause between two attempts
            await asyncio.sleep(await self._one_connection())

    async def _one_connection(self) -> float:
        """Connect and read until the connection ends; the seconds to wait then."""
        self._link = link = NatsLink(
            self._config.cluster, self._gateway, on_lost=self._lost, on_denied=self._denied
        )
        self._reading = reading = Reading(link, self._wanted)
        opened = time.monotonic()
        try:
            host, port = self._servers[0]
            self._servers.append(self._servers.pop(0))  # the next attempt asks the next one
            await link.open(host, port)
            await self._begin(reading)
            self._enter(UpstreamState.CONNECTED)
            while True:
                await self._take(reading, await reading.next())
        except SinkError as error:
            now = time.monotonic()
            if self._state is UpstreamState.CONNECTED and now - opened >= STEADY_S:
                self._backoff.reset()
            refused = isinstance(error, SinkRefused)
            self._enter(UpstreamState.REFUSED if refused else UpstreamState.OFFLINE, error.words)
            return self._backoff.pause_s(now)
        finally:
            await link.close()

    def _lost(self) -> None:
        if self._reading is not None:
            self._reading.wake()

    def _denied(self, subject: str) -> None:
        if self._link is not None:
            self._link.end(SinkRefused(f"the server does not allow this user {subject}"))

    async def _begin(self, reading: Reading) -> None:
        """Find out where to go on, and write down where a new source begins. Raises SinkError."""
        if self._seen is None:
            self._seen = await self._recalled()
        self._created = await reading.stream()
        rows = self._hub.log.query(SELECT, (self._config.name, self._config.stream, self._created))
        position = int(rows[0][0]) if rows else None
        self._position = await reading.consumer(position)
        if position is None:
            await self._store((), self._position)

    async def _recalled(self) -> Seen:
        """What of other gateways the newest messages of this log are."""
        seen, log = Seen(), self._hub.log
        ((first,),) = log.query(_NEWEST, (RECALLED,))
        after = log.committed_seq if first is None else first - 1
        while after < log.committed_seq:
            found, after = log.scan(after, lambda one: bool(one.origin), RECALL_STEP, max_rows=RECALL_STEP)
            for message in found:
                seen.add(message)
            await asyncio.sleep(0)
        return seen

    async def _take(self, reading: Reading, deliveries: Sequence[Delivery]) -> None:
        """Store what is new, in one transaction with the place in the stream; then acknowledge all."""
        messages: list[Message] = []
        seen, taken = self._seen or Seen(), Seen()
        position = self._position
        for delivery in deliveries:
            if delivery.stream_seq <= position:
                self._again += 1
                continue
            position = delivery.stream_seq
            place = f"{self._config.stream}/{position}"
            found = self._intake.admit(delivery.msg.subject, delivery.msg.data, place)
            if isinstance(found, PassedOver):
                self._pass_over(found, delivery)
            elif found in seen or found in taken:
                self._again += 1
            else:
                messages.append(found)
                taken.add(found)
        if position > self._position:
            await self._store(messages, position)
            self._position = position
            for message in messages:
                seen.add(message)  # only now: what was not stored will come again
            self._stored += len(messages)
            self._backoff.reset()
        self._behind = deliveries[-1].pending
        await reading.acknowledge(deliveries)

    async def _store(self, messages: Sequence[Message], position: int) -> None:
        """Durable when it returns. Raises SinkOffline while the disk is full."""
        also: list[Write] = [(UPSERT, (self._config.name, self._config.stream, self._created, position))]
        try:
            await self._hub.log.append(messages, also)
        except LogFull as error:
            raise SinkOffline(f"this gateway can store nothing: {error.reason}") from error

    def _pass_over(self, found: PassedOver, delivery: Delivery) -> None:
        self._passed_over[found.fate.value] += 1
        if found.fate in (Fate.DENIED, Fate.BAD):
            self._passed_over_detail = f"message {delivery.stream_seq} of the stream: {found.reason}"
            log.debug("%s: %s", self._config.name, self._passed_over_detail)

    def _enter(self, state: UpstreamState, detail: str = "") -> None:
        self._detail = detail
        if state is not self._state:
            self._state = state
            self._entered = time.monotonic()
