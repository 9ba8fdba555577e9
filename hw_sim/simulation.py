"""A whole scenario in virtual time: devices, air, the radio's own code on each gateway, a network server behind them.

What `fluxgate sim run` and `fluxgate sim air` run. Nothing between radio and server but a function call, so what is
counted is the radio's and the air's doing; `fluxgate demo` has all the rest in between.
"""

import contextlib
import random
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import OrderError
from gateway.lorawan.orders import NEVER_NS
from gateway.lorawan.server import Downlink, NetworkServer
from gateway.lorawan.settings import Listener, Settings
from hw_sim.concentrator import ConcentratorPlan, SimConcentrator
from hw_sim.errors import SimError
from hw_sim.expect import Verdict
from hw_sim.gnss import gnss_of
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Event, Kernel
from hw_sim.node import Node
from hw_sim.node_log import Received
from hw_sim.platforms import lockstep
from hw_sim.records import Fate, FrameRecord
from hw_sim.registering import profiles_of, registration, set_up_groups
from hw_sim.scenario import DownlinkPlan, Scenario
from hw_sim.statistics import Statistics
from hw_sim.trace_recorder import Recorder
from hw_sim.world import Site, World, build
from radio.config import RadioConfig
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.lora import LoRaModulation
from radio.owner import ModuleOwner
from radio.regions import Region, get_region
from radio.rn2483_owner import Rn2483Owner
from radio.service import Platform, Radio

SECOND_NS: Final = 1_000_000_000
EUI_BASE: Final = 0x02F1_FFFE_0000_0001
COPY_NS: Final = SECOND_NS // 2  # the same frame from another gateway; a device repeats later than that
FREQUENCY_PPM: Final = 100  # a downlink this near its frequency is on it
KEPT_ORDERS: Final = 1000
CFLIST_CHANNELS: Final = 5
CLOSING_NS: Final = SECOND_NS // 10


@dataclass(frozen=True, slots=True)
class _Ordered:
    """What an application ordered, for whom, and when."""

    node: Node
    at_ns: int
    plan: DownlinkPlan

    def fits(self, frame: Received) -> bool:
        """May this be the frame that was ordered?"""
        return (
            (frame.fport, frame.payload) == (self.plan.fport, self.plan.payload)
            and (frame.group is not None) == bool(self.plan.group)
            and frame.at_ns >= self.at_ns
        )


@dataclass(slots=True)
class _Tally:
    """What happens between air and server, counted as it happens."""

    pending: Counter[tuple[str, bytes]] = field(default_factory=Counter)  # received, not yet handed over
    delivered: int = 0  # new uplinks
    refused: Counter[TxError] = field(default_factory=Counter)
    orders: deque[TxPacket] = field(default_factory=lambda: deque(maxlen=KEPT_ORDERS))
    wrong: int = 0
    ordered: deque[_Ordered] = field(default_factory=lambda: deque(maxlen=KEPT_ORDERS))


class _SiteRadio(Radio):
    """A radio among several: the names of its threads, which decide whose turn is first, are its own."""

    def __init__(self, name: str, *args: Any) -> None:
        super().__init__(*args)
        self._name = name

    def _run(self, owner: ModuleOwner | Rn2483Owner) -> None:
        threading.current_thread().name = f"{self._name} {owner.name}"
        super()._run(owner)


