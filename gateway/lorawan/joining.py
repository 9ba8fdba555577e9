"""The join server: is a join-request good, and what session does it open? (LoRaWAN 1.0.2, 6.2)

Refusing costs nothing and keeps nothing. A granted join becomes a *pending* session beside the live one; the
device's first valid uplink in it makes it live. So a join-request that somebody recorded and sends again, or
a join-accept that got lost, never ends a session that works.
"""

from __future__ import annotations

from collections.abc import Container
from random import Random

from gateway.lorawan import adr, store
from gateway.lorawan.answering import Answerer
from gateway.lorawan.clock import Instant
from gateway.lorawan.counters import Counters
from gateway.lorawan.crypto import SessionKeys, derive_session_keys
from gateway.lorawan.device import (
    COUNTER_BLOCK,
    MAX_PENDING_SESSIONS,
    Activation,
    Device,
    ReservedCounter,
    Session,
)
from gateway.lorawan.frames import JoinAccept, JoinRequest, build_join_accept, verify_join
from gateway.lorawan.maclayer import MacLayer
from gateway.lorawan.outcome import Downlink, Joined, Outcome, Reason, Writes
from gateway.lorawan.registry import Registry
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import DevAddr, DevEUI, NetID
from gateway.lorawan.windows import join_windows
from radio.gwmp import RxPacket
from radio.regions import Region

MAX_JOIN_NONCE = 0xFF_FFFF  # 24 bits; at a join a second they last half a year, at one a minute 32 years
SAME_MOMENT_NS = 10**9  # a device cannot send again before its receive windows have passed
_ADDRESS_TRIES = 16

Refusal = tuple[Reason, str]


def refusal_of_unknown(dev_eui: DevEUI, known: Container[int]) -> Refusal:
    """Words for a join-request of a device that is not registered."""
    if dev_eui.reversed in known:
        return (
            Reason.UNKNOWN_DEV_EUI,
            f"DevEUI {dev_eui} is not registered, but {dev_eui.reversed} is: one side has its bytes reversed",
        )
    return Reason.UNKNOWN_DEV_EUI, f"DevEUI {dev_eui} is not registered here"


def refusal(device: Device, request: JoinRequest, now: Instant) -> Refusal | None:
    """Why this join-request of a registered device is not granted; None: it is good."""
    config, eui = device.config, request.dev_eui
    if config.activation is not Activation.OTAA or config.app_key is None:
        return Reason.NOT_OTAA, f"{eui} asks to join but is registered for ABP"
    if config.join_eui is not None and request.join_eui != config.join_eui:
        turned = " with its bytes reversed" if request.join_eui.reversed == config.join_eui else ""
        return (
            Reason.JOIN_EUI_MISMATCH,
            f"{eui} joins with JoinEUI {request.join_eui}; registered is {config.join_eui}{turned}",
        )
    if not verify_join(config.app_key, request):
        return Reason.BAD_MIC, f"wrong AppKey: the join-request of {eui} does not verify"
    if request.dev_nonce not in device.dev_nonces:
        return None
    if device.last_join_nonce == request.dev_nonce and now.mono_ns - device.last_join_ns < SAME_MOMENT_NS:
        return Reason.DUPLICATE, f"join-request of {eui} heard twice"
    return (
        Reason.DEV_NONCE_USED,
        f"DevNonce {request.dev_nonce} was used before: {eui} starts its nonces over, or somebody repeats an"
        " old join-request",
    )


