"""The join server: the one place where root keys are used.

The network server asks it a `JoinQuestion`, everything it has settled itself about a join or rejoin, and gets a
`JoinGrant`, the sealed join-accept with the session's keys, or a `JoinRefusal` in words. `LocalJoinServer` is the one
inside this gateway. One elsewhere, a vendor's on the internet say, would stand behind the same `JoinServer`: see
docs/lorawan.md. Sections are those of LoRaWAN 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gateway.lorawan import store
from gateway.lorawan.clock import Instant
from gateway.lorawan.crypto import (
    SessionKeys,
    derive_session_keys,
    derive_session_keys_1_1,
    join_server_keys,
)
from gateway.lorawan.device import Activation, Device, ReservedCounter
from gateway.lorawan.frames import (
    JoinAccept,
    JoinReqType,
    JoinRequest,
    RejoinRequest,
    build_join_accept,
    verify_join,
)
from gateway.lorawan.outcome import Reason, Writes
from gateway.lorawan.profile import DevNonceRule
from gateway.lorawan.types import AES128Key, JoinEUI

MAX_JOIN_NONCE = 0xFF_FFFF  # 24 bits; at a join a second they last half a year, at one a minute 32 years
SAME_MOMENT_NS = 10**9  # a device cannot send again before its receive windows have passed
UNANSWERED = 2  # join-accepts without any uplink, after which something is wrong


@dataclass(frozen=True, slots=True)
class JoinQuestion:
    """A request off the air and what the network has chosen for the session, all but keys."""

    request: JoinRequest | RejoinRequest
    join_eui: JoinEUI
    accept: JoinAccept  # join_nonce and opt_neg are the join server's to set

    @property
    def request_type(self) -> JoinReqType:
        return JoinReqType.JOIN if isinstance(self.request, JoinRequest) else self.request.kind

    @property
    def dev_nonce(self) -> int:
        """What stands for the DevNonce in keys and codes: of a rejoin its RJcount (6.2.4.4)."""
        return self.request.dev_nonce if isinstance(self.request, JoinRequest) else self.request.rj_count


@dataclass(frozen=True, slots=True)
class JoinGrant:
    """The answer to a good request. The join-accept leaves once `writes` are durable."""

    join_accept: bytes  # PHYPayload
    keys: SessionKeys
    v1_1: bool
    writes: Writes = field(default_factory=list)
    notes: tuple[str, ...] = ()  # for the technician: what is odd about this join


@dataclass(frozen=True, slots=True)
class JoinRefusal:
    reason: Reason
    words: str  # for the technician; hold no key


class JoinServer(Protocol):
    def answer(self, question: JoinQuestion, now: Instant) -> JoinGrant | JoinRefusal:
        """Judge a request and derive the session's keys. Refusing costs nothing and keeps nothing."""
        ...


@dataclass(frozen=True, slots=True)
class _Root:
    """The key that has signed a join-request, and what that tells about its device."""

    key: AES128Key
    v1_1: bool
    note: str = ""


