"""Shipped scenarios with the radio's own code on the gateway's modules and the real network server, in virtual time."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from gateway.lorawan.clock import Instant
from gateway.lorawan.device import DeviceConfig
from gateway.lorawan.server import NetworkServer, Reason
from gateway.lorawan.settings import Settings
from hub.message import TimeQuality
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.node import NodeCounters
from hw_sim.platforms import lockstep
from hw_sim.records import Fate
from hw_sim.scenario import Scenario, load
from hw_sim.world import World, build
from radio.config import RadioConfig
from radio.gwmp import RxPacket, TxError
from radio.regions import get_region
from radio.service import Radio

US, S = 1_000, 1_000_000_000
EUI = bytes.fromhex("02f1fffe00000001")


@dataclass
class Whole:
    """A world whose gateway answers. `refused` counts downlinks the radio would not take."""

    world: World
    radio: Radio
    server: NetworkServer
    refused: Counter[TxError]

    def run(self, seconds: float) -> None:
        kernel = self.world.kernel
        kernel.run_until(kernel.now_ns + round(seconds * S))
        assert self.radio.failure is None

    def total(self) -> NodeCounters:
        """All devices' counters added up."""
        names = NodeCounters.__dataclass_fields__
        nodes = self.world.nodes
        return NodeCounters(**{name: sum(getattr(node.counters, name) for node in nodes) for name in names})

    def close(self) -> None:
        kernel = self.world.kernel
        self.radio.ask_to_stop()
        kernel.run_until(kernel.now_ns + S // 10)
        self.radio.stop()
        kernel.close()


Open = Callable[..., Whole]


def open_world(scenario: Scenario, **settings: object) -> Whole:
    kernel = Kernel(scenario.seed)
    world = build(scenario, kernel)
    region = get_region(scenario.region)
    server = NetworkServer(region, settings=Settings(**settings), rng=random.Random(1))
    for node in scenario.nodes:
        server.add_device(DeviceConfig(dev_eui=node.dev_eui, app_key=node.app_key))
    refused: Counter[TxError] = Counter()

    def on_frame(rx: RxPacket, end_ns: int) -> None:
        now = Instant(end_ns, end_ns, TimeQuality.NTP)
        outcome = server.handle(rx, EUI, now)
        if outcome.downlink is None:
            return
        for window, order in enumerate(outcome.downlink.windows, 1):
            result = radio.transmit(order, end_ns)
            if result.error is TxError.NONE:
                server.sent(outcome.downlink, window, now)
                return
            refused[result.error] += 1
        server.failed(outcome.downlink, TxError.TOO_LATE, now)

    config = RadioConfig(
        modules=scenario.modules,
        gateway_eui=EUI,
        region=scenario.region,
        antenna_gain_dbi=scenario.antenna_gain_dbi,
    )
    radio = Radio(config, lockstep(LocalHost(kernel, world.board)), on_frame)
    radio.start()
    kernel.await_clients(len(scenario.modules))
    return Whole(world, radio, server, refused)


@pytest.fixture
def opened() -> Iterator[Open]:
    made: list[Whole] = []

    def make(name: str, **settings: object) -> Whole:
        made.append(open_world(load(name), **settings))
        return made[-1]

    yield make
    for whole in made:
        whole.close()


def test_in_the_demonstration_every_device_joins_and_nothing_heard_is_refused(opened: Open) -> None:
    whole = opened("demo")
    whole.run(60)
    assert all(node.joined for node in whole.world.nodes)
    whole.run(540)
    total = whole.total()
    assert total.missed == 0
    assert total.refused == 0
    assert total.acks > 0
    assert whole.server.counters.uplinks >= total.uplinks * 0.95
    assert not any(count for count in whole.server.counters.rejected.values())


def test_the_first_device_of_the_demonstration_joins_within_ten_seconds(opened: Open) -> None:
    whole = opened("demo")
    whole.run(10)
    assert any(node.joined for node in whole.world.nodes)


def test_downlinks_of_the_radio_begin_within_twenty_microseconds_of_their_aim(opened: Open) -> None:
    """The radio aims 400 us early, because devices forgive early more than late."""
    whole = opened("demo")
    whole.run(600)
    errors = [start.error_ns + 400 * US for node in whole.world.nodes for start in node.starts]
    assert len(errors) >= 15
    assert max(map(abs, errors)) <= 20 * US


def test_one_module_for_one_channel_serves_its_devices(opened: Open) -> None:
    whole = opened("single", uplink_channels=(0,))
    whole.run(1200)
    total = whole.total()
    assert all(node.joined for node in whole.world.nodes)
    assert total.unacknowledged == 0
    fates = whole.world.air.records.counters["dragino-hat/0"]
    assert fates[Fate.RECEIVED] >= 60


def test_two_hours_of_the_day_lose_only_what_the_air_destroys(opened: Open) -> None:
    whole = opened("day")
    whole.run(7200)
    receivers = [module.name for module in whole.world.scenario.modules if module.role.receives]
    heard = destroyed = 0
    for record in whole.world.air.records.frames:
        if record.iq_inverted:
            continue
        fates = {record.fate(receiver) for receiver in receivers}
        heard += Fate.RECEIVED in fates
        destroyed += not fates & {Fate.RECEIVED, Fate.DEAF}
    counters = whole.server.counters
    total = whole.total()
    damaged = counters.rejected[Reason.CRC_ERROR]  # the radio forwards those, with their mark
    assert heard == counters.uplinks + counters.joins + sum(counters.rejected.values()) - damaged
    assert heard + destroyed == total.uplinks + total.retransmissions + total.join_requests
    assert total.missed == 0
