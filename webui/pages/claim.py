"""Taking a fresh gateway into possession: the printed one-time code makes the first user."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from webui import words
from webui.errors import Refused
from webui.forms import Form, read_claim
from webui.pages import gateway
from webui.security import begin_session, open_page, remember_device

blueprint = Blueprint("claim", __name__)


@blueprint.get("/claim")
@open_page
def show() -> str | Response:
    if gateway().claimed():
        return redirect(url_for("account.sign_in"), 303)
    # A QR code of the installer may carry the code in its link.
    return _form(Form(values={"code": request.args.get("code", "")[:64]}))


@blueprint.post("/claim")
@open_page
def claim() -> str | Response | tuple[str, int]:
    form = read_claim(request.form)
    if form.errors:
        return _form(form), 422
    email, values = form.values["email"], form.values
    try:
        issued = gateway().claim(values["code"], email, values["password"])
    except Refused as refusal:
        form.errors["code"] = words.sentence(refusal.detail)
        return _form(form), 429 if refusal.status == 429 else 422
    begin_session(email, issued.token)
    remember_device(issued.device)
    return redirect(url_for("home.index"), 303)


def _form(form: Form) -> str:
    return render_template("claim/show.html", form=form)
