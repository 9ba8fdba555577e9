"""`/certs/authority` and what belongs to it: what clients trust, the deny list for others, and the keys behind both.

The authority's certificate and the deny list are open: they hold nothing secret, and a device needs the one before it
can show who it is.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.authority import profile
from hub.authority.generations import MAX_PASSPHRASE, MAX_PEM, MIN_PASSPHRASE, Authority, Held
from hub.http.auth import hub_of, now_s
from hub.http.body import decode_json, read_json
from hub.http.certs import NO_STORE, moment
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Media, Needs

PEM_FILE = "application/x-pem-file"
_TEXT = {"type": "string"}

Pem = Annotated[str, Meta(max_length=MAX_PEM)]
Passphrase = Annotated[str, Meta(max_length=MAX_PASSPHRASE)]


class AuthorityView(Struct):
    """A certificate of an authority, or the gateway's own."""

    id: int
    subject: str
    fingerprint: str  # SHA-256, in the form that browsers and openssl show
    begins_at: str
    ends_at: str
    names: list[str] = []  # hosts and addresses, of the gateway's own


class AuthoritiesView(Struct):
    """All that the gateway signs with and trusts."""

    root: AuthorityView | None
    root_key_here: bool
    issuing: list[AuthorityView]  # the last one is at work
    server: AuthorityView | None
    foreign: list[AuthorityView]
    warnings: list[str]


class Foreign(Struct):
    """Certificates of authorities whose certificates name things, PEM."""

    certificates: Pem


class RootKey(Struct):
    """The root's key as it was exported, and the passphrase it was exported with."""

    key: Pem
    passphrase: Passphrase = ""


class Export(Struct):
    """The passphrase that the key is encrypted with."""

    passphrase: Annotated[str, Meta(min_length=MIN_PASSPHRASE, max_length=MAX_PASSPHRASE)]


class Exported(Struct):
    """The root's certificate and its encrypted key, PEM."""

    pem: str


class Succession(Struct):
    """The root's key, where it is not on the gateway."""

    key: Pem = ""
    passphrase: Passphrase = ""


async def certificate(request: Request) -> Response:
    """`GET /certs/authority`: the root's certificate, which devices and people trust."""
    root = _authority(request).root
    if root is None:
        raise Problem(404, "there is no authority yet: it is made with the first certificate")
    headers = {
        "content-disposition": 'attachment; filename="gateway-authority.pem"',
        "x-fingerprint-sha256": fingerprint(root.certificate),
    }
    return Response(profile.pem([root.certificate]), media_type=PEM_FILE, headers=headers)


async def deny_list(request: Request) -> Response:
    """`GET /certs/deny-list`: certificates that count no more, as CRLs, one for each authority."""
    lists = await asyncio.to_thread(hub_of(request).registry.certificates.lists, now_s(request))
    if not lists:
        raise Problem(404, "there is no authority yet: it is made with the first certificate")
    text = b"".join(x509.load_der_x509_crl(each).public_bytes(Encoding.PEM) for each in lists)
    return Response(text, media_type=PEM_FILE)


async def show(request: Request) -> Response:
    """`GET /certs/authorities`: root, issuing authorities, the gateway's own certificate, authorities of others."""
    authority = _authority(request)
    return json_response(
        AuthoritiesView(
            _view(authority.root) if authority.root else None,
            authority.root_key_here(),
            [_view(held) for held in authority.generations()],
            _view(authority.server) if authority.server else None,
            [_view(held) for held in authority.foreign()],
            authority.warnings(now_s(request)),
        )
    )


async def add_foreign(request: Request) -> Response:
    """`POST /certs/authorities`: trust authorities of others; their certificates name things from now on."""
    wanted = await read_json(request, Foreign)
    await asyncio.to_thread(_authority(request).add_foreign, wanted.certificates, now_s(request))
    _note(request, "authorities of others are trusted")
    return await show(request)


async def remove_foreign(request: Request) -> Response:
    """`DELETE /certs/authorities/<id>`: trust an authority of others no longer."""
    number = request.path_params["id"]
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise Problem(404, "no such imported authority")
    await asyncio.to_thread(_authority(request).remove_foreign, int(number))
    _note(request, "an authority of others is trusted no longer")
    return Response(status_code=204)


