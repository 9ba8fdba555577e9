"""Which mistake with a key would make this frame verify: hypotheses, tried with the keys that are registered.

A frame that verifies under a hypothesis proves it (one in 4 billion would by chance). What is tried is bounded by
`Budget`: one test of a key costs about 6 us, all of a join-request's at most 7 ms. No key leaves this module.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from gateway.diagnosis.finding import Evidence
from gateway.diagnosis.nearly import EXAMPLE_KEYS, keys_off, keys_reversed
from gateway.diagnosis.reasons import Kind
from gateway.lorawan.crypto import SessionCrypto, SessionKeys, join_mic
from gateway.lorawan.device import Device, Session
from gateway.lorawan.frames import MAX_FCNT, DataFrame, JoinRequest, next_fcnt
from gateway.lorawan.types import AES128Key, DevAddr

TESTS_PER_S = 4000  # about 2.5 % of a core, however many frames ask for it
MOST_AT_ONCE = 8000
ALL_TESTS = 1200  # what one frame may take
OTHER_DEVICES = 400  # whose keys are tried
MORE_ROLL_OVERS = 64  # of the frame counter, beyond those that the server tries
SMALL_NONCE = 256  # a device that draws its nonces has one in 256 of them
_ROLL_OVER = 1 << 16


class Hint(NamedTuple):
    """A mistake that would explain a frame."""

    kind: Kind
    words: str
    evidence: Evidence


@dataclass(slots=True)
class Budget:
    """Tests of keys that may still be made."""

    left: float = MOST_AT_ONCE
    refused: int = 0
    _at_ns: int | None = field(default=None)

    def grant(self, now_ns: int) -> bool:
        """Whether all tests of one more frame may be made at monotonic `now_ns`."""
        if self._at_ns is not None:
            self.left = min(MOST_AT_ONCE, self.left + (now_ns - self._at_ns) / 1e9 * TESTS_PER_S)
        self._at_ns = now_ns
        if self.left < ALL_TESTS:
            self.refused += 1
            return False
        self.left -= ALL_TESTS
        return True


def signing_key(device: Device) -> AES128Key | None:
    """The root key that a join-request of this device should be signed with."""
    config = device.config
    return config.nwk_key if device.profile.version.is_1_1 and config.nwk_key else config.app_key


def of_join_request(request: JoinRequest, device: Device, others: Iterable[Device]) -> Hint | None:
    """Which key this join-request of `device` is signed with, where it is a likely mistake."""
    config, wanted = device.config, signing_key(device)
    if wanted is None:
        return None
    other = config.app_key if wanted is config.nwk_key else config.nwk_key
    if other is not None and signed(request, other):
        small = " and counts its DevNonces as 1.1 does" if request.dev_nonce < SMALL_NONCE else ""
        return Hint(
            Kind.ROOT_KEYS_EXCHANGED,
            f"{request.dev_eui} signs its join-requests with the key that is registered as its"
            f" {'AppKey' if wanted is config.nwk_key else 'NwkKey'}{small}: NwkKey and AppKey are exchanged, or the"
            " device is LoRaWAN 1.0 and has one key only",
            {"signed_with": "AppKey" if wanted is config.nwk_key else "NwkKey", "certainty": "proved"},
        )
    name = "NwkKey" if wanted is config.nwk_key else "AppKey"
    for key, what in keys_reversed(wanted):
        if signed(request, key):
            return Hint(
                Kind.APP_KEY_REVERSED,
                f"the {name} of {request.dev_eui} is right but for the order of {what}, which is reversed",
                {"reversed": what, "certainty": "proved"},
            )
    for key in EXAMPLE_KEYS:
        if signed(request, key):
            return Hint(
                Kind.APP_KEY_EXAMPLE,
                f"{request.dev_eui} signs with a key out of a manual, not with the registered {name}",
                {"certainty": "proved"},
            )
    for key, mistake in keys_off(wanted):
        if signed(request, key):
            return Hint(
                Kind.APP_KEY_DIGITS,
                f"the registered {name} of {request.dev_eui} and the device's differ in one place: {mistake}",
                {"where": mistake, "certainty": "proved"},
            )
    for neighbour in islice(others, OTHER_DEVICES):
        theirs = signing_key(neighbour)
        if theirs is not None and neighbour is not device and signed(request, theirs):
            whose = neighbour.config.name or str(neighbour.dev_eui)
            return Hint(
                Kind.APP_KEY_OF_ANOTHER,
                f"{request.dev_eui} signs with the {name} that is registered for {whose}",
                {"key_of": str(neighbour.dev_eui), "certainty": "proved"},
            )
    return None


def of_data(frame: DataFrame, session: Session, freq_hz: int) -> Hint | None:
    """Which key of a data frame was mistaken for which, where it carries the address of `session`."""
    addr = frame.dev_addr
    name = "FNwkSIntKey" if session.v1_1 else "NwkSKey"
    whose, keys = session.device.dev_eui, session.keys
    for fcnt in _counters(session, frame):
        mic = _mic(keys.f_nwk_s_int, addr, fcnt, frame)
        if session.v1_1:
            if mic == frame.mic:
                return Hint(
                    Kind.IS_1_0,
                    f"{whose} signs its data as LoRaWAN 1.0 does, and is registered as 1.1",
                    {"fcnt": fcnt, "certainty": "proved"},
                )
            if mic[:2] == frame.mic[2:]:
                return _half(session, fcnt, freq_hz)
        elif mic[:2] == frame.mic[2:] and mic != frame.mic:
            return Hint(
                Kind.IS_1_1,
                f"{whose} signs its data as LoRaWAN 1.1 does, and is registered as 1.0",
                {"fcnt": fcnt, "certainty": "likely"},
            )
        for kind, key, words in _candidates(session, name):
            if _verifies(key, addr, fcnt, frame, v1_1=session.v1_1):
                return Hint(kind, words, {"fcnt": fcnt, "certainty": "proved"})
    if session.v1_1:
        return None
    for later in _later(session, frame):
        if _verifies(keys.f_nwk_s_int, addr, later, frame):
            before = session.fcnt_up
            return Hint(
                Kind.COUNTER_GAP,
                f"{whose} counts {later}, and was last heard at {before}: that is further than can be bridged",
                {"fcnt": later, "last_fcnt": before, "certainty": "proved"},
            )
    fcnt = next(_counters(session, frame))
    for key, mistake in keys_off(keys.f_nwk_s_int):
        if _verifies(key, addr, fcnt, frame):
            return Hint(
                Kind.NWK_S_KEY_DIGITS,
                f"the registered {name} of {whose} and the device's differ in one place: {mistake}",
                {"where": mistake, "certainty": "proved"},
            )
    return None


def _half(session: Session, fcnt: int, freq_hz: int) -> Hint:
    """The forwarding half of a 1.1 code is right, the serving half, which covers channel and data rate, is not."""
    whose, evidence = session.device.dev_eui, {"fcnt": fcnt, "certainty": "likely"}
    if session.mac.channels.index(freq_hz) is None:
        words = f"{whose} sends on {freq_hz / 1e6:.10g} MHz, a channel that it was not given"
        return Hint(Kind.CHANNEL_UNKNOWN, words, evidence)
    return Hint(
        Kind.NWK_S_KEY_WRONG,
        f"half of the frame's code verifies: the FNwkSIntKey of {whose} is right, its SNwkSIntKey is not",
        evidence,
    )


def belongs_to(frame: DataFrame, session: Session) -> bool:
    """Whether a frame of another address is this session's, but for the address that was registered."""
    if session.v1_1:
        return False
    counters = _counters(session, frame)
    return any(_verifies(session.keys.f_nwk_s_int, frame.dev_addr, fcnt, frame) for fcnt in counters)


