"""People: who may sign in, as what, and a new passphrase for somebody who has forgotten it."""

from __future__ import annotations

import re

from flask import Blueprint, abort, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import device_words as dw
from webui import words
from webui.errors import Refused
from webui.forms import Form, read_sign_in
from webui.pages import gateway, page
from webui.pages.devices import leave
from webui.people_api import PeopleApi
from webui.rights import Rights

blueprint = Blueprint("people", __name__, url_prefix="/people")

ROLES = {
    "member": "sees and does what organisations allow",
    "viewer": "looks, and changes nothing",
    "technician": "adds devices, sends to them, manages things and channels",
    "admin": "does everything, people and policies too",
}
MIN_PASSPHRASE = 12
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def rights() -> Rights:
    return Rights(gateway())


@blueprint.get("")
def index() -> str:
    return _page(Form({"role": "technician"}))


@blueprint.post("")
def add() -> AnyResponse | tuple[str, int]:
    form = read_sign_in(request.form)
    form.values["role"] = _role()
    _check(form)
    if not form.errors:
        try:
            rights().add_person(form.values["email"], form.values["password"], form.values["role"])
        except Refused as refusal:
            form.errors["email" if refusal.status == 409 else "form"] = dw.sentence(refusal.detail)
        else:
            leave("Added. Tell them the passphrase in person.")
            return redirect(url_for("people.index"), 303)
    form.values["password"] = ""
    return _page(form), 422


@blueprint.post("/<user_id>/role")
def change_role(user_id: str) -> AnyResponse:
    return _changed(
        user_id, {"role": _role()}, "Changed. They are signed out everywhere, and sign in with the new role."
    )


@blueprint.post("/<user_id>/passphrase")
def change_passphrase(user_id: str) -> AnyResponse | tuple[str, int]:
    form = Form({"email": "", "password": request.form.get("password", "")})
    _check(form)
    if form.errors.get("password"):
        leave(form.errors["password"])
        return redirect(url_for("people.index"), 303)
    return _changed(
        user_id, {"password": form.values["password"]}, "Changed. They are signed out everywhere."
    )


@blueprint.post("/<user_id>/remove")
def remove(user_id: str) -> AnyResponse:
    try:
        rights().remove_person(_checked(user_id))
    except Refused as refusal:
        leave(dw.sentence(refusal.detail))
    else:
        leave("Removed. They are signed out everywhere.")
    return redirect(url_for("people.index"), 303)


@blueprint.post("/<user_id>/sessions/end")
def end_sessions(user_id: str) -> AnyResponse:
    ended = PeopleApi(gateway()).end_all(_checked(user_id))
    leave(f"Signed out in {words.counted(ended, 'place')}." if ended else "They are signed in nowhere.")
    return redirect(url_for("people.index"), 303)


@blueprint.post("/<user_id>/totp/end")
def end_totp(user_id: str) -> AnyResponse:
    return _changed(user_id, {"totp": False}, "No code is asked for any more.")


def _changed(user_id: str, change: dict[str, str | bool], sentence: str) -> AnyResponse:
    try:
        rights().change_person(_checked(user_id), change)
    except Refused as refusal:
        sentence = dw.sentence(refusal.detail)
    leave(sentence)
    return redirect(url_for("people.index"), 303)


def _page(form: Form) -> str:
    return page("people/index.html", people=rights().people(), me=rights().me(), form=form, roles=ROLES)


def _role() -> str:
    role = request.form.get("role", "")
    if role not in ROLES:
        abort(400)
    return role


def _checked(user_id: str) -> str:
    """Only an id goes into an address of the API."""
    if not _ID.fullmatch(user_id):
        abort(404)
    return user_id


def _check(form: Form) -> None:
    if len(form.values.get("password", "")) < MIN_PASSPHRASE:
        form.errors["password"] = f"A passphrase has at least {MIN_PASSPHRASE} characters."