class LocalJoinServer:
    """Root keys, DevNonces and JoinNonces of the devices registered here."""

    def __init__(self, devices: Mapping[int, Device], join_nonce: int) -> None:
        """`join_nonce` is where counting goes on."""
        self._devices = devices
        # One counter for all devices: it rises for each of them too, and outlives a device's removal.
        self._join_nonce = ReservedCounter(join_nonce, join_nonce)

    @property
    def next_join_nonce(self) -> int:
        return self._join_nonce.next

    def skip_join_nonces(self, join_nonce: int) -> Writes:
        """A device comes that has seen JoinNonces below this one from another gateway."""
        counter = self._join_nonce
        if join_nonce <= counter.next:
            return []
        counter.next = counter.ceiling = min(join_nonce, MAX_JOIN_NONCE + 1)
        return [store.counter(store.JOIN_NONCE, counter.ceiling)]

    def answer(self, question: JoinQuestion, now: Instant) -> JoinGrant | JoinRefusal:
        device = self._devices[question.request.dev_eui]
        refused = _not_for_here(device, question)
        if refused is not None:
            return refused
        if isinstance(question.request, RejoinRequest):
            return self._rejoin(device, question, question.request, now)
        return self._join(device, question, question.request, now)

    def _join(
        self, device: Device, question: JoinQuestion, request: JoinRequest, now: Instant
    ) -> JoinGrant | JoinRefusal:
        root = _root(device, request)
        if root is None:
            return _wrong_key(device, request)
        refused = _nonce_refusal(device, request, root, now)
        if refused is None and self._join_nonce.next > MAX_JOIN_NONCE:
            refused = _USED_UP
        if refused is not None:
            return refused
        notes = [root.note] if root.note else []
        writes: Writes = []
        if _used(device, request.dev_nonce, _rising(device, root)):
            writes.append(store.dev_nonces_gone(device.dev_eui))
            device.dev_nonces.clear()
            notes.append(f"the DevNonces of {device.dev_eui} begin anew, as was allowed")
        high, used = device.dev_nonces.add(request.dev_nonce)
        writes.append(store.dev_nonce(device.dev_eui, high, used))
        device.last_join_ns, device.last_join_nonce = now.mono_ns, request.dev_nonce
        return self._grant(device, question, root.key, root.v1_1, writes, notes)

    def _rejoin(
        self, device: Device, question: JoinQuestion, request: RejoinRequest, now: Instant
    ) -> JoinGrant | JoinRefusal:
        """Type 1 is judged here, by JSIntKey and RJcount1; the others were, by the network (6.2.4.2)."""
        eui, root = device.dev_eui, device.config.nwk_key
        if root is None:
            words = f"{eui} asks to rejoin but is registered without a NwkKey: enter it, or choose a 1.0.x profile"
            return JoinRefusal(Reason.NOT_JOINED, words)
        writes: Writes = []
        if request.kind is JoinReqType.REJOIN_1:
            if not verify_join(join_server_keys(root, eui)[0], request):
                return JoinRefusal(
                    Reason.BAD_MIC, f"wrong NwkKey: the rejoin-request (type 1) of {eui} does not verify"
                )
            refused = refused_count(device, request, device.rj_count1, now)
            if refused is not None:
                return refused
        if self._join_nonce.next > MAX_JOIN_NONCE:
            return _USED_UP
        if request.kind is JoinReqType.REJOIN_1:
            device.rj_count1 = request.rj_count
            writes.append(store.rj_count1(device))
        device.last_join_ns = now.mono_ns
        return self._grant(device, question, root, True, writes, [])

    def _grant(
        self,
        device: Device,
        question: JoinQuestion,
        root: AES128Key,
        v1_1: bool,
        writes: Writes,
        notes: list[str],
    ) -> JoinGrant:
        config, asked = device.config, question.accept
        join_nonce, _, moved = self._join_nonce.take()
        if moved:
            writes.append(store.counter(store.JOIN_NONCE, self._join_nonce.ceiling))
        accept = JoinAccept(
            join_nonce=join_nonce,
            net_id=asked.net_id,
            dev_addr=asked.dev_addr,
            rx1_dr_offset=asked.rx1_dr_offset,
            rx2_dr=asked.rx2_dr,
            rx_delay_s=asked.rx_delay_s,
            cflist=asked.cflist,
            opt_neg=v1_1,
        )
        nonce = question.dev_nonce
        if not v1_1:
            keys = derive_session_keys(root, join_nonce, asked.net_id, nonce)
            return JoinGrant(build_join_accept(root, accept), keys, False, writes, tuple(notes))
        assert config.app_key is not None
        js_int_key, js_enc_key = join_server_keys(root, device.dev_eui)
        phy = build_join_accept(
            root if question.request_type is JoinReqType.JOIN else js_enc_key,
            accept,
            js_int_key=js_int_key,
            request_type=question.request_type,
            join_eui=question.join_eui,
            dev_nonce=nonce,
        )
        keys = derive_session_keys_1_1(root, config.app_key, join_nonce, question.join_eui, nonce)
        return JoinGrant(phy, keys, True, writes, tuple(notes))


_USED_UP = JoinRefusal(Reason.JOIN_NONCES_USED_UP, "this gateway has no JoinNonce left")


def refused_count(device: Device, request: RejoinRequest, last: int, now: Instant) -> JoinRefusal | None:
    """Why a rejoin-request with this RJcount is not granted: it never comes twice (6.2.4.1, 6.2.4.2)."""
    if request.rj_count > last:
        return None
    if request.rj_count == last and now.mono_ns - device.last_join_ns < SAME_MOMENT_NS:
        return JoinRefusal(Reason.DUPLICATE, f"rejoin-request of {device.dev_eui} heard twice")
    return JoinRefusal(
        Reason.REJOIN_COUNT_USED,
        f"RJcount {request.rj_count} of {device.dev_eui} is not above the last one, {last}: somebody repeats an old"
        " rejoin-request, or the device has lost its counter and must join anew",
    )


