"""The TLS of the doors while they are open: their certificate, the authorities of clients, and what time does to both.

Without a certificate in the settings the gateway's own authority makes one, and makes it anew for other names or
addresses, and before its end. Certificates in files are read again when the files change. Neither needs a restart:
connections to come are shown the new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from gateway.errors import StartFailed
from gateway.hosts import own_names
from gateway.settings import TlsSection
from hub.authority import profile
from hub.authority.profile import Names
from hub.errors import HubError
from hub.hub import Hub
from hub.timekeeping import TRUSTED
from hub.tls import TlsError, door_context, load_pair, load_pem, trust

log = logging.getLogger(__name__)

LOOK_S = 30.0  # how late a certificate's end, another address or a changed file may be noticed


class DoorTls:
    """`context` is for listeners; `run` keeps it right."""

    def __init__(self, section: TlsSection, hub: Hub, names: Callable[[], Names] | None = None) -> None:
        """Nothing is made or read yet: `open` does."""
        self._section = section
        self._hub = hub
        self._names = names or (lambda: own_names(section.names))
        self._authority = hub.registry.authority
        self._authority.strict = section.undated == "refuse"
        self._loop = asyncio.get_running_loop()
        self._seen: tuple[float, ...] = ()

    async def open(self) -> None:
        """Make or read the certificate. Raises StartFailed."""
        section = self._section
        self._authority.names = self._names()
        try:
            await asyncio.to_thread(self._make)
            self.context = door_context(
                self._authority.trusted(),
                client_ca_file=section.client_ca_file,
                client_cert_required=section.client_cert_required,
            )
            self._show()
        except HubError as error:
            raise StartFailed(f"[tls]: {error}") from error
        self._authority.on_server_change = lambda: self._loop.call_soon_threadsafe(self._changed)

    async def run(self) -> None:
        """Look at time, names and files again and again; runs until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Do what is due now; what cannot be done is logged and tried again."""
        now_s, trusted = self._now()
        try:
            await asyncio.to_thread(self._hub.registry.certificates.look, now_s if trusted else None)
            self._authority.names = self._names()
            if not self._section.cert_file:
                await asyncio.to_thread(self._make)
            elif self._times() != self._seen:
                self._show()
                log.info("the certificate in %s was read again", self._section.cert_file)
        except HubError as error:
            log.error("[tls]: %s", error)

    def _make(self) -> None:
        """In a thread: the authority is there from the first start on, and where it is wanted a certificate."""
        now_s, trusted = self._now()
        if self._section.cert_file:
            self._authority.ensure(now_s)
        elif self._authority.server_is_due(now_s, trusted=trusted):
            held = self._authority.new_server(now_s)
            names = profile.names_of(held.certificate)
            log.info("a new certificate for the doors: %s", ", ".join((*names.hosts, *names.addresses)))

    def _changed(self) -> None:
        try:
            trust(self.context, self._authority.trusted())
            self._show()
        except (HubError, OSError) as error:  # ssl.SSLError is one
            log.error("[tls]: %s", error)

    def _show(self) -> None:
        """Raises TlsError."""
        if self._section.cert_file:
            self._seen = self._times()
            load_pair(self.context, self._section.cert_file, self._section.key_file)
            return
        server = self._authority.server
        pair = self._authority.key_of(server) if server is not None else None
        if server is None or pair is None:
            raise TlsError("the gateway's own certificate is not there yet")
        chain = [
            held.certificate
            for held in self._authority.generations()
            if held.certificate.subject == server.certificate.issuer
        ]
        load_pem(self.context, profile.pem([server.certificate, *chain]) + profile.key_pem(pair.key))

    def _times(self) -> tuple[float, ...]:
        """When the files were changed; 0 for one that is not there."""
        files = (Path(self._section.cert_file), Path(self._section.key_file))
        return tuple(file.stat().st_mtime if file.exists() else 0.0 for file in files)

    def _now(self) -> tuple[float, bool]:
        now_ns, quality = self._hub.clock()
        return now_ns / 1e9, quality in TRUSTED