async def succeed(request: Request) -> Response:
    """`POST /certs/authority/successor`: a new issuing authority follows; what the old one has signed stays good."""
    body = await request.body()
    wanted = decode_json(body, Succession) if body else Succession()
    authority = _authority(request)
    await asyncio.to_thread(authority.roll_over, now_s(request), wanted.key, wanted.passphrase)
    _note(request, "the issuing authority was followed by a new one")
    return await show(request)


async def export_root(request: Request) -> Response:
    """`POST /certs/authority/root-key`: the root's key, encrypted, to be kept off the gateway."""
    wanted = await read_json(request, Export)
    text = await asyncio.to_thread(_authority(request).export_root, wanted.passphrase)
    _note(request, "the root's key was exported")
    return json_response(Exported(text), 200, NO_STORE)


async def return_root(request: Request) -> Response:
    """`PUT /certs/authority/root-key`: bring the exported key back."""
    wanted = await read_json(request, RootKey)
    await asyncio.to_thread(_authority(request).return_root_key, wanted.key, wanted.passphrase)
    _note(request, "the root's key is on the gateway again")
    return Response(status_code=204)


async def remove_root(request: Request) -> Response:
    """`DELETE /certs/authority/root-key`: take the root's key off the gateway; export it before."""
    await asyncio.to_thread(_authority(request).remove_root_key)
    _note(request, "the root's key was taken off the gateway")
    return Response(status_code=204)


def fingerprint(of: x509.Certificate) -> str:
    """SHA-256 in the form that browsers and openssl show."""
    return of.fingerprint(SHA256()).hex(":").upper()


def _authority(request: Request) -> Authority:
    return hub_of(request).registry.authority


def _note(request: Request, detail: str) -> None:
    hub_of(request).audit.record("certificate", "done", detail=detail)


def _view(held: Held) -> AuthorityView:
    of = held.certificate
    names: list[str] = []
    if held.role == "server":
        known_as = profile.names_of(of)
        names = [*known_as.hosts, *known_as.addresses]
    return AuthorityView(
        held.id,
        of.subject.rfc4514_string(),
        fingerprint(of),
        moment(profile.begin_of(of)),
        moment(profile.end_of(of)),
        names,
    )


ENDPOINTS = [
    Endpoint(
        *("GET", "/certs/authority", certificate, Needs.NOTHING),
        answers={200: Media({PEM_FILE: _TEXT})},
        refuses=(404,),
        headers={"X-Fingerprint-SHA256": "the certificate's, as browsers show it"},
    ),
    Endpoint(
        *("GET", "/certs/deny-list", deny_list, Needs.NOTHING),
        answers={200: Media({PEM_FILE: _TEXT})},
        refuses=(404,),
    ),
    Endpoint("GET", "/certs/authorities", show, Needs.USER, answers={200: AuthoritiesView}),
    Endpoint(
        *("POST", "/certs/authorities", add_foreign, Needs.ADMIN),
        body=Foreign,
        answers={200: AuthoritiesView},
        refuses=(409,),
    ),
    Endpoint(
        *("DELETE", "/certs/authorities/{id}", remove_foreign, Needs.ADMIN),
        answers={204: None},
        refuses=(404,),
    ),
    Endpoint(
        *("POST", "/certs/authority/successor", succeed, Needs.ADMIN),
        body=Succession,
        body_required=False,
        answers={200: AuthoritiesView},
        refuses=(409,),
    ),
    Endpoint(
        *("POST", "/certs/authority/root-key", export_root, Needs.ADMIN),
        body=Export,
        answers={200: Exported},
        refuses=(409,),
    ),
    Endpoint(
        *("PUT", "/certs/authority/root-key", return_root, Needs.ADMIN),
        body=RootKey,
        answers={204: None},
        refuses=(409,),
    ),
    Endpoint(
        *("DELETE", "/certs/authority/root-key", remove_root, Needs.ADMIN),
        answers={204: None},
        refuses=(409,),
    ),
]
