"""Both ends of the LNS protocol: a simulated radio in virtual time, TLS on loopback, and the real network server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.demo.broker import free_port
from gateway.lorawan.clock import Instant
from gateway.lorawan.crypto import SessionCrypto, derive_session_keys
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.frames import build_join_request, build_uplink, open_downlink, open_join_accept
from gateway.lorawan.outcome import Downlink, Joined, Rejected, Uplink
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import AES128Key, DevEUI, JoinEUI
from gateway.settings import Config, StationGatewaySection, StationSection
from gateway.station.door import StationDoor
from gateway.station.parts import station_door
from hub.message import TimeQuality
from radio.config import ModuleConfig, RadioConfig
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.lora import LoRaModulation
from radio.regions import get_region
from radio.service import Radio
from radio.station.client import Client
from radio.station.credentials import Credentials
from radio.station.server import StationServer
from radio.sx127x.modem import Sent
from radio.sx127x.registers import Settings
from tests.hub.pki import Authority

if TYPE_CHECKING:
    from tests.radio.conftest import Carrier

MS = 1_000_000
S = 1_000 * MS
EUI = bytes.fromhex("b827ebfffe123456")
TOKEN = "a-token-of-this-gateway"
SF7, SF12 = LoRaModulation(7, 125_000), LoRaModulation(12, 125_000)
CHANNEL = 868_100_000
APP_KEY = AES128Key(bytes(range(16)))
DEV_EUI, JOIN_EUI = DevEUI(0x70B3D57ED0001234), JoinEUI(0x0011223344556677)
REGION = get_region("EU868")
WITHIN_S = 20.0


def instant() -> Instant:
    return Instant(time.monotonic_ns(), time.time_ns(), TimeQuality.NTP)


class Network:
    """The network server behind the LNS, in an event loop of its own. `held` keeps its answers back."""

    def __init__(self, config: Config) -> None:
        self.server = NetworkServer(REGION)
        self.held: list[tuple[Downlink, bytes]] | None = None
        self.sent_in: list[int] = []
        self.failures: list[TxError] = []
        self.uplinks: list[bytes] = []
        self.loop = asyncio.new_event_loop()
        door = station_door(config, REGION, self, instant)
        assert door is not None
        self.door: StationDoor = door
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.do(self.door.start())

    def do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WITHIN_S)

    def call(self, function: Callable[[], Any]) -> Any:
        async def called() -> Any:
            return function()

        return self.do(called())

    def close(self) -> None:
        self.do(self.door.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WITHIN_S)
        self.loop.close()

    def receive(self, packets: tuple[RxPacket, ...], eui: bytes) -> None:
        for rx in packets:
            outcome = self.server.handle(rx, eui, instant())
            if isinstance(outcome, Uplink):
                self.uplinks.append(outcome.payload)
            assert isinstance(outcome, Uplink | Joined | Rejected)
            if outcome.downlink is None:
                continue
            if self.held is None:
                self.door.transmit(outcome.downlink, eui)
            else:
                self.held.append((outcome.downlink, eui))

    def sent(self, downlink: Downlink, window: int) -> None:
        self.server.sent(downlink, window, instant())
        self.sent_in.append(window)

    def failed(self, downlink: Downlink, error: TxError) -> None:
        self.failures.append(error)


class Site:
    """A radio in virtual time whose only server is the LNS."""

    def __init__(self, carrier: Carrier, network: Network, credentials: Credentials) -> None:
        self.carrier, self.network = carrier, network
        config = RadioConfig(
            modules=(ModuleConfig("fluxgate-sim-4", freq_hz=CHANNEL),), gateway_eui=EUI, tx_lead_us=0
        )
        self.radio = Radio(config, carrier.platform, self._frame, self._sent)
        self.client = Client(REGION, self.radio.transmit, name="lns", downlinks=True, heard_hz=[CHANNEL])
        uri = f"wss://127.0.0.1:{network.door.port}"
        self.server = StationServer(self.client, EUI, uri, credentials, carrier.platform.clock("servers"))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.server.run, args=(self._stop,))
        carrier.start(self.radio)
        self._thread.start()
        self.await_(lambda: self.client.connected)

    def _frame(self, rx: RxPacket, _end_ns: int) -> None:
        self.server.frame(rx)

    def _sent(self, sent: Sent) -> None:
        self.server.sent(sent.tx.id)

    def await_(self, condition: Callable[[], object]) -> None:
        """Let the threads of both ends work while virtual time stands still."""
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < deadline, self.client.status(0)
            time.sleep(0.002)

    def run_until(self, t_ns: int) -> None:
        self.carrier.run_until(t_ns)

    def ordered(self, count: int) -> None:
        self.await_(lambda: self.client.counters["downlinks_accepted"] == count)

    def close(self) -> None:
        self._stop.set()
        self.server.wake()
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()
        self.carrier.stop(self.radio)

    @property
    def down(self) -> list[Any]:
        """Downlinks on the air."""
        return [frame for frame in self.carrier.frames if frame.iq_inverted]

    @property
    def up(self) -> list[Any]:
        return [frame for frame in self.carrier.frames if not frame.iq_inverted]


@pytest.fixture
def site_for(carrier: Carrier, tmp_path: Path) -> Iterator[Callable[[], Site]]:
    authority = Authority(tmp_path)
    pair = authority.server()
    config = Config(
        station=StationSection(
            host="127.0.0.1",
            port=free_port(),
            cert_file=str(pair.cert),
            key_file=str(pair.key),
            gateway=(StationGatewaySection(eui=EUI.hex(), token=TOKEN),),
        )
    )
    network = Network(config)
    made: list[Site] = []

    def make() -> Site:
        made.append(Site(carrier, network, Credentials(ca_file=str(authority.cert), token=TOKEN)))
        return made[-1]

    yield make
    for site in made:
        site.close()
    network.close()


def near(freq_hz: int) -> Any:
    """The chip's frequency goes in steps of 61 Hz."""
    return pytest.approx(freq_hz, abs=61)


