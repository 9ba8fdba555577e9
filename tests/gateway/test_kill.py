"""kill -9 of the gateway process under load on three ways in: nothing acknowledged is lost, nothing stored twice.

MQTT QoS 1 (PUBACK), HTTP (202) and confirmed LoRaWAN uplinks (ACK) run against one process that is killed at
random moments. What was not acknowledged over MQTT and HTTP is not sent again; a LoRaWAN device repeats its frame
until it is acknowledged, as devices do. At the end the log is read and compared.

The control runs the same harness against a process that acknowledges before the commit, and must lose messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from gateway.config import show
from gateway.core import opened_core
from gateway.demo.broker import free_port
from gateway.devices.registration import register
from gateway.settings import Config
from radio import gwmp
from radio.lora import LoRaModulation

KILLS = int(os.environ.get("FLUXGATE_KILLS", "12"))  # of whole processes; tests/torture forks thousands
CONTROL_KILLS = 3
EUI = bytes.fromhex("02f10f6a7e0000aa")

ACKNOWLEDGE_EARLY = """
from hub.log import Log
take = Log.post
def submit(self, messages, also, done):
    seqs = take(self, messages, also)
    self._loop.call_soon(done, None)
    return seqs
async def append(self, messages, also=()):
    return take(self, messages, also)
Log.submit, Log.append = submit, append
from gateway.__main__ import main
main()
"""


@dataclass
class Load:
    """What was sent and what was acknowledged, over all lives of the process."""

    config: Config
    thing_id: str
    thing_key: str
    channel: str
    device: Any
    next_id: int = 0
    acknowledged: set[str] = field(default_factory=set)
    acknowledged_fcnts: set[int] = field(default_factory=set)
    frame: bytes = b""
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def new_id(self, way: str) -> str:
        with self.lock:
            self.next_id += 1
            return f"{way}{self.next_id}"

    def mqtt(self) -> None:
        sent: dict[int, str] = {}
        acknowledged: list[int] = []  # an id may be acknowledged before it is in `sent`
        client = Client(CallbackAPIVersion.VERSION2, client_id="", clean_session=True)
        client.username_pw_set(self.thing_id, self.thing_key)
        client.on_publish = lambda *arguments: acknowledged.append(arguments[2])
        with contextlib.suppress(OSError):
            client.connect("127.0.0.1", self.config.mqtt.port)
            client.loop_start()
            while not self.stop.is_set() and (client.is_connected() or not sent):
                if not client.is_connected():
                    time.sleep(0.005)
                    continue
                body = self.new_id("m")
                mid = client.publish(f"channels/{self.channel}/messages/kill", body.encode(), qos=1).mid
                sent[mid] = body
                time.sleep(0.002)
        client.loop_stop()
        self.acknowledged |= {sent[mid] for mid in acknowledged}

    def http(self) -> None:
        headers = {"authorization": f"Thing {self.thing_key}", "content-type": "application/octet-stream"}
        connection = http.client.HTTPConnection("127.0.0.1", self.config.http.port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            while not self.stop.is_set():
                body = self.new_id("h")
                connection.request("POST", f"/channels/{self.channel}/messages/kill", body.encode(), headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 202:
                    self.acknowledged.add(body)
        connection.close()

    def lora(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, contextlib.suppress(OSError):
            udp.connect(("127.0.0.1", self.config.lorawan.port))
            udp.settimeout(0.3)
            udp.send(gwmp.encode(gwmp.PullData(1, EUI)))
            while not self.stop.is_set():
                self.frame = self.frame or self.device.uplink(confirmed=True)
                packet = gwmp.RxPacket(
                    1_000_000, 868_100_000, 0, 0, 1, LoRaModulation(7, 125_000), -80, 7.5, self.frame
                )
                udp.send(gwmp.encode(gwmp.PushData(2, EUI, (packet,))))
                self._await_ack(udp)

    def _await_ack(self, udp: socket.socket) -> None:
        with contextlib.suppress(TimeoutError):
            while not self.stop.is_set():
                answer = gwmp.decode(udp.recv(65536))
                if isinstance(answer, gwmp.PullResp):
                    udp.send(gwmp.encode(gwmp.TxAck(answer.token, EUI)))
                    assert answer.txpk.data[5] & 0x20, "no ACK bit in the answer to a confirmed uplink"
                    self.acknowledged_fcnts.add(self.device.fcnt)
                    self.frame = b""
                    return


@contextlib.contextmanager
def life(load: Load, command: list[str], log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process from start to kill, with all loads running on it."""
    with log_file.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    loaders = [threading.Thread(target=way) for way in (load.mqtt, load.http, load.lora)]
    try:
        for port in (load.config.mqtt.port, load.config.http.port):
            _wait_for(port, process)
        load.stop.clear()
        for loader in loaders:
            loader.start()
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        load.stop.set()
        for loader in loaders:
            if loader.ident:
                loader.join()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the gateway process ended by itself"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.05)
    raise AssertionError("the gateway process does not listen")


