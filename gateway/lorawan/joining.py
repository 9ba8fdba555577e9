"""The network's half of joining: where a device may join, what session it gets, when the answer leaves.

A granted join becomes a *pending* session beside the live one; the device's first valid uplink in it makes it live.
So a join-request that somebody recorded and sends again, or a join-accept that got lost, never ends a session that
works. What needs root keys is asked of a `JoinServer`. Sections are those of LoRaWAN 1.1.
"""

from __future__ import annotations

from collections.abc import Container
from random import Random

from gateway.lorawan import store
from gateway.lorawan.answering import Answerer
from gateway.lorawan.clock import Instant
from gateway.lorawan.counters import Counters
from gateway.lorawan.crypto import SessionKeys
from gateway.lorawan.device import (
    COUNTER_BLOCK,
    MAX_PENDING_SESSIONS,
    Device,
    DeviceConfig,
    ReservedCounter,
    Session,
)
from gateway.lorawan.frames import JoinAccept, JoinReqType, JoinRequest, RejoinRequest, verify_join
from gateway.lorawan.joinserver import JoinGrant, JoinQuestion, JoinRefusal, JoinServer, refused_count
from gateway.lorawan.maclayer import MacLayer
from gateway.lorawan.outcome import Downlink, Joined, Outcome, Reason, Writes
from gateway.lorawan.profile import Profile
from gateway.lorawan.registry import Registry, sessions_of
from gateway.lorawan.settings import Settings
from gateway.lorawan.steering import plan_of
from gateway.lorawan.types import DevAddr, DevEUI, JoinEUI, NetID
from gateway.lorawan.windows import JOIN_ACCEPT_DELAY_S, Window, data_windows, join_windows
from radio.gwmp import RxPacket
from radio.regions import Region

_ADDRESS_TRIES = 16


def unknown_dev_eui(dev_eui: DevEUI, known: Container[int]) -> str:
    """Words for a join-request of a device that is not registered."""
    if dev_eui.reversed in known:
        return (
            f"DevEUI {dev_eui} is not registered, but {dev_eui.reversed} is: one side has its bytes reversed"
        )
    return f"DevEUI {dev_eui} is not registered here"


class Sessions:
    """Makes sessions with this network's settings."""

    def __init__(self, region: Region, net_id: NetID, settings: Settings, rng: Random) -> None:
        self._region = region
        self._net_id = net_id
        self._settings = settings
        self._rng = rng
        self.rx2_dr = region.rx2[1] if settings.rx2_dr is None else settings.rx2_dr
        self._cflist = plan_of(region, settings).cflist()

    def accept(self, taken: Container[int], kept: Session | None = None) -> JoinAccept:
        """What a join-accept is to say, but for JoinNonce and version; a device keeps its radio settings where
        `kept` is its present session."""
        if kept is not None:
            return JoinAccept(
                join_nonce=0,
                net_id=self._net_id,
                dev_addr=self._address(taken),
                rx1_dr_offset=kept.rx1_dr_offset,
                rx2_dr=kept.rx2_dr,
                rx_delay_s=kept.rx1_delay_s,
            )
        return JoinAccept(
            join_nonce=0,
            net_id=self._net_id,
            dev_addr=self._address(taken),
            rx1_dr_offset=self._settings.rx1_dr_offset,
            rx2_dr=self.rx2_dr,
            rx_delay_s=self._settings.rx1_delay_s,
            cflist=self._cflist,
        )

    def joined(
        self, device: Device, number: int, accept: JoinAccept, keys: SessionKeys, v1_1: bool
    ) -> Session:
        """The session that a join-accept opens; its first downlink counters count as reserved."""
        return Session(
            id=number,
            device=device,
            dev_addr=accept.dev_addr,
            keys=keys,
            rx1_delay_s=accept.rx_delay_s,
            rx1_dr_offset=accept.rx1_dr_offset,
            rx2_dr=accept.rx2_dr,
            fcnt_down=ReservedCounter(0, COUNTER_BLOCK),
            v1_1=v1_1,
            fcnt_down_app=ReservedCounter(0, COUNTER_BLOCK) if v1_1 else None,
        )

    def personalised(self, device: Device, config: DeviceConfig, profile: Profile, number: int) -> Session:
        """The session of an ABP device: never told anything, it has what its profile says is built in."""
        assert config.dev_addr is not None
        keys, v1_1 = config.abp_keys
        return Session(
            id=number,
            device=device,
            dev_addr=config.dev_addr,
            keys=keys,
            rx1_delay_s=profile.abp_rx1_delay_s,
            rx1_dr_offset=profile.abp_rx1_dr_offset,
            rx2_dr=self._region.rx2[1] if profile.abp_rx2_dr is None else profile.abp_rx2_dr,
            rx2_freq_hz=profile.abp_rx2_freq_hz,
            fcnt_down=ReservedCounter(0, COUNTER_BLOCK),
            v1_1=v1_1,
            fcnt_down_app=ReservedCounter(0, COUNTER_BLOCK) if v1_1 else None,
        )

    def _address(self, taken: Container[int]) -> DevAddr:
        """A random address, so that two gateways side by side rarely share one; the MIC settles it if they
        do."""
        dev_addr = self._net_id.dev_addr(self._rng.getrandbits(25))
        for _ in range(_ADDRESS_TRIES):
            if dev_addr not in taken:
                break
            dev_addr = self._net_id.dev_addr(self._rng.getrandbits(25))
        return dev_addr


