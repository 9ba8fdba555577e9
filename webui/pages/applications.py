"""Applications: making one, its secret shown once, changing and removing it."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, abort, redirect, request, url_for
from werkzeug.wrappers import Response

from webui import device_words as dw
from webui.errors import Refused
from webui.forms import Form
from webui.oauth_api import Application, OAuthApi
from webui.pages import gateway, page
from webui.pages.devices import leave

blueprint = Blueprint("applications", __name__, url_prefix="/applications")

PAGE = 50
MAX_LINES = 4096  # characters of addresses or scopes in one field
KINDS = {
    "people": "a website or service that people sign in to",
    "device": "an app on people's phones or computers, which can keep no secret",
    "itself": "a program that acts for itself",
}
ROLES = {
    "": "nothing but messages",
    "viewer": "looks at everything",
    "technician": "adds devices, things and channels",
    "admin": "everything",
}
SCOPES = {
    "openid": "know who signs in",
    "email": "see the e-mail address",
    "profile": "see name and role",
    "messages:read": "read messages",
    "messages:write": "send messages",
    "things:read": "see things",
    "things:write": "change things",
    "channels:read": "see channels",
    "channels:write": "change channels",
    "gateway:read": "see devices and the radio",
    "gateway:write": "change devices, send downlinks",
}
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)

Answer = str | Response | tuple[str, int]


@blueprint.get("")
def index() -> str:
    return _list(Form({"kind": "people", "scopes": "openid email messages:read"}))


@blueprint.post("")
def add() -> Answer:
    form = _read()
    kind = request.form.get("kind", "")
    if kind not in KINDS:
        abort(400)
    form.values["kind"] = kind
    body: dict[str, Any] = {**_body(form), "public": kind == "device"}
    if kind == "itself":
        body |= {"redirect_uris": [], "role": form.values["role"]}
    elif not body["redirect_uris"]:
        form.errors["redirect_uris"] = "People come back to an address of the application: type it."
    if not form.errors:
        try:
            made = _api().add_application(body)
        except Refused as refusal:
            form.errors["form"] = dw.sentence(refusal.detail)
        else:
            return _shown(made, secret=made.secret or "", status="Made.")
    return _list(form), 422


@blueprint.get("/<app_id>")
def show(app_id: str) -> str:
    return _shown(_api().application(_checked(app_id)))


@blueprint.post("/<app_id>")
def change(app_id: str) -> Answer:
    before = _api().application(_checked(app_id))
    form = _read()
    body = _body(form)
    if not before.redirect_uris:
        body |= {"redirect_uris": [], "role": form.values["role"]}
    if not form.errors:
        try:
            _api().change_application(app_id, body)
        except Refused as refusal:
            form.errors["form"] = dw.sentence(refusal.detail)
        else:
            leave("Changed. What it may no longer do has ended.")
            return redirect(url_for("applications.show", app_id=app_id), 303)
    return _shown(before, form), 422


@blueprint.post("/<app_id>/secret")
def new_secret(app_id: str) -> Answer:
    application = _api().application(_checked(app_id))
    try:
        secret = _api().new_secret(app_id)
    except Refused as refusal:
        leave(dw.sentence(refusal.detail))
        return redirect(url_for("applications.show", app_id=app_id), 303)
    return _shown(application, secret=secret, status="The secret of before is void.")


@blueprint.post("/<app_id>/remove")
def remove(app_id: str) -> Response:
    try:
        _api().remove_application(_checked(app_id))
    except Refused as refusal:
        leave(dw.sentence(refusal.detail))
    else:
        leave("Removed, with everything that people had allowed it.")
    return redirect(url_for("applications.index"), 303)


def _api() -> OAuthApi:
    return OAuthApi(gateway())


def _list(form: Form) -> str:
    name = request.args.get("name", "")[:64]
    start = request.args.get("offset", "0")
    offset = int(start) if start.isascii() and start.isdigit() and len(start) < 7 else 0
    total, found = _api().applications(name, offset, PAGE)
    return page(
        "applications/index.html",
        form=form,
        found=found,
        total=total,
        name=name,
        later=offset + PAGE if offset + PAGE < total else 0,
        kinds=KINDS,
        roles=ROLES,
        scopes=SCOPES,
    )


def _shown(application: Application, form: Form | None = None, secret: str = "", status: str = "") -> str:
    form = form or Form(
        {
            "name": application.name,
            "redirect_uris": "\n".join(application.redirect_uris),
            "scopes": " ".join(application.scopes),
            "role": application.role,
        }
    )
    return page(
        "applications/show.html",
        application=application,
        form=form,
        secret=secret,
        said=status,
        roles=ROLES,
        scopes=SCOPES,
    )


def _read() -> Form:
    """Name, addresses one a line, scopes ticked and typed, role."""
    posted = request.form
    form = Form()
    form.values["name"] = posted.get("name", "").strip()[:200]
    if not form.values["name"]:
        form.errors["name"] = "Type a name: people read it when they are asked."
    form.values["redirect_uris"] = posted.get("redirect_uris", "")[:MAX_LINES]
    ticked = [each for each in posted.getlist("scope") if each in SCOPES]
    typed = posted.get("more_scopes", "")[:MAX_LINES].split()
    form.values["scopes"] = " ".join(dict.fromkeys([*ticked, *typed]))
    form.values["role"] = posted.get("role", "")
    if form.values["role"] not in ROLES:
        abort(400)
    return form


def _body(form: Form) -> dict[str, Any]:
    return {
        "name": form.values["name"],
        "redirect_uris": form.values["redirect_uris"].split(),
        "scopes": form.values["scopes"].split(),
    }


def _checked(app_id: str) -> str:
    """Only an id goes into an address of the API."""
    if not _ID.fullmatch(app_id):
        abort(404)
    return app_id