class Simulation:
    """One run. `start`, `run` as often as wanted, `close`."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int | None = None,
        *,
        record: bool = False,
        settings: Settings | None = None,
    ) -> None:
        """`record`: keep all that passes between radios and chips, in `recorders`. `settings`: of the network, in
        place of those that fit the gateways."""
        self.scenario = scenario
        self.kernel = Kernel(scenario.seed if seed is None else seed)
        self.world: World = build(scenario, self.kernel)
        self.statistics = Statistics(self.world)
        self.server = NetworkServer(
            get_region(scenario.region),
            settings=settings_of(scenario) if settings is None else settings,
            rng=random.Random(self.kernel.seed),
        )
        self.server.use_profiles(profiles_of(scenario.nodes))
        for node in scenario.nodes:
            self.server.add_device(registration(node))
        set_up_groups(self.server, scenario.groups, scenario.nodes)
        self.radios: list[Radio] = []
        self._radio_of: dict[bytes, Radio | SimConcentrator] = {}  # by the gateway's EUI
        self.recorders: list[Recorder] = []
        self._record = record
        self._tally = _Tally()
        self._seen: dict[bytes, int] = {}  # when a frame came for the first time
        self._gateway_chips = {chip: site.plan.name for site in self.world.sites for chip in site.receivers}
        self._senders = frozenset(name for site in self.world.sites for name in site.names)
        self._due_event: Event | None = None
        self.world.air.records.observe(self._on_air)

    # -- running ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring the radios up. Raises what they fail with."""
        for number, site in enumerate(self.world.sites):
            eui = eui_of(number)
            if site.concentrator is not None:
                self._attach(site, eui, site.concentrator)
                continue
            radio = self._radio_of[eui] = self._radio(site, eui)
            radio.start()
            self.radios.append(radio)
        for plan in self.scenario.downlinks:
            self.kernel.at(round(plan.at_s * SECOND_NS), partial(self._order, plan))
        plans = [site.plan for site in self.world.sites]
        self.kernel.await_clients(sum(len(plan.all_modules) + (plan.gnss is not None) for plan in plans))

    def run(self, seconds: float, pace: float | None = None, stop: threading.Event | None = None) -> None:
        """Let so much time pass. Raises what a radio or a simulated part failed with."""
        self.kernel.run(pace, self.kernel.now_ns + round(seconds * SECOND_NS), stop)
        for radio in self.radios:
            if radio.failure is not None:
                raise SimError(f"a radio failed: {radio.failure}") from radio.failure

    def close(self) -> None:
        """End the radios' threads."""
        for radio in self.radios:
            radio.ask_to_stop()
        self.kernel.run_until(self.kernel.now_ns + CLOSING_NS)
        for radio in self.radios:
            radio.stop()
        self.kernel.close()

    def _platform(self, site: Site) -> Platform:
        platform = lockstep(LocalHost(self.kernel, site.board))
        if not self._record:
            return platform
        self.recorders.append(Recorder(platform))
        return self.recorders[-1].platform

    def _attach(self, site: Site, eui: bytes, concentrator: SimConcentrator) -> None:
        """A concentrator needs no thread: its frames come as events."""

        def on_frames(frames: tuple[RxPacket, ...]) -> None:
            for rx in frames:
                self._on_frame(site, eui, rx, self.kernel.now_ns)

        concentrator.on_frames = on_frames
        self._radio_of[eui] = concentrator

    def _radio(self, site: Site, eui: bytes) -> Radio:
        config = RadioConfig(
            modules=site.plan.all_modules,
            gnss=None if site.plan.gnss is None else gnss_of(site.plan.gnss),
            gateway_eui=eui,
            region=self.scenario.region,
            antenna_gain_dbi=site.plan.antenna_gain_dbi,
        )

        def on_frame(rx: RxPacket, end_ns: int) -> None:
            self._on_frame(site, eui, rx, end_ns)

        return _SiteRadio(site.plan.name, config, self._platform(site), on_frame)

    # -- the way of a frame ----------------------------------------------------------------------------

    def _on_air(self, record: FrameRecord) -> None:
        """A frame and its fates; the radio takes it from the chip later than this."""
        if record.sender in self._senders:
            self._check_order(record)
            return
        for receiver, reception in record.receptions.items():
            name = self._gateway_chips.get(receiver)
            if name is not None and reception.fate is Fate.RECEIVED:
                self._tally.pending[name, record.payload] += 1

    def _check_order(self, record: FrameRecord) -> None:
        """Is a gateway's frame one that was ordered, sent as it was ordered?"""
        off_hz = record.freq_hz * FREQUENCY_PPM * 1e-6
        mod = record.modulation
        self._tally.wrong += not any(
            order.data == record.payload
            and abs(order.freq_hz - record.freq_hz) <= off_hz
            and (order.modulation.sf, order.modulation.bw_hz) == (mod.sf, mod.bw_hz)
            and order.ipol == record.iq_inverted
            for order in self._tally.orders
        )

    def _on_frame(self, site: Site, eui: bytes, rx: RxPacket, end_ns: int) -> None:
        tally, key = self._tally, (site.plan.name, rx.data)
        if tally.pending[key] > 1:
            tally.pending[key] -= 1
        else:
            del tally.pending[key]
        if rx.stat >= 0 and self._is_copy(rx.data, end_ns):
            return
        before = self.server.counters.uplinks
        outcome = self.server.handle(rx, eui, Instant(end_ns, end_ns))
        tally.delivered += self.server.counters.uplinks - before
        if outcome.downlink is not None:
            self._answer(outcome.downlink, eui, end_ns)
        self._look_later()

    def _is_copy(self, data: bytes, now_ns: int) -> bool:
        first_ns = self._seen.get(data)
        if first_ns is not None and now_ns - first_ns < COPY_NS:
            return True
        for old in [old for old, seen_ns in self._seen.items() if now_ns - seen_ns >= COPY_NS]:
            del self._seen[old]
        self._seen[data] = now_ns
        return False

    def _answer(self, downlink: Downlink, eui: bytes, now_ns: int) -> None:
        """Hand a downlink to the gateway that heard the uplink, or to the one the server has named."""
        radio = self._radio_of[downlink.gateway or eui]
        error = TxError.TOO_LATE
        for window, order in enumerate(downlink.windows, 1):
            if isinstance(radio, SimConcentrator):
                error = radio.order(order).error
            else:
                error = radio.transmit(order, now_ns).error
            if error is TxError.NONE:
                self._tally.orders.append(order)
                self.server.sent(downlink, window, Instant(now_ns, now_ns))
                return
            self._tally.refused[error] += 1
        self.server.failed(downlink, error, Instant(now_ns, now_ns))

    # -- downlinks that answer no uplink ---------------------------------------------------------------

    def _order(self, plan: DownlinkPlan) -> None:
        """An application orders, now and again."""
        now_ns = self.kernel.now_ns
        now = Instant(now_ns, now_ns)
        if plan.group:
            members = [
                node for node in self.world.nodes if plan.group in {g.name for g in node.config.groups}
            ]
            self._tally.ordered += [_Ordered(node, now_ns, plan) for node in members]
            with contextlib.suppress(OrderError):
                self.server.queue_group_downlink(plan.group, plan.fport, plan.payload, now=now)
        for name in plan.nodes:
            node = self.world.node(name)
            self._tally.ordered.append(_Ordered(node, now_ns, plan))
            with contextlib.suppress(OrderError):  # a full queue: it counts as one that never arrived
                self.server.queue_downlink(
                    node.config.dev_eui, plan.fport, plan.payload, plan.confirmed, now=now
                )
        if plan.every_s is not None and now_ns + plan.every_s * SECOND_NS < plan.until_s * SECOND_NS:
            self.kernel.after(round(plan.every_s * SECOND_NS), partial(self._order, plan))
        self._look_later()

    def _look_later(self) -> None:
        """Be called when the server has something to send of itself."""
        now_ns = self.kernel.now_ns
        due_ns = max(now_ns, self.server.next_due_ns(Instant(now_ns, now_ns)))
        if self._due_event is not None:
            if self._due_event.t_ns <= due_ns:
                return
            self.kernel.cancel(self._due_event)
        self._due_event = None if due_ns >= NEVER_NS else self.kernel.at(due_ns, self._look)

    def _look(self) -> None:
        self._due_event = None
        now_ns = self.kernel.now_ns
        for downlink in self.server.due(Instant(now_ns, now_ns)).downlinks:
            self._answer(downlink, next(iter(self._radio_of)), now_ns)
        self._look_later()

    # -- judging ---------------------------------------------------------------------------------------

    def counts(self) -> dict[str, float]:
        """Every count that `[expect]` knows (`hw_sim.expect.METRICS`)."""
        nodes, fates, tally = self.world.nodes, self.statistics.fates, self._tally
        status = [radio.status(self.kernel.now_ns) for radio in self.radios]
        modules = [module for each in status for module in each["modules"]]
        total: Counter[str] = Counter()
        for node in nodes:
            for name in ("uplinks", "retransmissions", "confirmed", "acks", "unacknowledged", "missed"):
                total[name] += getattr(node.counters, name)
        arrivals_ns = self._arrivals_ns()
        errors_ns = [start.error_ns for node in nodes for start in node.starts]
        lead_ns = self.radios[0].config.tx_lead_us * 1000 if self.radios else 0
        return {
            "frames": fates.total(),
            **{str(fate): fates[fate] for fate in Fate},
            "lost": tally.pending.total(),
            "devices": len(nodes),
            "joined": sum(node.joined for node in nodes),
            "uplinks": total["uplinks"],
            "delivered": tally.delivered,
            "repetitions": total["retransmissions"],
            "confirmed": total["confirmed"],
            "acknowledged": total["acks"],
            "unacknowledged": total["unacknowledged"],
            "downlinks": self.statistics.downlinks,
            "missed": total["missed"],
            "refused": tally.refused.total(),
            "late_us": max((abs(error_ns + lead_ns) for error_ns in errors_ns), default=0) / 1000,
            "wrong": tally.wrong,
            "ordered": len(tally.ordered),
            "arrived": len(arrivals_ns),
            "arrival_s": max(arrivals_ns, default=0) / SECOND_NS,
            "faults": self.world.injected.total(),
            "noticed": sum(sum(module["faults_by_kind"].values()) for module in modules),
            "broken": sum(bool(module["fault"]) for module in modules),
        }

    def _arrivals_ns(self) -> list[int]:
        """How long each order took that has arrived; a frame belongs to the last order before it that fits."""
        took_ns: dict[int, int] = {}  # by the order's number
        orders = list(enumerate(self._tally.ordered))
        for node in {order.node.config.name: order.node for _, order in orders}.values():
            mine = [(number, order) for number, order in orders if order.node is node]
            for frame in node.received:
                fitting = [each for each in mine if each[1].fits(frame)]
                if fitting:
                    number, order = fitting[-1]
                    took_ns.setdefault(number, frame.at_ns - order.at_ns)
        return list(took_ns.values())

    def verdicts(self) -> list[Verdict]:
        """Each expectation of the scenario, judged now."""
        counts = self.counts()
        return [expectation.judge(counts) for expectation in self.scenario.expectations]