class Joiner:
    """Grants joins: picks address and JoinNonce, derives the keys, builds the join-accept."""

    def __init__(
        self,
        region: Region,
        net_id: NetID,
        settings: Settings,
        writer: store.Store,
        rng: Random,
        join_nonce: int,
    ) -> None:
        self._region = region
        self._net_id = net_id
        self._settings = settings
        self._store = writer
        self._rng = rng
        # One counter for all devices: it rises for each of them too, and outlives a device's removal.
        self._join_nonce = ReservedCounter(join_nonce, join_nonce)
        self._rx2_dr = region.rx2[1] if settings.rx2_dr is None else settings.rx2_dr
        self._cflist = adr.cflist(region, settings.cflist_hz, settings.uplink_channels)

    @property
    def exhausted(self) -> bool:
        return self._join_nonce.next > MAX_JOIN_NONCE

    def session(
        self,
        device: Device,
        number: int,
        dev_addr: DevAddr,
        keys: SessionKeys,
        v1_1: bool = False,
    ) -> Session:
        """A fresh session with this network's settings; its first downlink counters count as reserved."""
        settings = self._settings
        session = Session(
            id=number,
            device=device,
            dev_addr=dev_addr,
            keys=keys,
            v1_1=v1_1,
            fcnt_down_app=ReservedCounter(0, COUNTER_BLOCK) if v1_1 else None,
            rx1_delay_s=settings.rx1_delay_s,
            rx1_dr_offset=settings.rx1_dr_offset,
            rx2_dr=self._rx2_dr,
            fcnt_down=ReservedCounter(0, COUNTER_BLOCK),
        )
        if device.config.activation is Activation.ABP:
            # Such a device was never told otherwise: it has the region's own values.
            session.rx1_delay_s, session.rx1_dr_offset, session.rx2_dr = 1, 0, self._region.rx2[1]
        return session

    def grant(
        self, device: Device, request: JoinRequest, number: int, taken: Container[int], now: Instant
    ) -> tuple[Session, list[Session], bytes, Writes]:
        """The new pending session, the ones that fell out for it, the join-accept, and what must be durable
        before that leaves.
        """
        app_key = device.config.app_key
        assert app_key is not None
        join_nonce, _, moved = self._join_nonce.take()
        keys = derive_session_keys(app_key, join_nonce, self._net_id, request.dev_nonce)
        session = self.session(device, number, self._address(taken), keys)
        if self._region.fixed_plan and self._settings.uplink_channels is not None:
            # The CFList carries the channel masks.
            session.mac.channel_plan = adr.plan_number(self._settings.uplink_channels)
        accept = JoinAccept(
            join_nonce=join_nonce,
            net_id=self._net_id,
            dev_addr=session.dev_addr,
            rx1_dr_offset=session.rx1_dr_offset,
            rx2_dr=session.rx2_dr,
            rx_delay_s=session.rx1_delay_s,
            cflist=self._cflist,
        )
        high, used = device.dev_nonces.add(request.dev_nonce)
        device.last_join_ns, device.last_join_nonce = now.mono_ns, request.dev_nonce
        writes: Writes = [
            store.dev_nonce(device.dev_eui, high, used),
            self._store.session_added(session, pending=True),
        ]
        if moved:
            writes.append(store.counter(store.JOIN_NONCE, self._join_nonce.ceiling))
        device.pending.append(session)
        dropped = device.pending[:-MAX_PENDING_SESSIONS]
        del device.pending[:-MAX_PENDING_SESSIONS]
        for old in dropped:
            writes += store.session_gone(old)
        return session, dropped, build_join_accept(app_key, accept), writes

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
    """Takes every join-request off the air."""

    def __init__(
        self,
        region: Region,
        settings: Settings,
        registry: Registry,
        counters: Counters,
        joiner: Joiner,
        answerer: Answerer,
        mac_layer: MacLayer,
    ) -> None:
        self._region = region
        self._settings = settings
        self._registry = registry
        self._counters = counters
        self._joiner = joiner
        self._answerer = answerer
        self._mac = mac_layer

    def take(self, request: JoinRequest, rx: RxPacket, now: Instant) -> Outcome:
        registry = self._registry
        device = registry.devices.get(request.dev_eui)
        if device is None:
            reason, words = refusal_of_unknown(request.dev_eui, registry.devices)
            return self._counters.reject(reason, words, rx, dev_eui=request.dev_eui)
        refused = refusal(device, request, now)
        if refused is None and self._joiner.exhausted:
            refused = Reason.JOIN_NONCES_USED_UP, "this gateway has no JoinNonce left"
        if refused is not None:
            reason, words = refused
            blamed = None if reason is Reason.DUPLICATE else device
            return self._counters.reject(reason, words, rx, blamed, dev_eui=request.dev_eui)
        session, dropped, phy, writes = self._joiner.grant(
            device, request, registry.next_session(), registry.sessions, now
        )
        for old in dropped:
            registry.forget(old)
        self._mac.adopt(session)
        registry.know(session)
        self._counters.joins += 1
        device.problem = ""
        windows = join_windows(self._region, self._settings, rx)
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
