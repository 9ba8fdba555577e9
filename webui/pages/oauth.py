"""Agreeing that an application acts for you, and taking it back.

The address of an authorization request comes from an application by way of somebody's browser. It is checked by the
gateway, shown to the person, checked again with his decision; only then is the browser sent to the application.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

from flask import Blueprint, abort, g, redirect, render_template, request, url_for
from markupsafe import escape
from werkzeug.wrappers import Response

from webui import device_words as dw
from webui.errors import Refused
from webui.oauth_api import OAuthApi
from webui.pages import gateway, page
from webui.pages.devices import leave
from webui.security import open_page, session

blueprint = Blueprint("oauth", __name__, url_prefix="/oauth")

MAX_QUERY = 16 * 1024
_AGAIN = {"login", "select_account"}  # prompts that ask for a fresh sign-in
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_HOST = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")

Answer = str | Response | tuple[str, int]


@blueprint.get("/authorize")
@open_page
def authorize() -> Answer:
    """Where applications send people.

    The cookie does not come along from another site, so somebody without one is led here once more by a page of ours.
    """
    if session() is None and request.headers.get("Sec-Fetch-Site") not in ("same-origin", "none"):
        here = f"{url_for('oauth.arrived')}?{_query()}"
        return render_template("oauth/arriving.html", here=escape(here))
    return arrived()


@blueprint.get("/arrived")
@open_page
def arrived() -> Answer:
    """The same, reached from a page of ours."""
    query = _query()
    try:
        asked = OAuthApi(gateway()).look(query)
    except Refused as refusal:
        return _damaged(refusal)
    if asked.redirect:
        return redirect(asked.redirect, 303)
    if asked.needs == "sign-in":
        again = "1" if session() is not None else None
        here = f"{url_for('oauth.arrived')}?{_without_sign_in(query) if again else query}"
        return redirect(url_for("account.sign_in", next=here, again=again), 303)
    if asked.needs == "nothing":
        return redirect(OAuthApi(gateway()).decide(query, allow=True), 303)
    g.form_action = _source(asked.redirect_uri)
    return render_template(
        "oauth/consent.html",
        asked=asked,
        host=_shown_host(asked.redirect_uri),
        query=escape(query),
        other=escape(url_for("account.sign_in", next=f"{url_for('oauth.arrived')}?{query}", again=1)),
    )


@blueprint.post("/authorize")
def decide() -> Answer:
    decision, query = request.form.get("decision", ""), request.form.get("query", "")
    if decision not in ("allow", "deny") or len(query) > MAX_QUERY:
        abort(400)
    try:
        return redirect(OAuthApi(gateway()).decide(query, decision == "allow"), 303)
    except Refused as refusal:
        return _damaged(refusal)


@blueprint.get("/consents")
def consents() -> str:
    return page("oauth/consents.html", consents=OAuthApi(gateway()).consents())


@blueprint.post("/consents/<consent_id>/end")
def end(consent_id: str) -> Response:
    if not _ID.fullmatch(consent_id):
        abort(404)
    try:
        OAuthApi(gateway()).end_consent(consent_id)
    except Refused as refusal:
        leave("It had ended already." if refusal.status == 404 else dw.sentence(refusal.detail))
    else:
        leave("Taken back. It holds from now on.")
    return redirect(url_for("oauth.consents"), 303)


def _query() -> str:
    query = request.query_string.decode("ascii", "replace")
    if len(query) > MAX_QUERY:
        abort(400)
    return query


def _without_sign_in(query: str) -> str:
    """The request as it goes on after the fresh sign-in that it asks for."""
    kept = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "prompt":
            left = " ".join(each for each in value.split() if each not in _AGAIN)
            kept += [(name, left)] if left else []
        elif name != "max_age":
            kept.append((name, value))
    return urlencode(kept)


def _damaged(refusal: Refused) -> tuple[str, int]:
    """Nothing that the browser could be sent back with."""
    detail = f"{dw.sentence(refusal.detail)} Nothing was allowed. Tell whoever makes the application."
    title = "This application cannot be signed in to"
    return render_template("error.html", title=title, detail=detail, code=refusal.status), refusal.status


def _source(redirect_uri: str) -> str:
    """What the form may lead to besides these pages, as a policy for the browser writes it (CSP 3, 2.3.1).

    An address in brackets has no form there, so the scheme stands for it.
    """
    if match := _HOST.match(redirect_uri):
        return match[0]
    match = _SCHEME.match(redirect_uri)
    return match[0] if match else ""


def _shown_host(redirect_uri: str) -> str:
    scheme, _, rest = redirect_uri.partition("://")
    return rest.partition("/")[0] if rest else f"{scheme.partition(':')[0]}: on this device"
