"""What Basics Station costs beside GWMP: reading a frame, and the time from an uplink to the order that answers it.

    python tests/bench/bench_station.py [--frames 20000] [--answers 300]

`read` is the codec alone, `take` the link with its bookkeeping and a receiver that does nothing; both in us a frame,
GWMP and Station in turns. `answer` is the time over loopback from sending a confirmed uplink to having the order for
its answer, with the real network server, TLS for Station and none for GWMP; client and server share one process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from websockets.asyncio.client import connect  # noqa: E402

from gateway.demo.broker import free_port  # noqa: E402
from gateway.link import Link, UdpLink  # noqa: E402
from gateway.lorawan.clock import Instant  # noqa: E402
from gateway.lorawan.crypto import SessionCrypto, SessionKeys  # noqa: E402
from gateway.lorawan.device import Activation, DeviceConfig  # noqa: E402
from gateway.lorawan.frames import build_uplink  # noqa: E402
from gateway.lorawan.outcome import Uplink  # noqa: E402
from gateway.lorawan.server import NetworkServer  # noqa: E402
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI  # noqa: E402
from gateway.settings import Config, StationGatewaySection, StationSection  # noqa: E402
from gateway.station.lns import Lns  # noqa: E402
from gateway.station.parts import station_door  # noqa: E402
from gateway.station.plan import router_config  # noqa: E402
from gateway.station.registry import KnownGateway  # noqa: E402
from radio import gwmp  # noqa: E402
from radio.lora import LoRaModulation  # noqa: E402
from radio.regions import get_region  # noqa: E402
from radio.station import codec, messages  # noqa: E402
from tests.hub.pki import Authority  # noqa: E402

REGION = get_region("EU868")
EUI = bytes.fromhex("b827ebfffe123456")
TOKEN = "the-token-of-the-benchmark"
SF7 = LoRaModulation(7, 125_000)
KEY = AES128Key(b"k" * 16)
DEV_ADDR = DevAddr(0x01000001)
CRYPTO = SessionCrypto(DEV_ADDR, SessionKeys.of_1_0(KEY, KEY))
ROUNDS = 7


def now() -> Instant:
    return Instant(time.monotonic_ns(), time.time_ns())


def frame(fcnt: int) -> bytes:
    return build_uplink(CRYPTO, DEV_ADDR, fcnt, fport=1, payload=b"x" * 20, confirmed=True)


def as_station(phy: bytes, count_us: int) -> str:
    return codec.encode_up(
        messages.Uplink(phy, 5, 868_100_000, 0, 1 << 48 | count_us, -80.0, 7.5, 0, 1.7e9, 1.7e9)
    )


def as_gwmp(phy: bytes, count_us: int) -> bytes:
    rx = gwmp.RxPacket(count_us, 868_100_000, 0, 0, 1, SF7, -80, 7.5, phy)
    return gwmp.encode(gwmp.PushData(1, EUI, (rx,)))


class Nobody:
    """A receiver that does nothing."""

    def receive(self, packets: object, eui: bytes) -> None: ...
    def sent(self, downlink: object, window: int) -> None: ...
    def failed(self, downlink: object, error: object) -> None: ...


class Network:
    """A receiver with a network server that answers at once."""

    def __init__(self) -> None:
        self.server = NetworkServer(REGION)
        self.server.add_device(
            DeviceConfig(
                dev_eui=DevEUI(1),
                activation=Activation.ABP,
                name="d",
                dev_addr=DEV_ADDR,
                nwk_s_key=KEY,
                app_s_key=KEY,
            )
        )
        self.transmit: Callable[[Any, bytes], None] | None = None

    def receive(self, packets: tuple[gwmp.RxPacket, ...], eui: bytes) -> None:
        for rx in packets:
            outcome = self.server.handle(rx, eui, now())
            assert isinstance(outcome, Uplink)
            assert outcome.downlink is not None
            assert self.transmit is not None
            self.transmit(outcome.downlink, eui)

    def sent(self, downlink: Any, window: int) -> None:
        self.server.sent(downlink, window, now())

    def failed(self, downlink: object, error: object) -> None:
        raise AssertionError(error)


def us_a_frame(act: Callable[[Any], object], inputs: list[Any]) -> float:
    gc.collect()
    begun = time.process_time()
    for each in inputs:
        act(each)
    return (time.process_time() - begun) / len(inputs) * 1e6


def costs(frames: int) -> None:
    phys = [frame(i % 65536) for i in range(frames)]
    station = [as_station(phy, i) for i, phy in enumerate(phys)]
    datagrams = [as_gwmp(phy, i) for i, phy in enumerate(phys)]
    lns = Lns(Nobody(), REGION, router_config(REGION))
    session = lns.connect(KnownGateway(EUI), lambda _text: None, lambda _why: None, "here", now())
    lns.message(session, '{"msgtype":"version"}', now())
    link = Link(Nobody(), lambda _data, _address: None)
    at, here = now(), ("127.0.0.1", 1)
    cases: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
        "read GWMP": (gwmp.decode, datagrams),
        "read Station": (codec.decode_up, station),
        "take GWMP": (lambda data: link.datagram(data, here, at.mono_ns), datagrams),
        "take Station": (lambda text: lns.message(session, text, at), station),
    }
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, (act, inputs) in cases.items():
            spent[name].append(us_a_frame(act, inputs))
    for name, values in spent.items():
        print(f"{name:13} {statistics.median(values):6.1f} us a frame")


async def station_answers(count: int, folder: Path) -> list[float]:
    authority = Authority(folder)
    pair = authority.server()
    section = StationSection(
        host="127.0.0.1",
        port=free_port(),
        cert_file=str(pair.cert),
        key_file=str(pair.key),
        gateway=(StationGatewaySection(eui=EUI.hex(), token=TOKEN),),
    )
    network = Network()
    door = station_door(Config(station=section), REGION, network, now)
    assert door is not None
    network.transmit = door.transmit
    await door.start()
    context = ssl.create_default_context(cafile=str(authority.cert))
    uri = f"wss://127.0.0.1:{door.port}/gateway/{EUI.hex()}"
    spent = []
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with connect(uri, ssl=context, additional_headers=headers, proxy=None, compression=None) as socket:
        await socket.send('{"msgtype":"version"}')
        await socket.recv()
        for i in range(count):
            text = as_station(frame(i), i * 1000)
            begun = time.perf_counter()
            await socket.send(text)
            order = json.loads(await socket.recv())
            spent.append(time.perf_counter() - begun)
            await socket.send(
                json.dumps({"msgtype": "dntxed", "diid": order["diid"], "DevEui": order["DevEui"]})
            )
    await door.close()
    return spent


async def gwmp_answers(count: int) -> list[float]:
    network = Network()
    link = UdpLink(network, time.monotonic_ns)
    network.transmit = link.transmit
    port = await link.start("127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[bytes] = asyncio.Queue()

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            inbox.put_nowait(data)

    transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=("127.0.0.1", port))
    transport.sendto(gwmp.encode(gwmp.PullData(1, EUI)))
    await inbox.get()
    spent = []
    for i in range(count):
        data = as_gwmp(frame(i), i * 1000)
        begun = time.perf_counter()
        transport.sendto(data)
        while not isinstance(order := gwmp.decode(await inbox.get()), gwmp.PullResp):
            pass
        spent.append(time.perf_counter() - begun)
        transport.sendto(gwmp.encode(gwmp.TxAck(order.token, EUI)))
    transport.close()
    link.close()
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--answers", type=int, default=300)
    given = parser.parse_args()
    costs(given.frames)
    for name, spent in (
        ("GWMP", asyncio.run(gwmp_answers(given.answers))),
        ("Station", asyncio.run(_in_folder(given.answers))),
    ):
        ordered = sorted(spent)
        p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
        print(f"answer {name:8} p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms")


async def _in_folder(count: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        return await station_answers(count, Path(folder))


if __name__ == "__main__":
    main()
