"""The LoRaWAN network server: every frame off the air comes through `NetworkServer.handle`.

Pure: time is an argument, and what must be kept leaves as writes for the caller to commit. In memory the
server is always ahead of the store by what is not yet committed; killed at any moment it starts from the
store, and then takes an uplink again whose writes were lost, never one whose writes were kept.

Nothing is remembered about senders that are not registered. `Downlink`, `Outcome` and the other values are in
`outcome`, and importable from here.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from random import Random, SystemRandom

from gateway.lorawan import store
from gateway.lorawan.answering import Answer, Answerer
from gateway.lorawan.clock import Instant
from gateway.lorawan.crypto import UPLINK
from gateway.lorawan.device import Activation, Device, DeviceConfig, DeviceStatus, Session, status_of
from gateway.lorawan.errors import DeviceExists, FrameError, OrderError, UnknownDevice, UnsupportedFrame
from gateway.lorawan.frames import MAX_FCNT, DataFrame, JoinRequest, MType, next_fcnt, parse
from gateway.lorawan.joining import SAME_MOMENT_NS, Joiner, refusal, refusal_of_unknown
from gateway.lorawan.maclayer import NEVER_NS, MacLayer
from gateway.lorawan.orders import Orders, Queued
from gateway.lorawan.outcome import Downlink, Joined, Outcome, Reason, Rejected, Uplink, Writes
from gateway.lorawan.profile import DEFAULT, DEFAULT_NAME, Profile
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import DevAddr, DevEUI, NetID
from gateway.lorawan.windows import join_windows
from radio.gwmp import RxPacket, TxError
from radio.regions import Region

__all__ = [
    "Counters",
    "Downlink",
    "Joined",
    "NetworkServer",
    "Outcome",
    "Queued",
    "Reason",
    "Rejected",
    "Uplink",
]

CONFIRMED_REPEATS = 8  # a 1.0.x device repeats a confirmed uplink at most this often
_ROLL_OVER = 1 << 16
_FIRST_ROLL_OVERS = 16  # about a million frames: 20 years at one each ten minutes
_NOBODYS: tuple[Session, ...] = ()


@dataclass(slots=True)
class Counters:
    """Since the start of the process."""

    uplinks: int = 0
    joins: int = 0
    downlinks: int = 0  # composed and handed out
    downlinks_sent: int = 0  # taken by a gateway
    downlinks_failed: int = 0  # refused by a gateway in both windows
    orders_acked: int = 0  # confirmed downlinks that a device acknowledged
    orders_dropped: int = 0  # given up after eight attempts
    rejected: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))


class NetworkServer:
    def __init__(
        self,
        region: Region,
        net_id: int = 0,
        *,
        settings: Settings | None = None,
        writer: store.Store | None = None,
        stored: store.Stored | None = None,
        rng: Random | None = None,
        profiles: Mapping[str, Profile] | None = None,
    ) -> None:
        """`stored` is what `writer.load` found, `profiles` all there are beside `DEFAULT`.

        Raises ValueError for settings the region cannot have.
        """
        self.region = region
        self.net_id = NetID(net_id)
        self.settings = settings or Settings()
        stored = stored or store.Stored()
        rng = rng or SystemRandom()
        self._store = writer or store.Store()
        self._mac = MacLayer(region, self.settings)
        self._answerer = Answerer(region, self.settings, self._mac, rng)
        self._joiner = Joiner(region, self.net_id, self.settings, self._store, rng, stored.join_nonce)
        self._orders = Orders(region)
        self._counters = Counters()
        self._devices: dict[int, Device] = {}  # by DevEUI; at most settings.max_devices
        self._sessions: dict[int, tuple[Session, ...]] = {}  # by DevAddr: those of registered devices
        self._last_session = stored.last_session
        self._profiles = {DEFAULT_NAME: DEFAULT, **(profiles or {})}
        for device in stored.devices:
            self._adopt(device)

    @property
    def counters(self) -> Counters:
        self._counters.orders_acked = self._orders.acked
        self._counters.orders_dropped = self._orders.dropped
        return self._counters

    # Frames

    def handle(self, rx: RxPacket, gateway_eui: bytes, now: Instant) -> Outcome:
        """Take one frame as a gateway heard it. Never raises because of the frame."""
        if rx.stat < 0:
            return self._reject(Reason.CRC_ERROR, "heard with errors (CRC)", rx)
        try:
            frame = parse(rx.data)
        except UnsupportedFrame as error:
            return self._reject(Reason.UNSUPPORTED, f"{error} is not supported", rx)
        except FrameError as error:
            return self._reject(Reason.MALFORMED, f"not a LoRaWAN frame: {error}", rx)
        if type(frame) is DataFrame:
            return self._data(frame, rx, gateway_eui, now)
        if type(frame) is JoinRequest:
            return self._join(frame, rx, now)
        return self._reject(Reason.NOT_AN_UPLINK, "a join-accept of another gateway", rx)

    def _data(self, frame: DataFrame, rx: RxPacket, gateway_eui: bytes, now: Instant) -> Outcome:
        sessions = self._sessions.get(frame.dev_addr, _NOBODYS)
        mtype = frame.mtype
        if mtype is not MType.UNCONFIRMED_UP and mtype is not MType.CONFIRMED_UP:
            return self._reject(Reason.NOT_AN_UPLINK, "a downlink of another gateway", rx, frame=frame)
        for session in sessions:
            fcnt = next_fcnt(session.fcnt_up, frame.fcnt)
            if _verifies(session, fcnt, frame):
                return self._accept(session, frame, fcnt, rx, gateway_eui, now)
        if sessions:
            return self._not_next(sessions, frame, rx, gateway_eui, now)
        addr = DevAddr(frame.dev_addr)
        whose = "no device here has it" if self.net_id.owns(addr) else "it belongs to another network"
        words = f"DevAddr {addr} is unknown: {whose}"
        return self._reject(Reason.UNKNOWN_DEV_ADDR, words, rx, frame=frame)

    def _accept(
        self, session: Session, frame: DataFrame, fcnt: int, rx: RxPacket, gateway_eui: bytes, now: Instant
    ) -> Uplink:
        """A verified frame with a new counter: the way of every ordinary uplink, so it is kept short."""
        device = session.device
        fport = frame.fport
        payload = b"" if fport is None else session.crypto.cipher(UPLINK, fcnt, fport, frame.frm_payload)
        self._counters.uplinks += 1
        before = session.fcnt_up
        session.fcnt_up = fcnt
        session.last_mic = frame.mic
        session.last_heard_ns = now.mono_ns
        session.repeats = 0
        session.mac.snr_db.append(rx.lsnr_db)
        session.mac.uplinks_since_adr += 1
        device.uplinks += 1
        device.last_rx = rx
        device.last_seen_ns = now.wall_ns
        device.problem = ""
        writes: Writes = [store.uplink(session, now.wall_ns)]
        if session is not device.session:
            writes += self._promote(session)
        commands = frame.fopts
        if fport == 0:
            commands, payload = payload, b""
        confirmed = frame.mtype is MType.CONFIRMED_UP
        acked, answer = None, None
        if commands or device.orders or confirmed or frame.wants_answer or self._mac.due(session, frame, now):
            acked, answer = self._react(session, frame, commands, rx, now, writes)
        return Uplink(
            device,
            session.dev_addr,
            fcnt,
            fport,
            payload,
            confirmed,
            frame.adr,
            rx,
            gateway_eui,
            now,
            writes,
            answer is not None and answer.durable,
            answer.downlink if answer else None,
            acked,
            tuple(answer.notes) if answer else (),
            before,
        )

    def not_stored(self, uplink: Uplink) -> None:
        """The writes of `uplink` were refused: its repetition is taken as new, and not merely acknowledged."""
        session = uplink.device.session
        if session is not None and session.dev_addr == uplink.dev_addr and session.fcnt_up == uplink.fcnt:
            session.fcnt_up = uplink.before

    def _react(
        self, session: Session, frame: DataFrame, commands: bytes, rx: RxPacket, now: Instant, writes: Writes
    ) -> tuple[str | None, Answer]:
        """What an uplink says to the network, and the network's answer. Extends `writes`."""
        notes: list[str] = []
        acked = self._orders.settle(session.device, frame, writes, notes)
        heard = self._mac.hear(session, commands, rx, now)
        if heard.agreed:
            writes.append(store.mac_state(session))
        if heard.status:
            writes.append(store.dev_status(session.device))
        answer = self._answerer.answer(session, frame, rx, now, heard.answers)
        writes += answer.writes
        answer.notes[:0] = notes + heard.notes
        self._counters.downlinks += answer.downlink is not None
        return acked, answer

    def _not_next(
        self, sessions: tuple[Session, ...], frame: DataFrame, rx: RxPacket, gateway_eui: bytes, now: Instant
    ) -> Outcome:
        """No session takes the frame as its next: 65536 frames or more were lost, it is old, or a stranger's.

        The 1.0.x texts give up beyond a gap of 16384; 1.0.4 does not, and neither do we, but one roll-over
        further is as far as we look, or several for an ABP device that was at work before it came to us.
        """
        for session in sessions:
            fresh = session.fcnt_up is None and session.device.config.activation is Activation.ABP
            later = next_fcnt(session.fcnt_up, frame.fcnt)
            for _ in range(_FIRST_ROLL_OVERS if fresh else 1):
                later += _ROLL_OVER
                if _verifies(session, later, frame):
                    return self._accept(session, frame, later, rx, gateway_eui, now)
        for session in sessions:
            earlier = next_fcnt(session.fcnt_up, frame.fcnt) - _ROLL_OVER
            if earlier >= 0 and _verifies(session, earlier, frame):
                return self._heard_before(session, earlier, frame, rx, now)
        words = (
            f"no session of DevAddr {DevAddr(frame.dev_addr)} verifies this frame: wrong NwkSKey, or another"
            " network's device with the same address"
        )
        device = sessions[0].device if len(sessions) == 1 else None
        return self._reject(Reason.BAD_MIC, words, rx, device, frame=frame)

    def _heard_before(
        self, session: Session, fcnt: int, frame: DataFrame, rx: RxPacket, now: Instant
    ) -> Rejected:
        """A genuine frame with a used counter: heard by two gateways, repeated by its device, or replayed."""
        device = session.device
        if fcnt == session.fcnt_up and session.last_mic in (frame.mic, b""):
            if session.last_mic and now.mono_ns - session.last_heard_ns < SAME_MOMENT_NS:
                history = session.mac.snr_db
                if history:
                    history[-1] = max(history[-1], rx.lsnr_db)
                words = f"uplink {fcnt} heard a second time"
                return self._reject(Reason.DUPLICATE, words, rx, frame=frame, dev_eui=device.dev_eui)
            session.repeats += 1
            limit = session.mac.nb_trans - 1
            if frame.confirmed:
                limit = max(limit, CONFIRMED_REPEATS)
            if session.repeats <= limit:
                return self._repeat(session, fcnt, frame, rx, now)
        words = (
            f"FCnt {fcnt} was used before (the last is {session.fcnt_up}): somebody repeats an old frame, or"
            " the device has lost its counter and must join again"
        )
        return self._reject(Reason.REPLAY, words, rx, device, frame=frame)

    def _repeat(self, session: Session, fcnt: int, frame: DataFrame, rx: RxPacket, now: Instant) -> Rejected:
        """The device did not hear our answer: the ACK goes out again, under a new FCntDown."""
        words = f"uplink {fcnt} repeated by its device ({session.repeats})"
        answer = self._answerer.answer(session, frame, rx, now) if frame.confirmed else Answer()
        self._counters.downlinks += answer.downlink is not None
        self._counters.rejected[Reason.DUPLICATE] += 1
        return Rejected(
            Reason.DUPLICATE,
            words,
            rx,
            session.device.dev_eui,
            session.dev_addr,
            frame.fcnt,
            answer.downlink,
            answer.writes,
        )

    def _reject(
        self,
        reason: Reason,
        words: str,
        rx: RxPacket,
        device: Device | None = None,
        *,
        frame: DataFrame | None = None,
        dev_eui: DevEUI | None = None,
    ) -> Rejected:
        """Count it; with `device`, the words become that device's problem until its next good frame."""
        self._counters.rejected[reason] += 1
        if device is not None:
            device.problem = words
            dev_eui = device.dev_eui
        if frame is None:
            return Rejected(reason, words, rx, dev_eui)
        return Rejected(reason, words, rx, dev_eui, DevAddr(frame.dev_addr), frame.fcnt)

    # Joins

    def _join(self, request: JoinRequest, rx: RxPacket, now: Instant) -> Outcome:
        device = self._devices.get(request.dev_eui)
        if device is None:
            reason, words = refusal_of_unknown(request.dev_eui, self._devices)
            return self._reject(reason, words, rx, dev_eui=request.dev_eui)
        refused = refusal(device, request, now)
        if refused is None and self._joiner.exhausted:
            refused = Reason.JOIN_NONCES_USED_UP, "this gateway has no JoinNonce left"
        if refused is not None:
            reason, words = refused
            blamed = None if reason is Reason.DUPLICATE else device
            return self._reject(reason, words, rx, blamed, dev_eui=request.dev_eui)
        session, dropped, phy, writes = self._joiner.grant(
            device, request, self._next_session(), self._sessions, now
        )
        for old in dropped:
            self._forget_session(old)
        self._know_session(session)
        self._counters.joins += 1
        device.problem = ""
        windows = join_windows(self.region, self.settings, rx)
        downlink = None
        if windows:
            self._counters.downlinks += 1
            downlink = Downlink(
                id=self._answerer.new_id(),
                dev_eui=device.dev_eui,
                windows=tuple(window.packet(phy) for window in windows),
                confirmed=False,
                fcnt=None,
                after_commit=True,
                names=tuple(window.name for window in windows),
            )
        notes = () if windows else ("no receive window of this join-request can be used",)
        return Joined(device, session.dev_addr, request.dev_nonce, rx, now, writes, downlink, notes)

    def _promote(self, session: Session) -> Writes:
        """The device uses a session it joined: that one is live now, older ones are over."""
        device = session.device
        position = device.pending.index(session)
        over = device.pending[:position] + ([device.session] if device.session else [])
        device.session = session
        del device.pending[: position + 1]
        writes: Writes = [store.session_active(session)]
        for old in over:
            self._forget_session(old)
            writes += store.session_gone(old)
        return writes

    # Downlinks

    def queue_downlink(self, dev_eui: int, fport: int, payload: bytes, confirmed: bool = False) -> Queued:
        """Take an order; it goes out after one of the device's next uplinks.

        Raises UnknownDevice, QueueFull, or OrderError for a port or payload that can never be sent.
        """
        return self._orders.queue(self._device(dev_eui), self._answerer.new_id(), fport, payload, confirmed)

    def sent(self, downlink_id: str) -> Writes:
        """A gateway has taken this downlink for sending."""
        self._counters.downlinks_sent += 1
        return self._orders.sent(downlink_id)

    def failed(self, downlink_id: str, error: TxError) -> Writes:
        """No gateway could send this downlink; an order in it goes back to wait for the next uplink."""
        self._counters.downlinks_failed += 1
        return self._orders.failed(downlink_id, error)

    # Devices

    def add_device(self, config: DeviceConfig) -> Writes:
        """Register a device; it may be called registered once the writes are durable.

        Raises DeviceExists, or OrderError where no more fit.
        """
        if config.dev_eui in self._devices:
            raise DeviceExists(f"{config.dev_eui} is registered already")
        if len(self._devices) >= self.settings.max_devices:
            raise OrderError(f"{self.settings.max_devices} devices are registered, and no more fit")
        self._check_profile(config.profile)
        device = Device(config, config.dev_eui)
        writes = self._store.device_added(device)
        if config.activation is Activation.ABP:
            assert config.dev_addr is not None
            device.session = self._joiner.session(
                device, self._next_session(), config.dev_addr, *config.abp_keys
            )
            writes.append(self._store.session_added(device.session, pending=False))
        self._adopt(device)
        return writes

    def remove_device(self, dev_eui: int) -> Writes:
        """Forget a device with its sessions, nonces and orders. Raises UnknownDevice."""
        device = self._device(dev_eui)
        del self._devices[device.dev_eui]
        for session in _sessions_of(device):
            self._forget_session(session)
        self._orders.forget(device)
        return store.device_gone(device.dev_eui)

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """Every profile a device may name."""
        return self._profiles

    def use_profiles(self, profiles: Mapping[str, Profile]) -> None:
        """Take new profiles; what they say reaches their devices at once.

        Raises OrderError where one is missing that devices name: then all stays as it was.
        """
        profiles = {DEFAULT_NAME: DEFAULT, **profiles}
        used = Counter(device.config.profile for device in self._devices.values())
        for name in self._profiles:
            if name not in profiles and (count := used[name]):
                devices = "1 device has" if count == 1 else f"{count} devices have"
                raise OrderError(f"{devices} the profile {name!r}: give them another one first")
        self._profiles = profiles
        for device in self._devices.values():
            device.profile = profiles.get(device.config.profile, DEFAULT)

    def device_profile(self, dev_eui: int) -> Profile:
        """Raises UnknownDevice."""
        return self._device(dev_eui).profile

    def devices(self, limit: int | None = None) -> list[DeviceStatus]:
        """All devices, or the first `limit` of them."""
        return [status_of(device) for device in islice(self._devices.values(), limit)]

    def device(self, dev_eui: int) -> DeviceStatus:
        """Raises UnknownDevice."""
        return status_of(self._device(dev_eui))

    def _device(self, dev_eui: int) -> Device:
        device = self._devices.get(dev_eui)
        if device is None:
            raise UnknownDevice(f"{DevEUI(dev_eui)} is not registered")
        return device

    def _adopt(self, device: Device) -> None:
        """Index a device, new or from the store."""
        self._devices[device.dev_eui] = device
        device.profile = self._profiles.get(device.config.profile, DEFAULT)
        if not self.settings.status_interval_s:
            device.status_due_ns = NEVER_NS
        for session in _sessions_of(device):
            self._know_session(session)
        self._orders.adopt(device)

    def _check_profile(self, name: str) -> None:
        if name not in self._profiles:
            raise OrderError(f"there is no profile {name!r}; there are {', '.join(sorted(self._profiles))}")

    def _next_session(self) -> int:
        self._last_session += 1
        return self._last_session

    def _know_session(self, session: Session) -> None:
        self._mac.adopt(session)
        self._sessions[session.dev_addr] = (*self._sessions.get(session.dev_addr, ()), session)

    def _forget_session(self, session: Session) -> None:
        left = tuple(other for other in self._sessions[session.dev_addr] if other is not session)
        if left:
            self._sessions[session.dev_addr] = left
        else:
            del self._sessions[session.dev_addr]


def _verifies(session: Session, fcnt: int, frame: DataFrame) -> bool:
    if fcnt > MAX_FCNT:  # the counter is used up
        return False
    return hmac.compare_digest(session.crypto.uplink_mic(fcnt, frame.message), frame.mic)


def _sessions_of(device: Device) -> Iterator[Session]:
    if device.session is not None:
        yield device.session
    yield from device.pending
