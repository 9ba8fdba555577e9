"""Random damage to the files of a stopped gateway: it starts all the same, says what is lost, keeps who is who.

Whatever one file has suffered: the things' keys and the people's tokens still work, no sequence number, FCntDown or
JoinNonce is used again, no old frame or join-request is taken once more, and the devices are known. Messages,
sessions and retained messages may be lost with their file; then the log of the process says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway import app
from gateway.config import parse
from gateway.core import Core
from gateway.devices.registration import register
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.frames import build_join_request, open_join_accept
from gateway.lorawan.outcome import Joined, Uplink
from gateway.lorawan.types import AES128Key, DevEUI, JoinEUI
from hub.access import Principal
from hub.message import OCTET_STREAM, SENML_JSON
from radio.gwmp import RxPacket
from radio.lora import LoRaModulation

from . import mqtt_client as wire
from .clients import RetainedReader, Retainer, Subscriber
from .cuts import memory_folder
from .loads import GATEWAY_EUI, Device, Site, gateway_config
from .promises import Book, is_clear

START_S = 10.0
APP_KEY = AES128Key(b"k" * 16)
OTAA = DevEUI(0x70B3D57ED0000002)
UNTOUCHED = ("lock",)  # holds nothing


@dataclass
class Expected:
    """What the directory holds."""

    book: Book = field(default_factory=Book)
    messages: set[bytes] = field(default_factory=set)
    last_seq: int = 0
    token: str = ""
    fcnt_up: int = 0
    fcnt_down: int = 0
    join_nonce: int = 0
    frames: list[bytes] = field(default_factory=list)  # that must not be taken again: joins and uplinks


@dataclass
class Findings:
    """What a run has seen."""

    damages: int = 0
    starts: int = 0
    losses: int = 0  # starts that found something lost, and said so
    slowest_s: float = 0.0
    by_file: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.damages} damages ({', '.join(f'{name} {n}' for name, n in sorted(self.by_file.items()))}), "
            f"slowest start {self.slowest_s:.2f} s, something lost and said so in {self.losses}: "
            f"{len(self.problems) or 'no'} problem{'s' if len(self.problems) != 1 else ''}"
        )


def received(frame: bytes) -> RxPacket:
    return RxPacket(1_000_000, 868_100_000, 0, 0, 1, LoRaModulation(7, 125_000), -80, 7.5, frame)


def now() -> Instant:
    return Instant(time.monotonic_ns(), time.time_ns())


async def prepare(folder: Path) -> Expected:
    """Two lives that leave something in every file; `folder`/killed is a copy taken before the second one's end."""
    expected = Expected()
    book = expected.book
    config = parse(gateway_config(folder, Site()))
    device = Device()
    async with app.running(config) as gateway:
        core = gateway.core
        registry = core.hub.registry
        publisher, publisher_key = registry.create_thing("publisher")
        reader, reader_key = registry.create_thing("reader")
        book.publisher, book.subscriber = (publisher.id, publisher_key), (reader.id, reader_key)
        book.channel = (await register(core.hub, core.server, device.config())).channel_id
        otaa = DeviceConfig(
            dev_eui=OTAA, activation=Activation.OTAA, name="joins", join_eui=JoinEUI(1), app_key=APP_KEY
        )
        await register(core.hub, core.server, otaa)
        registry.connect([book.channel], [publisher.id, reader.id])
        user = registry.create_user("owner@example.org", "correct horse battery")
        expected.token = registry.issue_token(user.id, time.time())
        await _radio(core, expected, device)
    async with app.running(config) as gateway:
        await _live(gateway, expected)
        shutil.copytree(folder / "data", folder / "killed")
    return expected


async def _radio(core: Core, expected: Expected, device: Device) -> None:
    """Joins and uplinks: their counters are in the second copy, at the latest when the gateway ends."""
    hub = core.hub
    for nonce in range(3):
        frame = build_join_request(APP_KEY, JoinEUI(1), OTAA, nonce)
        joined = core.server.handle(received(frame), GATEWAY_EUI, now())
        assert isinstance(joined, Joined)
        assert joined.downlink
        await hub.log.write(joined.writes)
        expected.join_nonce = open_join_accept(APP_KEY, joined.downlink.windows[0].data).join_nonce
        expected.frames.append(frame)
    for _ in range(5):
        frame = device.uplink()
        uplink = core.server.handle(received(frame), GATEWAY_EUI, now())
        assert isinstance(uplink, Uplink)
        await hub.log.write(uplink.writes)
        expected.frames.append(frame)
    status = core.server.device(device.config().dev_eui)
    expected.fcnt_up, expected.fcnt_down = status.fcnt_up or 0, status.fcnt_down or 0


