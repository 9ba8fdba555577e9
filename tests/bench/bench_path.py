"""The main path: GWMP datagram in, verified, decoded, authorised, committed, delivered to an MQTT subscriber.

Runs the real gateway process on a fresh data directory with many ABP devices, feeds it uplinks over loopback UDP
and counts what an MQTT subscriber receives and what the log has committed. The peer in the same run is the plain
way: `json`, a fresh CMAC and cipher for each frame, one commit for each message, no subscriber.

    python tests/bench/bench_path.py [--uplinks 60000] [--devices 1000] [--rate 1000] [--seconds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import resource
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from gateway.config import show
from gateway.core import opened_core
from gateway.devices.registration import register
from gateway.lorawan.crypto import SessionCrypto, SessionKeys
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.frames import build_uplink
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI
from gateway.settings import (
    CoapSection,
    Config,
    GatewaySection,
    HttpSection,
    HubSection,
    LorawanSection,
    MqttSection,
)
from radio import gwmp
from radio.lora import LoRaModulation

EUI = bytes.fromhex("02f10f6a7e0000be")
PAYLOAD = bytes.fromhex("0167010d0268 5a".replace(" ", ""))  # Cayenne LPP: 26.9 Cel on 1, 45 %RH on 2
MOST_RXPK = 8  # what the packet forwarder of an SX1301 puts into one datagram
WINDOW = 128  # datagrams under way; more than Linux' default socket buffer takes would be lost in the kernel
MESSAGES_PER_UPLINK = 2  # values, and how it was heard


class Fleet:
    """ABP devices that build their next uplink."""

    def __init__(self, count: int) -> None:
        self.keys = [AES128Key(os.urandom(16)) for _ in range(2)]
        self.addresses = [DevAddr(0x01000000 + index) for index in range(count)]
        self.crypto = [SessionCrypto(address, SessionKeys.of_1_0(*self.keys)) for address in self.addresses]

    def devices(self) -> Iterator[DeviceConfig]:
        for index, address in enumerate(self.addresses):
            yield DeviceConfig(
                dev_eui=DevEUI(0x70B3D50000000000 + index),
                activation=Activation.ABP,
                dev_addr=address,
                nwk_s_key=self.keys[0],
                app_s_key=self.keys[1],
            )

    def datagrams(self, count: int, first: int = 0, rxpk: int = 1) -> list[bytes]:
        """PUSH_DATA for `count` uplinks, `rxpk` in each; the devices in turn, each with its next frame counter."""
        packets = [self._packet(number) for number in range(first, first + count)]
        groups = [tuple(packets[at : at + rxpk]) for at in range(0, count, rxpk)]
        return [
            gwmp.encode(gwmp.PushData(number & 0xFFFF, EUI, group)) for number, group in enumerate(groups)
        ]

    def _packet(self, number: int) -> gwmp.RxPacket:
        round_, index = divmod(number, len(self.addresses))
        return gwmp.RxPacket(
            tmst=number & 0xFFFFFFFF,
            freq_hz=868_100_000,
            chan=0,
            rfch=0,
            stat=1,
            modulation=LoRaModulation(7, 125_000),
            rssi_dbm=-80,
            lsnr_db=7.5,
            data=build_uplink(self.crypto[index], self.addresses[index], round_, fport=1, payload=PAYLOAD),
        )


class Subscriber(threading.Thread):
    """A QoS 0 subscriber that only counts PUBLISH packets and notes when they came."""

    def __init__(self, port: int, username: str, password: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self.arrivals: list[tuple[int, float]] = []  # (messages so far, time)
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        connect = _text("MQTT") + b"\x04\xc2\x00\x00" + _text("bench") + _text(username) + _text(password)
        self._socket.sendall(_packet(0x10, connect))
        assert self._socket.recv(4)[3] == 0, "CONNECT refused"
        self._socket.sendall(_packet(0x82, b"\x00\x01" + _text(topic) + b"\x00"))
        assert self._socket.recv(5)[4] == 0, "SUBSCRIBE refused"

    def run(self) -> None:
        left = b""
        while data := self._socket.recv(1 << 20):
            now = time.perf_counter()
            data = left + data
            position = 0
            while True:
                size = shift = 0
                at = position + 1
                while at < len(data):
                    byte = data[at]
                    size |= (byte & 0x7F) << shift
                    shift += 7
                    at += 1
                    if byte < 0x80:
                        break
                else:
                    break
                if at + size > len(data):
                    break
                self.count += data[position] >> 4 == 3
                position = at + size
            left = data[position:]
            self.arrivals.append((self.count, now))


def _packet(kind: int, body: bytes) -> bytes:
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
    return bytes([kind]) + length + body


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


class Feeder:
    """The forwarder: keeps WINDOW datagrams under way, or sends at a rate."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(10)

    def flood(self, datagrams: list[bytes]) -> None:
        send, receive = self._socket.send, self._socket.recv
        for datagram in datagrams[:WINDOW]:
            send(datagram)
        for datagram in datagrams[WINDOW:]:
            receive(16)
            send(datagram)
        for _ in datagrams[:WINDOW]:
            receive(16)

    def paced(self, datagrams: list[bytes], rate: float) -> list[float]:
        """Send at `rate` a second; returns the time at which each left."""
        sent = []
        start = time.perf_counter()
        self._socket.setblocking(False)
        for index, datagram in enumerate(datagrams):
            pause = start + index / rate - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            sent.append(time.perf_counter())
            self._socket.send(datagram)
        self._socket.settimeout(10)
        return sent


