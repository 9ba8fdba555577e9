"""A concentrator on the simulated air, as an SX1302 with its reference packet forwarder's rules. Event-driven.

Eight channels of 125 kHz that hear every spreading factor at once, one wider channel of a single one, and fewer
demodulators than frames could come at a time. Frames leave as `RxPacket` with the time of their last symbol by a
microsecond counter; orders come as `TxPacket`, are queued or refused at once, and while one is sent nothing is heard.
It hears by the same air as the chips do. The JSON and UDP side of it is `forwarder`.
"""

from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from hw_sim.air import Air
from hw_sim.kernel import Event, Kernel
from hw_sim.links import Station
from hw_sim.modem import Listening, Packet
from hw_sim.phy import Waveform
from radio.gwmp import U32, RxPacket, TxError, TxPacket
from radio.lora import LoRaModulation, airtime_us
from radio.regions import Region

US: Final = 1_000
SECOND_NS: Final = 1_000_000_000
SYNC_WORD: Final = 0x34  # of public LoRaWAN networks
SPREADING_FACTORS: Final = range(7, 13)
SX1302_DEMODULATORS: Final = 16
MAX_CHANNELS: Final = 8
# The reference forwarder's queue (sx1302_hal, jitqueue), microseconds.
CAPACITY: Final = 32
START_DELAY_US: Final = 1_500
MARGIN_US: Final = 1_000
JIT_DELAY_US: Final = 40_000
MAX_ADVANCE_US: Final = 4 * 128 * 1_000_000
MAX_WAITING: Final = 255  # frames between two fetches; the chip's buffer holds no more
DEFAULT_PREAMBLE: Final = 8
MAX_LENGTH: Final = 255
# Uplink channels that networks of a region usually add to its default ones, so that there are eight.
_FURTHER_HZ: Final = {
    "EU868": tuple(range(867_100_000, 868_000_000, 200_000)),
    "IN865": (865_232_500, 865_572_500, 866_185_000, 866_385_000, 866_785_000),
    "KR920": tuple(range(922_700_000, 923_700_000, 200_000)),
    "EU433": tuple(range(433_775_000, 434_600_000, 200_000)),
}
_FIXED_SUB_BAND: Final = 1  # channels 8 to 15 and 65, as most networks of such a region have it


@dataclass(frozen=True, slots=True)
class WideChannel:
    """The channel beside the eight: one spreading factor, 250 or 500 kHz."""

    freq_hz: int
    modulation: LoRaModulation


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcentratorPlan:
    """What a concentrator is made of and tuned to. Raises ValueError."""

    channels_hz: tuple[int, ...]
    wide: WideChannel | None = None
    demodulators: int = SX1302_DEMODULATORS
    fetch_us: int = 10_000  # how often its host looks for frames
    full_duplex: bool = False  # it hears while it sends
    crc_errors: bool = False  # frames heard damaged go on as well, with `stat` -1
    tx_band_hz: tuple[int, int] | None = None  # None: sends on any frequency
    max_power_dbm: int = 27
    counter_us: int = 0  # where its counter stands at the beginning
    counter_ppm: float = 0.0
    gps_ms: int | None = None  # GPS time at the beginning; None: it has none

    def __post_init__(self) -> None:
        if not 1 <= len(set(self.channels_hz)) == len(self.channels_hz) <= MAX_CHANNELS:
            raise ValueError(f"a concentrator has 1 to {MAX_CHANNELS} different channels")
        if self.demodulators < 1:
            raise ValueError("a concentrator has at least one demodulator")
        if self.fetch_us < 0:
            raise ValueError("fetch_us is no time")


def plan_for(region: Region, sub_band: int = _FIXED_SUB_BAND) -> ConcentratorPlan:
    """The channels that a concentrator in this region usually has; `sub_band` counts from 0, in fixed plans only."""
    if not region.fixed_plan:
        own = region.uplink_channels()
        below = tuple(own[0] - 200_000 * step for step in range(1, MAX_CHANNELS))  # AS923 and its shifted kin
        further = [
            hz for hz in _FURTHER_HZ.get(region.name, below) if region.band_hz[0] <= hz <= region.band_hz[1]
        ]
        return ConcentratorPlan(channels_hz=(*own, *further)[:MAX_CHANNELS])
    channels = region.uplink_channels()
    narrow = channels[MAX_CHANNELS * sub_band :][:MAX_CHANNELS]
    first_wide = len(channels) - region.channel_mask.wide
    broad = next((m for m in region.uplink_data_rates.values() if m.bw_hz == 500_000), None)
    if sub_band < 0 or len(narrow) < MAX_CHANNELS or not region.channel_mask.wide or broad is None:
        return ConcentratorPlan(channels_hz=narrow or channels[:MAX_CHANNELS])
    return ConcentratorPlan(channels_hz=narrow, wide=WideChannel(channels[first_wide + sub_band], broad))


