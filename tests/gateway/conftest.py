"""A whole gateway in process on ports of the system's choice, a GWMP forwarder to feed it, and ABP devices."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from gateway import app
from gateway.devices.registration import Registered, register
from gateway.lorawan.crypto import SessionCrypto, SessionKeys
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.frames import DataFrame, build_uplink, open_downlink
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

EUI = bytes.fromhex("02f10f6a7e0000aa")
TEMPERATURE_AND_HUMIDITY = bytes.fromhex("0167010d02685a")  # Cayenne LPP: 26.9 Cel on 1, 45 %RH on 2


@dataclass
class AbpDevice:
    """The device half of a personalised device."""

    number: int
    registered: Registered | None = None
    fcnt: int = -1
    nwk_s_key: AES128Key = field(default=AES128Key(b"n" * 16))
    app_s_key: AES128Key = field(default=AES128Key(b"a" * 16))

    @property
    def dev_eui(self) -> DevEUI:
        return DevEUI(0x70B3D57ED0000000 + self.number)

    @property
    def dev_addr(self) -> DevAddr:
        return DevAddr(0x01000000 + self.number)

    @property
    def crypto(self) -> SessionCrypto:
        return SessionCrypto(self.dev_addr, SessionKeys.of_1_0(self.nwk_s_key, self.app_s_key))

    def config(self, codec: str = "cayenne") -> DeviceConfig:
        return DeviceConfig(
            dev_eui=self.dev_eui,
            activation=Activation.ABP,
            name=f"device {self.number}",
            dev_addr=self.dev_addr,
            nwk_s_key=self.nwk_s_key,
            app_s_key=self.app_s_key,
            codec=codec,
        )

    def uplink(
        self, payload: bytes = TEMPERATURE_AND_HUMIDITY, *, confirmed: bool = False, ack: bool = False
    ) -> bytes:
        """The next frame."""
        self.fcnt += 1
        return build_uplink(
            self.crypto, self.dev_addr, self.fcnt, fport=1, payload=payload, confirmed=confirmed, ack=ack
        )


class Forwarder:
    """A packet forwarder's side of GWMP."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(("127.0.0.1", port))
        self._token = 0

    def close(self) -> None:
        self._socket.close()

    def send_raw(self, data: bytes) -> None:
        self._socket.send(data)

    async def receive(self) -> gwmp.Datagram:
        loop = asyncio.get_running_loop()
        return gwmp.decode(await asyncio.wait_for(loop.sock_recv(self._socket, 65536), 10))

    async def pull(self) -> None:
        """Open the downlink path."""
        self._token += 1
        self._socket.send(gwmp.encode(gwmp.PullData(self._token, EUI)))
        assert await self.receive() == gwmp.PullAck(self._token)

    async def push(self, *frames: bytes, stat: int = 1) -> None:
        """Hand in frames and wait for the PUSH_ACK."""
        self._token += 1
        packets = tuple(
            gwmp.RxPacket(1_000_000, 868_100_000, 0, 0, stat, LoRaModulation(7, 125_000), -80, 7.5, frame)
            for frame in frames
        )
        self._socket.send(gwmp.encode(gwmp.PushData(self._token, EUI, packets)))
        assert await self.receive() == gwmp.PushAck(self._token)

    async def downlink(self, error: gwmp.TxError = gwmp.TxError.NONE) -> gwmp.TxPacket:
        """The next downlink order, answered with `error`."""
        order = await self.receive()
        assert isinstance(order, gwmp.PullResp)
        self._socket.send(gwmp.encode(gwmp.TxAck(order.token, EUI, error)))
        return order.txpk


@dataclass
class Site:
    """A running gateway and what a test needs to talk to it."""

    gateway: app.Gateway
    forwarder: Forwarder
    api: httpx.AsyncClient

    async def add(self, device: AbpDevice, codec: str = "cayenne") -> AbpDevice:
        core = self.gateway.core
        device.registered = await register(core.hub, core.server, device.config(codec))
        return device

    async def claim(self) -> None:
        """Become the owner and use the token from here on."""
        code = self.gateway.core.hub.registry.claim_code()
        body = {"code": code, "email": "owner@example.org", "password": "correct horse battery"}
        answer = await self.api.post("/claim", json=body)
        assert answer.status_code == 201, answer.text
        self.api.headers["authorization"] = f"Bearer {answer.json()['token']}"

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10) -> None:
        """Let the gateway run until `condition` holds."""
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110  (many conditions, no event of their own)
                await asyncio.sleep(0.005)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        gateway=GatewaySection(
            eui=EUI.hex(), data_dir=str(tmp_path / "data"), runtime_dir=str(tmp_path / "run")
        ),
        lorawan=LorawanSection(port=0),
        hub=HubSection(commit_interval_s=0.02, events=False),
        mqtt=MqttSection(port=0),
        http=HttpSection(port=0, workshop_port=0),
        coap=CoapSection(port=0),
    )


@contextlib.asynccontextmanager
async def open_site(config: Config) -> AsyncIterator[Site]:
    async with app.running(config) as gateway:
        forwarder = Forwarder(gateway.gwmp_port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.http.port}", timeout=30) as api:
            try:
                yield Site(gateway, forwarder, api)
            finally:
                forwarder.close()


@pytest.fixture
def site(config: Config) -> Callable[[], contextlib.AbstractAsyncContextManager[Site]]:
    """`async with site() as s`: a gateway on the test's data directory; again for a restart."""
    return lambda other=None: open_site(other or config)


@pytest.fixture
def opened() -> Callable[[AbpDevice, gwmp.TxPacket, int | None], tuple[DataFrame, int, bytes]]:
    """A downlink as the device reads it: frame, FCntDown, payload. Raises FrameError where the MIC is wrong."""
    return lambda device, packet, last: open_downlink(device.crypto, device.dev_addr, last, packet.data)


@pytest.fixture
def device() -> AbpDevice:
    return AbpDevice(1)


@pytest.fixture
def another_device() -> AbpDevice:
    return AbpDevice(2)
