"""Clients that load one door each, over any number of lives of the gateway.

A load is made once for a data directory and runs in every life of it. What it was told is durable it writes into the
account: `acknowledged` must be stored, and what is in `once` not more than once, however often it was sent.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gateway.lorawan.crypto import SessionCrypto, SessionKeys
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.frames import build_uplink
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI
from gateway.settings import Config
from radio import gwmp
from radio.lora import LoRaModulation

from . import mqtt_client as wire
from .clients import Publisher1, Publisher2, Retainer, Subscriber
from .mqtt_client import Link
from .promises import Book

GATEWAY_EUI = bytes.fromhex("02f10f6a7e0000aa")
ENDLESS = 1 << 40
RX_WINDOWS_US = (1_000_000, 2_000_000)  # after the uplink (LoRaWAN 1.0.4, 3.3)


@dataclass
class Site:
    """A gateway's addresses and a thing on it."""

    mqtt_port: int = 0
    http_port: int = 0
    gwmp_port: int = 0
    coap_port: int = 0
    channel: str = ""
    thing: tuple[str, str] = ("", "")
    reader: tuple[str, str] = ("", "")


def gateway_config(folder: Path, site: Site) -> str:
    """The configuration of a gateway with its data below `folder`, and no radio."""
    ports = {"lorawan": site.gwmp_port, "mqtt": site.mqtt_port, "http": site.http_port}
    if "coap" in Config.__struct_fields__:
        ports["coap"] = site.coap_port
    return (
        f'[gateway]\neui = "{GATEWAY_EUI.hex()}"\ndata_dir = "{folder}/data"\nruntime_dir = "{folder}/run"\n'
        'log_level = "error"\n'
    ) + "".join(f"[{section}]\nport = {port}\n" for section, port in ports.items())


@dataclass
class Account:
    """What doors other than MQTT have promised; MQTT has books."""

    sent: int = 0
    acknowledged: set[str] = field(default_factory=set)
    frames: set[int] = field(default_factory=set)  # FCntUp of acknowledged confirmed uplinks
    dropped: set[str] = field(default_factory=set)  # wills that must not be published
    by_load: dict[str, int] = field(default_factory=dict)

    def body(self, kind: str) -> str:
        self.sent += 1
        return f"{kind}-{self.sent}"

    def acknowledge(self, load: str, body: str) -> None:
        self.acknowledged.add(body)
        self.by_load[load] = self.by_load.get(load, 0) + 1


class Load(Protocol):
    """`run` goes on until it is cancelled or the gateway is gone. Raises OSError, EOFError then."""

    name: str

    async def run(self) -> None: ...


class Mqtt:
    """QoS 1 and 2 publishers, a QoS 2 subscriber with a kept session, retained messages; 3.1.1 or 5."""

    def __init__(self, site: Site, version: int) -> None:
        self.name = "mqtt 5" if version == 5 else "mqtt 3.1.1"
        self.version = version
        self.book = Book(site.channel, "five" if version == 5 else "four", site.thing, site.reader)
        self._site = site

    async def run(self) -> None:
        book, port, version = self.book, self._site.mqtt_port, self.version
        subscriber = Subscriber(book, book.apply, port, version=version)
        twice = Publisher2(book, book.apply, port, version=version)
        once = Publisher1(book, book.apply, port, version=version)
        keeper = Retainer(book, book.apply, port, version=version)
        for client in (subscriber, twice, once, keeper):
            client.client_id = f"{client.client_id}{version}" if not client.clean else ""
        try:
            await subscriber.resume()
            await twice.resume()
            await once.open()
            await keeper.open()
            twice.begin(ENDLESS)
            once.begin(ENDLESS)
            await keeper.run(ENDLESS, random.Random(version))
        finally:
            for client in (subscriber, twice, once, keeper):
                client.close()