async def _live(gateway: app.Gateway, expected: Expected) -> None:
    book, hub = expected.book, gateway.core.hub
    subscriber = Subscriber(book, book.apply, gateway.mqtt.port)
    await subscriber.resume()
    subscriber.close()
    keeper = Retainer(book, book.apply, gateway.mqtt.port)
    await keeper.open()
    await keeper.run(12, random.Random(1))
    keeper.close()
    thing = Principal("thing", book.publisher[0])
    for n in range(300):
        body = b"%d" % n if n % 2 else b'[{"n":"t","v":%d}]' % n
        kind = OCTET_STREAM if n % 2 else SENML_JSON
        expected.last_seq = await hub.publish(thing, "http", book.channel, "load", kind, body)
        expected.messages.add(body)


# What can happen to a file


def _flips(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 3, 50))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _zeroed(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 4))):
        at = rng.randrange(len(data)) & ~511
        size = rng.choice((512, 2048, 4096))
        data[at : at + size] = bytes(len(data[at : at + size]))
    return bytes(data)


def _garbage(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data)) & ~511
    data[at : at + 4096] = rng.randbytes(len(data[at : at + 4096]))
    return bytes(data)


Damage = Callable[[bytearray, random.Random], bytes | None]  # None: the file is gone

DAMAGES: dict[str, Damage] = {
    "bits flipped": _flips,
    "pages zeroed": _zeroed,
    "garbage in it": _garbage,
    "cut short": lambda data, rng: bytes(data[: rng.randrange(len(data))]),
    "all NUL": lambda data, _: bytes(len(data)),
    "all garbage": lambda data, rng: rng.randbytes(len(data)),
    "empty": lambda _data, _rng: b"",
    "missing": lambda _data, _rng: None,
    "garbage behind it": lambda data, rng: bytes(data) + rng.randbytes(3000),
}