def signed_with_root_key(frame: DataFrame, device: Device) -> bool:
    """Whether data is signed with what is registered as an OTAA device's root key: its keys are fixed (ABP)."""
    key = device.config.app_key
    return key is not None and _verifies(key, frame.dev_addr, frame.fcnt, frame)


def app_s_keys(session: Session) -> Iterator[tuple[SessionCrypto, str]]:
    """Ciphers of likely mistakes for the AppSKey."""
    keys = session.keys
    for key, what in keys_reversed(keys.app_s):
        yield _crypto(session.dev_addr, keys.f_nwk_s_int, key), f"the order of {what} is reversed"
    yield (
        _crypto(session.dev_addr, keys.f_nwk_s_int, keys.f_nwk_s_int),
        "the device uses its NwkSKey as AppSKey",
    )


def _candidates(session: Session, name: str) -> Iterator[tuple[Kind, AES128Key, str]]:
    keys, whose = session.keys, session.device.dev_eui
    for key, what in keys_reversed(keys.f_nwk_s_int):
        yield (
            Kind.NWK_S_KEY_REVERSED,
            key,
            f"the {name} of {whose} is right but for the order of {what}, which is reversed",
        )
    others = [("AppSKey", keys.app_s)]
    if session.v1_1:
        others += [("SNwkSIntKey", keys.s_nwk_s_int), ("NwkSEncKey", keys.nwk_s_enc)]
    for other, key in others:
        yield (
            Kind.SESSION_KEYS_EXCHANGED,
            key,
            f"{whose} signs with the key that is registered as its {other}: {name} and {other} are exchanged",
        )


def _counters(session: Session, frame: DataFrame) -> Iterator[int]:
    """The counters that a frame may have, the likely one first: as the next of the session, or as a fresh one's."""
    following = next_fcnt(session.fcnt_up, frame.fcnt)
    yield following
    if following != frame.fcnt:
        yield frame.fcnt


def _later(session: Session, frame: DataFrame) -> Iterator[int]:
    following = next_fcnt(session.fcnt_up, frame.fcnt)
    for turn in range(2, 2 + MORE_ROLL_OVERS):
        later = following + turn * _ROLL_OVER
        if later <= MAX_FCNT:
            yield later


def signed(request: JoinRequest, key: AES128Key) -> bool:
    """Whether this key makes the code of a join-request."""
    return hmac.compare_digest(join_mic(key, request.message), request.mic)


def _crypto(dev_addr: int, nwk_s_key: AES128Key, app_s_key: AES128Key) -> SessionCrypto:
    return SessionCrypto(DevAddr(dev_addr), SessionKeys.of_1_0(nwk_s_key, app_s_key))


def _mic(key: AES128Key, dev_addr: int, fcnt: int, frame: DataFrame) -> bytes:
    return _crypto(dev_addr, key, key).uplink_mic(fcnt, frame.message)


def _verifies(key: AES128Key, dev_addr: int, fcnt: int, frame: DataFrame, *, v1_1: bool = False) -> bool:
    """With the network's half of a 1.1 code only, which is all that one key makes."""
    mic = _mic(key, dev_addr, fcnt, frame)
    return hmac.compare_digest(mic[:2], frame.mic[2:]) if v1_1 else hmac.compare_digest(mic, frame.mic)
