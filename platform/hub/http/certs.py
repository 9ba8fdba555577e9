"""`/certs`: client certificates of things (Mainflux 0.13, certs service), from the gateway's own authority.

A private key that is made here is shown once and kept nowhere; with a request (PKCS #10) it never leaves the device.
What a thing's certificates may be done with is what the thing may be done with: technicians, on the gateway or in the
group that holds it. A thing renews its own certificate by showing it.
"""

from __future__ import annotations

import asyncio
import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, ValidationError, convert
from starlette.requests import Request
from starlette.responses import Response

from hub.authority import profile
from hub.authority.certificates import MAX_LIFE_S, MAX_REASON, MIN_LIFE_S, Certificate, Issued
from hub.authority.requests import MAX_REQUEST
from hub.http.auth import certified_thing, hub_of, now_s, require
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.reach import Reach
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs, Parameter
from hub.timekeeping import TRUSTED
from hub.users import TECHNICIAN, VIEWER

MAX_PAGE = 100
MAX_OFFSET = 1 << 31
MAX_SEARCH = 128  # characters
NO_STORE = {"cache-control": "no-store"}

Life = Annotated[float, Meta(ge=MIN_LIFE_S, le=MAX_LIFE_S)]
Csr = Annotated[str, Meta(max_length=MAX_REQUEST)]


class NewCertificate(Struct):
    """A certificate to be made: for `ttl_s` seconds (10 years if left out), with the key of `csr` or a new one."""

    thing_id: str
    ttl_s: Life | None = None
    csr: Csr = ""  # PEM


class Renewal(Struct):
    """The request (PEM) whose key the new certificate is for."""

    csr: Csr


class Asked(Struct):
    """Which certificates a list is of."""

    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET)] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE
    thing_id: str = ""
    state: Annotated[str, Meta(pattern="^(good|revoked|over)?$")] = ""
    expiring_s: Annotated[float, Meta(ge=0)] | None = None
    q: Annotated[str, Meta(max_length=MAX_SEARCH)] = ""


class CertificateView(Struct, omit_defaults=True):
    """A certificate as it is listed; times as RFC 3339 in UTC."""

    serial: str
    thing_id: str
    state: str  # good, revoked, over
    fingerprint: str  # SHA-256 of its DER form, hex
    issued_at: str
    issued_by: str
    expires_at: str
    used_at: str | UnsetType = UNSET  # first use; it was not yet
    revoked_at: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    renews: str | UnsetType = UNSET  # serial of the certificate before


class CertificateShown(CertificateView, omit_defaults=True, kw_only=True):
    """A certificate with its text."""

    certificate: str  # PEM


class CertificateMade(Struct, omit_defaults=True):
    """A certificate that was just made; `private_key` is shown this once, and only where no `csr` was sent."""

    serial: str
    thing_id: str
    fingerprint: str
    expires_at: str
    certificate: str  # PEM, the thing's own and then the issuing authority's: what a client shows
    authority: str  # PEM, what a client trusts
    private_key: str = ""  # PEM


class Certificates(Struct):
    """A page of certificates, the newest first."""

    total: int
    offset: int
    limit: int
    certs: list[CertificateView]


async def create(request: Request) -> Response:
    """`POST /certs`: make a certificate for a thing; a private key that is made with it is shown this once."""
    wanted = await read_json(request, NewCertificate)
    Reach(request).demand(TECHNICIAN, thing_id=wanted.thing_id)
    made = await asyncio.to_thread(
        hub_of(request).registry.certificates.issue,
        *(wanted.thing_id, now_s(request), _who(request)),
        request=wanted.csr,
        life_s=wanted.ttl_s,
    )
    return _answer_made(request, made, "made")


