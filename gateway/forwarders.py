"""Which packet forwarders the GWMP server listens to. Pure.

GWMP authenticates nobody: whoever reaches the port can hand in frames and ask for downlinks in the name of any
gateway. Devices' frames carry a MIC, so nothing false gets past the LoRaWAN server; but a stranger can take over
the way downlinks go, or fill the list of gateways. Against that there are a list of allowed EUIs, the address that
an EUI was heard from and that it keeps while it is heard there, and bounds. It is no substitute for a link with
keys: LoRa Basics Station is one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from radio import gwmp

Address = tuple[str, int]  # of IPv6 two numbers more, which are kept

MAX_GATEWAYS = 64
MAX_OF_ONE_HOST = 16  # EUIs that no list names; some concentrators run one forwarder for each of their boards
KEEPS_ADDRESS_NS = 60_000_000_000  # of silence, after which an EUI may speak from another address
FORGOTTEN_NS = 600_000_000_000  # of silence, after which it makes room for another
SHOWN_NS = 600_000_000_000  # how long a trouble is told of
RESTART_US = 2_000_000  # by which the counter of a gateway that did not restart never is off
_HALF = gwmp.U32 // 2


class Refusal(StrEnum):
    """Why a datagram is not listened to."""

    NOT_ALLOWED = "not_allowed"
    OTHER_ADDRESS = "other_address"
    TOO_MANY = "too_many"


@dataclass(slots=True)
class Forwarder:
    """One packet forwarder as the server knows it."""

    eui: bytes
    host: str
    last_seen_ns: int  # monotonic
    downlink_address: Address | None = None  # of the last PULL_DATA
    received: int = 0
    sent: int = 0
    stat: gwmp.Stat | None = None
    moves: int = 0  # times it came back from another address
    restarts: int = 0  # jumps of its counter
    rival: str = ""  # another address that spoke in its name
    rival_ns: int = 0
    tmst: int | None = None  # of a frame of late
    tmst_ns: int = 0  # when that came

    def heard(self, tmst: int, now_ns: int) -> None:
        """Note a frame: where the gateway's counter does not show what it should, the gateway has restarted."""
        if self.tmst is not None:
            passed_us = (now_ns - self.tmst_ns) // 1000
            off_us = (tmst - self.tmst - passed_us + _HALF) % gwmp.U32 - _HALF
            self.restarts += not -RESTART_US < off_us < RESTART_US
        self.tmst, self.tmst_ns = tmst, now_ns

    def problem(self, now_ns: int) -> str:
        """A sentence where somebody else speaks in this gateway's name; else empty."""
        if not self.rival or now_ns - self.rival_ns > SHOWN_NS:
            return ""
        return (
            f"{self.rival} speaks in the name of this gateway, which is at {self.host}: it is not listened to. Two "
            "gateways with one EUI, or a forgery; give each its own EUI, or have it use LoRa Basics Station"
        )


class Forwarders:
    """The forwarders that are listened to, by EUI."""

    def __init__(self, allowed: Collection[bytes] = ()) -> None:
        """`allowed`: the EUIs that may speak; without any, all may, as far as there is room for them."""
        self.allowed = frozenset(allowed)
        self.known: dict[bytes, Forwarder] = {}
        self._refused: dict[Refusal, tuple[bytes, str, int]] = {}  # the last: EUI, host and when

    def admit(self, eui: bytes, host: str, now_ns: int) -> Forwarder | Refusal:
        """The forwarder that sent a datagram, or why it is not listened to."""
        found = self.known.get(eui)
        if found is not None and found.host == host:
            found.last_seen_ns = now_ns
            return found
        refusal = self._refusal(found, eui, host, now_ns)
        if refusal is not None:
            self._refused[refusal] = eui, host, now_ns
            return refusal
        if found is None:
            found = self.known[eui] = Forwarder(eui, host, now_ns)
        else:
            found.host, found.last_seen_ns, found.downlink_address = host, now_ns, None
            found.moves += 1
        return found

    def problems(self, now_ns: int) -> list[str]:
        """Sentences on what was refused of late, with the remedy."""
        found = [words for each in self.known.values() if (words := each.problem(now_ns))]
        for refusal, words in _WORDS.items():
            eui, host, at_ns = self._refused.get(refusal, (b"", "", 0))
            if eui and now_ns - at_ns <= SHOWN_NS:
                found.append(words.format(eui=eui.hex(), host=host))
        return found

    def _refusal(self, found: Forwarder | None, eui: bytes, host: str, now_ns: int) -> Refusal | None:
        """Why an EUI that is new, or heard from a new address, is not listened to. May make room for it."""
        if self.allowed and eui not in self.allowed:
            return Refusal.NOT_ALLOWED
        if found is not None:
            if now_ns - found.last_seen_ns >= KEEPS_ADDRESS_NS:
                return None
            found.rival, found.rival_ns = host, now_ns
            return Refusal.OTHER_ADDRESS
        if not self.allowed:
            of_host = sum(each.host == host for each in self.known.values())
            if of_host >= MAX_OF_ONE_HOST and not self._make_room(now_ns, host):
                return Refusal.TOO_MANY
            if len(self.known) >= MAX_GATEWAYS and not self._make_room(now_ns):
                return Refusal.TOO_MANY
        return None

    def _make_room(self, now_ns: int, host: str | None = None) -> bool:
        """Forget the longest silent one (of a host), if it has been silent for long."""
        candidates = [each for each in self.known.values() if host in (None, each.host)]
        oldest = min(candidates, key=lambda each: each.last_seen_ns)
        if now_ns - oldest.last_seen_ns < FORGOTTEN_NS:
            return False
        del self.known[oldest.eui]
        return True


_WORDS = {
    Refusal.NOT_ALLOWED: (
        "gateway {eui} at {host} is not listened to: add it to `gateways` in [lorawan] if it is yours"
    ),
    Refusal.TOO_MANY: (
        "gateway {eui} at {host} is not listened to: there are too many of them already; "
        "name yours in `gateways` of [lorawan]"
    ),
}
