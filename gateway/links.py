"""The links that downlinks leave by: whichever knows the gateway that heard the uplink."""

from __future__ import annotations

from typing import Protocol

from gateway.lorawan.server import Downlink


class Link(Protocol):
    """One way to gateways: GWMP, or the LNS."""

    def knows(self, eui: bytes) -> bool: ...
    def transmit(self, downlink: Downlink, eui: bytes) -> None: ...


class Last(Protocol):
    """The way that is taken where no other knows the gateway; it reports those it does not know as failed."""

    def transmit(self, downlink: Downlink, eui: bytes) -> None: ...


class Links:
    """`gateway.uplinks.Transmitter` over several links. The safer ones come first, the last takes the rest.

    A gateway that is connected over TLS is never answered over GWMP: anyone can send a datagram in its name.
    """

    def __init__(self, *known: Link, last: Last) -> None:
        self._known = known
        self._last = last

    def transmit(self, downlink: Downlink, eui: bytes) -> None:
        """Order a downlink from the gateway `eui`, by its link."""
        link = next((link for link in self._known if link.knows(eui)), self._last)
        link.transmit(downlink, eui)
