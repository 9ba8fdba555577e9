"""Organisations: the tree of groups, and who and what belongs to each.

A person whose role on the gateway is member finds all that is his here.
"""

from __future__ import annotations

import re

from flask import Blueprint, abort, redirect, request, url_for
from werkzeug.wrappers import Response

from webui import device_words as dw
from webui.errors import Refused
from webui.forms import Form
from webui.organisations_api import Group, Item, Organisations, flat
from webui.pages import gateway, page
from webui.pages.devices import leave
from webui.rights import Rights

blueprint = Blueprint("organisations", __name__, url_prefix="/organisations")

ROLES = {
    "viewer": "sees what belongs to it, and reads its messages",
    "technician": "manages its things, keys and channels",
    "admin": "also its groups, its people and their roles",
}
TYPES = {
    "both": ("publish", "subscribe"),
    "publish": ("publish",),
    "subscribe": ("subscribe",),
}
MAX_NAME = 1024
MAX_CONNECTED = 20  # channels of which a page shows the things: each is a question to the gateway
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)

Answer = str | Response | tuple[str, int]


@blueprint.get("")
def index() -> str:
    return _index(Form())


@blueprint.post("")
def add() -> Answer:
    """An organisation, or where a parent is named a group below it."""
    form = Form({name: request.form.get(name, "").strip() for name in ("name", "description", "parent_id")})
    parent = form.values["parent_id"]
    if not form.values["name"]:
        form.errors["name"] = "Type a name."
    if parent:
        _checked(parent)
    if not form.errors:
        try:
            made = _api().add(form.values["name"], form.values["description"], parent)
        except Refused as refusal:
            form.errors["form"] = dw.sentence(refusal.detail)
        else:
            leave("Added.")
            return redirect(url_for("organisations.show", group_id=made.id), 303)
    return (_show(parent, form) if parent else _index(form)), 422


@blueprint.get("/<group_id>")
def show(group_id: str) -> str:
    return _show(_checked(group_id), Form())


@blueprint.post("/<group_id>")
def change(group_id: str) -> Response:
    given = {
        name: request.form[name].strip()
        for name in ("name", "description", "parent_id")
        if name in request.form
    }
    return _done(group_id, lambda: _api().change(_checked(group_id), given), "Changed.")


@blueprint.post("/<group_id>/remove")
def remove(group_id: str) -> Response:
    try:
        _api().remove(_checked(group_id))
    except Refused as refusal:
        leave(dw.sentence(refusal.detail))
        return redirect(url_for("organisations.show", group_id=group_id), 303)
    leave("Removed.")
    return redirect(url_for("organisations.index"), 303)


@blueprint.post("/<group_id>/people")
def put_person(group_id: str) -> Response:
    """Somebody, by e-mail address or id, with a role."""
    who, role = request.form.get("who", "").strip(), request.form.get("role", "")
    if role not in ROLES:
        abort(400)
    return _done(
        group_id,
        lambda: _api().put_in(_checked(group_id), "users", [who], role),
        f"They are {role} here now.",
    )


@blueprint.post("/<group_id>/<kind>/<member>/out")
def take_out(group_id: str, kind: str, member: str) -> Response:
    if kind not in ("users", "things", "channels"):
        abort(404)
    return _done(group_id, lambda: _api().take_out(_checked(group_id), kind, _checked(member)), "Taken out.")


@blueprint.post("/<group_id>/<kind>/in")
def put_in(group_id: str, kind: str) -> Response:
    """A thing or channel that is there already, by its id."""
    if kind not in ("things", "channels"):
        abort(404)
    member = _checked(request.form.get("id", "").strip())
    return _done(group_id, lambda: _api().put_in(_checked(group_id), kind, [member]), "It belongs here now.")


@blueprint.post("/<group_id>/things")
def add_thing(group_id: str) -> Answer:
    """A new thing; its key is shown on this one page."""
    form = Form()
    try:
        made = _api().add_thing(_checked(group_id), request.form.get("name", "").strip())
    except Refused as refusal:
        form.errors["form"] = dw.sentence(refusal.detail)
        return _show(group_id, form), 422
    return _show(group_id, form, made)


@blueprint.post("/<group_id>/channels")
def add_channel(group_id: str) -> Response:
    name = request.form.get("name", "").strip()
    return _done(group_id, lambda: _api().add_channel(_checked(group_id), name), "Added.")


@blueprint.post("/<group_id>/connect")
def connect(group_id: str) -> Response:
    thing, channel = (_checked(request.form.get(name, "").strip()) for name in ("thing", "channel"))
    types = TYPES.get(request.form.get("types", ""))
    if types is None:
        abort(400)
    return _done(group_id, lambda: _api().connect(channel, thing, types), "Connected.")


@blueprint.post("/<group_id>/disconnect")
def disconnect(group_id: str) -> Response:
    thing, channel = (_checked(request.form.get(name, "").strip()) for name in ("thing", "channel"))
    return _done(
        group_id, lambda: _api().disconnect(channel, thing), "Disconnected. It loses the channel at once."
    )


def _api() -> Organisations:
    return Organisations(gateway())


def _done(group_id: str, act: object, sentence: str) -> Response:
    """Do something and go back to the group, with what came of it."""
    assert callable(act)
    try:
        act()
    except Refused as refusal:
        sentence = dw.sentence(refusal.detail)
    leave(sentence)
    return redirect(url_for("organisations.show", group_id=_checked(group_id)), 303)


def _index(form: Form) -> str:
    tree = _api().tree()
    me = Rights(gateway()).me()
    return page("organisations/index.html", groups=list(flat(tree)), me=me, form=form)


def _show(group_id: str, form: Form, made: Item | None = None) -> str:
    api = _api()
    group = api.group(group_id)
    things, channels = api.things(group_id), api.channels(group_id)
    connected = {each.id: api.connected(each.id) for each in channels[1][:MAX_CONNECTED]}
    me = Rights(gateway()).me()
    places: list[tuple[int, Group]] = []
    if group.leads and (group.parent_id or me.role == "admin"):
        everything = list(flat(api.tree()))
        inside = {each.id for _, top in everything if top.id == group_id for _, each in flat([top])}
        places = [(depth, each) for depth, each in everything if each.leads and each.id not in inside]
    return page(
        "organisations/show.html",
        group=group,
        above=api.above(group_id),
        below=api.below(group_id),
        people=api.people(group_id),
        things=things,
        channels=channels,
        connected=connected,
        places=places,
        me=me,
        roles=ROLES,
        types={"both": "send and read", "publish": "send only", "subscribe": "read only"},
        form=form,
        made=made,
    )


def _checked(item_id: str) -> str:
    """Only an id goes into an address of the API."""
    if not _ID.fullmatch(item_id):
        abort(404)
    return item_id
