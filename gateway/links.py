"""The links that downlinks leave by: whichever reaches the gateway that heard the uplink."""

from __future__ import annotations

from typing import Protocol

from gateway.lorawan.server import Downlink


class Link(Protocol):
    """One way to gateways: GWMP, or the LNS of Basics Station."""

    def reaches(self, eui: bytes) -> bool: ...
    def reachable(self) -> list[bytes]: ...
    def transmit(self, downlink: Downlink, eui: bytes) -> None: ...


class Links:
    """`gateway.downlinks.Transmitter` over several links; the safer ones come first, and the last takes the rest.

    A gateway that is connected over TLS is never answered over GWMP: anyone can send a datagram in its name. The last
    link reports a downlink as failed that is for nobody it reaches.
    """

    def __init__(self, *links: Link) -> None:
        self._links = links

    def use(self, *links: Link) -> None:
        """Work with these from now on: links are made for a receiver that may ask what they reach."""
        self._links = links

    def reaches(self, eui: bytes) -> bool:
        """Whether a downlink can be ordered from the gateway `eui`."""
        return any(link.reaches(eui) for link in self._links)

    def only(self) -> bytes:
        """A gateway for a device that none has heard since the start: the first there is; b"" where none is there."""
        return next((eui for link in self._links for eui in link.reachable()), b"")

    def transmit(self, downlink: Downlink, eui: bytes) -> None:
        """Order a downlink from the gateway `eui`, by its link."""
        link = next((link for link in self._links if link.reaches(eui)), self._links[-1])
        link.transmit(downlink, eui)