@dataclass(frozen=True, slots=True)
class Ack:
    """The forwarder's answer to an order."""

    error: TxError
    power_dbm: int | None = None  # sent with this EIRP, as what was asked is beyond it


@dataclass(eq=False, slots=True)
class _Order:
    """A frame in the queue, until it has left."""

    count_us: int  # not wrapped
    airtime_us: int
    packet: TxPacket
    power_dbm: int

    @property
    def end_us(self) -> int:
        return self.count_us + self.airtime_us


@dataclass(eq=False, slots=True)
class _Chain:
    """One channel and spreading factor: a `Receiver` of the air."""

    channel: int
    hear: Callable[["_Chain", Packet], None]
    listening: Listening | None = None

    def preamble_locked(self) -> None:
        """Nothing that a host could see."""

    def lock_lost(self) -> None:
        """Nor this."""

    def header_received(self, length: int, coding_rate: int) -> bool:
        return True

    def rx_done_latency_ns(self) -> int:
        return 0  # its time stamps are corrected for what demodulation takes

    def packet_received(self, packet: Packet) -> None:
        self.hear(self, packet)


@dataclass(slots=True)
class ConcentratorCounters:
    """Since the start."""

    received: int = 0  # frames with a good CRC
    crc_errors: int = 0
    no_demodulator: int = 0  # frames that came while all demodulators were busy
    overflow: int = 0  # frames that the host did not fetch in time
    sent: int = 0
    refused: Counter[TxError] = field(default_factory=Counter)


