"""The way of a data frame: verified against its session's counter, decrypted, obeyed, answered; or refused.

An ordinary uplink is the next of its session and goes straight through `_accept`, which is kept short. All else,
repetitions, roll-overs, restarted counters, strangers, is looked into afterwards.
"""

from __future__ import annotations

import hmac

import msgspec

from gateway.lorawan import macstore, orderstore, store
from gateway.lorawan.answering import Answer, Answerer
from gateway.lorawan.clock import Instant
from gateway.lorawan.counters import Counters
from gateway.lorawan.crypto import UPLINK
from gateway.lorawan.device import Activation, Session
from gateway.lorawan.frames import MAX_FCNT, DataFrame, MType, next_fcnt
from gateway.lorawan.joinserver import SAME_MOMENT_NS
from gateway.lorawan.maclayer import MacLayer
from gateway.lorawan.orders import Orders, device_class
from gateway.lorawan.outcome import Due, Outcome, Reason, Rejected, Uplink, Writes
from gateway.lorawan.profile import DeviceClass
from gateway.lorawan.registry import NOBODYS, Registry
from gateway.lorawan.types import DevAddr, NetID
from radio.gwmp import RxPacket
from radio.regions import Region

CONFIRMED_REPEATS = 8  # a 1.0.x device repeats a confirmed uplink at most this often
# FCntDowns that an ACK may mean whose number a restart has forgotten: a block and a half
CONF_FCNT_BACK = 128
_ROLL_OVER = 1 << 16
_LATE_COPY_NS = 10 * 10**9  # a copy by way of a slow gateway comes sooner, a device that starts up later
_FIRST_ROLL_OVERS = 16  # about a million frames: 20 years at one each ten minutes


