"""Downlinks leave by the link that reaches the gateway; the safer one is asked first."""

from dataclasses import dataclass, field
from typing import Any, cast

from gateway.links import Links
from gateway.lorawan.server import Downlink

DOWNLINK = cast(Downlink, object())


@dataclass
class OneLink:
    known: set[bytes]
    taken: list[bytes] = field(default_factory=list)

    def reaches(self, eui: bytes) -> bool:
        return eui in self.known

    def reachable(self) -> list[bytes]:
        return sorted(self.known)

    def transmit(self, downlink: Any, eui: bytes) -> None:
        self.taken.append(eui)


def test_a_downlink_leaves_by_the_first_link_that_reaches_its_gateway() -> None:
    station, gwmp = OneLink({b"a", b"both"}), OneLink({b"b", b"both"})
    links = Links()
    links.use(station, gwmp)
    for eui in (b"a", b"b", b"both", b"nobody"):
        links.transmit(DOWNLINK, eui)
    assert station.taken == [b"a", b"both"]
    assert gwmp.taken == [b"b", b"nobody"], "the last one reports what nobody reaches"
    assert links.only() == b"a"
    assert [links.reaches(eui) for eui in (b"a", b"b", b"nobody")] == [True, True, False]


def test_who_takes_over_from_nobody_reaches_nobody() -> None:
    assert not Links().reaches(b"a")
    assert Links().only() == b""
