"""`/gate`: whether somebody who is signed in here may use another service. A reverse proxy asks (nginx: auth_request).

A browser has no key or token to send, only the cookie of these pages. This turns the cookie into the gateway's answer;
who sends an Authorization header is asked about by that. The proxy lets nobody ask from outside, and whoever did would
hear about himself only.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from webui.errors import Refused, SignedOut
from webui.pages import gateway
from webui.security import open_page, session

blueprint = Blueprint("gate", __name__)

# What the proxy says of the request that it was sent, and what it is told of the caller (docs/proxy.md).
ASKED = (
    *("X-Original-Method", "X-Original-URI", "X-Fluxgate-Upstream", "X-Fluxgate-Role", "X-Fluxgate-Outside"),
    "Authorization",
)
TOLD = ("X-Fluxgate-Subject", "X-Fluxgate-Name", "X-Fluxgate-Role", "Client-ID")


@blueprint.get("/gate")
@open_page
def gate() -> Response:
    """200, 401 or 403, and nothing to read."""
    asked = {name: request.headers[name] for name in ASKED if name in request.headers}
    if "Authorization" not in asked and (session() is None or _from_elsewhere()):
        return Response(status=403 if session() else 401)
    try:
        told = gateway().check(asked)
    except SignedOut:
        return Response(status=401)
    except Refused as refused:
        return Response(status=refused.status if refused.status == 401 else 403)
    return Response(status=200, headers={name: told[name] for name in TOLD if name in told})


def _from_elsewhere() -> bool:
    """Whether another site's page has made the browser ask: its cookie must not open anything then."""
    origin = request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
        return True
    return origin is not None and urlsplit(origin).netloc != request.host