class Wills:
    """MQTT clients with a will, each comes and leaves with DISCONNECT, comes again and stays until the kill.

    A will counts as acknowledged with its CONNACK, and must be in the log once after the kill. One that was dropped by
    a DISCONNECT before another client was admitted must not be there.
    """

    name = "mqtt wills"
    STAYING = 3  # at a time; the first with a kept session

    def __init__(self, site: Site, account: Account) -> None:
        self._site, self._account = site, account

    async def run(self) -> None:
        links: list[Link] = []
        try:
            for number in range(self.STAYING):
                gone = self._account.body("gone")
                links.append(await self._open(gone, kept=False))
                links[-1].send(wire.DISCONNECT)
                await links[-1].lost
                body = self._account.body("will")
                links.append(await self._open(body, kept=not number))
                self._account.dropped.add(gone)
                self._account.acknowledge(self.name, body)
            await links[-1].lost
        finally:
            for link in links:
                link.close()

    async def _open(self, body: str, *, kept: bool) -> Link:
        """A client that was admitted. Raises ConnectionError."""
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_packet(first: int, answer: bytes) -> None:
            if first == wire.CONNACK and not answer[1]:
                admitted.set_result(None)

        link = await Link.open(self._site.mqtt_port, on_packet)
        topic = f"channels/{self._site.channel}/messages/wills"
        client_id = "wills" if kept else ""
        link.send(
            wire.connect(client_id, *self._site.thing, clean=not kept, version=5, will=(topic, body.encode()))
        )
        await asyncio.wait({admitted, link.lost}, return_when=asyncio.FIRST_COMPLETED)
        if not admitted.done():
            raise ConnectionError("the door has closed the connection")
        return link