def _not_for_here(device: Device, question: JoinQuestion) -> JoinRefusal | None:
    config, eui = device.config, device.dev_eui
    if config.activation is not Activation.OTAA or config.app_key is None:
        return JoinRefusal(Reason.NOT_OTAA, f"{eui} asks to join but is registered for ABP")
    if config.join_eui is not None and question.join_eui != config.join_eui:
        turned = " with its bytes reversed" if question.join_eui.reversed == config.join_eui else ""
        return JoinRefusal(
            Reason.JOIN_EUI_MISMATCH,
            f"{eui} joins with JoinEUI {question.join_eui}; registered is {config.join_eui}{turned}",
        )
    return None


def _root(device: Device, request: JoinRequest) -> _Root | None:
    """Which of the registered keys has signed. A 1.1 device signs with its NwkKey, a 1.0.x one with its AppKey."""
    config, wants_1_1 = device.config, device.profile.version.is_1_1
    assert config.app_key is not None
    if wants_1_1 and config.nwk_key is not None and verify_join(config.nwk_key, request):
        if config.nwk_key == config.app_key and len(device.pending) >= UNANSWERED:
            note = (
                f"{device.dev_eui} has not taken the last {len(device.pending)} join-accepts of LoRaWAN 1.1, and its"
                " two keys are the same: answered as to a 1.0.x device; if it works now, choose a 1.0.x profile"
            )
            return _Root(config.nwk_key, v1_1=False, note=note)
        return _Root(config.nwk_key, v1_1=True)
    if verify_join(config.app_key, request):
        note = ""
        if wants_1_1 and config.nwk_key is not None:
            note = (
                f"{device.dev_eui} is registered for LoRaWAN 1.1 but signs with its AppKey, as 1.0.x devices do: its"
                " session is one of 1.0.x; choose a 1.0.x profile"
            )
        elif wants_1_1:
            note = (
                f"{device.dev_eui} is registered for LoRaWAN 1.1 without a NwkKey: its session is one of 1.0.x; enter"
                " the NwkKey, or choose a 1.0.x profile"
            )
        return _Root(config.app_key, v1_1=False, note=note)
    if config.nwk_key is not None and verify_join(config.nwk_key, request):
        note = (
            f"{device.dev_eui} signs with its NwkKey, as 1.1 devices do, but its profile says"
            f" {device.profile.version}: its session is one of 1.0.x; choose a profile of version 1.1"
        )
        return _Root(config.nwk_key, v1_1=False, note=note)
    return None


def _wrong_key(device: Device, request: JoinRequest) -> JoinRefusal:
    if device.profile.version.is_1_1 and device.config.nwk_key is not None:
        words = f"wrong NwkKey: the join-request of {request.dev_eui} verifies neither with it nor with the AppKey"
    else:
        words = f"wrong AppKey: the join-request of {request.dev_eui} does not verify"
    return JoinRefusal(Reason.BAD_MIC, words)


def _rising(device: Device, root: _Root) -> bool:
    """A 1.0.x device that is registered as 1.1 draws its nonces."""
    if device.profile.version.is_1_1 and not root.v1_1:
        return device.profile.dev_nonces is DevNonceRule.RISING
    return device.profile.rising_nonces


def _used(device: Device, dev_nonce: int, rising: bool) -> bool:
    nonces = device.dev_nonces
    return dev_nonce <= nonces.highest if rising else dev_nonce in nonces


def _nonce_refusal(device: Device, request: JoinRequest, root: _Root, now: Instant) -> JoinRefusal | None:
    eui, nonce, rising = request.dev_eui, request.dev_nonce, _rising(device, root)
    if not _used(device, nonce, rising):
        return None
    if device.last_join_nonce == nonce and now.mono_ns - device.last_join_ns < SAME_MOMENT_NS:
        return JoinRefusal(Reason.DUPLICATE, f"join-request of {eui} heard twice")
    if now.wall_ns < device.nonce_restart_ns:
        return None
    if rising and nonce not in device.dev_nonces:
        words = f"DevNonce {nonce} is not above the last one, {device.dev_nonces.highest}"
    else:
        words = f"DevNonce {nonce} was used before"
    return JoinRefusal(
        Reason.DEV_NONCE_USED,
        f"{words}: {eui} starts its nonces over, or somebody repeats an old join-request",
    )
