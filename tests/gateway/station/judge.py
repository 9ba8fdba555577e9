"""A concentrator written from the text of the Basics Station protocol alone: the independent judge of the LNS.

It knows nothing of this project's codec. `Field` is a running gateway and the ways to reach its listener.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from gateway import app
from tests.hub.pki import Authority, Pair

EUI = "b827ebfffe123456"
TOKEN = "an-ordinary-token-of-a-gateway"
OTHER_EUI = "b827ebfffe654321"
OTHER_TOKEN = "the-token-of-the-other-gateway"
US = 1_000_000


def fields_of(phy: bytes) -> dict[str, Any]:
    """A frame as Basics Station's documents describe its fields; nothing of ours is used."""
    mic = struct.unpack("<i", phy[-4:])[0]
    if phy[0] >> 5 == 0:
        join_eui, dev_eui, nonce = struct.unpack("<QQH", phy[1:19])
        return {
            "msgtype": "jreq",
            "MHdr": phy[0],
            "JoinEui": "-".join(f"{byte:02X}" for byte in join_eui.to_bytes(8, "big")),
            "DevEui": "-".join(f"{byte:02X}" for byte in dev_eui.to_bytes(8, "big")),
            "DevNonce": nonce,
            "MIC": mic,
        }
    dev_addr, fctrl, fcnt = struct.unpack("<iBH", phy[1:8])
    rest = phy[8 + (fctrl & 15) : -4]
    return {
        "msgtype": "updf",
        "MHdr": phy[0],
        "DevAddr": dev_addr,
        "FCtrl": fctrl,
        "FCnt": fcnt,
        "FOpts": phy[8 : 8 + (fctrl & 15)].hex(),
        "FPort": rest[0] if rest else -1,
        "FRMPayload": rest[1:].hex(),
        "MIC": mic,
    }


@dataclass
class Concentrator:
    """One gateway's side of the protocol, by its text."""

    socket: ClientConnection
    config: dict[str, Any] = field(default_factory=dict)
    session: int = 0x2A
    unit: int = 1

    def xtime(self, count_us: int) -> int:
        return self.unit << 56 | self.session << 48 | count_us

    async def begin(self) -> None:
        """Say who we are and take the configuration."""
        version = {
            "station": "2.0.6(judge)",
            "firmware": "",
            "package": "1.0",
            "model": "judge",
            "protocol": 2,
        }
        await self.say({"msgtype": "version", **version, "features": "rmtsh gps"})
        self.config = await self.hear()
        assert self.config["msgtype"] == "router_config"

    async def say(self, message: dict[str, Any]) -> None:
        await self.socket.send(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.recv(), 10))
        return message

    async def uplink(
        self, phy: bytes, count_us: int, dr: int = 5, freq_hz: int = 868_100_000, snr: float = 7.5
    ) -> None:
        upinfo = {
            "rctx": self.unit,
            "xtime": self.xtime(count_us),
            "gpstime": 0,
            "fts": -1,
            "rssi": -80,
            "snr": snr,
            "rxtime": 1_700_000_000.25,
        }
        radio = {"RefTime": self.config.get("MuxTime", 0.0), "DR": dr, "Freq": freq_hz, "upinfo": upinfo}
        await self.say(fields_of(phy) | radio)

    async def sent(self, order: dict[str, Any], window: int = 1) -> None:
        """Report a downlink as sent in RX1 or RX2."""
        at = order["xtime"] + (order["RxDelay"] + window - 1) * US
        report = {"diid": order["diid"], "DevEui": order["DevEui"], "rctx": self.unit, "xtime": at}
        await self.say({"msgtype": "dntxed", "seqno": order["diid"], "txtime": 1.5, "gpstime": 0, **report})


@dataclass
class Field:
    """A running gateway with its Station listener, and what is needed to reach it."""

    gateway: app.Gateway
    authority: Authority | None

    @property
    def door(self) -> Any:
        assert self.gateway.station is not None
        return self.gateway.station

    @property
    def base(self) -> str:
        return f"{'wss' if self.authority else 'ws'}://127.0.0.1:{self.door.port}"

    def trusting(self, pair: Pair | None = None) -> ssl.SSLContext | None:
        """What a client trusts, and the certificate it shows."""
        if self.authority is None:
            return None
        context = ssl.create_default_context(cafile=str(self.authority.cert))
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context

    @contextlib.asynccontextmanager
    async def socket(
        self, path: str, token: str = "", pair: Pair | None = None
    ) -> AsyncIterator[ClientConnection]:
        headers = {"authorization": token} if token else {}
        async with connect(
            self.base + path,
            ssl=self.trusting(pair),
            additional_headers=headers,
            proxy=None,
            compression=None,
        ) as socket:
            yield socket

    async def discover(
        self, eui: str = EUI, token: str = f"Bearer {TOKEN}", pair: Pair | None = None
    ) -> dict[str, Any]:
        async with self.socket("/router-info", token, pair) as socket:
            await socket.send(json.dumps({"router": int(eui, 16)}))
            answer: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 10))
            return answer

    @contextlib.asynccontextmanager
    async def concentrator(
        self, eui: str = EUI, token: str = f"Bearer {TOKEN}", pair: Pair | None = None
    ) -> AsyncIterator[Concentrator]:
        """A concentrator that has asked its way and is configured."""
        answer = await self.discover(eui, token, pair)
        path = answer["uri"].removeprefix(self.base)
        async with self.socket(path, token, pair) as socket:
            concentrator = Concentrator(socket)
            await concentrator.begin()
            yield concentrator

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
