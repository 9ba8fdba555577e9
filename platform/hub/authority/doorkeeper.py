"""Doors and the authority: each door over TLS has an entrance that asks here whom a certificate stands for.

What is refused, and why, goes to the audit log once, whether OpenSSL or the judgement refused it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from cryptography import x509

from hub.errors import HubError
from hub.timekeeping import TRUSTED

from . import profile
from .entrance import HANDSHAKE_S, Entrance
from .judge import Clock, Shown, judge

if TYPE_CHECKING:
    from hub.hub import Hub

log = logging.getLogger("hub.authority")

MAX_TOLD = 10_000  # certificates whose use with an unset clock is in the audit log since this start


class Doorkeeper:
    """Judges the client certificates of one listener."""

    def __init__(self, hub: Hub, context: ssl.SSLContext, door: str) -> None:
        """`context` holds the foreign authorities of the settings; `door` is its name in the audit log."""
        self._hub = hub
        self._door = door
        authority = hub.registry.authority
        known = {profile.der(certificate) for certificate in authority.trusted()}
        self._configured = frozenset(context.get_ca_certs(binary_form=True)) - known
        self._noting: set[asyncio.Task[None]] = set()
        self._told: set[str] = set()

    def judge(self, chain: list[bytes], address: str) -> Shown:
        """Whom a verified chain stands for."""
        registry = self._hub.registry
        shown = judge(chain, registry.authority, registry.certificates, self._clock(), self._configured)
        if shown.refusal:
            self._record("refused", address, shown, shown.refusal)
        elif shown.unchecked and shown.serial not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(shown.serial)
            words = "accepted without a look at its dates: the gateway's clock is not set"
            self._record("allowed", address, shown, words)
        if shown.serial and not shown.refusal:
            self._note_use(shown.serial)
        return shown

    def passed_on(self, escaped: str, address: str) -> Shown:
        """Whom a certificate stands for that a trusted proxy has verified, in its form of URL-encoded PEM.

        Only one of our own authority counts: there is no chain to look at, so it is compared with what was made here.
        """
        authority = self._hub.registry.authority
        try:
            leaf = x509.load_pem_x509_certificate(unquote_to_bytes(escaped))
        except (ValueError, TypeError, x509.InvalidVersion):
            why = "the client certificate is refused: what the proxy passes on cannot be read"
            self.failed(address, why)
            return Shown(refusal=why)
        root = next((each.encoded for each in authority.own() if authority.of_own(each.encoded)), b"")
        return self.judge([profile.der(leaf), *((root,) if root else ())], address)

    def failed(self, address: str, why: str) -> None:
        """A handshake ended because of the certificate."""
        self._record("refused", address, Shown(), why)

    def _clock(self) -> Clock:
        now_ns, quality = self._hub.clock()
        return Clock(now_ns / 1e9, quality in TRUSTED, self._hub.registry.authority.strict)

    def _record(self, outcome: str, address: str, shown: Shown, detail: str) -> None:
        subject = f" ({shown.subject})" if shown.subject else ""
        self._hub.audit.record(
            "certificate",
            "refused" if outcome == "refused" else "allowed",
            who=f"things/{shown.thing}" if shown.thing else "",
            address=address,
            door=self._door,
            resource=f"certs/{shown.serial}" if shown.serial else "",
            detail=detail + subject,
        )

    def _note_use(self, serial: str) -> None:
        """Keep that a certificate was used, the first time; in a thread, since it is a commit."""
        one = self._hub.registry.certificates.get(serial)
        if one is None or one.used_s:
            return
        task = asyncio.get_running_loop().create_task(
            self._keep_use(serial), name="first use of a certificate"
        )
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    async def _keep_use(self, serial: str) -> None:
        clock = self._clock()
        note = self._hub.registry.certificates.note_use
        try:
            await asyncio.to_thread(note, serial, clock.now_s, trusted=clock.trusted)
        except HubError as error:
            log.warning("the first use of certificate %s is not kept: %s", serial, error)


def entrance_of(
    hub: Hub,
    context: ssl.SSLContext,
    door: str,
    *,
    handshake_s: float = HANDSHAKE_S,
    turned_away: Callable[[], None] = lambda: None,
) -> Entrance:
    """The way in of a listener of `hub` over TLS."""
    keeper = Doorkeeper(hub, context, door)
    return Entrance(context, keeper.judge, keeper.failed, handshake_s=handshake_s, turned_away=turned_away)