class DataFrames:
    """Takes every data frame off the air."""

    def __init__(
        self,
        region: Region,
        net_id: NetID,
        registry: Registry,
        counters: Counters,
        mac_layer: MacLayer,
        orders: Orders,
        answerer: Answerer,
    ) -> None:
        self._region = region
        self._net_id = net_id
        self._registry = registry
        self._sessions = registry.sessions
        self._counters = counters
        self._mac = mac_layer
        self._orders = orders
        self._answerer = answerer

    def take(self, frame: DataFrame, rx: RxPacket, gateway_eui: bytes, now: Instant) -> Outcome:
        sessions = self._sessions.get(frame.dev_addr, NOBODYS)
        mtype = frame.mtype
        if mtype is not MType.UNCONFIRMED_UP and mtype is not MType.CONFIRMED_UP:
            words = "a downlink of another gateway"
            return self._counters.reject(Reason.NOT_AN_UPLINK, words, rx, frame=frame)
        for session in sessions:
            fcnt = next_fcnt(session.fcnt_up, frame.fcnt)
            if self._verifies(session, fcnt, frame, rx):
                return self._accept(session, frame, fcnt, rx, gateway_eui, now)
        if sessions:
            return self._not_next(sessions, frame, rx, gateway_eui, now)
        addr = DevAddr(frame.dev_addr)
        if (group := self._registry.groups.get(addr)) is not None:
            words = (
                f"DevAddr {addr} is that of multicast group {group.config.name}, under which no device sends"
            )
            return self._counters.reject(Reason.MULTICAST_ADDRESS, words, rx, frame=frame)
        if (moved := self._registry.moved.get(addr)) is not None:
            words = f"{moved.dev_eui} was moved to another gateway, which answers it"
            return self._counters.reject(Reason.MOVED_AWAY, words, rx, frame=frame, dev_eui=moved.dev_eui)
        whose = "no device here has it" if self._net_id.owns(addr) else "it belongs to another network"
        words = f"DevAddr {addr} is unknown: {whose}"
        return self._counters.reject(Reason.UNKNOWN_DEV_ADDR, words, rx, frame=frame)

    def not_stored(self, uplink: Uplink) -> None:
        """The writes of `uplink` were refused: its repetition is taken as new, and not merely acknowledged."""
        session = uplink.device.session
        if session is not None and session.dev_addr == uplink.dev_addr and session.fcnt_up == uplink.fcnt:
            session.fcnt_up = uplink.before

    # Is it genuine?

    def _verifies(self, session: Session, fcnt: int, frame: DataFrame, rx: RxPacket) -> bool:
        if fcnt > MAX_FCNT:  # the counter is used up
            return False
        crypto = session.crypto
        if not crypto.v1_1:
            return hmac.compare_digest(crypto.uplink_mic(fcnt, frame.message), frame.mic)
        return self._verifies_1_1(session, fcnt, frame, rx)

    def _verifies_1_1(self, session: Session, fcnt: int, frame: DataFrame, rx: RxPacket) -> bool:
        """In 1.1 the code covers also where the device sent, and which downlink an ACK is for (1.1, 4.4)."""
        tx_dr, tx_ch = self._region.dr_of(rx.modulation), session.mac.channels.index(rx.freq_hz)
        if tx_ch is None:  # a channel it was just given: the frame that says so may be the first one there
            tx_ch = next((i for i, hz in self._mac.plan.wanted.items() if hz == rx.freq_hz), None)
        if tx_dr is None or tx_ch is None:
            return False
        uplink_mic = session.crypto.uplink_mic
        confirmed = session.confirmed_down if frame.ack else 0
        mic = uplink_mic(fcnt, frame.message, confirmed or 0, tx_dr, tx_ch)
        if hmac.compare_digest(mic, frame.mic):
            return True
        if not frame.ack or mic[2:] != frame.mic[2:]:
            return False
        # Genuine but for the downlink it acknowledges: one of before a restart, or of before the last.
        last = session.down_counter(app=True).next - 1
        return any(
            hmac.compare_digest(uplink_mic(fcnt, frame.message, number, tx_dr, tx_ch), frame.mic)
            for number in range(last, max(-1, last - CONF_FCNT_BACK), -1)
        )

    # The way of an ordinary uplink

    def _accept(
        self, session: Session, frame: DataFrame, fcnt: int, rx: RxPacket, gateway_eui: bytes, now: Instant
    ) -> Uplink:
        """A verified frame with a new counter: the way of every ordinary uplink, so it is kept short."""
        device = session.device
        fport = frame.fport
        crypto = session.crypto
        payload = b"" if fport is None else crypto.cipher(UPLINK, fcnt, fport, frame.frm_payload)
        self._counters.uplinks += 1
        before = session.fcnt_up
        session.fcnt_up = fcnt
        session.last_mic = frame.mic
        session.last_heard_ns = now.mono_ns
        session.repeats = 0
        session.refused_fcnt = -1
        mac_state = session.mac
        mac_state.snr_db.append(rx.lsnr_db)
        mac_state.uplinks_since_adr += 1
        device.uplinks += 1
        device.heard.add(before, fcnt)
        device.last_rx = rx
        gateways = device.gateways
        if not gateways or gateways[0] != gateway_eui:
            device.gateways = (gateway_eui,)
        device.last_seen_ns = now.wall_ns
        device.problem = ""
        writes: Writes = [store.uplink(session, now.wall_ns)]
        if frame.class_b is not mac_state.class_b:
            mac_state.class_b = frame.class_b
            writes.append(macstore.agreed(session))
        if session is not device.session:
            writes += self._registry.promote(session)
        if device.gateways is not gateways and device_class(device) is not DeviceClass.A:
            writes.append(orderstore.route(device))
        commands = frame.fopts
        if commands:
            commands = crypto.fopts(UPLINK, fcnt, commands)
        elif fport == 0:
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
            tuple(answer.receipts) if answer else (),
        )

    def _react(
        self, session: Session, frame: DataFrame, commands: bytes, rx: RxPacket, now: Instant, writes: Writes
    ) -> tuple[str | None, Answer]:
        """What an uplink says to the network, and the network's answer. Extends `writes`."""
        notes: list[str] = []
        settled = Due()
        acked = None
        if session.device.orders:
            acked = self._orders.settle(session.device, frame.ack, now, settled, notes)
            writes += settled.writes
        heard = self._mac.hear(session, commands, rx, now)
        if heard.agreed:
            writes.append(macstore.agreed(session))
        if heard.status:
            writes.append(store.dev_status(session.device))
        answer = self._answerer.answer(session, frame, rx, now, heard.answers)
        writes += answer.writes
        answer.notes[:0] = notes + heard.notes
        answer.receipts[:0] = settled.receipts
        self._counters.downlinks += answer.downlink is not None
        return acked, answer

    # Everything else

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
                if self._verifies(session, later, frame, rx):
                    return self._accept(session, frame, later, rx, gateway_eui, now)
        for session in sessions:
            earlier = next_fcnt(session.fcnt_up, frame.fcnt) - _ROLL_OVER
            for fcnt in {earlier, frame.fcnt}:  # counting began anew, where the 16 bits are all
                if 0 <= fcnt <= earlier and self._verifies(session, fcnt, frame, rx):
                    return self._heard_before(session, fcnt, frame, rx, gateway_eui, now)
        for session in sessions:
            if session.v1_1 and self._elsewhere(session, frame):
                return self._counters.reject(
                    Reason.UNKNOWN_CHANNEL, self._where(session, rx), rx, session.device, frame=frame
                )
        words = (
            f"no session of DevAddr {DevAddr(frame.dev_addr)} verifies this frame: wrong NwkSKey, or another"
            " network's device with the same address"
        )
        device = sessions[0].device if len(sessions) == 1 else None
        return self._counters.reject(Reason.BAD_MIC, words, rx, device, frame=frame)

    def _elsewhere(self, session: Session, frame: DataFrame) -> bool:
        """Is the half of the code right that does not cover where the device sent? One forged in 65536 is."""
        fcnt = next_fcnt(session.fcnt_up, frame.fcnt)
        return session.crypto.uplink_mic(fcnt, frame.message)[2:] == frame.mic[2:]

    def _where(self, session: Session, rx: RxPacket) -> str:
        index, eui = session.mac.channels.index(rx.freq_hz), session.device.dev_eui
        channel = f"{rx.freq_hz / 1e6:.3f} MHz"
        here = "is no channel of it here" if index is None else f"is its channel {index} here"
        return (
            f"uplink of {eui} signed for another channel or data rate than it was heard on: {channel} {here}, and the"
            " device numbers its channels otherwise"
        )

    def _heard_before(
        self, session: Session, fcnt: int, frame: DataFrame, rx: RxPacket, gateway_eui: bytes, now: Instant
    ) -> Outcome:
        """A genuine frame with a used counter: heard by two gateways, repeated by its device, replayed, or of a
        device that has lost its counter."""
        device = session.device
        last = session.fcnt_up
        assert last is not None
        if fcnt == session.fcnt_up and _same_frame(session, frame):
            if session.last_mic and now.mono_ns - session.last_heard_ns < SAME_MOMENT_NS:
                history = session.mac.snr_db
                if history:
                    history[-1] = max(history[-1], rx.lsnr_db)
                words = f"uplink {fcnt} heard a second time"
                return self._counters.reject(Reason.DUPLICATE, words, rx, frame=frame, dev_eui=device.dev_eui)
            session.repeats += 1
            limit = session.mac.nb_trans - 1
            if frame.confirmed:
                limit = max(limit, CONFIRMED_REPEATS)
            if session.repeats <= limit:
                return self._repeat(session, fcnt, frame, rx, now)
        elif device.config.activation is Activation.ABP and fcnt < last:
            if device.profile.may_reset_counter and now.mono_ns - session.last_heard_ns >= _LATE_COPY_NS:
                return self._begin_anew(session, frame, fcnt, rx, gateway_eui, now)
            if 0 <= session.refused_fcnt < fcnt:
                words = (
                    f"{device.dev_eui} counts its frames anew (FCnt {fcnt} after {last}): it has lost its counter."
                    " Let its profile allow that, or add it again"
                )
                session.refused_fcnt = fcnt
                return self._counters.reject(Reason.COUNTER_RESET, words, rx, device, frame=frame)
            session.refused_fcnt = fcnt
        words = (
            f"FCnt {fcnt} was used before (the last is {last}): somebody repeats an old frame, or"
            " the device has lost its counter and must join again"
        )
        return self._counters.reject(Reason.REPLAY, words, rx, device, frame=frame)

    def _begin_anew(
        self, session: Session, frame: DataFrame, fcnt: int, rx: RxPacket, gateway_eui: bytes, now: Instant
    ) -> Uplink:
        """An ABP device whose profile allows it has lost its counter, and with it what MAC commands had settled."""
        last = session.fcnt_up
        session.fcnt_up = fcnt
        self._mac.forget(session)
        session.fcnt_up = last
        uplink = self._accept(session, frame, fcnt, rx, gateway_eui, now)
        uplink.writes.append(macstore.agreed(session))
        note = f"the device counts its frames anew, at {fcnt} after {last}, as its profile allows"
        return msgspec.structs.replace(uplink, notes=(note, *uplink.notes))

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
            answer.receipts,
        )


def _same_frame(session: Session, frame: DataFrame) -> bool:
    """Is a frame that verifies the session's last one? After a restart that one is not known.

    In 1.1 a repetition on another channel has another code; the half of it that covers no channel stays.
    """
    last = session.last_mic
    return not last or last == frame.mic or (session.v1_1 and last[2:] == frame.mic[2:])
