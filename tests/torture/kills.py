"""kill -9 of the gateway under load on all doors, thousands of times.

The gateway is forked from a process that has imported everything, so that a life costs no start of Python; the
clients (`loads.py`) live here and outlive it. After some kills the directory is looked at: a last life lets the
clients finish what was under way, then the log is read and compared with what had been promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config import parse
from gateway.core import opened_core
from gateway.demo.broker import free_port
from gateway.devices.registration import register
from hub.message import Message

from . import mqtt_client as wire
from .clients import Publisher2, RetainedReader, SessionLost, Subscriber
from .cuts import memory_folder
from .loads import DOORS, Account, Coap, Device, Load, Mqtt, Site, fcnt_of, gateway_config
from .promises import Book, is_clear
from .zygote import Zygote

KILLS_A_DIRECTORY = 100
SERVES_S = (0.03, 0.3)  # a gateway lives this long after it listens
DEADLINE_S = 60.0


@dataclass
class Findings:
    """What a run has seen."""

    kills: int = 0
    acknowledged: int = 0
    stored: int = 0
    by_load: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    spent_s: float = 0.0

    def __str__(self) -> str:
        loads = ", ".join(f"{name} {count}" for name, count in sorted(self.by_load.items()))
        return (
            f"{self.kills} kills in {self.spent_s:.0f} s ({self.kills / max(self.spent_s, 0.001):.1f}/s), "
            f"{self.acknowledged} acknowledged ({loads}), {self.stored} stored: "
            f"{len(self.problems) or 'no'} problem{'s' if len(self.problems) != 1 else ''}"
        )


class Gateways(Zygote):
    """The process that forks gateways."""

    def __init__(self, output: Path) -> None:
        super().__init__("kill_victim.py", os.environ)
        self._output = output

    def start(self, config: str, *, early: bool) -> int:
        """Returns the gateway's process id."""
        return self.ask({"do": "start", "config": config, "early": early, "output": str(self._output)})

    def wait(self) -> int:
        """The exit status of the gateway started last; minus the signal that ended it."""
        return self.ask({"do": "wait"})


class Torture:
    """One data directory over its lives."""

    def __init__(self, folder: Path, zygote: Gateways, doors: Sequence[str], *, early: bool = False) -> None:
        tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
        self.site = Site(free_port(kind=tcp), free_port(kind=tcp), free_port(kind=udp), free_port(kind=udp))
        self.config = gateway_config(folder, self.site)
        self.account = Account()
        self.loads: list[Load] = []
        self.problems: list[str] = []
        self._zygote, self._doors, self._early = zygote, doors, early

    async def prepare(self) -> None:
        """Make things, a channel and a device, and a load for each door."""
        device = Device()
        async with opened_core(parse(self.config)) as core:
            registry = core.hub.registry
            self.site.channel = (await register(core.hub, core.server, device.config())).channel_id
            things = [registry.create_thing(name) for name in ("load", "reader")]
            self.site.thing, self.site.reader = ((thing.id, key) for thing, key in things)
            registry.connect([self.site.channel], [thing.id for thing, _ in things])
        self.loads = [DOORS[name](self.site, self.account, device) for name in self._doors]

    def close(self) -> None:
        for load in self.loads:
            if isinstance(load, Coap):
                load.close()

    async def life(self, serves_s: float) -> None:
        """From start to kill -9, with all loads running."""
        pid = self._zygote.start(self.config, early=self._early)
        try:
            await self._listening(pid)
            running = [asyncio.create_task(load.run(), name=load.name) for load in self.loads]
            await asyncio.sleep(serves_s)
        finally:
            os.kill(pid, signal.SIGKILL)
            status = self._zygote.wait()
        if status != -signal.SIGKILL:
            raise AssertionError(f"the gateway ended by itself with {status}")
        for task in running:
            if not task.done():
                task.cancel()
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            if not isinstance(outcome, (asyncio.CancelledError, OSError, EOFError)):
                self.problems.append(f"{outcome!r}")

    async def _listening(self, pid: int) -> None:
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.site.http_port)
                writer.close()
                return
            await asyncio.sleep(0.003)
        raise AssertionError(f"the gateway does not listen within {DEADLINE_S} s")

    async def verdict(self) -> tuple[list[str], int]:
        """Let the clients finish, end the gateway in peace, read everything: problems, and messages stored."""
        problems = self.problems
        pid = self._zygote.start(self.config, early=False)
        try:
            await self._listening(pid)
            for load in self.loads:
                if isinstance(load, Mqtt):
                    problems += await self._finish(load)
        finally:
            os.kill(pid, signal.SIGTERM)
            if status := self._zygote.wait():
                problems.append(f"the gateway ended with {status} when it was told to stop")
        async with opened_core(parse(self.config)) as core:
            log = core.hub.log
            if log.set_aside or core.hub.registry.set_aside:
                problems.append("a database was set aside")
            if (answer := log.query("PRAGMA integrity_check(1)")) != [("ok",)]:
                problems.append(f"integrity_check: {answer}")
            messages = log.read(0, None, 1 << 40)
        return problems + self._compare(messages), len(messages)

    async def _finish(self, load: Mqtt) -> list[str]:
        book, port, version = load.book, self.site.mqtt_port, load.version
        last = f"last {load.name}"
        subscriber = Subscriber(book, book.apply, port, last, version=version)
        twice = Publisher2(book, book.apply, port, version=version)
        retained = RetainedReader(book, book.apply, port, version=version)
        for client in (subscriber, twice):
            client.client_id += str(version)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await subscriber.resume()
                await twice.resume()
                twice.begin(0)
                await twice.done
                twice.send(wire_of_last(twice, last))
                await subscriber.until
                return _retained(book, await retained.read())
        except SessionLost as error:
            return [f"{load.name}: {error}"]
        except TimeoutError:
            return [f"{load.name}: clients did not get on within {DEADLINE_S} s"]
        finally:
            for one in (subscriber, twice, retained):
                one.close()

    def _compare(self, messages: list[Message]) -> list[str]:
        problems: list[str] = []
        bodies = Counter(
            m.payload.decode()
            for m in messages
            if m.protocol != "lora" and m.payload and m.payload[:4] != b"last"
        )
        frames = Counter(
            fcnt_of(m.payload) for m in messages if m.protocol == "lora" and m.subtopic.endswith(".radio")
        )
        books = [load.book for load in self.loads if isinstance(load, Mqtt)]
        acknowledged = self.account.acknowledged.union(*(book.acknowledged for book in books))
        if lost := acknowledged - bodies.keys():
            problems.append(f"{len(lost)} acknowledged messages lost: {sorted(lost)[:5]}")
        if haunting := self.account.dropped & bodies.keys():
            problems.append(f"{len(haunting)} wills published behind a goodbye: {sorted(haunting)[:5]}")
        if lost_frames := self.account.frames - frames.keys():
            problems.append(f"{len(lost_frames)} acknowledged uplinks lost: {sorted(lost_frames)[:5]}")
        if twice := [body for body, count in bodies.items() if count > 1]:
            problems.append(f"{len(twice)} messages stored twice: {sorted(twice)[:5]}")
        if twice_frames := [fcnt for fcnt, count in frames.items() if count > 1]:
            problems.append(f"{len(twice_frames)} uplinks stored twice: {sorted(twice_frames)[:5]}")
        for book in books:
            problems += _delivered(book, messages)
        return problems


