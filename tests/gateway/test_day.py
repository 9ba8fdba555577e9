"""A simulated day in virtual time: eight devices join and send, and nothing that the air let through is lost.

The radio's own threads run in lock-step on simulated chips, and hand their frames to the gateway's own LoRaWAN
server, access seam and durable log. Only GWMP's sockets are left out: `Air` stands for them.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.core import Core, opened_core
from gateway.devices.registration import register
from gateway.live import LiveFrames
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import DeviceConfig
from gateway.lorawan.frames import DataFrame, parse
from gateway.lorawan.outcome import Downlink, Reason
from gateway.lorawan.publish import Publisher
from gateway.settings import Config
from gateway.uplinks import Uplinks
from hw_sim import fakes
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.platforms import lockstep_on_fakes
from hw_sim.records import Fate, FrameRecord
from hw_sim.scenario import parse as parse_scenario
from hw_sim.world import World, build
from radio.config import RadioConfig
from radio.gwmp import RxPacket, TxError
from radio.service import Radio

SECOND_NS = 1_000_000_000
DAY_S = 86_400
TOLERANCE_NS = 20_000
EUI = bytes.fromhex("02f10f6a7e0000aa")
NOON_NS = 1_790_000_000 * SECOND_NS  # what the wall clock says when virtual time is 0

SCENARIO = """
title = "Three spreading factors, one channel each"
seed = 7
[air]
fading_db = 3.0
[gateway]
antenna_gain_dbi = 2.0
module = [
    {index = 0, freq_hz = 868100000, sf = 7, role = "rx"},
    {index = 1, freq_hz = 868300000, sf = 9, role = "rx"},
    {index = 2, freq_hz = 868500000, sf = 12, role = "rx"},
    {index = 3, role = "tx"},
]
[[nodes]]
count = 4
name = "near"
sf = 7
channels_hz = [868100000]
radius_m = 400
interval_s = [300, 600]
confirmed_share = 0.1
adr = false
[[nodes]]
count = 2
name = "middle"
sf = 9
channels_hz = [868300000]
radius_m = 700
interval_s = [300, 600]
confirmed_share = 0.1
adr = false
[[nodes]]
count = 2
name = "far"
sf = 12
channels_hz = [868500000]
radius_m = 1000
interval_s = [600, 900]
confirmed_share = 0.1
adr = false
"""


@dataclass
class Target:
    """When a downlink's first symbol is due: the true end of its uplink and the window's delay."""

    window: int
    due_ns: int


@dataclass
class Day:
    """The world, the radio and the gateway behind it, with a book of what had to happen."""

    world: World
    radio: Radio
    core: Core
    loop: asyncio.AbstractEventLoop
    uplinks: Uplinks
    received: list[FrameRecord] = field(default_factory=list)
    true_end_ns: dict[bytes, int] = field(default_factory=dict)  # by PHYPayload
    targets: dict[bytes, Target] = field(default_factory=dict)  # by the downlink's PHYPayload
    errors_ns: list[int] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    now_ns: int = 0
    heard_end_ns: int = 0
    heard: bytes = b""

    def on_air(self, record: FrameRecord) -> None:
        if record.iq_inverted:
            target = self.targets.pop(record.payload)
            self.errors_ns.append(record.start_ns - target.due_ns)
            return
        self.true_end_ns[record.payload] = record.end_ns
        modules = self.world.scenario.modules
        if any(record.fate(m.name) is Fate.RECEIVED for m in modules if m.role.receives):
            self.received.append(record)

    def on_frame(self, rx: RxPacket, end_ns: int) -> None:
        """In a module's thread, which holds virtual time until the gateway has done its part."""
        asyncio.run_coroutine_threadsafe(self._take(rx, end_ns), self.loop).result()

    async def _take(self, rx: RxPacket, end_ns: int) -> None:
        self.now_ns = self.heard_end_ns = end_ns
        self.heard = rx.data
        self.uplinks.receive((rx,), EUI)
        await self.core.hub.log.write(())  # all that was submitted before is durable, its answers are ordered

    def transmit(self, downlink: Downlink, eui: bytes) -> None:
        """The link's part: RX1, and RX2 where the radio refuses that."""
        delay_s = 5 if downlink.fcnt is None else 1
        for window, order in enumerate(downlink.windows, 1):
            due_ns = self.true_end_ns[self.heard] + (delay_s + window - 1) * SECOND_NS
            result = self.radio.transmit(order, self.heard_end_ns)
            if result.error is TxError.NONE:
                self.targets[order.data] = Target(window, due_ns)
                self.uplinks.sent(downlink, window)
                return
            self.refused[f"RX{window} {result.error}"] += 1
        self.uplinks.failed(downlink, TxError.COLLISION_PACKET)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