class _Said(logging.Handler):
    """What the process logs at error level and above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def listening() -> Iterator[_Said]:
    said = _Said()
    root = logging.getLogger()
    root.addHandler(said)
    try:
        yield said
    finally:
        root.removeHandler(said)


async def examine(folder: Path, expected: Expected, *, single: bool) -> tuple[list[str], bool, float]:
    """Problems of a start on damaged files, whether something was lost, and how long the start took.

    `single` where one file is damaged: identity and counters are there then.
    """
    with listening() as said:
        began = time.monotonic()
        try:
            async with app.running(parse(gateway_config(folder, Site()))) as gateway:
                took = time.monotonic() - began
                problems, lost = await _compare(gateway, expected, single=single)
        except Exception as error:
            return [f"does not start: {error!r}"], False, time.monotonic() - began
        if took > START_S:
            problems.append(f"took {took:.1f} s to start")
        aside = any(".damaged" in path.name for path in (folder / "data").iterdir())
        if lost and not said.lines and not aside:
            problems.append(f"lost without a word: {', '.join(lost)}")
    return problems, bool(lost), took


async def _compare(gateway: app.Gateway, expected: Expected, *, single: bool) -> tuple[list[str], list[str]]:
    core, book = gateway.core, expected.book
    hub = core.hub
    problems, lost = [], []
    kept = {message.payload for message in hub.log.read(0, None, 1 << 40)}
    if expected.messages - kept:
        lost.append("messages")
    identity = []
    for thing_id, key in (book.publisher, book.subscriber):
        principal = hub.authenticate_thing(key)
        if principal is None or principal.id != thing_id:
            identity.append("a thing's key")
    if hub.authenticate_bearer(expected.token, time.time()) is None:
        identity.append("a token")
    identity += _devices(gateway, expected)
    if single:
        problems += [f"{one} did not survive" for one in identity]
    lost += identity
    if not identity:
        seq = await hub.publish(
            Principal("thing", book.publisher[0]), "http", book.channel, "x", OCTET_STREAM, b"x"
        )
        if single and seq <= expected.last_seq:
            problems.append(f"number {seq} is used again, up to {expected.last_seq} were given")
        lost += await _mqtt(gateway, book)
    return problems, lost


def _devices(gateway: app.Gateway, expected: Expected) -> list[str]:
    """What is wrong with devices and counters."""
    wrong = []
    server = gateway.core.server
    known = {status.dev_eui: status for status in server.devices()}
    abp = known.get(Device().config().dev_eui)
    if abp is None or OTAA not in known:
        return ["a LoRaWAN device"]
    if abp.fcnt_up is None or abp.fcnt_up < expected.fcnt_up:
        wrong.append(f"FCntUp ({abp.fcnt_up} of {expected.fcnt_up})")
    if abp.fcnt_down is None or abp.fcnt_down < expected.fcnt_down:
        wrong.append(f"FCntDown ({abp.fcnt_down} of {expected.fcnt_down})")
    for frame in expected.frames:
        outcome = server.handle(received(frame), GATEWAY_EUI, now())
        if isinstance(outcome, (Joined, Uplink)):
            wrong.append(f"an old frame was taken again ({type(outcome).__name__})")
    fresh = server.handle(received(build_join_request(APP_KEY, JoinEUI(1), OTAA, 77)), GATEWAY_EUI, now())
    if not isinstance(fresh, Joined) or not fresh.downlink:
        wrong.append("a device cannot join")
    elif open_join_accept(APP_KEY, fresh.downlink.windows[0].data).join_nonce <= expected.join_nonce:
        wrong.append("JoinNonce")
    return wrong


async def _mqtt(gateway: app.Gateway, book: Book) -> list[str]:
    lost = []
    retained = RetainedReader(book, book.apply, gateway.mqtt.port)
    found = await retained.read()
    retained.close()
    wanted = {a: n for a, n in book.retained_acknowledged.items() if not is_clear(n)}
    if found != wanted:
        lost.append("retained messages")
    reader = Subscriber(book, lambda _mark: None, gateway.mqtt.port)
    if not await reader.open():
        lost.append("a session")
    reader.send(wire.packet(0xE0, b""))
    reader.close()
    return lost


def run(count: int, seed: int, *, careless: bool = False, minutes: float | None = None) -> Findings:
    """`count` damages. A careless gateway (the control) is one whose second copies are removed first."""
    rng = random.Random(seed)
    findings = Findings()
    work = memory_folder()
    began = time.monotonic()
    try:
        expected = asyncio.run(prepare(work / "origin"))
        for number in range(count):
            if minutes is not None and time.monotonic() - began > minutes * 60:
                break
            source = work / "origin" / ("data" if number % 2 else "killed")
            folder = work / "damaged"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(source, folder / "data")
            if careless:
                for copy in (folder / "data").glob("*.copy"):
                    copy.unlink()
            what = _damage(folder / "data", rng, findings, single=(single := rng.random() < 0.8))
            problems, lost, took = asyncio.run(examine(folder, expected, single=single))
            findings.damages += 1
            findings.losses += lost
            findings.slowest_s = max(findings.slowest_s, took)
            where = f"seed {seed}, number {number}, {source.name}, {what}"
            findings.problems += [f"{where}: {problem}" for problem in problems]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return findings


def _damage(folder: Path, rng: random.Random, findings: Findings, *, single: bool) -> str:
    """Damage one file, or a few; returns what was done."""
    files = sorted(
        path
        for path in folder.iterdir()
        if path.name not in UNTOUCHED and not path.name.endswith("-shm") and path.stat().st_size
    )
    done = []
    for path in rng.sample(files, 1 if single else rng.randint(2, 3)):
        findings.by_file[path.name] += 1
        if rng.random() < 0.08:
            other = rng.choice([file for file in files if file != path and file.exists()])
            shutil.copyfile(other, path)
            done.append(f"{path.name} holds {other.name}")
            continue
        name = rng.choice(sorted(DAMAGES))
        content = DAMAGES[name](bytearray(path.read_bytes()), rng)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        done.append(f"{path.name} {name}")
    return ", ".join(done)