async def renew(request: Request) -> Response:
    """`POST /certs/renew`: the thing that shows its certificate gets another one, for the key of its request."""
    if require(request).kind != "thing":
        raise Problem(
            403, "a thing renews its certificate by showing it; people make new ones with POST /certs"
        )
    shown = certified_thing(request.scope)
    if shown is None or not shown.serial:
        words = (
            "come over TLS and show the certificate that is to be renewed, one of this gateway's authority"
        )
        raise Problem(400, words)
    wanted = await read_json(request, Renewal)
    made = await asyncio.to_thread(
        hub_of(request).registry.certificates.renew, shown.serial, wanted.csr, now_s(request)
    )
    return _answer_made(request, made, f"renews {shown.serial}")


async def list_all(request: Request) -> Response:
    """`GET /certs`: certificates of the things one reaches, the newest first."""
    try:
        asked = convert(dict(request.query_params), Asked, strict=False)
    except ValidationError as error:
        raise Problem(400, f"the query does not fit: {error}") from None
    reach = Reach(request)
    certificates = hub_of(request).registry.certificates
    if asked.thing_id:
        reach.demand(VIEWER, thing_id=asked.thing_id)
        of_things = certificates.of(asked.thing_id)
    elif reach.everything:
        of_things = certificates.all()
    else:
        of_things = [one for thing in reach.things() for one in certificates.of(thing.id)]
        of_things.sort(key=lambda one: one.issued_s)
    found = [one for one in reversed(of_things) if _wanted(request, asked, one)]
    page = [view(request, one) for one in found[asked.offset : asked.offset + asked.limit]]
    return json_response(Certificates(len(found), asked.offset, asked.limit, page))


async def get(request: Request) -> Response:
    """`GET /certs/<serial>`: one certificate, with its text."""
    one = _named(request, VIEWER)
    text = profile.pem([one.certificate])
    return json_response(convert({**_fields(request, one), "certificate": text}, CertificateShown))


async def revoke(request: Request) -> Response:
    """`DELETE /certs/<serial>`: deny a certificate; sessions that came in with it end at once."""
    one = _named(request, TECHNICIAN)
    await _deny(request, [one])
    return Response(status_code=204)


async def revoke_all(request: Request) -> Response:
    """`DELETE /things/<id>/certs`: deny all certificates of a thing."""
    certificates = hub_of(request).registry.certificates
    await _deny(request, certificates.of(request.path_params["thing_id"]))
    return Response(status_code=204)


async def _deny(request: Request, found: list[Certificate]) -> None:
    """Raises Problem 400, RegistryFailed."""
    reason = request.query_params.get("reason", "")
    hub = hub_of(request)
    denied = await asyncio.to_thread(
        hub.registry.certificates.revoke, [one.serial for one in found], now_s(request), reason
    )
    for one in denied:
        hub.audit.record(
            "certificate",
            "done",
            who=_who(request),
            resource=f"certs/{one.serial}",
            detail=f"denied, of things/{one.thing}" + (f": {reason}" if reason else ""),
        )


def view(request: Request, one: Certificate) -> CertificateView:
    """A certificate as it is listed."""
    return convert(_fields(request, one), CertificateView)


def moment(at_s: float) -> str:
    """UTC seconds as RFC 3339."""
    at = datetime.datetime.fromtimestamp(at_s, datetime.UTC)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _fields(request: Request, one: Certificate) -> dict[str, str]:
    """What is shown of a certificate; what there is not is left out."""
    optional = {
        "used_at": moment(one.used_s) if one.used_s else "",
        "revoked_at": "" if one.revoked_s is None else moment(one.revoked_s),
        "reason": one.reason,
        "renews": one.renews,
    }
    return {
        "serial": one.serial,
        "thing_id": one.thing,
        "state": _state(request, one),
        "fingerprint": one.fingerprint,
        "issued_at": moment(one.issued_s),
        "issued_by": one.issued_by,
        "expires_at": moment(one.ends_s),
        **{name: text for name, text in optional.items() if text},
    }


def _state(request: Request, one: Certificate) -> str:
    hub = hub_of(request)
    now_ns, quality = hub.clock()
    return hub.registry.certificates.state(one, now_ns / 1e9 if quality in TRUSTED else None)