class Http:
    """Posts one after the other on a connection that stays; with a key each is sent until it is answered."""

    def __init__(self, site: Site, account: Account, *, keyed: bool) -> None:
        self.name = "http idempotent" if keyed else "http"
        self._site, self._account, self._keyed = site, account, keyed
        self._open: str = ""  # sent and not answered
        self._rng = random.Random(3)

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._site.http_port)
        try:
            while True:
                body = self._open if self._keyed and self._open else self._account.body(self.name[-4:])
                self._open = body
                await self._post(reader, writer, body)
                self._account.acknowledge(self.name, body)
                if self._keyed and self._rng.random() < 0.2:  # as a client does whose answer was lost
                    await self._post(reader, writer, body)
                self._open = ""
        finally:
            writer.close()

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: str) -> None:
        key = f'Idempotency-Key: "{body}"\r\n' if self._keyed else ""
        head = (
            f"POST /channels/{self._site.channel}/messages/http HTTP/1.1\r\nHost: gateway\r\n"
            f"Authorization: Thing {self._site.thing[1]}\r\nContent-Type: application/octet-stream\r\n"
            f"{key}Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in answer.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        content = await reader.readexactly(length)
        if not answer.startswith(b"HTTP/1.1 202"):
            raise AssertionError(f"{answer[:40]!r} {content[:200]!r}")


class WebSocket:
    """Envelopes with an id, acknowledged one by one; RFC 6455 as far as it takes."""

    name = "websocket"
    WINDOW = 4

    def __init__(self, site: Site, account: Account) -> None:
        self._site, self._account = site, account

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._site.http_port)
        try:
            writer.write(
                (
                    f"GET /channels/{self._site.channel}/messages/ws?envelope=1 HTTP/1.1\r\nHost: gateway\r\n"
                    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Thing {self._site.thing[1]}\r\n\r\n"
                ).encode()
            )
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 101"):
                raise AssertionError(f"{answer!r}")
            for _ in range(self.WINDOW):
                self._send(writer)
            while True:
                said = json.loads(await _read_frame(reader))
                if said["type"] == "ack":
                    self._account.acknowledge(self.name, said["id"])
                elif said["type"] == "error" and said["status"] < 500:
                    raise AssertionError(f"{said}")
                self._send(writer)
        finally:
            writer.close()

    def _send(self, writer: asyncio.StreamWriter) -> None:
        body = self._account.body("ws")
        payload = base64.b64encode(body.encode()).decode()
        text = json.dumps({"id": body, "payload_base64": payload}).encode()
        # FIN and text; a mask of zeros changes nothing (5.2, 5.3)
        writer.write(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    """The payload of one short frame of a server. Raises EOFError at a close."""
    first, size = await reader.readexactly(2)
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    if first != 0x81:
        raise EOFError(f"a frame that begins with {first:#x}")
    return await reader.readexactly(size)


class Coap:
    """Confirmable POSTs (RFC 7252, 4.2): the same message again until it is acknowledged, over restarts too."""

    name = "coap"
    RETRY_S = 0.1

    def __init__(self, site: Site, account: Account) -> None:
        self._account = account
        self._port = site.coap_port
        self._options = _coap_options(site)
        self._mid = random.Random(4).randrange(65536)
        self._open: tuple[bytes, str] | None = None
        self._rng = random.Random(4)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # one endpoint for all lives
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._socket.connect(("127.0.0.1", self._port))
        while True:
            if self._open is None:
                body = self._account.body(self.name)
                self._mid = (self._mid + 1) % 65536
                token = self._mid.to_bytes(2, "big")
                self._open = b"\x42\x02" + token + token + self._options + b"\xff" + body.encode(), body
            wire, body = self._open
            again = 2 if self._rng.random() < 0.2 else 1
            try:
                for _ in range(again):
                    await loop.sock_sendall(self._socket, wire)
                async with asyncio.timeout(self.RETRY_S):
                    while True:
                        answer = await loop.sock_recv(self._socket, 2048)
                        if len(answer) >= 6 and answer[4:6] == wire[4:6] and answer[1]:
                            break
            except TimeoutError:
                continue
            except ConnectionRefusedError:  # this door opens a moment later than others
                await asyncio.sleep(0.01)
                continue
            if answer[1] == 0x44:  # 2.04 Changed
                self._account.acknowledge(self.name, body)
            elif answer[1] != 0xA3:  # 5.03: to be sent again as a new message
                raise AssertionError(f"CoAP answered {answer!r}")
            self._open = None


async def coap_post(port: int, site: Site, body: str) -> str:
    """One confirmable POST; the code of its answer, such as "2.04", or "nothing"."""
    loop = asyncio.get_running_loop()
    wire = b"\x41\x02\x12\x34t" + _coap_options(site) + b"\xff" + body.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.connect(("127.0.0.1", port))
        await loop.sock_sendall(udp, wire)
        try:
            async with asyncio.timeout(10):
                answer = await loop.sock_recv(udp, 2048)
                while not answer[1]:  # an empty acknowledgement: the answer comes in a message of its own
                    answer = await loop.sock_recv(udp, 2048)
        except TimeoutError:
            return "nothing"
    return f"{answer[1] >> 5}.{answer[1] & 31:02}"


def _coap_options(site: Site) -> bytes:
    """Uri-Path channels/<id>/messages/coap, Content-Format octet-stream, Uri-Query auth=<key> (3.1, 5.10)."""
    options = [(11, part.encode()) for part in ("channels", site.channel, "messages", "coap")]
    options += [(12, b"\x2a"), (15, f"auth={site.thing[1]}".encode())]
    wire, last = b"", 0
    for number, value in options:
        delta, last = number - last, number
        size = len(value)
        if size < 13:
            wire += bytes((delta << 4 | size,))
        else:
            wire += bytes((delta << 4 | 13, size - 13))
        wire += value
    return wire


@dataclass
class Device:
    """The device half of a personalised LoRaWAN device."""

    fcnt: int = -1
    nwk_s_key: AES128Key = field(default=AES128Key(b"n" * 16))
    app_s_key: AES128Key = field(default=AES128Key(b"a" * 16))

    @property
    def dev_addr(self) -> DevAddr:
        return DevAddr(0x01000001)

    def config(self) -> DeviceConfig:
        return DeviceConfig(
            dev_eui=DevEUI(0x70B3D57ED0000001),
            activation=Activation.ABP,
            name="device",
            dev_addr=self.dev_addr,
            nwk_s_key=self.nwk_s_key,
            app_s_key=self.app_s_key,
            codec="cayenne",
        )

    def uplink(self) -> bytes:
        self.fcnt += 1
        crypto = SessionCrypto(self.dev_addr, SessionKeys.of_1_0(self.nwk_s_key, self.app_s_key))
        payload = bytes.fromhex("0167010d02685a")
        return build_uplink(crypto, self.dev_addr, self.fcnt, fport=1, payload=payload, confirmed=True)


class Lora:
    """Confirmed uplinks through a forwarder; a frame is repeated until the answer carries its ACK (4.3.1)."""

    name = "lorawan"
    RETRY_S = 0.15

    def __init__(self, site: Site, account: Account, device: Device) -> None:
        self._port, self._account, self._device = site.gwmp_port, account, device
        self._frame = b""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.setblocking(False)
            udp.connect(("127.0.0.1", self._port))
            while True:
                self._frame = self._frame or self._device.uplink()
                packet = gwmp.RxPacket(
                    self._heard_us, 868_100_000, 0, 0, 1, LoRaModulation(7, 125_000), -80, 7.5, self._frame
                )
                try:
                    await loop.sock_sendall(udp, gwmp.encode(gwmp.PullData(1, GATEWAY_EUI)))
                    await loop.sock_sendall(udp, gwmp.encode(gwmp.PushData(2, GATEWAY_EUI, (packet,))))
                    async with asyncio.timeout(self.RETRY_S):
                        await self._acknowledged(loop, udp)
                except TimeoutError:
                    continue
                except ConnectionRefusedError:  # this door opens a moment later than others
                    await asyncio.sleep(0.01)

    @property
    def _heard_us(self) -> int:
        """The forwarder's clock at this frame; its receive windows are never those of another one."""
        return (self._device.fcnt + 1) * 10_000_000 % (1 << 32)

    async def _acknowledged(self, loop: asyncio.AbstractEventLoop, udp: socket.socket) -> None:
        while True:
            answer = gwmp.decode(await loop.sock_recv(udp, 65536))
            if isinstance(answer, gwmp.PullResp):
                await loop.sock_sendall(udp, gwmp.encode(gwmp.TxAck(answer.token, GATEWAY_EUI)))
                if (answer.txpk.tmst or 0) - self._heard_us not in RX_WINDOWS_US:
                    continue  # a repeated ACK of the frame before; a device's windows are closed for it
                if not answer.txpk.data[5] & 0x20:
                    raise AssertionError("no ACK bit in the answer to a confirmed uplink")
                self._account.frames.add(self._device.fcnt)
                self._account.by_load[self.name] = self._account.by_load.get(self.name, 0) + 1
                self._frame = b""
                return


def fcnt_of(payload: bytes) -> int:
    """FCntUp of a message in which the gateway tells how a frame was heard."""
    return next(int(record["v"]) for record in json.loads(payload) if record["n"] == "fcnt")


Maker = Callable[[Site, Account, Device], Load]
DOORS: dict[str, Maker] = {
    "mqtt 3.1.1": lambda site, account, device: Mqtt(site, 4),
    "http": lambda site, account, device: Http(site, account, keyed=False),
    "http idempotent": lambda site, account, device: Http(site, account, keyed=True),
    "mqtt 5": lambda site, account, device: Mqtt(site, 5),
    "mqtt wills": lambda site, account, device: Wills(site, account),
    "websocket": lambda site, account, device: WebSocket(site, account),
    "lorawan": lambda site, account, device: Lora(site, account, device),
}
if "coap" in Config.__struct_fields__:
    DOORS["coap"] = lambda site, account, device: Coap(site, account)
