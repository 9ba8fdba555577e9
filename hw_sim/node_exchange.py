"""A frame on its way out and the windows that follow it: channels, duty cycle, radio, clock. Event-driven.

What goes out and what comes in is the `node`'s matter: `take` gets each packet with the number of its window and says
whether it was for the device, which ends the wait; `over` is called when the windows are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from hw_sim.kernel import Event, Kernel
from hw_sim.node_channels import Channel
from hw_sim.node_config import NodeConfig
from hw_sim.node_duty import NodeDuty
from hw_sim.node_join import Request
from hw_sim.node_log import NodeCounters
from hw_sim.node_mac import MacState
from hw_sim.node_radio import NodeRadio, Window, receive_window
from hw_sim.sx1276 import SX1276
from radio.lora import LoRaModulation, airtime_us
from radio.regions import Region
from radio.sx127x.chip import Packet
from radio.sx127x.registers import Power, Settings

SECOND_NS: Final = 1_000_000_000
JOIN_DELAYS_S: Final = (5, 6)


@dataclass(slots=True, kw_only=True)
class Outgoing:
    """The frame under way, through all its repetitions."""

    frame: Callable[[Channel, int], bytes]  # the bytes of one repetition, by its channel and data rate
    tries_left: int
    confirmed: bool = False
    request: Request | None = None  # a join- or rejoin-request
    fixed_dr: int | None = None  # in place of the session's
    dr: int = 0
    channel: Channel | None = None
    phy: bytes = b""
    due_ns: tuple[int, int] = (0, 0)  # the instants of RX1 and RX2
    waiting: bool = False  # sent, and its windows are not over
    acked: bool = False  # by a frame outside the two windows (class C)
    answered: bool = False  # the same, without an ACK


class Timers:
    """Things to do later, all forgotten when the device loses its power."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._life = 0

    def after_s(self, seconds: float, fn: Callable[[], None]) -> Event:
        return self.at(self.kernel.now_ns + round(seconds * SECOND_NS), fn)

    def at(self, t_ns: int, fn: Callable[[], None]) -> Event:
        life = self._life

        def run() -> None:
            if life == self._life:
                fn()

        return self.kernel.at(t_ns, run)

    def forget(self) -> None:
        self._life += 1