def settings_of(scenario: Scenario) -> Settings:
    """How a network is set up for what the scenario's gateways hear, as a gateway sets it up for its modules."""
    region = get_region(scenario.region)
    concentrators = [plan.concentrator for plan in scenario.gateways]
    if any(concentrators):
        return _wide_settings(region, concentrators)
    heard = [
        Listener(module.freq_hz, module.sweep_sfs or (module.sf,), module.bw_hz)
        for plan in scenario.gateways
        for module in plan.modules
        if module.role.receives
    ]
    heard += [
        Listener(modem.freq_hz, (modem.sf,), modem.bw_hz)
        for plan in scenario.gateways
        for modem in plan.rn2483
        if modem.role != "tx"
    ]
    rates = [
        rate
        for each in heard
        for sf in each.sfs
        if (rate := region.dr_of(LoRaModulation(sf, each.bw_hz))) is not None
    ]
    return Settings(heard=tuple(dict.fromkeys(heard)), adr_max_dr=max(rates, default=None))


def _wide_settings(region: Region, plans: Sequence[ConcentratorPlan | None]) -> Settings:
    """Devices use all that the concentrators hear, by further channels or by masks of a fixed plan; those with GNSS
    send the beacon of class B."""
    made = [plan for plan in plans if plan is not None]
    heard = {freq_hz for plan in made for freq_hz in plan.channels_hz}
    heard |= {plan.wide.freq_hz for plan in made if plan.wide is not None}
    own = region.uplink_channels()
    channels = tuple(i for i, freq_hz in enumerate(own) if freq_hz in heard) if region.fixed_plan else None
    further = () if region.fixed_plan else tuple(sorted(heard - set(own))[:CFLIST_CHANNELS])
    timed = tuple(
        eui_of(number) for number, plan in enumerate(plans) if plan is not None and plan.gps_ms is not None
    )
    return Settings(uplink_channels=channels, cflist_hz=further, class_b=bool(timed), beacon_gateways=timed)


def eui_of(number: int) -> bytes:
    """Of a gateway, by its place in the scenario."""
    return (EUI_BASE + number).to_bytes(8)
