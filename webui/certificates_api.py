"""Certificates and their authority as the API gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from webui.client import Gateway, decode

_DISK = (507, 503)  # the gateway says in words what its disk will not take


class Certificate(msgspec.Struct, frozen=True):
    """One certificate of a thing; times as RFC 3339."""

    serial: str
    thing_id: str = ""
    state: str = ""  # good revoked over
    fingerprint: str = ""
    issued_at: str = ""
    expires_at: str = ""
    used_at: str = ""
    revoked_at: str = ""
    reason: str = ""
    renews: str = ""
    certificate: str = ""  # PEM, where it was asked for by itself


class Made(msgspec.Struct, frozen=True):
    """A certificate that was just made."""

    serial: str
    thing_id: str
    certificate: str
    authority: str
    expires_at: str = ""
    private_key: str = ""

    def __repr__(self) -> str:
        return f"Made({self.serial})"


class Listed(msgspec.Struct, frozen=True):
    total: int = 0
    certs: list[Certificate] = []


class AuthorityCertificate(msgspec.Struct, frozen=True):
    """Root, issuing authority, the gateway's own, or of others."""

    id: int = 0
    subject: str = ""
    fingerprint: str = ""
    ends_at: str = ""
    names: list[str] = []


class Authorities(msgspec.Struct, frozen=True):
    root: AuthorityCertificate | None = None
    root_key_here: bool = False
    issuing: list[AuthorityCertificate] = []
    server: AuthorityCertificate | None = None
    foreign: list[AuthorityCertificate] = []
    warnings: list[str] = []


class Thing(msgspec.Struct, frozen=True):
    id: str
    name: str = ""


class _Things(msgspec.Struct, frozen=True):
    things: list[Thing] = []


@dataclass(frozen=True, slots=True)
class CertificatesApi:
    """The part of the API that is about certificates; raises what `Gateway` raises."""

    gateway: Gateway

    def certificates(self, asked: Mapping[str, str]) -> Listed:
        return decode(Listed, self._answer("GET", "/certs", params=asked))

    def certificate(self, serial: str) -> Certificate:
        return decode(Certificate, self._answer("GET", f"/certs/{serial}"))

    def make(self, thing_id: str, csr: str) -> Made:
        body = {"thing_id": thing_id, **({"csr": csr} if csr else {})}
        return decode(Made, self._answer("POST", "/certs", body))

    def revoke(self, serial: str, reason: str) -> None:
        self._answer("DELETE", f"/certs/{serial}", params={"reason": reason} if reason else None)

    def authorities(self) -> Authorities:
        return decode(Authorities, self._answer("GET", "/certs/authorities"))

    def authority(self) -> bytes:
        """The root's certificate, PEM."""
        return self._answer("GET", "/certs/authority")

    def follow(self) -> None:
        self._answer("POST", "/certs/authority/successor")

    def things(self) -> list[Thing]:
        """The first hundred, by name: to choose from."""
        return decode(
            _Things, self._answer("GET", "/things", params={"limit": "100", "order": "name"})
        ).things

    def thing(self, thing_id: str) -> Thing:
        return decode(Thing, self._answer("GET", f"/things/{thing_id}"))

    def _answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> bytes:
        return self.gateway.answer(method, path, body, params, refused=_DISK).content


def unix_s(moment: str) -> float:
    """A time of the API in unix seconds; 0 for one that is left out."""
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0