class Gateway:
    """The gateway process on its own core, and what it says of itself."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        ports = [_free_port(kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_STREAM)]
        self.gwmp_port, self.mqtt_port, http_port = ports
        config = Config(
            gateway=GatewaySection(data_dir=str(folder / "data"), runtime_dir=str(folder)),
            lorawan=LorawanSection(port=self.gwmp_port),
            mqtt=MqttSection(port=self.mqtt_port),
            http=HttpSection(port=http_port, workshop_port=0),
            coap=CoapSection(enabled=False),
            hub=HubSection(events=False),  # the log's messages are counted as uplinks
        )
        self.thing_id, self.thing_key, self.channel = asyncio.run(_prepare(config, fleet))
        (folder / "fluxgate.toml").write_text(show(config))
        self._status = folder / "status.json"
        self._log = (folder / "gateway.log").open("wb")
        command = [sys.executable, "-m", "gateway", "gateway", "--config", str(folder / "fluxgate.toml")]
        if (os.cpu_count() or 1) > 1:
            command = ["taskset", "-c", "0", *command]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        _wait_for(self.mqtt_port, self.process)
        while not self._status.exists():
            time.sleep(0.05)

    def committed(self) -> int:
        """Messages in the log."""
        return int(json.loads(self._status.read_text())["store"]["messages"])

    def history_behind(self) -> int:
        """Messages in the log that the history has not taken in."""
        return int(json.loads(self._status.read_text())["history"]["behind"])

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_by_thread_s(self) -> dict[str, float]:
        """CPU seconds so far by thread name."""
        spent: dict[str, float] = {}
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            fields = (task / "stat").read_text()
            name, ticks = fields.partition("(")[2].rpartition(")")[0], fields.rpartition(")")[2].split()
            key = "event loop" if task.name == str(self.process.pid) else name
            spent[key] = spent.get(key, 0.0) + (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
        return spent

    def rss_mb(self) -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self._log.close()


async def _prepare(config: Config, fleet: Fleet) -> tuple[str, str, str]:
    async with opened_core(config) as core:
        registry = core.hub.registry
        channel = registry.create_channel("bench").id
        for device in fleet.devices():
            await register(core.hub, core.server, device, channel)
        thing, key = registry.create_thing("subscriber")
        registry.connect([channel], [thing.id])
    return thing.id, key, channel


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit("the gateway process ended; see gateway.log")
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the gateway process does not listen")


def plain_reference(folder: Path, fleet: Fleet, datagrams: list[bytes]) -> float:
    """The first way one would write it, in process: uplinks a second."""
    nwk, app = (key.value for key in fleet.keys)
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE record(channel TEXT, name TEXT, unit TEXT, time REAL, value REAL)")
    connection.execute("CREATE INDEX record_by ON record(channel, name, time)")
    start = time.perf_counter()
    for datagram in datagrams:
        for packet in json.loads(datagram[12:])["rxpk"]:
            phy = base64.b64decode(packet["data"])
            address, fcnt = phy[1:5], phy[6:8] + b"\0\0"
            check = CMAC(algorithms.AES(nwk))
            check.update(b"\x49\0\0\0\0\0" + address + fcnt + b"\0" + bytes([len(phy) - 4]) + phy[:-4])
            assert check.finalize()[:4] == phy[-4:]
            block = b"\x01\0\0\0\0\0" + address + fcnt + b"\0\x01"
            stream = Cipher(algorithms.AES(app), modes.ECB()).encryptor().update(block)
            body = bytes(a ^ b for a, b in zip(phy[9:-4], stream, strict=False))
            values = [("temperature", "Cel", int.from_bytes(body[2:4], "big") / 10)]
            values.append(("humidity", "%RH", body[6] / 2))
            connection.execute("BEGIN")
            for name, unit, value in values:
                row = (address.hex(), name, unit, time.time(), value)
                connection.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
    took = time.perf_counter() - start
    connection.close()
    return len(datagrams) / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--uplinks", type=int, default=60_000)
    parser.add_argument("--devices", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    fleet = Fleet(options.devices)
    uplinks, paced, first = options.uplinks, int(options.rate * options.seconds), 2 * options.devices
    warming, slow = fleet.datagrams(first), fleet.datagrams(paced, first + uplinks)
    single = fleet.datagrams(uplinks, first)
    packed = fleet.datagrams(uplinks, first, MOST_RXPK)
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, set(range(1, os.cpu_count() or 2)))
    rates = []
    with tempfile.TemporaryDirectory(prefix="fluxgate-bench-") as name:
        folder = Path(name)
        # Each a process of its own: one whose history is full from the flood before takes in nothing, and looks cheap.
        for rxpk, datagrams in ((1, single), (MOST_RXPK, packed)):
            with _running(folder / str(rxpk), fleet, warming) as (gateway, subscriber):
                rates.append(_flood(f"{rxpk} rxpk a PUSH_DATA", uplinks, datagrams, gateway, subscriber))
                if rxpk == MOST_RXPK:
                    _paced(options.rate, slow, gateway, subscriber)
        plain = plain_reference(folder, fleet, single[:3000])
        print(f"plain reference (json, fresh ciphers, a commit a message)  {plain:10,.0f} uplinks/s")
        for rate in rates:
            print(f"ratio to the plain reference                               {rate / plain:10.1f} x")
    print(f"load generator's own CPU {resource.getrusage(resource.RUSAGE_SELF).ru_utime:.1f} s")


@contextlib.contextmanager
def _running(folder: Path, fleet: Fleet, warming: list[bytes]) -> Iterator[tuple[Gateway, Subscriber]]:
    """A gateway on a fresh data directory with a subscriber to everything, warm."""
    folder.mkdir()
    gateway = Gateway(folder, fleet)
    try:
        topic = f"channels/{gateway.channel}/messages/#"
        subscriber = Subscriber(gateway.mqtt_port, gateway.thing_id, gateway.thing_key, topic)
        subscriber.start()
        _warm_up(warming, gateway, subscriber)
        yield gateway, subscriber
    finally:
        gateway.stop()


def _warm_up(datagrams: list[bytes], gateway: Gateway, subscriber: Subscriber) -> None:
    """A device's first frames make its ciphers, names and series, once."""
    Feeder(gateway.gwmp_port).flood(datagrams)
    wanted = len(datagrams) * MESSAGES_PER_UPLINK
    start = time.perf_counter()
    while (subscriber.count < wanted or gateway.committed() < wanted) and time.perf_counter() - start < 60:
        time.sleep(0.05)