def wire_of_last(client: Publisher2, body: str) -> bytes:
    """The message after which a subscriber knows that it has seen everything."""
    return wire.publish(client.topic("load"), body.encode(), 1, 999, version=client.version)


def _delivered(book: Book, messages: list[Message]) -> list[str]:
    mine = [m for m in messages if m.subtopic == f"{book.label}.load" and m.payload[:4] != b"last"]
    problems = []
    if lost := [m for m in mine if not book.delivered[m.payload.decode()]]:
        problems.append(f"{book.label}: {len(lost)} messages never reached the subscriber: {lost[0]}")
    if twice := [m for m in mine if m.qos == 2 and book.delivered[m.payload.decode()] > 1]:
        problems.append(f"{book.label}: {len(twice)} messages reached the QoS 2 subscriber twice: {twice[0]}")
    return problems


def _retained(book: Book, found: dict[int, int]) -> list[str]:
    problems = []
    for address, sent in book.retained_sent.items():
        possible = range(book.retained_acknowledged[address], sent + 1)
        value = found.get(address)
        right = any(map(is_clear, possible)) if value is None else value in possible and not is_clear(value)
        if not right:
            problems.append(f"{book.label}: retained {address} holds {value}, {possible} is right")
    return problems


def run(
    count: int,
    seed: int,
    *,
    doors: Sequence[str] = tuple(DOORS),
    early: bool = False,
    minutes: float | None = None,
    say: Any = None,
) -> Findings:
    """`count` kills, or as many as fit in `minutes`; ends at the first directory with a problem."""
    rng = random.Random(seed)
    findings = Findings()
    work = memory_folder()
    began = time.monotonic()

    async def directory(zygote: Gateways, kills: int, number: int) -> None:
        torture = Torture(work / str(number), zygote, doors, early=early)
        with contextlib.closing(torture):
            await torture.prepare()
            await lives(torture, kills, number)

    async def lives(torture: Torture, kills: int, number: int) -> None:
        for _ in range(kills):
            await torture.life(rng.uniform(*SERVES_S))
            findings.kills += 1
            if torture.problems:
                break
        problems, stored = await torture.verdict()
        findings.problems += [f"seed {seed}, directory {number}: {problem}" for problem in problems]
        findings.stored += stored
        findings.by_load.update(torture.account.by_load)
        findings.acknowledged += len(torture.account.acknowledged) + len(torture.account.frames)
        for load in torture.loads:
            if isinstance(load, Mqtt):
                findings.by_load[load.name] += len(load.book.acknowledged)
                findings.acknowledged += len(load.book.acknowledged)

    try:
        with Gateways(work / "gateway.log") as zygote:
            number = 0
            while findings.kills < count and not findings.problems:
                if minutes is not None and time.monotonic() - began > minutes * 60:
                    break
                asyncio.run(directory(zygote, min(KILLS_A_DIRECTORY, count - findings.kills), number))
                findings.spent_s = time.monotonic() - began
                if say:
                    say(str(findings))
                if not findings.problems:
                    shutil.rmtree(work / str(number))
                number += 1
    finally:
        if not findings.problems or early:
            shutil.rmtree(work, ignore_errors=True)
    return findings