def _wanted(request: Request, asked: Asked, one: Certificate) -> bool:
    if asked.state and _state(request, one) != asked.state:
        return False
    if asked.expiring_s is not None and (
        one.revoked_s is not None or one.ends_s > now_s(request) + asked.expiring_s
    ):
        return False
    if not asked.q:
        return True
    thing = hub_of(request).registry.thing(one.thing)
    words = (one.serial, one.thing, one.fingerprint, thing.name if thing else "")
    return any(asked.q.casefold() in word.casefold() for word in words)


def _named(request: Request, role: str) -> Certificate:
    """The certificate of the path. Raises Problem 404 also where its thing is not the caller's to see, 403."""
    reach = Reach(request)
    one = hub_of(request).registry.certificates.get(request.path_params["serial"])
    if one is None:
        raise Problem(404, "no such certificate")
    if hub_of(request).registry.thing(one.thing) is None and reach.everything:
        return one  # denied with its thing
    if reach.role(thing_id=one.thing) is None:
        raise Problem(404, "no such certificate")
    reach.demand(role, thing_id=one.thing)
    return one


def _answer_made(request: Request, made: Issued, what: str) -> Response:
    one = made.certificate
    hub_of(request).audit.record(
        "certificate",
        "done",
        who=_who(request),
        resource=f"certs/{one.serial}",
        detail=f"{what}, for things/{one.thing}",
    )
    answer = CertificateMade(
        *(one.serial, one.thing, one.fingerprint, moment(one.ends_s)),
        *(made.chain, made.authority, made.key),
    )
    return json_response(answer, 201, {"location": f"/certs/{one.serial}", **NO_STORE})


def _who(request: Request) -> str:
    principal = require(request)
    return f"{principal.kind}s/{principal.id}"


_LIST = (
    Parameter("offset", "certificates to pass over", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}),
    Parameter("limit", "certificates at most", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
    Parameter("thing_id", "the thing whose certificates to show; left out, of all that one reaches"),
    Parameter("state", "good, revoked or over", {"type": "string", "enum": ["", "good", "revoked", "over"]}),
    Parameter("expiring_s", "those that end within so many seconds", {"type": "number", "minimum": 0}),
    Parameter("q", "a part of the serial number, the fingerprint, or the thing's id or name",
              {"type": "string", "maxLength": MAX_SEARCH}),
)  # fmt: skip
_REASON = Parameter(
    "reason", "why, in words, for lists and the audit log", {"type": "string", "maxLength": MAX_REASON}
)

ENDPOINTS = [
    Endpoint(
        *("POST", "/certs", create, Needs.MEMBER),
        body=NewCertificate,
        answers={201: CertificateMade},
        headers={"Location": "of what was made"},
        refuses=(403, 404, 409),
    ),
    Endpoint(
        *("GET", "/certs", list_all, Needs.MEMBER),
        answers={200: Certificates},
        parameters=_LIST,
        refuses=(400, 404),
    ),
    Endpoint(
        *("POST", "/certs/renew", renew, Needs.THING),
        body=Renewal,
        answers={201: CertificateMade},
        headers={"Location": "of what was made"},
        refuses=(403, 404, 409),
    ),
    Endpoint(
        *("DELETE", "/things/{thing_id}/certs", revoke_all, Needs.KEEP),
        answers={204: None},
        parameters=(_REASON,),
        refuses=(400, 404),
    ),
]
BY_SERIAL = [  # after the fixed paths of `hub.http.authorities`
    Endpoint(*("GET", "/certs/{serial}", get, Needs.MEMBER), answers={200: CertificateShown}, refuses=(404,)),
    Endpoint(
        *("DELETE", "/certs/{serial}", revoke, Needs.MEMBER),
        answers={204: None},
        parameters=(_REASON,),
        refuses=(400, 403, 404),
    ),
]