class Joins:
    """Takes every join- and rejoin-request off the air."""

    def __init__(
        self,
        region: Region,
        net_id: NetID,
        settings: Settings,
        writer: store.Store,
        registry: Registry,
        counters: Counters,
        sessions: Sessions,
        join_server: JoinServer,
        answerer: Answerer,
        mac_layer: MacLayer,
    ) -> None:
        self._region = region
        self._net_id = net_id
        self._settings = settings
        self._store = writer
        self._registry = registry
        self._counters = counters
        self._sessions = sessions
        self._join_server = join_server
        self._answerer = answerer
        self._mac = mac_layer

    def take(self, request: JoinRequest | RejoinRequest, rx: RxPacket, now: Instant) -> Outcome:
        registry = self._registry
        device = registry.devices.get(request.dev_eui)
        if device is None:
            words = unknown_dev_eui(request.dev_eui, registry.devices)
            return self._counters.reject(Reason.UNKNOWN_DEV_EUI, words, rx, dev_eui=request.dev_eui)
        if device.moved:
            words = f"{request.dev_eui} was moved to another gateway, which answers it"
            return self._counters.reject(Reason.MOVED_AWAY, words, rx, dev_eui=request.dev_eui)
        if isinstance(request, JoinRequest):
            question = JoinQuestion(request, request.join_eui, self._sessions.accept(registry.sessions))
            return self.settle(device, question, self._join_server.answer(question, now), rx, now)
        return self._rejoin(device, request, rx, now)

    def settle(
        self,
        device: Device,
        question: JoinQuestion,
        answer: JoinGrant | JoinRefusal,
        rx: RxPacket,
        now: Instant,
        writes: Writes | None = None,
        before: Session | None = None,
    ) -> Outcome:
        """Carry out what the join server has said. `before` is the session that a rejoin-request was sent in."""
        if isinstance(answer, JoinRefusal):
            blamed = None if answer.reason is Reason.DUPLICATE else device
            return self._counters.reject(answer.reason, answer.words, rx, blamed, dev_eui=device.dev_eui)
        session = self._sessions.joined(
            device, self._registry.next_session(), question.accept, answer.keys, answer.v1_1
        )
        session.join_eui = question.join_eui
        self._mac.adopt(session)
        writes = [*(writes or ()), *answer.writes]
        if before is not None and question.request_type is JoinReqType.REJOIN_2:
            session.rx2_freq_hz = before.rx2_freq_hz
            session.mac.restore(before.mac.export())
        writes += self._store.session_added(session, pending=True)
        device.pending.append(session)
        self._registry.know(session)
        for old in device.pending[:-MAX_PENDING_SESSIONS]:
            self._registry.forget(old)
            writes += store.session_gone(old)
        del device.pending[:-MAX_PENDING_SESSIONS]
        self._counters.joins += 1
        device.problem = answer.notes[0] if answer.notes else ""
        windows = self._windows(rx, before)
        downlink = None
        if windows:
            self._counters.downlinks += 1
            downlink = Downlink(
                id=self._answerer.new_id(),
                dev_eui=device.dev_eui,
                windows=tuple(window.packet(answer.join_accept) for window in windows),
                confirmed=False,
                fcnt=None,
                after_commit=True,
                names=tuple(window.name for window in windows),
            )
        notes = answer.notes
        if not windows:
            notes += ("no receive window of this join-request can be used",)
        rejoin = None if isinstance(question.request, JoinRequest) else int(question.request.kind)
        return Joined(
            device, session.dev_addr, question.dev_nonce, rx, now, writes, downlink, notes, rejoin=rejoin
        )

    def _windows(self, rx: RxPacket, before: Session | None) -> tuple[Window, ...]:
        """After a rejoin-request those of the session it was sent in, at the delays of a join (6.2.4.4)."""
        if before is None:
            return join_windows(self._region, self._settings, rx)
        return data_windows(
            self._region,
            self._settings,
            rx,
            JOIN_ACCEPT_DELAY_S,
            before.rx1_dr_offset,
            before.rx2_dr,
            rx1_freq_hz=before.mac.channels.rx1_hz(rx.freq_hz),
            rx2_freq_hz=before.rx2_freq_hz,
        )

    # Rejoin-requests

    def _rejoin(self, device: Device, request: RejoinRequest, rx: RxPacket, now: Instant) -> Outcome:
        """Types 0 and 2 are judged by the session's SNwkSIntKey and RJcount0, which the network has (6.2.4.1)."""
        if request.kind is JoinReqType.REJOIN_1:
            assert request.join_eui is not None
            accept = self._sessions.accept(self._registry.sessions)
            question = JoinQuestion(request, request.join_eui, accept)
            answer = self._join_server.answer(question, now)
            return self.settle(device, question, answer, rx, now, before=device.session)
        eui = device.dev_eui
        in_1_1 = [session for session in sessions_of(device) if session.v1_1]
        if not in_1_1:
            words = f"{eui} asks to rejoin, but has no LoRaWAN 1.1 session here: it must join"
            return self._counters.reject(Reason.NOT_JOINED, words, rx, device)
        if request.net_id != self._net_id:
            words = f"{eui} asks to rejoin network {request.net_id}; this is {self._net_id}: it must join"
            return self._counters.reject(Reason.NOT_JOINED, words, rx, device)
        session = next((one for one in in_1_1 if verify_join(one.keys.s_nwk_s_int, request)), None)
        if session is None:
            words = f"no session of {eui} verifies its rejoin-request: it has another session, and must join"
            return self._counters.reject(Reason.BAD_MIC, words, rx, device)
        refused = refused_count(device, request, session.rj_count0, now)
        keeps = session if request.kind is JoinReqType.REJOIN_2 else None
        question = JoinQuestion(
            request,
            session.join_eui or device.config.join_eui or JoinEUI(0),
            self._sessions.accept(self._registry.sessions, keeps),
        )
        if refused is not None:
            return self.settle(device, question, refused, rx, now)
        answer = self._join_server.answer(question, now)
        writes: Writes = []
        if isinstance(answer, JoinGrant):
            session.rj_count0 = request.rj_count
            writes.append(store.rj_count0(session))
            if session is not device.session:  # the device has taken that join-accept
                writes += self._registry.promote(session)
        return self.settle(device, question, answer, rx, now, writes, before=session)
