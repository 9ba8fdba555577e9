"""One module per noun of the admin UI, each with its `blueprint`; templates lie under the same name."""

from __future__ import annotations

from typing import Any

from flask import current_app, g, render_template, request

from webui.client import Gateway, Status
from webui.errors import Refused
from webui.security import renewal, session


def gateway() -> Gateway:
    """The API, as the person who is signed in (or as nobody)."""
    found = session()
    connected: Gateway = current_app.extensions["gateway"]
    plain = connected.on_behalf(request.headers.get("User-Agent", ""), request.remote_addr or "")
    if found is None:
        return plain
    visitor_id = g.visitor_id
    return plain.signed_in(found.token, lambda refused: renewal().again(visitor_id, refused))


def status() -> Status:
    """The gateway's state, asked once per page; nothing of it for a member, who sees what his groups hold."""
    if "status" not in g:
        try:
            g.status = gateway().status()
        except Refused as refusal:
            if refusal.status != 403:
                raise
            g.status, g.member = Status(), True
    found: Status = g.status
    return found


def is_member() -> bool:
    """Whether the person who is signed in has no role on the gateway itself."""
    if session() is None:
        return False
    status()
    return bool(g.get("member", False))


def page(template: str, **context: Any) -> str:
    """A page with the header that all of them share."""
    return render_template(template, status=status(), member=is_member(), **context)
