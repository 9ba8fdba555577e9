"""One's own account: passphrase, codes of an authenticator app, and where one is signed in."""

from __future__ import annotations

import re

import segno
from flask import Blueprint, abort, redirect, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from webui import words
from webui.errors import Refused
from webui.forms import MAX_PASSPHRASE, MIN_PASSPHRASE, Form
from webui.pages import gateway, page
from webui.pages.devices import leave
from webui.people_api import PeopleApi
from webui.security import begin_session, known_device, remember_device, session

blueprint = Blueprint("me", __name__, url_prefix="/account")

MAX_CODE = 64
_ID = re.compile(r"[0-9a-f]{1,64}")
_URI = re.compile(r"otpauth://totp/[!-~]{1,512}")


def api() -> PeopleApi:
    return PeopleApi(gateway())


@blueprint.get("")
def index() -> str:
    return _page(Form())


@blueprint.post("/passphrase")
def change_passphrase() -> AnyResponse | tuple[str, int]:
    form, old, new = Form(), _typed("old"), _typed("password")
    if len(new) < MIN_PASSPHRASE:
        form.errors["password"] = (
            f"At least {MIN_PASSPHRASE} characters. Four or five words are easy to keep."
        )
    elif _typed("again") != new:
        form.errors["again"] = "This is not the same."
    if form.errors:
        return _page(form), 422
    email = api().me().email
    try:
        api().change_password(old, new)
    except Refused as refusal:
        form.errors["old" if refusal.status in (401, 429) else "password"] = words.sentence(refusal.detail)
        return _page(form), 422
    # That ended every session of the account; this browser begins a new one, under a new name.
    try:
        issued = gateway().sign_in(email, new, device=known_device())
    except Refused:  # a code is asked for as well
        return redirect(url_for("account.sign_in"), 303)
    begin_session(email, issued.token)
    if issued.device:
        remember_device(issued.device)
    return redirect(url_for("me.index"), 303)


@blueprint.post("/sessions/<session_id>/end")
def end_session(session_id: str) -> AnyResponse:
    if not _ID.fullmatch(session_id):
        abort(404)
    try:
        api().end(session_id)
    except Refused as refusal:
        leave(words.sentence(refusal.detail))
    else:
        leave("Signed out there. What was open there has ended.")
    return redirect(url_for("me.index"), 303)


@blueprint.post("/sessions/end")
def end_sessions() -> AnyResponse:
    ended = api().end_all()
    leave(f"Signed out in {words.counted(ended, 'place')}." if ended else "You are signed in nowhere else.")
    return redirect(url_for("me.index"), 303)


@blueprint.post("/totp")
def begin_totp() -> str | tuple[str, int]:
    form = Form()
    try:
        begun = api().begin_totp(_typed("password"))
    except Refused as refusal:
        form.errors["totp_password"] = words.sentence(refusal.detail)
        return _page(form), 422
    return _app_page(begun.uri, Form())


@blueprint.post("/totp/confirm")
def confirm_totp() -> str | tuple[str, int]:
    uri = request.form.get("uri", "")
    if not _URI.fullmatch(uri):
        abort(400)
    form = Form()
    try:
        codes = api().confirm_totp(request.form.get("code", "")[:MAX_CODE])
    except Refused as refusal:
        form.errors["code"] = words.sentence(refusal.detail)
        return _app_page(uri, form), 422
    return page("me/codes.html", codes=codes)


@blueprint.post("/totp/recovery")
def new_codes() -> str | tuple[str, int]:
    form = Form()
    try:
        codes = api().new_recovery_codes(_typed("password"), request.form.get("code", "")[:MAX_CODE])
    except Refused as refusal:
        form.errors["recovery"] = words.sentence(refusal.detail)
        return _page(form), 422
    return page("me/codes.html", codes=codes)


@blueprint.post("/totp/off")
def end_totp() -> AnyResponse | tuple[str, int]:
    form = Form()
    try:
        api().end_totp(_typed("password"), request.form.get("code", "")[:MAX_CODE])
    except Refused as refusal:
        form.errors["off"] = words.sentence(refusal.detail)
        return _page(form), 422
    leave("No code is asked for any more.")
    return redirect(url_for("me.index"), 303)


def qr(text: str) -> Markup:
    """A QR code as SVG that stands in the page itself, without script or style."""
    code = segno.make(text, error="m", micro=False)
    return Markup(
        code.svg_inline(scale=5, border=4, dark="#000", light="#fff", svgclass=None, lineclass=None)
    )


def _typed(name: str) -> str:
    return request.form.get(name, "")[:MAX_PASSPHRASE]


def _app_page(uri: str, form: Form) -> str:
    found = re.search(r"[?&]secret=([A-Z2-7]+)", uri)
    secret = found[1] if found else ""
    groups = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    return page("me/app.html", form=form, uri=uri, secret=groups, picture=qr(uri), totp=api().totp())


def _page(form: Form) -> str:
    found = session()
    return page(
        "me/index.html",
        me=api().me(),
        sign_ins=api().sign_ins(),
        totp=api().totp(),
        form=form,
        signed_in=found is not None,
    )
