"""Signing in and out."""

from __future__ import annotations

import time

from flask import Blueprint, current_app, g, redirect, render_template, request, url_for
from markupsafe import escape
from werkzeug.wrappers import Response

from webui import words
from webui.errors import GatewayError, Refused
from webui.forms import Form, read_sign_in
from webui.pages import gateway
from webui.sealing import Sealer
from webui.security import (
    begin_session,
    end_session,
    known_device,
    open_page,
    remember_device,
    safe_next,
    session,
)

blueprint = Blueprint("account", __name__)


@blueprint.get("/login")
@open_page
def sign_in() -> str | Response:
    if session() is not None and "again" not in request.args:  # an application may ask for a fresh sign-in
        return redirect(safe_next(request.args.get("next", "/")), 303)
    return _form(Form(), request.args.get("next", "/"), ended="ended" in request.args)


@blueprint.post("/login")
@open_page
def do_sign_in() -> str | Response | tuple[str, int]:
    target = request.form.get("next", "/")
    # After the passphrase was right the form asks for the code alone.
    proof = _sealer().unseal(request.form.get("proof", ""), g.visitor_id, time.monotonic())
    form = read_sign_in({**request.form, "password": proof} if proof else request.form)
    if form.errors:
        return _form(form, target), 422
    email, password = form.values["email"], form.values["password"]
    try:
        issued = gateway().sign_in(email, password, request.form.get("code", "")[:64].strip(), known_device())
    except Refused as refusal:
        if refusal.totp:
            return _ask_code(form, target, refusal.detail)
        if refusal.status == 429:
            form.errors["password"] = words.sentence(refusal.detail)
            return _form(form, target), 429
        wrong = refusal.status in {400, 401, 403, 404, 422}
        form.errors["password"] = "E-mail or passphrase is not right." if wrong else refusal.detail
        return _form(form, target), 403
    _end_at_gateway()  # somebody who signs in anew leaves nothing behind
    begin_session(email, issued.token)
    if issued.device:
        remember_device(issued.device)
    return redirect(safe_next(target), 303)


@blueprint.post("/logout")
def sign_out() -> Response:
    _end_at_gateway()
    end_session()
    return redirect(url_for("account.sign_in"), 303)


def _end_at_gateway() -> None:
    """End the sign-in of before, if there is one; the gateway ends the tokens that hang on it, too."""
    try:
        if found := session():
            gateway().signed_in(found.sign_in).sign_out()
    except GatewayError as error:  # signed out here all the same; the token expires on its own
        current_app.logger.warning("token not revoked at sign-out: %s", type(error).__name__)


def _sealer() -> Sealer:
    found: Sealer = current_app.extensions["sealer"]
    return found


def _ask_code(form: Form, target: str, detail: str) -> tuple[str, int]:
    """The passphrase was right: a form for the code."""
    wrong = bool(request.form.get("code"))
    if wrong:
        form.errors["code"] = words.sentence(detail)
    form.values["proof"] = _sealer().seal(form.values["password"], g.visitor_id, time.monotonic())
    return _form(form, target), 403 if wrong else 200


def _form(form: Form, target: str, ended: bool = False) -> str:
    # Escaped here: what a page shows is cut off at some length, and this must come back whole.
    return render_template("account/sign_in.html", form=form, next=escape(safe_next(target)), ended=ended)
