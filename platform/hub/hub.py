"""The hub: opens log, history, registry and access in one data directory, and takes messages in.

Doors call `publish`, `submit` or `post`; all three ask access, check the content and give the message to the
log. The LoRaWAN server, which has checked and decoded already, asks `access` itself and uses `log` directly.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import content, senml
from .access import Access, Action, Circumstances, Decision, Principal, Resource, resource_name
from .audit import Audit, attempt, audit_key
from .database import Migration
from .errors import AccessDenied, HubError, LogFailed, TooLarge
from .events import MIGRATIONS as EVENT_MIGRATIONS
from .events import Events, acting
from .history import History
from .keys import ServerKey
from .log import MAX_BYTES, MAX_MESSAGES, MIN_FREE_BYTES, Log, Write
from .message import Message, TimeQuality
from .oauth.service import OAuth
from .registry import Change, ChangeKind, Registry
from .router import Router
from .sign_in import SignIn
from .timekeeping import TRUSTED
from .tokens.bearer import Bearers
from .tokens.expiry import Expiry
from .tokens.grants import Grant
from .topics import parse_subtopic

MAX_PAYLOAD = 256 * 1024  # bytes; a day of one sensor's values every minute as SenML is 60 KB

_CHANGED = {
    ChangeKind.GRANTED: "made, or given a right",
    ChangeKind.REVOKED: "removed, or a right or credential taken back",
    ChangeKind.EDITED: "renamed, or other metadata",
}

Clock = Callable[[], tuple[int, TimeQuality]]


def system_clock() -> tuple[int, TimeQuality]:
    """UTC nanoseconds of the system clock, of unknown quality."""
    return time.time_ns(), TimeQuality.UNSET


@dataclass(frozen=True, slots=True)
class HubSettings:
    """What a gateway may set; defaults suit a Pi with a 16 GB card."""

    commit_interval_s: float = 1.0  # how long messages nobody waits for may gather; up to 60 spares the card
    max_messages: int = MAX_MESSAGES
    max_bytes: int = MAX_BYTES  # of the log's file
    max_age_s: int = 0  # of messages in the log; 0: never removed for their age
    min_free_bytes: int = MIN_FREE_BYTES  # on the disk, before the oldest messages go
    history_max_bytes: int = 2 << 30
    history_max_age_s: float = 0.0  # of records; 0: never removed for their age
    max_payload: int = MAX_PAYLOAD
    # Tell of changes on a channel of their own; `Hub.events` is started by whoever wants that
    events: bool = False


@dataclass(slots=True)
class HubCounters:
    """Messages since this start, by what became of them at the door."""

    accepted: int = 0
    denied: int = 0
    bad: int = 0
    too_large: int = 0


class Hub:
    """One per process; all methods belong to the event loop's thread."""

    def __init__(
        self,
        log: Log,
        registry: Registry,
        history: History,
        settings: HubSettings,
        clock: Clock,
        boot: str,
        audit: Audit,
    ) -> None:
        self.log = log
        self.registry = registry
        self.history = history
        self.access = Access(registry, lambda: clock()[0] / 1e9)
        self.bearers = Bearers(registry)
        self._expiry = Expiry(registry.grants, self.now_s, self._note_end)
        self.router: Router[object] = Router()
        self.settings = settings
        self.counters = HubCounters()
        self.clock = clock
        self.boot = boot
        self.audit = audit
        self.events = Events(registry, log, clock, boot)
        self.oauth = OAuth(registry, self.bearers, audit)
        self.access.on_denied = self._note_denial
        registry.on_change(self._note_change)
        self.sign_in = SignIn(registry, audit, clock)

    @classmethod
    def open(
        cls,
        data_dir: Path | str,
        *,
        migrations: Sequence[Migration] = (),
        settings: HubSettings | None = None,
        clock: Clock = system_clock,
        on_failure: Callable[[LogFailed], None] | None = None,
        connection: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> Hub:
        """Open or create everything in `data_dir`, inside the running loop; blocks while it recovers.

        `migrations` are of other parts' tables in the log's file. `on_failure` is called when the log has
        failed and the process should end. `close` is awaited at the end. On a full or read-only disk the hub
        opens all the same: see `log.state`.
        """
        folder = Path(data_dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = settings or HubSettings()
        key = ServerKey.load(folder / "server.key")
        noting = (lambda: (acting(), clock()[0])) if settings.events else None
        registry = Registry.open(folder / "registry.db", key, noting)
        log = Log.open(
            folder / "log.db",
            migrations=(*EVENT_MIGRATIONS, *migrations),
            commit_interval_s=settings.commit_interval_s,
            max_messages=settings.max_messages,
            max_bytes=settings.max_bytes,
            max_age_s=settings.max_age_s,
            min_free_bytes=settings.min_free_bytes,
            on_failure=on_failure,
            connection=connection,
        )
        history = History.open(
            folder / "history.db",
            log,
            max_bytes=settings.history_max_bytes,
            max_age_s=settings.history_max_age_s,
            clock=_trusted_s(clock),
        )
        boot = _boot_id()
        audit = Audit(folder / "audit.db", audit_key(key), clock, boot)
        return cls(log, registry, history, settings, clock, boot, audit)

    async def close(self) -> None:
        """Make everything taken in durable and close the files."""
        await self.events.close()
        await self._expiry.close()
        try:
            await self.history.close()
        finally:
            try:
                await self.log.close()
            finally:
                self.registry.close()
                self.sign_in.close()
                self.audit.close()

    def _note_denial(
        self,
        principal: Principal,
        action: Action,
        resource: Resource,
        context: Circumstances,
        decision: Decision,
    ) -> None:
        """A door was told no. Deliveries that end with a right are the right's doing, and no attempt of anybody."""
        if action is not Action.DELIVER:
            self.audit.record(
                "access",
                "refused",
                who=f"{principal.kind}s/{principal.id}",
                address=context.source_ip,
                door=context.protocol,
                resource=f"{action} {resource_name(resource)}",
                detail=decision.reason,
            )

    def note_refusal(
        self,
        door: str,
        why: str,
        *,
        principal: Principal | None = None,
        address: str = "",
        resource: str = "",
    ) -> None:
        """A door refused what the access seam is never asked: what is no credential, or no channel's address.

        `principal` is None for a stranger.
        """
        who = f"{principal.kind}s/{principal.id}" if principal else ""
        self.audit.record(
            *("access", "refused"), who=who, address=address, door=door, resource=resource, detail=why
        )

    def _note_end(self, grant: Grant) -> None:
        """A key's or consent's time has passed."""
        self.audit.record(
            "key" if grant.kind == "key" else "oauth",
            "done",
            who="gateway",
            door="gateway",
            resource=f"keys/{grant.id}",
            detail="ended: its time has passed",
        )

    def _note_change(self, change: Change) -> None:
        """The registry changed without a request of anybody: a command at the machine, or the gateway itself."""
        if attempt() is not None:
            return
        for kind, noun, ids in (
            ("thing", "things", change.things),
            ("channel", "channels", change.channels),
            ("account", "users", change.users),
        ):
            if ids:
                more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
                name = self._name_of(noun, min(ids))
                self.audit.record(
                    kind,
                    "done",
                    who="gateway",
                    door="gateway",
                    resource=f"{noun}/{min(ids)}{more}",
                    detail=f"{name}: {_CHANGED[change.kind]}" if name else _CHANGED[change.kind],
                )

    def _name_of(self, noun: str, item_id: str) -> str:
        """What people call it; "" where it has no name or is gone."""
        registry = self.registry
        if noun == "users":
            user = registry.user(item_id)
            return user.email if user else ""
        item = registry.thing(item_id) if noun == "things" else registry.channel(item_id)
        return item.name if item else ""

    def authenticate_thing(self, key: str) -> Principal | None:
        """The principal of the thing that holds `key`, its own or an API key of it.

        It loses its rights when the key is replaced.
        """
        thing = self.registry.thing_by_key(key)
        if thing is not None:
            return Principal.of_thing(thing)
        principal = self.bearers.of_key(key, self.now_s())
        return principal if principal is not None and principal.kind == "thing" else None

    def authenticate_certificate(self, thing_id: str, serial: str = "") -> Principal | None:
        """The principal of the thing that a verified certificate names; `serial` where our own authority has made it.

        Such a thing needs no key, so a new key takes nothing away from it; removing the thing does, and denying the
        certificate.
        """
        thing = self.registry.thing(thing_id)
        if thing is None or (serial and self.registry.certificates.refusal(serial)):
            return None
        return Principal("thing", thing.id, certificate=serial)

    def authenticate_bearer(self, value: str, now_s: float) -> Principal | None:
        """Whom an API key, an access token or the token of a session stands for: a user or a thing."""
        return self.bearers.principal(value, now_s)

    def now_s(self) -> float:
        """UTC seconds by the hub's clock."""
        return self.clock()[0] / 1e9

    async def publish(
        self,
        principal: Principal,
        protocol: str,
        channel: str,
        subtopic: str,
        content_type: str,
        payload: bytes,
        *,
        also: Sequence[Write] = (),
        qos: int = 2,
        source_ip: str = "",
    ) -> int:
        """Take a message in; returns its number once it is durable.

        Raises AccessDenied, BadMessage (TooLarge, UnsupportedType), TopicError, LogFailed, WriteRefused.
        """
        message = self.admit(principal, protocol, channel, subtopic, content_type, payload, qos, source_ip)
        return (await self.log.append((message,), also))[0]

    def submit(
        self,
        principal: Principal,
        protocol: str,
        channel: str,
        subtopic: str,
        content_type: str,
        payload: bytes,
        done: Callable[[HubError | None], None],
        *,
        also: Sequence[Write] = (),
        qos: int = 2,
        source_ip: str = "",
    ) -> int:
        """As `publish`, for a door that has no task per message: `done` is called on the loop when it is
        durable.

        Raises what `publish` raises, and Busy.
        """
        message = self.admit(principal, protocol, channel, subtopic, content_type, payload, qos, source_ip)
        return self.log.submit((message,), also, done)[0]

    def post(
        self,
        principal: Principal,
        protocol: str,
        channel: str,
        subtopic: str,
        content_type: str,
        payload: bytes,
        *,
        also: Sequence[Write] = (),
        qos: int = 2,
        source_ip: str = "",
    ) -> int:
        """As `publish`, promising nothing.

        Durable with the next commit. Raises what `publish` raises, and Busy.
        """
        message = self.admit(principal, protocol, channel, subtopic, content_type, payload, qos, source_ip)
        return self.log.post((message,), also)[0]

    def admit(
        self,
        principal: Principal,
        protocol: str,
        channel: str,
        subtopic: str,
        content_type: str,
        payload: bytes,
        qos: int = 2,
        source_ip: str = "",
    ) -> Message:
        """The message to give to the log, or the refusal: access first, so that a stranger learns nothing else.

        Raises AccessDenied, BadMessage (TooLarge, UnsupportedType), TopicError.
        """
        context = Circumstances(protocol, source_ip, len(payload), content_type)
        decision = self.access.decide(principal, Action.PUBLISH, Resource(channel, subtopic), context)
        if not decision.allowed:
            self.counters.denied += 1
            raise AccessDenied(decision.reason)
        return self.check(principal.id, protocol, channel, subtopic, content_type, payload, qos)

    def check(
        self,
        publisher: str,
        protocol: str,
        channel: str,
        subtopic: str,
        content_type: str,
        payload: bytes,
        qos: int = 2,
    ) -> Message:
        """The message of a publisher that `access` lets send it, or the refusal of what is in it.

        Raises BadMessage (TooLarge, UnsupportedType), TopicError.
        """
        if len(payload) > self.settings.max_payload:
            self.counters.too_large += 1
            raise TooLarge(f"a payload has at most {self.settings.max_payload} bytes")
        now_ns, quality = self.clock()
        try:
            subtopic = parse_subtopic(subtopic)
            content_type = content.check(content_type, payload, senml.arrival_s(now_ns))
        except HubError:
            self.counters.bad += 1
            raise
        self.counters.accepted += 1
        return Message(
            *(channel, subtopic, publisher, protocol, content_type, payload, now_ns, 0),
            quality,
            self.boot,
            qos,
        )


def _trusted_s(clock: Clock) -> Callable[[], float]:
    """UTC in seconds; 1970, when nothing is too old, while the clock may be wrong."""

    def now_s() -> float:
        now_ns, quality = clock()
        return now_ns / 1e9 if quality in TRUSTED else 0.0

    return now_s


def _boot_id() -> str:
    """The kernel's id of this boot; "" where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
