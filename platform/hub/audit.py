"""The audit log: who was let in, who was refused, and who changed what.

`record` never blocks, never raises and may be called from any thread; a thread of its own writes, at most a quarter of
a second later. Equal refusals within a minute become one line at once and one with their number afterwards, and each
kind has so many refused lines a minute, so that nobody can flood the log until what matters has left it. What cannot
be kept is counted, and said in the log as soon as it can be written again. Nothing here ever gets a secret to see:
callers pass ids, addresses and sentences.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import sqlite3
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .audit_chain import Line, Verdict
from .audit_file import AuditFile, Reader, verify_file
from .disk import trouble, words
from .keys import ServerKey
from .message import TimeQuality

log = logging.getLogger("hub.audit")

MAX_WAITING = 4096  # lines not written yet; while the disk is full the later ones are counted only
MAX_BATCH = 512  # lines in one transaction
MAX_GATHERED = 1024  # different refusals of the last minute that are remembered
MAX_REFUSED_BURST = 300  # refused lines of one kind at once
MAX_REFUSED_A_MINUTE = 1  # and after that; the others of the minute share one line
MAX_FIELD = 512  # characters of one field
GATHER_S = 60.0
WRITE_AFTER_S = 0.25  # lines of one moment share a commit
TRY_AGAIN_S = 5.0  # after the disk refused a batch

Outcome = Literal["allowed", "refused", "done"]
KINDS = (
    *(
        "sign-in",
        "sign-out",
        "claim",
        "token",
        "key",
        "oauth",
        "certificate",
        "policy",
        "account",
        "role",
        "totp",
    ),
    *("thing", "channel", "connection", "group", "application", "access", "configuration", "proxy", "audit"),
)
OTHERS = "more refusals than are listed one by one"

Clock = Callable[[], tuple[int, TimeQuality]]


@dataclass(slots=True)
class Attempt:
    """One request of somebody: what he does within it is recorded with these, unless the caller knows better.

    `lines` counts what was recorded, so that whoever sees the request end does not record it again.
    """

    who: str = ""
    address: str = ""
    door: str = ""
    resource: str = ""
    lines: int = 0


_attempt: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


def attempt() -> Attempt | None:
    """The request under way, None where the gateway acts by itself. Threads of `asyncio.to_thread` see it too."""
    return _attempt.get()


@contextlib.contextmanager
def attempting(one: Attempt) -> Iterator[Attempt]:
    """What happens inside belongs to `one`."""
    token = _attempt.set(one)
    try:
        yield one
    finally:
        _attempt.reset(token)


@dataclass(slots=True)
class _Gathered:
    """Equal refusals since the one that was written."""

    line: Line
    until: float  # monotonic
    count: int = 0


class _Allowance:
    """How many refused lines of a kind may still be written one by one."""

    __slots__ = ("_left", "_since")

    def __init__(self, now: float) -> None:
        self._left, self._since = float(MAX_REFUSED_BURST), now

    def take(self, now: float) -> bool:
        earned = (now - self._since) * MAX_REFUSED_A_MINUTE / 60.0
        self._left, self._since = min(float(MAX_REFUSED_BURST), self._left + earned), now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Audit:
    """The log of one gateway."""

    def __init__(
        self,
        path: Path,
        key: bytes,
        clock: Clock,
        boot: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens nothing: the thread does, with the first line."""
        self.path, self._key, self._clock, self._boot, self._monotonic = path, key, clock, boot, monotonic
        self._changed = threading.Condition()
        self._waiting: deque[Line] = deque()
        self._settings: dict[str, bytes] | None = None
        self._gathered: OrderedDict[tuple[str, ...], _Gathered] = OrderedDict()
        self._allowances: dict[str, _Allowance] = {}
        self._thread: threading.Thread | None = None
        self._file: AuditFile | None = None
        self._closing = self._hurry = False
        self._write_at = self._retry_at = 0.0
        self._tries = 0
        self._unsaid = 0  # lost lines that no line tells of yet
        self.written = self.lost = self.repeated = 0
        self.problem = ""  # why nothing is written at the moment, in words

    def record(
        self,
        kind: str,
        outcome: Outcome,
        *,
        who: str = "",
        address: str = "",
        door: str = "",
        resource: str = "",
        detail: str = "",
        now_s: float | None = None,
    ) -> None:
        """Note one decision or change. `now_s` is UTC, by default the hub's clock's; `kind` one of KINDS."""
        under_way = _attempt.get()
        if under_way is not None:
            under_way.lines += 1
            who, address = who or under_way.who, address or under_way.address
            door, resource = door or under_way.door, resource or under_way.resource
        time_ns, quality = self._clock()
        if now_s is not None:
            time_ns = int(now_s * 1e9)
        line = Line(
            *(0, time_ns, str(quality), self._boot, _plain(kind), outcome, _plain(who), _plain(address)),
            *(_plain(door), _plain(resource), _plain(detail)),
        )
        now = self._monotonic()
        with self._changed:
            if outcome != "refused" or self._is_new(line, now):
                self._add(line)

    def configured(self, settings: Mapping[str, str]) -> None:
        """Note which settings differ from those of the last start: their names, never their values."""
        digests = {name: setting_digest(self._key, value) for name, value in settings.items()}
        with self._changed:
            self._settings = digests
            self._wake()

    def flush(self, timeout_s: float = 10.0, *, gathered: bool = False) -> bool:
        """Wait until what was recorded is durable; False where the disk does not take it. Blocks.

        `gathered`: what is gathered is written too, as if its minute were over.
        """
        with self._changed:
            if gathered:
                self._sweep(float("inf"))
            tries = self._tries
            self._retry_at, self._hurry = 0.0, True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._is_idle() or (self._tries > tries and bool(self.problem)), timeout_s
            )
            return self._is_idle()

    def close(self) -> None:
        """Write what is left, and end the thread."""
        with self._changed:
            self._sweep(float("inf"))
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def reader(self) -> Reader:
        """A look into the file, of whoever asks it. Raises sqlite3.Error where there is none yet."""
        return Reader(self.path)

    def verify(self) -> Verdict:
        """Check the whole chain. Blocks, for a full file some seconds. Raises sqlite3.Error where there is none."""
        return verify_file(self.path, self._key)

    def counters(self) -> dict[str, float]:
        """Numbers for `/metrics`."""
        return {
            "fluxgate_audit_lines_total": self.written,
            "fluxgate_audit_lines_lost_total": self.lost,
            "fluxgate_audit_refusals_gathered_total": self.repeated,
            "fluxgate_audit_lines_waiting": len(self._waiting),
        }

    # With the lock held

    def _is_idle(self) -> bool:
        return not self._waiting and self._settings is None

    def _is_new(self, line: Line, now: float) -> bool:
        """Whether this refusal gets a line now; else it is counted with its like."""
        self._sweep(now)
        key: tuple[str, ...] = (line.kind, line.who, line.address, line.door, line.resource, line.detail)
        found = self._gathered.get(key)
        if found is None:
            kind = line.kind if line.kind in KINDS else ""
            allowance = self._allowances.setdefault(kind, _Allowance(now))
            if len(self._gathered) < MAX_GATHERED and allowance.take(now):
                self._gathered[key] = _Gathered(line, now + GATHER_S)
                return True
            key = (kind, OTHERS)
            line = Line(0, line.time_ns, line.quality, line.boot, line.kind, "refused", detail=OTHERS)
            found = self._gathered.setdefault(key, _Gathered(line, now + GATHER_S))
        found.line, found.count = line, found.count + 1
        self.repeated += 1
        return False

    def _sweep(self, now: float) -> None:
        """Write down what was gathered for a minute; the map is in the order of its ends."""
        while self._gathered:
            key, first = next(iter(self._gathered.items()))
            if first.until > now:
                return
            del self._gathered[key]
            if first.count:
                line = first.line
                self._add(
                    Line(
                        *(0, line.time_ns, line.quality, line.boot, line.kind, line.outcome, line.who),
                        *(line.address, line.door, line.resource, line.detail, first.count),
                    )
                )

    def _add(self, line: Line) -> None:
        if not self._waiting:
            self._wake()
        if len(self._waiting) >= MAX_WAITING:
            self.lost += 1
            self._unsaid += 1
            return
        self._waiting.append(line)

    def _wake(self) -> None:
        self._write_at = self._monotonic() + WRITE_AFTER_S
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="hub-audit", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    # In the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._closing or self._hurry):
                    pause = self._pause()
                    if pause is not None and pause <= 0.0:
                        break
                    self._changed.wait(pause)
                self._sweep(self._monotonic())
                batch = [self._waiting[i] for i in range(min(MAX_BATCH, len(self._waiting)))]
                settings, unsaid = self._settings, self._unsaid
                if not batch and settings is None:
                    self._hurry = False
                    if self._closing:
                        break
                    continue
            if not self._write(batch, settings, unsaid) and self._closing:
                log.error("%d lines of the audit log are lost: %s", len(self._waiting), self.problem)
                break
        if self._file is not None:
            self._file.close()

    def _pause(self) -> float | None:
        """Seconds until there is something to do; None: until somebody says so."""
        now = self._monotonic()
        if self._waiting or self._settings is not None:
            return max(self._write_at, self._retry_at) - now
        if self._gathered:
            return next(iter(self._gathered.values())).until - now
        return None

    def _write(self, batch: list[Line], settings: dict[str, bytes] | None, unsaid: int) -> bool:
        own: list[Line] = []
        problem = ""
        try:
            if self._file is None:
                self._file = AuditFile(self.path, self._key)
            if self._file.note:
                own.append(self._say(f"the audit log is not as it was left: {self._file.note}"))
            if unsaid:
                own.append(
                    self._say(f"{unsaid} lines could not be kept: {self.problem or 'too many at once'}")
                )
            if settings is not None and (names := _different(self._file.settings(), settings)):
                own.append(self._say(f"other settings than at the last start: {names}", "configuration"))
            self._file.append([*own, *batch], settings)
            self._file.note = ""
        except (sqlite3.Error, OSError) as error:
            state = trouble(error, self.path.parent)
            problem = words(state) if state else str(error)
            if not self.problem:
                log.error("the audit log cannot be written: %s", problem)
            if self._file is not None:  # a connection made while the disk was read-only would stay so
                self._file.close()
                self._file = None
        with self._changed:
            self.problem, self._tries = problem, self._tries + 1
            if problem:
                self._retry_at, self._hurry = self._monotonic() + TRY_AGAIN_S, False
            else:
                for _ in batch:
                    self._waiting.popleft()
                self._settings = None if self._settings is settings else self._settings
                self._unsaid -= unsaid
                self.written += len(batch) + len(own)
            self._changed.notify_all()
        return not problem

    def _say(self, detail: str, kind: str = "audit") -> Line:
        time_ns, quality = self._clock()
        return Line(0, time_ns, str(quality), self._boot, kind, "done", door="gateway", detail=_plain(detail))


def audit_key(server_key: ServerKey) -> bytes:
    """The key of the chain."""
    return server_key.digest("audit", "chain")


def setting_digest(key: bytes, value: str) -> bytes:
    """What is kept of a setting's value, to see that it changed."""
    return hmac.digest(key, b"setting\0" + value.encode("utf-8", "replace"), "sha256")


def _different(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> str:
    """Names of the settings that differ, as a list; "" on the first start and where none does."""
    if not before:
        return ""
    return ", ".join(sorted(name for name in {*before, *now} if before.get(name) != now.get(name)))


def _plain(text: str) -> str:
    """`text` without what could pass for another line or end a field, and not longer than MAX_FIELD."""
    cut = text[:MAX_FIELD].encode("utf-8", "replace").decode()
    return cut if cut.isprintable() else "".join(each if each.isprintable() else " " for each in cut)
