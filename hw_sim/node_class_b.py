"""Class B of a device: it asks for the time, finds the beacon, and listens in its ping slots. Event-driven.

LoRaWAN 1.0.3, 8 to 13. When slots and beacons are comes from the network's own `gateway.lorawan.classb`, from the code
that is only arithmetic; the times are those of the device: it counts from the beacon it has heard, by its own clock.
"""

from collections.abc import Callable, Sequence
from typing import Final

from gateway.lorawan.classb import beacon
from gateway.lorawan.classb.plan import ClassBPlan
from gateway.lorawan.classb.slots import (
    BEACON_DELAY_MS,
    BEACON_PERIOD_MS,
    BEACON_RESERVED_MS,
    SLOT_MS,
    SLOTS,
    beacon_before,
    ping_offset,
    ping_period,
)
from gateway.lorawan.errors import FrameError
from hw_sim.kernel import Event
from hw_sim.node_exchange import SECOND_NS, Exchange, Timers
from hw_sim.node_log import NodeCounters
from hw_sim.node_mac import MacState
from hw_sim.node_radio import receive_window
from radio.lora import LoRaModulation, airtime_us, rx_done_latency_ns
from radio.regions import Region
from radio.sx127x.chip import Packet
from radio.sx127x.registers import Settings

MS: Final = 1_000_000
PERIOD_NS: Final = BEACON_PERIOD_MS * MS
SEARCH_NS: Final = 15 * MS  # how wrong the time of a DeviceTimeAns may be: 1/256 s, and the way it took
KEPT_NS: Final = 3 * MS  # how wrong its own clock may be a beacon period later
DRIFT_NS: Final = 2 * MS  # more, for each beacon it has missed since
# Before a window it looks whether the radio is free; more than the widest one begins early
AHEAD_NS: Final = 300 * MS
MOST_MISSED: Final = 56  # two hours without a beacon: back to class A (1.0.3, 12.1)


