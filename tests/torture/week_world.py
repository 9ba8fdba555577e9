"""One region of `week.py`: devices, air, concentrators with GWMP forwarders, and a gateway's own parts behind them.

Only UDP sockets are left out: the forwarders' datagrams go straight into `gateway.link.Link`, and all that follows is
the gateway's own, down to the log on disk. Virtual time stands still while the log commits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from gateway.copies import Copies, CopiesReceiver
from gateway.core import Core, opened_core
from gateway.devices.registration import register
from gateway.link import Link
from gateway.live import LiveFrames
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import OrderError
from gateway.lorawan.frames import DataFrame, parse
from gateway.lorawan.orders import NEVER_NS
from gateway.lorawan.outcome import Downlink
from gateway.lorawan.publish import Publisher
from gateway.settings import Config, GatewaySection, HubSection, LorawanSection
from gateway.uplinks import Uplinks
from hub.message import TimeQuality
from hw_sim.concentrator import SimConcentrator
from hw_sim.forwarder import SimForwarder, Way
from hw_sim.kernel import Event, Kernel
from hw_sim.node import Node
from hw_sim.records import Fate, FrameRecord
from hw_sim.registering import profiles_of, registration, set_up_groups
from hw_sim.scenario import Scenario
from hw_sim.world import World, build
from radio.regions import get_region

SECOND_NS = 1_000_000_000
# What the wall clock says when virtual time is 0: as the concentrators' GNSS
NOON_NS = 1_772_366_400 * SECOND_NS
EUI_BASE = 0x02F1_0F6A_7E00_0000
MERGE_NS = 100_000_000
LAST_WORDS_S = 30
CFLIST_CHANNELS = 5
KEEPALIVE_S = 60.0  # of the forwarders: fewer datagrams than in the field, to the same effect


@dataclass(slots=True)
class Ordered:
    """A downlink that was ordered at `at_ns`, and when it reached its device (or each member of its group)."""

    name: str
    at_ns: int
    payload: bytes
    confirmed: bool = False


@dataclass
class _Timer:
    """Something that will be called."""

    kernel: Kernel
    event: Event

    def cancel(self) -> None:
        self.kernel.cancel(self.event)


@dataclass
class Book:
    """What happened between air and log."""

    # (DevEUI, DevAddr, 16 bits of FCnt) of uplinks
    heard: set[tuple[str, int, int]] = field(default_factory=set)
    times_heard: Counter[str] = field(default_factory=Counter)  # by DevEUI: frames, repetitions too
    sent_up: Counter[str] = field(default_factory=Counter)  # by DevEUI: data frames on the air
    refused: Counter[str] = field(default_factory=Counter)  # orders, by error
    ordered: list[Ordered] = field(default_factory=list)
    not_taken: int = 0
    group_orders: int = 0


class RegionWorld:
    """A scenario with the gateway behind it. `run` as often as wanted, then `close`."""

    def __init__(self, scenario: Scenario, folder: Path, **lorawan: Any) -> None:
        """`lorawan`: settings of the gateway in place of what fits the concentrators."""
        self.scenario = scenario
        self.book = Book()
        self.kernel = Kernel(scenario.seed)
        self.world: World = build(scenario, self.kernel)
        self._loop = asyncio.new_event_loop()
        self._config = _config(scenario, folder, lorawan)
        self._context = opened_core(self._config)
        with mock.patch("gateway.lorawan.server.SystemRandom", partial(random.Random, scenario.seed)):
            self.core: Core = self._await(self._context.__aenter__())  # addresses decide slots of class B
        self.server = self.core.server
        self.server.use_profiles({**self.server.profiles, **profiles_of(scenario.nodes)})
        for node in scenario.nodes:
            self._await(register(self.core.hub, self.server, registration(node)))
        writes = set_up_groups(self.server, scenario.groups, scenario.nodes, self._config.lorawan.rx2_dr)
        self._await(self.core.hub.log.write(writes))
        self.uplinks = Uplinks(
            self.server,
            Publisher(self.core.hub.boot),
            self.core.hub.access,
            self.core.hub.log,
            LiveFrames(),
            self.now,
        )
        copies = Copies(MERGE_NS, lambda _eui: True)
        self._copies = CopiesReceiver(self.uplinks, copies, self.now, self._later)
        self._forwarders: dict[str, SimForwarder] = {}  # by address
        self.link = Link(self._copies, self._to_forwarder)
        self.uplinks.downlinks.transmitter = self
        self.uplinks.downlinks.changed = self._look_later
        self._due_event: Event | None = None
        self._eui_of = {node.config.name: str(node.config.dev_eui) for node in self.world.nodes}
        self._node_of = {str(node.config.dev_eui): node for node in self.world.nodes}
        self._receivers = self.world.receivers
        for number, site in enumerate(self.world.sites):
            assert site.concentrator is not None
            self._attach(number, site.concentrator)
        self.world.air.records.observe(self._on_air)

    def now(self) -> Instant:
        """Virtual time, as a gateway whose clock is set has it."""
        mono_ns = self.kernel.now_ns
        return Instant(mono_ns, NOON_NS + mono_ns, TimeQuality.NTP)

    # -- running -----------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.kernel.run_until(self.kernel.now_ns + round(seconds * SECOND_NS))

    def end(self) -> None:
        """The devices fall silent; what is under way ends."""
        for node in self.world.nodes:
            node.stop()
        self.run(LAST_WORDS_S)
        self._flush()

    def messages(self) -> list[Any]:
        """Everything in the log."""
        return list(self.core.hub.log.read(0, None, 10_000_000))

    def close(self) -> None:
        """Close the log."""
        self._copies.close()
        self._await(self._context.__aexit__(None, None, None))
        self._loop.close()
        self.kernel.close()

    def _await(self, coroutine: Any) -> Any:
        return self._loop.run_until_complete(coroutine)

    def _flush(self) -> None:
        """All that was submitted becomes durable, and what waits for that is done; virtual time stands still."""
        self._await(self.core.hub.log.write(()))
        self._await(asyncio.sleep(0))

    # -- between forwarders and gateway --------------------------------------------------------------------

    def _attach(self, number: int, concentrator: SimConcentrator) -> None:
        eui = (EUI_BASE + number).to_bytes(8)
        ports = {Way.UP: (f"10.0.0.{number}", 1), Way.DOWN: (f"10.0.0.{number}", 2)}

        def send(datagram: bytes, way: Way) -> None:
            before = self.server.counters
            waiting = before.downlinks, before.joins
            self.link.datagram(datagram, ports[way], self.kernel.now_ns)
            after = self.server.counters
            if (after.downlinks, after.joins) != waiting:
                self._flush()

        self._forwarders[f"10.0.0.{number}"] = SimForwarder(
            self.kernel, concentrator, eui, send, keepalive_s=KEEPALIVE_S, stat_s=3600.0
        )

    def _to_forwarder(self, datagram: bytes, address: tuple[Any, ...]) -> None:
        """Each datagram is on its way for a moment, as between two processes."""
        forwarder = self._forwarders[address[0]]
        self.kernel.after(0, lambda: forwarder.receive(datagram))

    def _later(self, delay_s: float, fn: Callable[[], None]) -> Any:
        return _Timer(self.kernel, self.kernel.after(round(delay_s * SECOND_NS), lambda: self._merged(fn)))

    def _merged(self, fn: Callable[[], None]) -> None:
        """The time of copies is over."""
        fn()
        self._flush()

    def transmit(self, downlink: Downlink, eui: bytes) -> None:
        """`gateway.downlinks.Transmitter`."""
        self.link.transmit(downlink, eui, self.kernel.now_ns)

    def only(self) -> bytes:
        """The EUI of the one gateway there is, where it is one."""
        return EUI_BASE.to_bytes(8) if len(self._forwarders) == 1 else b""

    def _look_later(self) -> None:
        """The server may want to be asked for what is due."""
        now = self.now()
        due_ns = max(now.mono_ns, self.server.next_due_ns(now))
        if self._due_event is not None:
            if self._due_event.fn is not None and self._due_event.t_ns <= due_ns:
                return
            self.kernel.cancel(self._due_event)
        self._due_event = None if due_ns >= NEVER_NS else self.kernel.at(due_ns, self._look)

    def _look(self) -> None:
        self._due_event = None
        self.uplinks.downlinks.carry_out(self.server.due(self.now()))
        self._flush()
        self._look_later()

    # -- orders ------------------------------------------------------------------------------------------

    def order(self, node: Node, payload: bytes, *, confirmed: bool = False, fport: int = 2) -> None:
        """An application orders a downlink now."""
        self.book.ordered.append(Ordered(node.config.name, self.kernel.now_ns, payload, confirmed))
        try:
            queued = self.server.queue_downlink(
                node.config.dev_eui, fport, payload, confirmed, now=self.now()
            )
        except OrderError:
            self.book.not_taken += 1
            return
        self.uplinks.downlinks.take(queued)
        self._flush()

    def order_group(self, payload: bytes) -> None:
        """An application orders a downlink for every group."""
        for group in self.scenario.groups:
            self.book.group_orders += 1
            self.uplinks.downlinks.take(
                self.server.queue_group_downlink(group.name, 3, payload, now=self.now())
            )
        self._flush()

    def at(self, seconds: float, fn: Callable[[], None]) -> None:
        """Do something then."""
        self.kernel.at(round(seconds * SECOND_NS), fn)

    # -- books -------------------------------------------------------------------------------------------

    def _on_air(self, record: FrameRecord) -> None:
        eui = self._eui_of.get(record.sender)
        if eui is None or record.iq_inverted:
            return
        with contextlib.suppress(Exception):
            frame = parse(record.payload)
            if isinstance(frame, DataFrame):
                self.book.sent_up[eui] += 1
                if any(record.fate(name) is Fate.RECEIVED for name in self._receivers):
                    self.book.times_heard[eui] += 1
                    self.book.heard.add((eui, frame.dev_addr, frame.fcnt))

    def logged(self) -> Counter[tuple[str, int]]:
        """(DevEUI, 16 bits of FCnt) of each uplink in the log, with how often."""
        found: Counter[tuple[str, int]] = Counter()
        for message in self.messages():
            if message.subtopic.endswith(".radio"):
                values = {record["n"]: record.get("v") for record in json.loads(message.payload)}
                found[message.subtopic.removesuffix(".radio"), values["fcnt"] & 0xFFFF] += 1
        return found

    def expected(self) -> Counter[tuple[str, int]]:
        """The same, by the air's own records: one for each frame counter of each session."""
        return Counter((eui, fcnt) for eui, _, fcnt in self.book.heard)

    def accepted_twice(self) -> int:
        """Uplinks in the log beyond what was on the air."""
        return (self.logged() - self.expected()).total()

    def never_stored(self) -> int:
        """Uplinks that a gateway heard and the log does not have."""
        return (self.expected() - self.logged()).total()

    def nodes(self) -> Iterator[Node]:
        yield from self.world.nodes