def _flood(
    title: str, uplinks: int, datagrams: list[bytes], gateway: Gateway, subscriber: Subscriber
) -> float:
    """As fast as it takes them; returns uplinks a second delivered to the subscriber."""
    before = subscriber.count
    feeder = Feeder(gateway.gwmp_port)
    cpu, threads, start = gateway.cpu_s(), gateway.cpu_by_thread_s(), time.perf_counter()
    feeder.flood(datagrams)
    received = time.perf_counter()
    wanted = before + uplinks * MESSAGES_PER_UPLINK
    while subscriber.count < wanted and time.perf_counter() - start < 120:
        time.sleep(0.01)
    delivered = subscriber.arrivals[-1][1]
    cpu = gateway.cpu_s() - cpu
    loop = gateway.cpu_by_thread_s()["event loop"] - threads["event loop"]
    while gateway.committed() < wanted and time.perf_counter() - start < 120:
        time.sleep(0.05)
    committed = gateway.committed()
    rate = uplinks / (delivered - start)
    print(f"--- {title}, {len(datagrams)} datagrams")
    print(
        f"uplinks taken in                                           {uplinks / (received - start):10,.0f} /s"
    )
    print(f"uplinks delivered to the MQTT subscriber                   {rate:10,.0f} /s")
    print(f"CPU of the gateway process                                 {cpu / uplinks * 1e6:10.1f} us/uplink")
    print(
        f"  of which the event loop                                  {loop / uplinks * 1e6:10.1f} us/uplink"
    )
    print(f"RSS of the gateway process                                 {gateway.rss_mb():10.0f} MB")
    print(f"messages missing at the subscriber                         {wanted - subscriber.count:10d}")
    print(f"messages missing in the log                                {wanted - committed:10d}")
    print(f"messages the history had not taken in by then              {gateway.history_behind():10d}")
    return rate


def _paced(rate: float, datagrams: list[bytes], gateway: Gateway, subscriber: Subscriber) -> None:
    before = subscriber.count
    marks = len(subscriber.arrivals)
    sent = Feeder(gateway.gwmp_port).paced(datagrams, rate)
    wanted = before + len(datagrams) * MESSAGES_PER_UPLINK
    deadline = time.perf_counter() + 30
    while subscriber.count < wanted and time.perf_counter() < deadline:
        time.sleep(0.01)
    latencies = []
    arrivals = iter(subscriber.arrivals[marks:])
    count, at = before, 0.0
    for index, left in enumerate(sent):
        while count < before + (index + 1) * MESSAGES_PER_UPLINK:
            count, at = next(arrivals)
        latencies.append((at - left) * 1e3)
    latencies.sort()
    p50, p99 = statistics.median(latencies), latencies[int(len(latencies) * 0.99)]
    print(f"paced at {rate:,.0f}/s: datagram to MQTT subscriber          p50 {p50:.1f} ms  p99 {p99:.1f} ms")


if __name__ == "__main__":
    main()