def joined(site: Site) -> SessionCrypto:
    """Register a device and have it join over the air."""
    network = site.network
    config = DeviceConfig(
        dev_eui=DEV_EUI, activation=Activation.OTAA, join_eui=JOIN_EUI, app_key=APP_KEY, name="device"
    )
    network.call(lambda: network.server.add_device(config))
    device = site.carrier.device("joiner")
    device.sends(S, Settings(CHANNEL, SF7), build_join_request(APP_KEY, JOIN_EUI, DEV_EUI, 1))
    site.run_until(S + 200 * MS)
    site.ordered(1)
    site.run_until(7 * S)
    accept = open_join_accept(APP_KEY, site.down[0].payload)
    keys = derive_session_keys(APP_KEY, accept.join_nonce, accept.net_id, 1)
    return SessionCrypto(accept.dev_addr, keys)


def address(site: Site) -> int:
    return open_join_accept(APP_KEY, site.down[0].payload).dev_addr


def test_a_device_joins_is_heard_and_answered_to_the_microsecond(site_for: Callable[[], Site]) -> None:
    site = site_for()
    crypto = joined(site)
    request, accept = site.up[0], site.down[0]
    assert accept.freq_hz == near(CHANNEL)
    assert accept.modulation == SF7
    assert abs(accept.start_ns - (request.end_ns + 5 * S)) < 20_000, "RX1 of a join opens 5 s after its end"
    site.await_(lambda: site.network.sent_in == [1])

    device = site.carrier.device("device")
    payload = build_uplink(crypto, address(site), 0, fport=1, payload=b"hello", confirmed=True)
    device.sends(10 * S, Settings(CHANNEL, SF7), payload)
    site.run_until(10 * S + 200 * MS)
    site.ordered(2)
    site.run_until(13 * S)
    up, down = site.up[1], site.down[1]
    assert abs(down.start_ns - (up.end_ns + S)) < 20_000
    frame, _, _ = open_downlink(crypto, address(site), None, down.payload)
    assert frame.ack
    assert site.network.uplinks == [b"hello"]
    site.await_(lambda: site.network.sent_in == [1, 1])
    assert len(site.down) == 2, "one frame for both windows"
    assert site.network.failures == []


def test_an_answer_too_late_for_rx1_leaves_in_rx2(site_for: Callable[[], Site]) -> None:
    site = site_for()
    crypto = joined(site)
    network = site.network
    network.held = []
    device = site.carrier.device("device")
    payload = build_uplink(crypto, address(site), 0, fport=1, payload=b"x", confirmed=True)
    device.sends(10 * S, Settings(CHANNEL, SF7), payload)
    site.run_until(10 * S + 200 * MS)
    site.await_(lambda: network.held)
    site.run_until(site.up[1].end_ns + S)
    ((downlink, eui),) = network.held
    network.call(lambda: network.door.transmit(downlink, eui))
    site.ordered(2)
    site.run_until(15 * S)
    up, down = site.up[1], site.down[1]
    assert down.freq_hz == near(869_525_000)
    assert down.modulation == SF12
    assert abs(down.start_ns - (up.end_ns + 2 * S)) < 20_000
    site.await_(lambda: network.sent_in == [1, 2])


def test_an_answer_too_late_for_both_windows_is_on_no_air(site_for: Callable[[], Site]) -> None:
    """The negative control of the two tests above: it is the time that decides."""
    site = site_for()
    crypto = joined(site)
    network = site.network
    network.held = []
    payload = build_uplink(crypto, address(site), 0, fport=1, payload=b"x", confirmed=True)
    site.carrier.device("device").sends(10 * S, Settings(CHANNEL, SF7), payload)
    site.run_until(10 * S + 200 * MS)
    site.await_(lambda: network.held)
    site.run_until(site.up[1].end_ns + 2 * S)
    ((downlink, eui),) = network.held
    network.call(lambda: network.door.transmit(downlink, eui))
    site.await_(lambda: site.client.counters["downlinks_failed"] == 1)
    site.run_until(16 * S)
    assert len(site.down) == 1
    in_a_minute = time.monotonic_ns() + 60 * S
    network.call(lambda: network.door.lns.expire(in_a_minute))
    assert network.failures == [TxError.TOO_LATE]


def test_a_class_c_downlink_leaves_at_once(site_for: Callable[[], Site]) -> None:
    site = site_for()
    network = site.network
    site.run_until(2 * S)
    packet = TxPacket(None, True, 869_525_000, 0, 14, LoRaModulation(9, 125_000), True, b"\x60" * 12, True)
    downlink = Downlink("1", DEV_EUI, (packet,), False, 0, False)
    network.call(lambda: network.door.transmit(downlink, EUI))
    site.ordered(1)
    site.run_until(3 * S)
    (down,) = site.down
    assert down.freq_hz == near(869_525_000)
    assert (down.modulation.sf, down.payload) == (9, b"\x60" * 12)
    assert down.start_ns < 2 * S + 100 * MS
    site.await_(lambda: network.sent_in == [1])