class Exchange:
    """The radio of one device and its use, one uplink at a time."""

    def __init__(
        self,
        timers: Timers,
        chip: SX1276,
        config: NodeConfig,
        region: Region,
        counters: NodeCounters,
        rng: Random,
        *,
        take: Callable[[Packet, int], bool],
        over: Callable[[], None],
    ) -> None:
        self.radio = NodeRadio(timers.kernel, chip)
        self.duty = NodeDuty(region)
        self.uplink: Outgoing | None = None
        self.always_on = False  # class C, once there is a session
        self._sending = False
        self.mac: MacState  # the session's; set by its device
        self._kernel = timers.kernel
        self._timers = timers
        self._chip = chip
        self._config = config
        self._counters = counters
        self._rng = rng
        self._take = take
        self._over = over

    @property
    def busy(self) -> bool:
        """Is a frame on its way out, or are its windows not over?"""
        return self._sending or (self.uplink is not None and self.uplink.waiting)

    def power_off(self) -> None:
        """At once, in the middle of whatever it was."""
        self.uplink = None
        self._sending = False
        self.always_on = False
        self.radio.power_off()

    def send(self) -> None:
        """Send `uplink` on a channel drawn from those that are free, or wait for the first to be."""
        uplink, now = self.uplink, self._kernel.now_ns
        if uplink is None:
            return  # switched off meanwhile
        dr = self.mac.dr if uplink.fixed_dr is None else uplink.fixed_dr
        channels = self.mac.table.usable(dr)
        free = [each for each in channels if self.duty.free_from(each.freq_hz) <= now]
        if not free:
            soonest_ns = min(self.duty.free_from(each.freq_hz) for each in channels)
            self._timers.at(soonest_ns + self._rng.randrange(SECOND_NS), self.send)
            return
        uplink.channel, uplink.dr = self._rng.choice(free), dr
        uplink.tries_left -= 1
        uplink.phy = uplink.frame(uplink.channel, dr)
        self.transmit(uplink.phy, uplink.channel, dr, uplink)

    def transmit(self, phy: bytes, channel: Channel, dr: int, uplink: Outgoing | None = None) -> None:
        """Put a frame on the air now; without `uplink` nothing waits for an answer."""
        modulation = self.mac.region.uplink_data_rates[dr]
        airtime = airtime_us(modulation, len(phy))
        self._counters.airtime_us += airtime
        low, high = Power.limits(pa_boost=True)
        power = Power(max(low, min(high, round(self.mac.eirp_dbm))))

        self._sending = True

        def sent(end_ns: int) -> None:
            self._sending = False
            join = uplink is not None and uplink.request is not None
            max_duty = self.mac.max_duty
            self.duty.book(channel.freq_hz, end_ns, airtime * 1000, max_duty=max_duty, join=join)
            if uplink is None:
                self.keep_open()
            else:
                self._await_downlink(uplink, end_ns)

        self._tune_crystal()
        self.radio.transmit(Settings(channel.freq_hz, modulation), power, phy, sent)

    # -- two windows -----------------------------------------------------------------------------------

    def _await_downlink(self, uplink: Outgoing, end_ns: int) -> None:
        delay_s = self.mac.rx_delay_s
        first_s, second_s = JOIN_DELAYS_S if uplink.request is not None else (delay_s, delay_s + 1)
        uplink.due_ns = end_ns + first_s * SECOND_NS, end_ns + second_s * SECOND_NS
        uplink.waiting, uplink.acked, uplink.answered = True, False, False
        assert uplink.channel is not None
        where = self.mac.rx1(uplink.channel, uplink.dr)
        self.keep_open()
        self._open(uplink.due_ns[0], end_ns, where, lambda packet: self._after_rx1(uplink, end_ns, packet))

    def _after_rx1(self, uplink: Outgoing, end_ns: int, packet: Packet | None) -> None:
        if packet is not None and self._take(packet, 1):
            self._end(uplink)
            return
        if uplink.due_ns[1] - SECOND_NS // 4 < self._kernel.now_ns:  # a foreign frame filled the time between
            self._end(uplink)
        elif self.always_on:
            self.keep_open()
            self._timers.at(uplink.due_ns[1] + SECOND_NS // 2, lambda: self._listened_through(uplink))
        else:
            where = self.mac.rx2()
            self._open(uplink.due_ns[1], end_ns, where, lambda packet: self._after_rx2(uplink, packet))

    def _after_rx2(self, uplink: Outgoing, packet: Packet | None) -> None:
        if packet is not None:
            self._take(packet, 2)
        self._end(uplink)

    def _listened_through(self, uplink: Outgoing) -> None:
        """Class C: the second window was only a part of listening; a frame that began in it may still run."""
        if self.radio.receiving:
            self._timers.after_s(0.1, lambda: self._listened_through(uplink))
        else:
            self._end(uplink)

    def _end(self, uplink: Outgoing) -> None:
        if uplink is self.uplink and uplink.waiting:
            uplink.waiting = False
            self.keep_open()
            self._over()

    def _open(
        self,
        due_ns: int,
        end_ns: int,
        where: tuple[int, LoRaModulation],
        heard: Callable[[Packet | None], None],
    ) -> None:
        """Open a window by the device's own clock, which has counted from `end_ns`."""
        freq_hz, modulation = where
        own_ns = self.by_own_clock(end_ns, due_ns) + round(self._config.rx_late_ms * 1e6)
        self._tune_crystal()
        window = receive_window(modulation, round(self._config.rx_error_ms * 1e6))
        self._counters.windows += 1

        def count(packet: Packet | None) -> None:
            self._counters.silent += packet is None
            heard(packet)

        settings = Settings(freq_hz, modulation, iq_inverted=True, crc=False)
        self.radio.listen(settings, window, own_ns, count)

    def by_own_clock(self, since_ns: int, due_ns: int) -> int:
        """When the device takes it for `due_ns`, having counted since then: a fast clock is through early."""
        now_s = self._kernel.now_ns / SECOND_NS
        ppm = self._config.clock.ppm_at(now_s, self._config.climate.at(now_s))
        return since_ns + round((due_ns - since_ns) * (1 - ppm * 1e-6))

    def keep_open(self) -> None:
        """Class C: listen where RX2 is, from now until the next frame or window."""
        if self.always_on:
            freq_hz, modulation = self.mac.rx2()
            self._tune_crystal()
            settings = Settings(freq_hz, modulation, iq_inverted=True, crc=False)
            self.radio.listen_on(settings, self.overhear)

    def overhear(self, packet: Packet) -> None:
        """A frame came outside the two windows."""
        self._take(packet, 0)

    def window(
        self, settings: Settings, window: Window, due_ns: int, heard: Callable[[Packet | None], None]
    ) -> None:
        """Listen somewhere else for once, while nothing is under way (class B)."""
        self._tune_crystal()
        self.radio.listen(settings, window, due_ns, heard)

    def _tune_crystal(self) -> None:
        """The radio's crystal is as far off as its temperature says."""
        now_s = self._kernel.now_ns / SECOND_NS
        self._chip.crystal_ppm = self._config.crystal.ppm_at(now_s, self._config.climate.at(now_s))