@pytest.fixture
def load(config: Config, device: Any, tmp_path: Path) -> Load:
    ports = (free_port(kind=socket.SOCK_DGRAM), free_port(), free_port())
    text = show(config).replace("commit_interval_s = 0.02", "commit_interval_s = 1.0")
    for section, port in zip(("lorawan", "mqtt", "http"), ports, strict=True):
        head, _, tail = text.partition(f"[{section}]")
        text = f"{head}[{section}]" + tail.replace("port = 0", f"port = {port}", 1)
    (tmp_path / "fluxgate.toml").write_text(text)
    from gateway.config import parse

    config = parse(text)

    async def prepare() -> tuple[str, str, str]:
        async with opened_core(config) as core:
            registry = core.hub.registry
            thing, key = registry.create_thing("load")
            channel = (await register(core.hub, core.server, device.config())).channel_id
            registry.connect([channel], [thing.id])
            return thing.id, key, channel

    return Load(config, *asyncio.run(prepare()), device)


def stored(config: Config) -> tuple[Counter[str], Counter[int]]:
    """How often the log holds each id, and each FCnt of the device."""

    async def read() -> tuple[Counter[str], Counter[int]]:
        ids: Counter[str] = Counter()
        fcnts: Counter[int] = Counter()
        async with opened_core(config) as core:
            after = 0
            while batch := core.hub.log.read(after, None, 5000):
                for message in batch:
                    if message.protocol != "lora":
                        ids[message.payload.decode()] += 1
                    elif message.subtopic.endswith(".radio"):
                        fcnts[next(r["v"] for r in json.loads(message.payload) if r["n"] == "fcnt")] += 1
                after = batch[-1].seq
        return ids, fcnts

    return asyncio.run(read())


def run_lives(load: Load, kills: int, command: list[str], tmp_path: Path) -> None:
    moments = random.Random(5)
    for _ in range(kills):
        with life(load, command, tmp_path / "gateway.log"):
            time.sleep(moments.uniform(0.1, 0.8))


@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_and_nothing_stored_twice_in_many_kills(
    load: Load, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "gateway", "gateway", "--config", str(tmp_path / "fluxgate.toml")]
    run_lives(load, KILLS, command, tmp_path)
    ids, fcnts = stored(load.config)
    print(
        f"{KILLS} kills: {len(load.acknowledged)} messages and {len(load.acknowledged_fcnts)} confirmed uplinks "
        f"acknowledged; {sum(ids.values())} messages and {sum(fcnts.values())} uplinks stored"
    )
    assert len(load.acknowledged) > 20 * KILLS
    assert len(load.acknowledged_fcnts) > KILLS
    assert load.acknowledged - ids.keys() == set()
    assert load.acknowledged_fcnts - fcnts.keys() == set()
    assert [one for one, count in ids.items() if count > 1] == []
    assert [one for one, count in fcnts.items() if count > 1] == []


def test_control_a_process_that_acknowledges_early_does_lose(load: Load, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        ACKNOWLEDGE_EARLY,
        "gateway",
        "--config",
        str(tmp_path / "fluxgate.toml"),
    ]
    run_lives(load, CONTROL_KILLS, command, tmp_path)
    ids, _ = stored(load.config)
    assert load.acknowledged - ids.keys() != set()
