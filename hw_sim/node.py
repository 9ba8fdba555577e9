"""A LoRaWAN 1.0.x class A device on a chip of its own: joins, measures, sends, and listens in its two windows.

Event-driven on the kernel. The radio is `node_radio`, the MAC layer `node_mac`; what is here is the order of
things: one uplink at a time, with its repetitions and windows, then rest until the next.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.lorawan import frames, mac
from gateway.lorawan.crypto import SessionCrypto, SessionKeys, derive_session_keys
from gateway.lorawan.errors import FrameError, MacError
from gateway.lorawan.types import DevAddr
from hw_sim.kernel import Event, Kernel
from hw_sim.node_config import DevNonceMode, NodeConfig
from hw_sim.node_duty import NodeDuty
from hw_sim.node_mac import Channel, MacState
from hw_sim.node_radio import NodeRadio, receive_window
from hw_sim.payloads import Signals, encode
from hw_sim.records import Fate, FrameRecord
from hw_sim.sx1276 import SX1276
from radio.lora import LoRaModulation, airtime_us
from radio.regions import get_region
from radio.sx127x.chip import Packet
from radio.sx127x.registers import Power, Settings

SECOND_NS: Final = 1_000_000_000
JOIN_DELAYS_S: Final = (5, 6)
ACK_TIMEOUT_S: Final = (1.0, 3.0)  # after the second window (RP002: 2 +- 1 s)
CONFIRMED_TRIES: Final = 8
NEAR_NS: Final = SECOND_NS // 2  # a downlink this far off was still meant for that window
KEPT: Final = 1_000


@dataclass(slots=True)
class NodeCounters:
    """Since the start."""

    joins: int = 0
    join_requests: int = 0
    uplinks: int = 0  # new ones, each with an FCnt of its own
    retransmissions: int = 0
    confirmed: int = 0  # of the uplinks
    acks: int = 0
    unacknowledged: int = 0  # confirmed uplinks given up
    downlinks: int = 0  # verified, join-accepts not counted
    refused: int = 0  # heard in a window and not for this device, damaged or replayed
    windows: int = 0  # opened
    silent: int = 0  # windows in which nothing came
    missed: int = 0  # downlinks that were on the air for this device and that it did not get
    airtime_us: int = 0


@dataclass(frozen=True, slots=True)
class DownlinkStart:
    """How exactly a received downlink began."""

    window: int  # 1 or 2
    error_ns: int  # its first symbol minus the instant it was due; negative: early
    modulation: LoRaModulation


@dataclass(frozen=True, slots=True)
class Received:
    """A verified downlink."""

    fport: int | None
    payload: bytes
    confirmed: bool
    ack: bool
    window: int


@dataclass(slots=True)
class _Uplink:
    """The frame under way, through all its repetitions."""

    phy: bytes
    tries_left: int
    confirmed: bool = False
    join: bool = False
    dr: int = 0
    channel: Channel | None = None
    due_ns: tuple[int, int] = (0, 0)  # the instants of RX1 and RX2


@dataclass(slots=True)
class _Session:
    dev_addr: DevAddr
    crypto: SessionCrypto
    fcnt_up: int = 0
    last_fcnt_down: int | None = None


@dataclass(slots=True)
class _Log:
    """What tests and tools look at; bounded."""

    starts: deque[DownlinkStart] = field(default_factory=lambda: deque(maxlen=KEPT))
    received: deque[Received] = field(default_factory=lambda: deque(maxlen=KEPT))


class Node:
    """One device. `start` it once; everything else happens in kernel events."""

    def __init__(
        self,
        kernel: Kernel,
        chip: SX1276,
        config: NodeConfig,
        *,
        place_deg: tuple[float, float] = (52.52, 13.405),
        boot: int = 0,
    ) -> None:
        """`boot` counts earlier lives, so that nonces and, for ABP, FCntUp are not used twice."""
        self.config = config
        self.counters = NodeCounters()
        self.chip = chip
        self._kernel = kernel
        self._radio = NodeRadio(kernel, chip)
        self._region = get_region(config.region)
        self._rng = kernel.rng(f"node/{config.name}")
        self._nonces = kernel.rng(f"node/{config.name}/nonces/{boot}")
        self._next_nonce = boot << 8 & 0xFFFF
        self._signals = Signals(kernel.rng(f"node/{config.name}/signals"), *place_deg)
        self._duty = NodeDuty(self._region)
        self._mac = self._new_mac()
        self._session: _Session | None = None
        self._uplink: _Uplink | None = None
        self._ack_owed = False
        self._stopped = False
        self._asked = 0  # uplinks that something else than the device's own interval wants
        self._resting: Event | None = None
        self._in_burst = config.burst - 1  # uplinks still to follow in the present burst
        self._taken = b""  # the downlink accepted last
        self._log = _Log()
        if config.dev_addr is not None and config.nwk_s_key is not None and config.app_s_key is not None:
            keys = SessionKeys.of_1_0(config.nwk_s_key, config.app_s_key)
            crypto = SessionCrypto(config.dev_addr, keys)
            self._session = _Session(config.dev_addr, crypto, fcnt_up=boot << 10)

    @property
    def joined(self) -> bool:
        return self._session is not None

    @property
    def mac(self) -> MacState:
        """What the session has agreed with the network."""
        return self._mac

    @property
    def fcnt_up(self) -> int:
        """Of the next uplink."""
        return self._session.fcnt_up if self._session else 0

    @property
    def starts(self) -> list[DownlinkStart]:
        """Start errors of the downlinks received last."""
        return list(self._log.starts)

    @property
    def received(self) -> list[Received]:
        """The data downlinks received last."""
        return list(self._log.received)

    def start(self) -> None:
        """Power on at `appears_s`; the first frame follows within `first_s`."""
        self._after_s(self.config.appears_s, self._appear)

    def _appear(self) -> None:
        self._radio.start()
        self._after_s(self._rng.uniform(*self.config.first_s), self._act)
        if self.config.vanishes_s is not None:
            self._after_s(self.config.vanishes_s - self.config.appears_s, self.vanish)

    def stop(self) -> None:
        """Send nothing new; what is under way ends as usual."""
        self._stopped = True

    def vanish(self) -> None:
        """Power off, in the middle of a frame if need be."""
        self._stopped = True
        self._uplink = None
        self._radio.power_off()

    def trigger(self) -> None:
        """Something happens: send an uplink now, or right after the one under way."""
        if self._session is None or self._stopped:
            return
        if self._resting is None:
            self._asked += 1
        else:
            self._kernel.cancel(self._resting)
            self._act()

    # -- one uplink after the other ------------------------------------------------------------------

    def _act(self) -> None:
        """Begin an uplink or, without a session, an attempt to join."""
        if self._stopped:
            return
        self._resting = None
        session = self._session
        self._uplink = self._new_join() if session is None else self._new_uplink(session)
        self._send()

    def _new_join(self) -> _Uplink:
        config = self.config
        assert config.app_key is not None
        self.counters.join_requests += 1
        request = frames.build_join_request(
            config.app_key, config.join_eui, config.dev_eui, self._take_nonce()
        )
        return _Uplink(request, tries_left=1, join=True)

    def _take_nonce(self) -> int:
        if self.config.dev_nonce is DevNonceMode.RANDOM:
            self._next_nonce = self._nonces.randrange(1 << 16)
            return self._next_nonce
        nonce = self._next_nonce
        self._next_nonce = nonce + 1 & 0xFFFF
        return nonce

    def _new_uplink(self, session: _Session) -> _Uplink:
        config, counters = self.config, self.counters
        counters.uplinks += 1
        if config.link_check_every and counters.uplinks % config.link_check_every == 0:
            self._mac.ask_link_check()
        wants_answer = self._mac.count_uplink()  # may lower the data rate, so before the payload is made
        confirmed = self._rng.random() < config.confirmed_share
        counters.confirmed += confirmed
        fopts = self._mac.take_fopts()
        room = self._region.max_payload(self._mac.dr) - len(fopts)
        readings = self._signals.sample(self._kernel.now_ns / SECOND_NS)
        phy = frames.build_uplink(
            session.crypto,
            session.dev_addr,
            session.fcnt_up,
            fport=config.fport,
            payload=encode(readings, config.sensors, room),
            fopts=fopts,
            confirmed=confirmed,
            adr=config.adr,
            adr_ack_req=wants_answer,
            ack=self._ack_owed,
        )
        self._ack_owed = False
        return _Uplink(phy, CONFIRMED_TRIES if confirmed else self._mac.nb_trans, confirmed)

    def _send(self) -> None:
        """Send on a channel drawn from those that are free, or wait for the first to be."""
        uplink, now = self._uplink, self._kernel.now_ns
        if uplink is None:
            return  # switched off meanwhile
        channels = self._mac.channels()
        free = [each for each in channels if self._duty.free_from(each.freq_hz) <= now]
        if not free:
            soonest_ns = min(self._duty.free_from(each.freq_hz) for each in channels)
            self._kernel.at(soonest_ns + self._rng.randrange(SECOND_NS), self._send)
            return
        uplink.channel = channel = self._rng.choice(free)
        uplink.dr = self._mac.dr
        uplink.tries_left -= 1
        modulation = self._mac.modulation
        airtime = airtime_us(modulation, len(uplink.phy))
        self.counters.airtime_us += airtime
        settings = Settings(channel.freq_hz, modulation)
        low, high = Power.limits(pa_boost=True)
        power = Power(max(low, min(high, round(self._mac.eirp_dbm))))

        def sent(end_ns: int) -> None:
            self._duty.book(
                channel.freq_hz,
                end_ns,
                airtime * 1000,
                max_duty=self._mac.max_duty,
                join=uplink.join,
            )
            self._await_downlink(uplink, end_ns)

        self._tune_crystal()
        self._radio.transmit(settings, power, uplink.phy, sent)

    # -- two windows -----------------------------------------------------------------------------------

    def _await_downlink(self, uplink: _Uplink, end_ns: int) -> None:
        delay_s = self._mac.rx_delay_s
        first_s, second_s = JOIN_DELAYS_S if uplink.join else (delay_s, delay_s + 1)
        uplink.due_ns = end_ns + first_s * SECOND_NS, end_ns + second_s * SECOND_NS
        assert uplink.channel is not None
        where = self._mac.rx1(uplink.channel, uplink.dr)
        self._open(uplink, 1, end_ns, where, lambda packet: self._after_rx1(uplink, end_ns, packet))

    def _after_rx1(self, uplink: _Uplink, end_ns: int, packet: Packet | None) -> None:
        if self._take(packet, 1):
            return
        where = self._mac.rx2()
        if uplink.due_ns[1] - SECOND_NS // 4 < self._kernel.now_ns:  # a foreign frame filled the time between
            self._nothing_came(uplink)
            return
        self._open(uplink, 2, end_ns, where, lambda packet: self._after_rx2(uplink, packet))

    def _after_rx2(self, uplink: _Uplink, packet: Packet | None) -> None:
        if not self._take(packet, 2):
            self._nothing_came(uplink)

    def _open(
        self,
        uplink: _Uplink,
        number: int,
        end_ns: int,
        where: tuple[int, LoRaModulation],
        heard: Callable[[Packet | None], None],
    ) -> None:
        """Open a window by the device's own clock."""
        freq_hz, modulation = where
        delay_ns = uplink.due_ns[number - 1] - end_ns
        now_s = self._kernel.now_ns / SECOND_NS
        ppm = self.config.clock.ppm_at(now_s, self.config.climate.at(now_s))
        due_ns = end_ns + round(delay_ns * (1 - ppm * 1e-6))  # a fast clock is through early
        self._tune_crystal()
        window = receive_window(modulation, round(self.config.rx_error_ms * 1e6))
        self.counters.windows += 1

        def count(packet: Packet | None) -> None:
            self.counters.silent += packet is None
            heard(packet)

        self._radio.listen(Settings(freq_hz, modulation, iq_inverted=True, crc=False), window, due_ns, count)

    def _take(self, packet: Packet | None, window: int) -> bool:
        """What a window brought; True where it was for this device, which ends the wait."""
        if packet is None:
            return False
        try:
            if self._session is None:
                self._joined(packet)
            else:
                self._downlink(self._session, packet, window)
        except FrameError:
            self.counters.refused += 1
            return False
        self._taken = packet.payload
        return True

    def _nothing_came(self, uplink: _Uplink) -> None:
        """Neither window brought anything: repeat, or give up."""
        if uplink.join:
            self._after_s(self._rng.uniform(*ACK_TIMEOUT_S), self._act)
        elif uplink.tries_left > 0:
            self.counters.retransmissions += 1
            self._after_s(self._rng.uniform(*ACK_TIMEOUT_S) if uplink.confirmed else 0.1, self._send)
        else:
            self.counters.unacknowledged += uplink.confirmed
            self._finish()

    def _finish(self) -> None:
        """This uplink is over, its counter used; rest until the next."""
        assert self._session is not None
        self._session.fcnt_up += 1
        config = self.config
        if self._asked:
            self._asked -= 1
            rest_s = 0.0
        elif self._in_burst:
            self._in_burst -= 1
            rest_s = self._rng.uniform(*config.burst_gap_s)
        else:
            self._in_burst = config.burst - 1
            rest_s = self._rng.uniform(*config.interval_s)
        self._resting = self._kernel.after(round(rest_s * SECOND_NS), self._act)

    def _tune_crystal(self) -> None:
        """The radio's crystal is as far off as its temperature says."""
        now_s = self._kernel.now_ns / SECOND_NS
        self.chip.crystal_ppm = self.config.crystal.ppm_at(now_s, self.config.climate.at(now_s))

    # -- what was heard ----------------------------------------------------------------------------------

    def _joined(self, packet: Packet) -> None:
        """A join-accept. Raises FrameError where it is none for this device."""
        app_key = self.config.app_key
        assert app_key is not None
        accept = frames.open_join_accept(app_key, packet.payload)
        request = frames.parse(self._uplink.phy) if self._uplink else None
        assert isinstance(request, frames.JoinRequest)
        keys = derive_session_keys(app_key, accept.join_nonce, accept.net_id, request.dev_nonce)
        self._session = _Session(accept.dev_addr, SessionCrypto(accept.dev_addr, keys))
        self._mac = state = self._new_mac()
        state.rx1_dr_offset = accept.rx1_dr_offset
        state.rx2_dr = accept.rx2_dr
        state.rx_delay_s = accept.rx_delay_s
        state.add_cflist(accept.cflist)
        self._duty.joined()
        self.counters.joins += 1
        self._after_s(self._rng.uniform(1.0, 3.0), self._act)

    def _downlink(self, session: _Session, packet: Packet, window: int) -> None:
        """A data frame. Raises FrameError where it is none for this device."""
        frame, fcnt, payload = frames.open_downlink(
            session.crypto, session.dev_addr, session.last_fcnt_down, packet.payload
        )
        session.last_fcnt_down = fcnt
        uplink = self._uplink
        assert uplink is not None
        self.counters.downlinks += 1
        self._ack_owed = frame.confirmed
        self._mac.heard(_commands(payload if frame.fport == 0 else frame.fopts), packet.snr_db)
        self._log.received.append(Received(frame.fport, payload, frame.confirmed, frame.ack, window))
        if not uplink.confirmed or frame.ack:
            self.counters.acks += uplink.confirmed
            self._finish()
        else:
            self._nothing_came(uplink)

    def on_air(self, record: FrameRecord) -> None:
        """Every downlink frame of the air, once its fates are known: for the books on exactness and misses."""
        uplink = self._uplink
        if uplink is None or not record.iq_inverted:
            return
        window, error_ns = min(
            ((number, record.start_ns - due_ns) for number, due_ns in enumerate(uplink.due_ns, start=1)),
            key=lambda pair: abs(pair[1]),
        )
        if abs(error_ns) > NEAR_NS or not self._is_for_me(record.payload):
            return
        if record.fate(self.chip.name) is Fate.RECEIVED:
            self._log.starts.append(DownlinkStart(window, error_ns, record.modulation))
        else:
            self.counters.missed += 1

    def _is_for_me(self, phy: bytes) -> bool:
        session, app_key = self._session, self.config.app_key
        if phy == self._taken:
            return True
        try:
            if session is not None:
                frames.open_downlink(session.crypto, session.dev_addr, session.last_fcnt_down, phy)
            elif app_key is not None:
                frames.open_join_accept(app_key, phy)
        except FrameError:
            return False
        return True

    # -- small things --------------------------------------------------------------------------------

    def _new_mac(self) -> MacState:
        config = self.config
        return MacState(self._region, config.dr, adr=config.adr, channels_hz=config.channels_hz)

    def _after_s(self, seconds: float, fn: Callable[[], None]) -> None:
        self._kernel.after(round(seconds * SECOND_NS), fn)


def _commands(data: bytes) -> tuple[mac.Command, ...]:
    """The MAC commands up to the first that cannot be read (5)."""
    try:
        return mac.parse_downlink(data)
    except MacError as error:
        return tuple(error.commands)