def _config(scenario: Scenario, folder: Path, lorawan: dict[str, Any]) -> Config:
    """A gateway's settings that fit the scenario's concentrators."""
    region = get_region(scenario.region)
    plans = [plan.concentrator for plan in scenario.gateways if plan.concentrator is not None]
    heard = {freq_hz for plan in plans for freq_hz in plan.channels_hz}
    heard |= {plan.wide.freq_hz for plan in plans if plan.wide is not None}
    own = region.uplink_channels()
    fitting: dict[str, Any] = {"port": 0, "class_b": True, "beacon_gateways": (EUI_BASE.to_bytes(8).hex(),)}
    if region.fixed_plan:
        fitting["uplink_channels"] = tuple(i for i, freq_hz in enumerate(own) if freq_hz in heard)
    else:
        fitting["cflist_hz"] = tuple(sorted(heard - set(own))[:CFLIST_CHANNELS])
    if scenario.region == "EU868":
        fitting["rx2_dr"] = 3  # the region's own takes more than a second for any frame
    return Config(
        gateway=GatewaySection(
            eui=EUI_BASE.to_bytes(8).hex(),
            data_dir=str(folder / "data"),
            runtime_dir=str(folder / "run"),
            region=scenario.region,
        ),
        lorawan=LorawanSection(**(fitting | lorawan)),
        hub=HubSection(commit_interval_s=0.02, max_messages=10_000_000, events=False),
    )
