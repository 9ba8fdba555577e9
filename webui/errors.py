"""What can go wrong between the pages and the gateway; each error knows how a page tells it."""

from __future__ import annotations


class GatewayError(Exception):
    """The gateway's REST API did not do what a page asked for."""


class GatewayDown(GatewayError):
    """No usable answer: the service is stopped, starting, too slow, or speaks another version."""


class SignedOut(GatewayError):
    """The gateway no longer accepts this session's token."""


class Refused(GatewayError):
    """The gateway answered with a problem (RFC 9457): its words are shown to the user."""

    def __init__(self, status: int, title: str, detail: str, totp: bool = False) -> None:
        """`totp`: the password was right, and a code of the authenticator app is missing or wrong."""
        super().__init__(detail or title)
        self.totp = totp
        self.status = status
        self.title = title
        self.detail = detail
