"""What guards every page: session, form token, origin, headers. Views not marked `open_page` are closed."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, g, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui.client import Gateway
from webui.config import WebuiConfig
from webui.errors import GatewayError
from webui.renewal import Renewal, begin
from webui.sessions import Session, Sessions, form_token, is_id, new_id

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
MAX_TARGET = 20_000  # characters: the request of an application is the longest, below 16 KiB
DEVICE_S = 365 * 24 * 3600  # the gateway forgets a device that did not sign in for so long
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})

View = TypeVar("View", bound=Callable[..., Any])


def open_page(view: View) -> View:
    """Mark a view that people see before they are signed in."""
    view.open_page = True  # type: ignore[attr-defined]
    return view


def uses_camera(view: View) -> View:
    """Mark a view whose page may ask for the camera, to read a code."""
    view.uses_camera = True  # type: ignore[attr-defined]
    return view


def takes_file(limit: int) -> Callable[[View], View]:
    """Mark a view whose form brings a file of at most `limit` bytes."""

    def mark(view: View) -> View:
        view.max_body = limit  # type: ignore[attr-defined]
        return view

    return mark


def takes_text(limit: int) -> Callable[[View], View]:
    """Mark a view whose form brings long text, at most `limit` bytes of it in memory."""

    def mark(view: View) -> View:
        view.max_body = limit  # type: ignore[attr-defined]
        view.max_text = limit  # type: ignore[attr-defined]
        return view

    return mark


def cookie_name(config: WebuiConfig) -> str:
    """`__Host-` ties the cookie to this host and to TLS; browsers take it over TLS only."""
    return "__Host-fluxgate" if config.secure_cookies else "fluxgate"


def device_cookie(config: WebuiConfig) -> str:
    """Name of the cookie that makes a browser known."""
    return f"{cookie_name(config)}-device"


def sessions() -> Sessions:
    found: Sessions = current_app.extensions["sessions"]
    return found


def session() -> Session | None:
    found: Session | None = g.get("session")
    return found


def csrf_token() -> str:
    """The token for the forms of this answer; a visitor without a cookie gets one with it."""
    if not g.visitor_id:
        g.visitor_id = g.new_cookie = new_id()
    return form_token(g.visitor_id)


def renewal() -> Renewal:
    found: Renewal = current_app.extensions["renewal"]
    return found


def begin_session(email: str, sign_in: str) -> None:
    """Signed in: a fresh id, whatever the browser sent before, and tokens of its own for `sign_in`."""
    end_session()
    now_s = time.monotonic()
    plain: Gateway = current_app.extensions["gateway"]
    visiting = plain.on_behalf(request.headers.get("User-Agent", ""), request.remote_addr or "")
    tokens = begin(visiting, sign_in, now_s)
    g.visitor_id = g.new_cookie = sessions().open(email, tokens, now_s)


def known_device() -> str:
    """What an earlier sign-in with this browser left here; "" where there was none."""
    return request.cookies.get(device_cookie(current_app.extensions["webui"]), "")[:64]


def remember_device(secret: str) -> None:
    """Leave it in the browser. It signs nobody in: it only keeps others' wrong passphrases from making him wait."""
    g.new_device = secret


def end_session() -> None:
    if g.visitor_id:
        sessions().end(g.visitor_id)
    g.session = None
    g.visitor_id = ""
    g.new_cookie = new_id()  # overwrites the old cookie with an id that means nothing


def safe_next(target: str) -> str:
    """A path of this site to go on to after the sign-in; anything else becomes Home."""
    parts = urlsplit(target)
    local = target.startswith("/") and not target.startswith("//") and not parts.scheme and not parts.netloc
    plain = target.isprintable() and "\\" not in target and len(target) < MAX_TARGET
    return target if local and plain else "/"


def install(app: Flask, config: WebuiConfig) -> None:
    name = cookie_name(config)

    def before() -> AnyResponse | None:
        cookie = request.cookies.get(name, "")
        g.visitor_id = cookie if is_id(cookie) else ""
        g.new_cookie = ""
        g.session = renewal().session(cookie) if g.visitor_id else None
        if g.session is not None and (limit := _marked("max_body")):
            request.max_content_length = limit  # for who is signed in, and for this form
            if more := _marked("max_text"):
                request.max_form_memory_size = more
        if request.method in _CHANGES:
            _refuse_forged()
        if g.session is not None:
            return None
        return _to_claim() if _is_open() else _to_sign_in()

    def after(response: Response) -> Response:
        for header, value in HEADERS.items():
            response.headers[header] = value
        if source := g.get("form_action"):
            response.headers["Content-Security-Policy"] = HEADERS["Content-Security-Policy"].replace(
                "form-action 'self'", f"form-action 'self' {source}"
            )
        if _marked("uses_camera"):
            response.headers["Permissions-Policy"] = HEADERS["Permissions-Policy"].replace(
                "camera=()", "camera=(self)"
            )
        response.headers.setdefault("Cache-Control", "no-store")
        if g.get("new_cookie"):
            response.set_cookie(
                name, g.new_cookie, httponly=True, samesite="Strict", secure=config.secure_cookies, path="/"
            )
        if g.get("new_device"):
            response.set_cookie(
                device_cookie(config),
                g.new_device,
                max_age=DEVICE_S,
                httponly=True,
                samesite="Strict",
                secure=config.secure_cookies,
                path="/",
            )
        return response

    app.before_request(before)
    app.after_request(after)


def _marked(name: str) -> Any:
    """What the view of this request is marked with; None where it is not."""
    view = current_app.view_functions.get(request.endpoint or "")
    return getattr(view, name, None)


def _is_open() -> bool:
    if request.endpoint is None:  # no such page: 404 tells nothing
        return True
    view = current_app.view_functions.get(request.endpoint)
    return request.blueprint == "assets" or bool(getattr(view, "open_page", False))


def _to_claim() -> AnyResponse | None:
    """Where nobody owns the gateway, no page but the claim's is of any use."""
    known = current_app.extensions
    if request.method != "GET" or request.blueprint in ("claim", "assets", None) or known.get("claimed"):
        return None
    connected: Gateway = known["gateway"]
    known["claimed"] = connected.claimed()
    return None if known["claimed"] else redirect(url_for("claim.show"), 303)


def _to_sign_in() -> AnyResponse:
    if request.headers.get("X-Fragment") or request.method in _CHANGES:
        abort(401)
    here = request.full_path.rstrip("?")
    return redirect(url_for("account.sign_in", next=here if here != "/" else None), 303)


def _refuse_forged() -> None:
    """A form must come from our own page: by the browser's word where given, and by the form's token."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if (site is not None and site != "same-origin") or (
        origin is not None and urlsplit(origin).netloc != request.host
    ):
        _tell_refused("a form from another site")
        abort(403, "This form was sent from another site.")
    given = request.form.get("form_token", "")
    expected = form_token(g.visitor_id) if g.visitor_id else ""
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        _tell_refused("a form without the token of its page")
        abort(403, "This form is too old or was not ours. Go back, reload the page and send it again.")


def _tell_refused(detail: str) -> None:
    """A line for the gateway's audit log; the refusal stands whether or not the gateway hears of it."""
    connected: Gateway = current_app.extensions["gateway"]
    asking = connected.on_behalf(request.headers.get("User-Agent", ""), request.remote_addr or "")
    if g.session is not None:
        asking = asking.signed_in(g.session.token)
    try:
        asking.tell_refused(f"{request.method} {request.path}", detail)
    except GatewayError as error:
        current_app.logger.warning("a refused form is not in the audit log: %s", type(error).__name__)
