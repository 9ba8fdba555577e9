"""One's own API keys: making one with scopes, its value shown once, replacing and removing it."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, abort, redirect, request, url_for
from werkzeug.wrappers import Response

from webui import device_words as dw
from webui.errors import Refused
from webui.forms import Form
from webui.keys_api import Key, KeysApi
from webui.pages import gateway, page
from webui.pages.devices import leave

blueprint = Blueprint("keys", __name__, url_prefix="/keys")

DAY_S = 24 * 3600
LIVES = {
    "": "until you remove it",
    str(DAY_S): "for a day",
    str(30 * DAY_S): "for 30 days",
    str(365 * DAY_S): "for a year",
}
OVERLAPS = {
    "0": "at once",
    "3600": "after an hour",
    str(DAY_S): "after a day",
    str(7 * DAY_S): "after a week",
}
SCOPES = {
    "messages:read": "read messages",
    "things:read": "see things",
    "things:write": "make and change things, and give them new keys",
    "channels:read": "see channels",
    "channels:write": "make channels, connect things to them",
    "gateway:read": "see devices, radio and codecs",
    "gateway:write": "change devices and codecs, send downlinks",
    "groups:read": "see organisations",
    "groups:write": "change organisations",
    "certs:read": "see certificates",
    "certs:write": "make and revoke certificates",
    "keys:read": "see your keys",
    "keys:write": "make further keys within its own scopes, and remove keys",
}
MAX_TYPED = 900  # characters of further scopes
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)

Answer = str | Response | tuple[str, int]


@blueprint.get("")
def index() -> str:
    return _page(Form({"name": "", "scopes": "messages:read", "duration": str(365 * DAY_S)}))


@blueprint.post("")
def add() -> Answer:
    form = _read()
    if not form.errors:
        body: dict[str, Any] = {"name": form.values["name"], "scopes": form.values["scopes"].split()}
        if form.values["duration"]:
            body["duration"] = int(form.values["duration"])
        try:
            made = _api().add(body)
        except Refused as refusal:
            form.errors["form"] = dw.sentence(refusal.detail)
        else:
            return _page(form, made, "Made.")
    return _page(form), 422


@blueprint.post("/<key_id>/replace")
def replace(key_id: str) -> Answer:
    overlap = request.form.get("overlap", "0")
    if overlap not in OVERLAPS:
        abort(400)
    try:
        replaced = _api().replace(_checked(key_id), int(overlap))
    except Refused as refusal:
        leave(dw.sentence(refusal.detail))
        return redirect(url_for("keys.index"), 303)
    return _page(Form({"scopes": ""}), replaced, f"Replaced. The value before ends {OVERLAPS[overlap]}.")


@blueprint.post("/<key_id>/remove")
def remove(key_id: str) -> Response:
    try:
        _api().remove(_checked(key_id))
    except Refused as refusal:
        leave(dw.sentence(refusal.detail))
    else:
        leave("Removed. What was connected with it has ended.")
    return redirect(url_for("keys.index"), 303)


def _api() -> KeysApi:
    return KeysApi(gateway())


def _page(form: Form, fresh: Key | None = None, said: str = "") -> str:
    return page(
        "keys/index.html",
        form=form,
        fresh=fresh,
        said=said,
        found=_api().keys(),
        scopes=SCOPES,
        lives=LIVES,
        overlaps=OVERLAPS,
    )


def _read() -> Form:
    """Name, scopes ticked and typed, life."""
    posted = request.form
    form = Form()
    form.values["name"] = posted.get("name", "").strip()[:128]
    if not form.values["name"]:
        form.errors["name"] = "Type a name: it tells you later where the key is used."
    ticked = [each for each in posted.getlist("scope") if each in SCOPES]
    typed = posted.get("more_scopes", "")[:MAX_TYPED].split()
    form.values["scopes"] = " ".join(dict.fromkeys([*ticked, *typed]))
    if not form.values["scopes"]:
        form.errors["form"] = "Choose at least one thing that the key is for."
    form.values["duration"] = posted.get("duration", "")
    if form.values["duration"] not in LIVES:
        abort(400)
    return form


def _checked(key_id: str) -> str:
    """Only an id goes into an address of the API."""
    if not _ID.fullmatch(key_id):
        abort(404)
    return key_id