def live_through(config: Config, loop: asyncio.AbstractEventLoop, seconds: int) -> tuple[Day, list[Any]]:
    """Run the scenario for `seconds` of virtual time; returns the day's book and the messages in the log."""
    scenario = parse_scenario(SCENARIO)
    opened: list[Any] = []

    async def open_all() -> Core:
        context = opened_core(config)
        core = await context.__aenter__()
        opened.append(context)
        for node in scenario.nodes:
            device = DeviceConfig(
                dev_eui=node.dev_eui, name=node.name, join_eui=node.join_eui, app_key=node.app_key
            )
            await register(core.hub, core.server, device)
        return core

    async def close_all() -> list[Any]:
        messages = core.hub.log.read(0, None, 1_000_000)
        await opened[0].__aexit__(None, None, None)
        return messages

    def on_loop(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    core = on_loop(open_all())
    kernel = Kernel(scenario.seed)
    world = build(scenario, kernel)
    platform = lockstep_on_fakes(LocalHost(kernel, world.board))
    radio_config = RadioConfig(modules=scenario.modules, gateway_eui=EUI, tx_lead_us=0, antenna_gain_dbi=2.0)
    radio = Radio(radio_config, platform, lambda rx, end_ns: day.on_frame(rx, end_ns))
    uplinks = Uplinks(
        core.server,
        Publisher(core.hub.boot),
        core.hub.access,
        core.hub.log,
        LiveFrames(),
        lambda: Instant(day.now_ns, NOON_NS + day.now_ns),
    )
    day = Day(world, radio, core, loop, uplinks)
    uplinks.downlinks.transmitter = day
    world.air.records.observe(day.on_air)
    try:
        radio.start()
        kernel.await_clients(len(scenario.modules))
        kernel.run_until(seconds * SECOND_NS)
        for node in world.nodes:
            node.stop()
        kernel.run_until((seconds + 30) * SECOND_NS)
        radio.ask_to_stop()
        kernel.run_until((seconds + 31) * SECOND_NS)
        radio.stop()
    finally:
        kernel.close()
        fakes.uninstall()
        messages = on_loop(close_all())
    assert radio.failure is None
    return day, messages


def expected(day: Day) -> tuple[int, Counter[tuple[str, int]]]:
    """From the air's own records: joins that were heard, and (device, FCnt) of each uplink that was."""
    joins = 0
    uplinks: Counter[tuple[str, int]] = Counter()
    eui_of = {node.config.name: str(node.config.dev_eui) for node in day.world.nodes}
    for record in day.received:
        frame = parse(record.payload)
        if isinstance(frame, DataFrame):
            uplinks[eui_of[record.sender], frame.fcnt] += 1
        else:
            joins += 1
    return joins, uplinks


def logged(messages: list[Any]) -> Counter[tuple[str, int]]:
    """(device, FCnt) of each uplink in the log."""
    found: Counter[tuple[str, int]] = Counter()
    for message in messages:
        if message.subtopic.endswith(".radio"):
            values = {record["n"]: record["v"] for record in json.loads(message.payload)}
            found[message.subtopic.removesuffix(".radio"), values["fcnt"]] += 1
    return found


@pytest.mark.timeout(600)
def test_a_day_of_eight_devices_reaches_the_log_once_and_every_downlink_its_microsecond(
    config: Config, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    day, messages = live_through(config, loop, DAY_S)
    joins, heard = expected(day)
    stored = logged(messages)
    counters = day.core.server.counters
    worst_us = max(abs(error) for error in day.errors_ns) / 1000
    print(
        f"{day.world.air.records.sent} frames on the air, {joins} joins and {heard.total()} uplinks heard, "
        f"{len(stored)} stored, {len(day.errors_ns)} downlinks, worst start {worst_us:.2f} us, "
        f"refused {dict(day.refused)}"
    )
    assert all(node.joined for node in day.world.nodes)
    assert counters.joins == joins == 8
    assert len(heard) > 800
    assert stored.keys() == heard.keys()
    assert set(stored.values()) == {1}
    assert counters.uplinks == len(heard)
    repetitions = heard.total() - len(heard)
    assert counters.rejected[Reason.DUPLICATE] == repetitions
    refused_unheard = counters.rejected[Reason.CRC_ERROR]  # damaged on the air, and told so
    assert sum(counters.rejected.values()) == repetitions + refused_unheard
    assert day.targets == {}
    assert len(day.errors_ns) > 50
    assert worst_us * 1000 <= TOLERANCE_NS


def test_control_a_driver_that_ignores_the_rxdone_latency_is_late(
    config: Config, loop: asyncio.AbstractEventLoop, mocker: Any
) -> None:
    mocker.patch("radio.calibration.rx_done_latency_ns", return_value=0)
    day, _ = live_through(config, loop, 900)
    late_us = sorted(error / 1000 for error in day.errors_ns)
    assert late_us[-1] > 30_000  # SF12
    assert any(3_000 < late < 3_500 for late in late_us)  # SF9