class NodeClassB:
    """`locked`: the beacon has been found, and its uplinks say so."""

    def __init__(
        self,
        timers: Timers,
        exchange: Exchange,
        region: Region,
        counters: NodeCounters,
        periodicity: int,
        *,
        changed: Callable[[], None],
    ) -> None:
        """`changed`: the device is in class B now, or no more, and should tell."""
        self.locked = False
        self._timers = timers
        self._exchange = exchange
        self._region = region
        self._counters = counters
        self._periodicity = periodicity
        self._changed = changed
        self._addresses: Sequence[
            tuple[int, int]
        ] = ()  # of the device and its groups, with their periodicity
        self._searching: Event | None = None
        self._missed = 0  # beacons in a row
        self._expected: int | None = None  # the beacon whose window has not yet brought anything, nor nothing

    def forget(self) -> None:
        """The session is over, or power was lost."""
        self._timers.kernel.cancel(self._searching)
        self._searching = self._expected = None
        self.locked = False
        self._missed = 0

    def before_uplink(self, state: MacState, *, knows_time: bool) -> None:
        """What is needed for class B is asked for until it is there."""
        if not knows_time and not self.locked:
            state.ask_time()
        if not state.ping_slots_agreed:
            state.ask_ping_slots(self._periodicity)

    def look(
        self,
        state: MacState,
        gps_offset_ns: int | None,
        dev_addr: int,
        groups: Sequence[tuple[int, int]],
    ) -> None:
        """Begin to search, once time and slots are known; `groups`: their addresses and periodicities."""
        self._addresses = ((dev_addr, self._periodicity), *groups)
        if self._searching is not None or gps_offset_ns is None or not state.ping_slots_agreed:
            return
        gps_ms = (self._timers.kernel.now_ns + gps_offset_ns) // MS
        following_s = beacon_before(gps_ms + 2000) + BEACON_PERIOD_MS // 1000
        due_ns = following_s * SECOND_NS + BEACON_DELAY_MS * MS - gps_offset_ns
        self._await_beacon(following_s, due_ns, self._timers.kernel.now_ns, SEARCH_NS)

    # -- the beacon ------------------------------------------------------------------------------------

    def _await_beacon(self, beacon_s: int, due_ns: int, since_ns: int, error_ns: int) -> None:
        """Listen for the beacon of that time; the device has counted since `since_ns`."""
        own_ns = self._exchange.by_own_clock(since_ns, due_ns)

        def listen() -> None:
            plan = self._plan()
            if plan is None or self._exchange.busy:
                self._no_beacon(beacon_s, own_ns)
                return
            size = len(beacon.BeaconFrame(0).encode(plan.modulation.sf))
            settings = Settings(
                plan.beacon_freq_hz(beacon_s),
                plan.modulation,
                crc=False,
                preamble=beacon.PREAMBLE,
                implicit_header=True,
                payload_length=size,
            )
            self._expected = beacon_s
            self._exchange.window(
                settings,
                receive_window(plan.modulation, error_ns),
                own_ns,
                lambda packet: self._beacon(beacon_s, own_ns, plan.modulation, size, packet),
            )
            self._timers.at(own_ns + SECOND_NS, lambda: self._gave_way(beacon_s, own_ns))

        self._searching = self._timers.at(max(self._timers.kernel.now_ns, own_ns - AHEAD_NS), listen)

    def _beacon(
        self, beacon_s: int, due_ns: int, modulation: LoRaModulation, size: int, packet: Packet | None
    ) -> None:
        """What the window brought."""
        self._expected = None
        try:
            if packet is None:
                raise FrameError("nothing came")
            found = beacon.decode(packet.payload, modulation.sf)
        except FrameError:
            self._no_beacon(beacon_s, due_ns)
            return
        if found.time_s != beacon_s % (1 << 32):
            self._no_beacon(beacon_s, due_ns)
            return
        self._counters.beacons += 1
        self._missed = 0
        airtime_ns = 1000 * airtime_us(
            modulation, size, preamble=beacon.PREAMBLE, crc=False, implicit_header=True
        )
        heard_ns = self._timers.kernel.now_ns - rx_done_latency_ns(modulation.sf, modulation.bw_hz)
        start_ns = heard_ns - airtime_ns
        before, self.locked = self.locked, True
        self._go_on(beacon_s, start_ns)
        if not before:
            self._changed()

    def _gave_way(self, beacon_s: int, due_ns: int) -> None:
        """The window was closed for an uplink that came in between."""
        if self._expected == beacon_s:
            self._expected = None
            self._no_beacon(beacon_s, due_ns)

    def _no_beacon(self, beacon_s: int, due_ns: int) -> None:
        self._counters.beacons_missed += 1
        self._missed += 1
        if self.locked and self._missed <= MOST_MISSED:
            self._go_on(beacon_s, due_ns)
            return
        before = self.locked
        self.forget()
        if before:
            self._changed()

    def _go_on(self, beacon_s: int, start_ns: int) -> None:
        """A beacon period has begun at `start_ns`, by all the device knows."""
        self._plan_slots(beacon_s, start_ns)
        error_ns = KEPT_NS + self._missed * DRIFT_NS
        following_s = beacon_s + BEACON_PERIOD_MS // 1000
        self._await_beacon(following_s, start_ns + PERIOD_NS, start_ns, error_ns)

    # -- ping slots ------------------------------------------------------------------------------------

    def _plan_slots(self, beacon_s: int, start_ns: int) -> None:
        """The first slot of each address in this period; each window sees to the next."""
        for dev_addr, periodicity in self._addresses:
            first = ping_offset(beacon_s, dev_addr, periodicity)
            self._await_slot(beacon_s, start_ns, dev_addr, first, ping_period(periodicity))

    def _await_slot(self, beacon_s: int, start_ns: int, dev_addr: int, slot: int, period: int) -> None:
        offset_ns = (BEACON_RESERVED_MS + slot * SLOT_MS) * MS
        due_ns = self._exchange.by_own_clock(start_ns, start_ns + offset_ns)

        def listen() -> None:
            plan = self._plan()
            if not self.locked or plan is None or dev_addr not in {addr for addr, _ in self._addresses}:
                return
            if slot + period < SLOTS:
                self._await_slot(beacon_s, start_ns, dev_addr, slot + period, period)
            if self._exchange.busy:
                return  # an uplink, or its answer, comes first
            told = self._exchange.mac.ping_slot
            own = dev_addr == self._addresses[0][0]
            freq_hz, modulation = plan.ping_slot(
                dev_addr, beacon_s, (told.freq_hz, told.data_rate) if told is not None and own else None
            )
            settings = Settings(freq_hz, modulation, iq_inverted=True, crc=False)
            window = receive_window(modulation, KEPT_NS + self._missed * DRIFT_NS)
            self._exchange.window(settings, window, due_ns, self._heard)

        at_ns = due_ns - AHEAD_NS
        if at_ns > self._timers.kernel.now_ns:
            self._timers.at(at_ns, listen)
        elif slot + period < SLOTS:
            self._await_slot(beacon_s, start_ns, dev_addr, slot + period, period)

    def _heard(self, packet: Packet | None) -> None:
        if packet is not None:
            self._exchange.overhear(packet)

    def _plan(self) -> ClassBPlan | None:
        return ClassBPlan.of(self._region, self._exchange.mac.beacon_hz)