class SimConcentrator:
    """One concentrator. `on_frames` gets what the host finds when it looks, as often as there is something."""

    def __init__(
        self,
        kernel: Kernel,
        air: Air,
        name: str,
        plan: ConcentratorPlan,
        on_frames: Callable[[tuple[RxPacket, ...]], None] = lambda _frames: None,
        *,
        x_m: float = 0.0,
        y_m: float = 0.0,
        antenna_gain_dbi: float = 0.0,
        group: str | None = None,
    ) -> None:
        """Raises KernelError for a second one of that name on the air."""
        self.kernel = kernel
        self.air = air
        self.name = name
        self.plan = plan
        self.on_frames = on_frames
        self.counters = ConcentratorCounters()
        self.station = self._new_station(_Chain(-1, self._hear), x_m, y_m, antenna_gain_dbi, group)
        self._chains: dict[tuple[int, int], Station] = {}  # by channel and spreading factor
        self._queue: list[_Order] = []
        self._waiting: deque[RxPacket] = deque(maxlen=MAX_WAITING)
        self._fetch: Event | None = None
        air.add_bank(self)
        self._listen()

    def _new_station(
        self, chain: _Chain, x_m: float, y_m: float, antenna_gain_dbi: float, group: str | None
    ) -> Station:
        return Station(self.name, x_m, y_m, antenna_gain_dbi, group, chip=chain, bank=self)

    # -- time ----------------------------------------------------------------------------------------

    @property
    def now_us(self) -> int:
        """Its counter, without the wrap at 32 bits."""
        return self._count_us(self.kernel.now_ns)

    def _count_us(self, t_ns: int) -> int:
        return self.plan.counter_us + round(t_ns * (1 + self.plan.counter_ppm * 1e-6)) // US

    def _kernel_ns(self, count_us: int) -> int:
        return round((count_us - self.plan.counter_us) * US / (1 + self.plan.counter_ppm * 1e-6))

    def gps_ms(self, t_ns: int) -> int | None:
        """GPS time, milliseconds; None where it has none."""
        return None if self.plan.gps_ms is None else self.plan.gps_ms + t_ns // 1_000_000

    # -- what the air asks (`hw_sim.links.Bank`) -------------------------------------------------------

    def stations(self) -> Iterable[Station]:
        return self._chains.values()

    def station_for(self, wave: Waveform) -> Station:
        channel = self._channel_of(wave)
        if channel is None or wave.iq_inverted:
            return self.station
        key = channel, wave.modulation.sf
        station = self._chains.get(key)
        if station is None:
            own = self.station
            chain = _Chain(channel, self._hear)
            station = self._new_station(chain, own.x_m, own.y_m, own.antenna_gain_dbi, own.group)
            self._chains[key] = station
            if self.listening:
                chain.listening = self._listening_to(chain, wave.modulation.sf)
        return station

    def has_room(self, station: Station) -> bool:
        assert isinstance(station.chip, _Chain)
        if self._is_wide(station.chip.channel):  # it has a demodulator of its own
            return True
        busy = sum(
            other.lock is not None
            for (channel, _), other in self._chains.items()
            if not self._is_wide(channel)
        )
        self.counters.no_demodulator += busy >= self.plan.demodulators
        return busy < self.plan.demodulators

    def _channel_of(self, wave: Waveform) -> int | None:
        mod = wave.modulation
        wide = self.plan.wide
        if wide is not None and (mod.sf, mod.bw_hz) == (wide.modulation.sf, wide.modulation.bw_hz):
            return len(self.plan.channels_hz) if abs(wave.freq_hz - wide.freq_hz) <= mod.bw_hz / 4 else None
        if mod.bw_hz != 125_000 or mod.sf not in SPREADING_FACTORS:
            return None
        for number, freq_hz in enumerate(self.plan.channels_hz):
            if abs(wave.freq_hz - freq_hz) <= mod.bw_hz / 4:
                return number
        return None

    def _is_wide(self, channel: int) -> bool:
        return channel == len(self.plan.channels_hz)

    # -- receiving -----------------------------------------------------------------------------------

    @property
    def listening(self) -> bool:
        """Does it hear at all?"""
        return self.station.chip.listening is not None

    def _listen(self) -> None:
        """Everything on."""
        self.station.chip.listening = self._listening_to(None, 12)
        for (_, sf), station in self._chains.items():
            assert isinstance(station.chip, _Chain)
            station.chip.listening = self._listening_to(station.chip, sf)
        self.air.listen_bank(self)

    def _deafen(self) -> None:
        for station in (self.station, *self._chains.values()):
            station.chip.listening = None
        self.air.unlisten_bank(self)

    def _listening_to(self, chain: _Chain | None, sf: int) -> Listening:
        """What a chain waits for; without one, a frequency on which nobody sends."""
        modulation = LoRaModulation(sf, 125_000)
        freq_hz = 0
        if chain is not None and self.plan.wide is not None and self._is_wide(chain.channel):
            freq_hz, modulation = self.plan.wide.freq_hz, self.plan.wide.modulation
        elif chain is not None:
            freq_hz = self.plan.channels_hz[chain.channel]
        wave = Waveform(
            freq_hz=freq_hz,
            modulation=modulation,
            ldro=modulation.low_data_rate_optimize,
            implicit_header=False,
            crc=True,
            iq_inverted=False,
            sync_word=SYNC_WORD,
            preamble=DEFAULT_PREAMBLE,
            length=0,
            hop_period=0,
        )
        return Listening(wave, self.kernel.now_ns, detector_fits=True, loss_db=0.0, max_length=MAX_LENGTH)

    def _hear(self, chain: _Chain, packet: Packet) -> None:
        """The last symbol of a frame."""
        damaged = packet.crc_present and not packet.crc_good
        self.counters.crc_errors += damaged
        self.counters.received += not damaged
        if damaged and not self.plan.crc_errors:
            return
        listening = chain.listening
        assert listening is not None
        now_ns = self.kernel.now_ns
        if len(self._waiting) == MAX_WAITING:
            self.counters.overflow += 1
        self._waiting.append(
            RxPacket(
                tmst=self._count_us(now_ns) % U32,
                freq_hz=round(listening.wave.freq_hz),
                chan=chain.channel,
                rfch=chain.channel * 2 // MAX_CHANNELS % 2,
                stat=-1 if damaged else 1 if packet.crc_present else 0,
                modulation=listening.wave.modulation,
                rssi_dbm=round(packet.rssi_dbm),
                lsnr_db=round(packet.snr_db, 1),
                data=packet.payload,
                foff_hz=round(packet.freq_error_hz),
                tmms=self.gps_ms(now_ns),
            )
        )
        if self._fetch is None:
            period_ns = self.plan.fetch_us * US
            at_ns = now_ns if not period_ns else -(-now_ns // period_ns) * period_ns
            self._fetch = self.kernel.at(at_ns, self._hand_over)

    def _hand_over(self) -> None:
        self._fetch = None
        frames = tuple(self._waiting)
        self._waiting.clear()
        self.on_frames(frames)

    # -- sending -------------------------------------------------------------------------------------

    def order(self, packet: TxPacket) -> Ack:
        """Take an order or refuse it, by the rules of the reference forwarder; never later than now."""
        ack = self._take(packet)
        if ack.error is not TxError.NONE:
            self.counters.refused[ack.error] += 1
        return ack

    def _take(self, packet: TxPacket) -> Ack:
        band = self.plan.tx_band_hz
        if band is not None and not band[0] <= packet.freq_hz <= band[1]:
            return Ack(TxError.TX_FREQ)
        airtime = self._airtime_us(packet)
        now_us = self.now_us
        if packet.imme:
            count_us = self._first_gap_us(now_us + 2 * JIT_DELAY_US, airtime)
        elif packet.tmst is not None:
            count_us = now_us + (packet.tmst - now_us) % U32  # one that is past comes again in an hour
        else:
            if packet.tmms is None or self.plan.gps_ms is None:
                return Ack(TxError.GPS_UNLOCKED)
            count_us = self._count_us((packet.tmms - self.plan.gps_ms) * 1_000_000)
        ahead_us = (count_us - now_us) % U32
        if ahead_us <= START_DELAY_US + MARGIN_US + JIT_DELAY_US:
            return Ack(TxError.TOO_LATE)
        if ahead_us > MAX_ADVANCE_US:
            return Ack(TxError.TOO_EARLY)
        if len(self._queue) >= CAPACITY or any(
            _collide(count_us, airtime, other.count_us, other.airtime_us) for other in self._queue
        ):
            return Ack(TxError.COLLISION_PACKET)
        power_dbm = min(packet.powe_dbm, self.plan.max_power_dbm)
        order = _Order(count_us, airtime, packet, power_dbm)
        insort(self._queue, order, key=lambda each: each.count_us)
        at_ns = max(self.kernel.now_ns, self._kernel_ns(count_us))
        self.kernel.at(at_ns, lambda: self._send(order))
        return Ack(TxError.NONE, power_dbm if power_dbm < packet.powe_dbm else None)

    def _first_gap_us(self, from_us: int, airtime: int) -> int:
        """The first moment from there on that no order in the queue takes."""
        count_us = from_us
        for other in self._queue:
            if _collide(count_us, airtime, other.count_us, other.airtime_us):
                count_us = other.end_us + START_DELAY_US + MARGIN_US + JIT_DELAY_US
        return count_us

    @staticmethod
    def _airtime_us(packet: TxPacket) -> int:
        return airtime_us(
            packet.modulation,
            len(packet.data),
            preamble=packet.preamble or DEFAULT_PREAMBLE,
            crc=not packet.ncrc,
            implicit_header=packet.nhdr,
        )

    def _send(self, order: _Order) -> None:
        packet, modulation = order.packet, order.packet.modulation
        wave = Waveform(
            freq_hz=packet.freq_hz,
            modulation=modulation,
            ldro=modulation.low_data_rate_optimize,
            implicit_header=packet.nhdr,
            crc=not packet.ncrc,
            iq_inverted=packet.ipol,
            sync_word=SYNC_WORD,
            preamble=packet.preamble or DEFAULT_PREAMBLE,
            length=len(packet.data),
            hop_period=0,
        )
        if not self.plan.full_duplex:
            self._deafen()
        self.kernel.after(wave.airtime_ns(), lambda: self._sent(order))
        self.counters.sent += 1
        self.air.launch(self.station, wave, packet.data, order.power_dbm - self.station.antenna_gain_dbi)

    def _sent(self, order: _Order) -> None:
        self._queue.remove(order)
        if not self.plan.full_duplex:
            self._listen()


def _collide(a_us: int, a_airtime_us: int, b_us: int, b_airtime_us: int) -> bool:
    """Whether the later frame would begin before the earlier one is over and the next one prepared."""
    if a_us > b_us:
        a_us, a_airtime_us, b_us = b_us, b_airtime_us, a_us
    return b_us < a_us + a_airtime_us + START_DELAY_US + MARGIN_US + JIT_DELAY_US
