"""Multicast groups: the list, one group with its members and queue, setting one up, sending to it."""

from __future__ import annotations

from flask import Blueprint, abort, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import downlink_words as dlw
from webui.downlinks import Downlinks
from webui.errors import Refused
from webui.forms import Form, maybe_hex
from webui.pages import gateway, page
from webui.pages.devices import leave

blueprint = Blueprint("groups", __name__, url_prefix="/groups")


def downlinks() -> Downlinks:
    return Downlinks(gateway())


@blueprint.get("")
def index() -> str:
    return _index(Form())


@blueprint.post("")
def set_up() -> AnyResponse | tuple[str, int]:
    form, body = dlw.read_group(request.form)
    if not form.errors:
        try:
            added = downlinks().set_up(body)
        except Refused as refusal:
            form.errors["form"] = refusal.detail
        else:
            group = downlinks().group(added.name)
            return page("groups/show.html", group=group, form=Form(), added=added, dlw=dlw), 201
    return _index(form), 422


@blueprint.get("/<name>")
def show(name: str) -> str:
    return _show(_name(name), Form())


@blueprint.post("/<name>/downlinks")
def order(name: str) -> AnyResponse | tuple[str, int]:
    name = _name(name)
    form, body = dlw.read_order(request.form)
    body.pop("confirmed")
    if not form.errors:
        try:
            downlinks().order_group(name, body)
        except Refused as refusal:
            form.errors["form"] = refusal.detail
        else:
            leave("Queued. Each gateway of the group sends it once, one after the other.")
            return redirect(url_for("groups.show", name=name), 303)
    return _show(name, form), 422


@blueprint.post("/<name>/cancel")
def cancel(name: str) -> AnyResponse:
    name, order_id = _name(name), request.form.get("id", "")
    try:
        downlinks().cancel_group(name, order_id if dlw.ORDER_ID.fullmatch(order_id) else "")
        leave("Taken back." if order_id else "The queue is empty.")
    except Refused as refusal:
        leave(refusal.detail)
    return redirect(url_for("groups.show", name=name), 303)


@blueprint.post("/<name>/members")
def member(name: str) -> AnyResponse | tuple[str, int]:
    """Add a member, or take out the one that the button names."""
    name = _name(name)
    dev_eui = maybe_hex(request.form.get("dev_eui", ""), 8)
    form = Form({"dev_eui": request.form.get("dev_eui", "")[:40]})
    if dev_eui is None:
        form.errors["dev_eui"] = "16 hex digits, as on the device's label."
        return _show(name, form), 422
    try:
        if request.form.get("do") == "leave":
            downlinks().leave(name, dev_eui)
        else:
            downlinks().join(name, dev_eui)
    except Refused as refusal:
        form.errors["form"] = refusal.detail
        return _show(name, form), 422
    return redirect(url_for("groups.show", name=name), 303)


@blueprint.post("/<name>/remove")
def remove(name: str) -> AnyResponse:
    name = _name(name)
    downlinks().remove(name)
    leave(f"Group {name} is removed.")
    return redirect(url_for("groups.index"), 303)


def _name(text: str) -> str:
    """Only a group's name goes into an address of the API."""
    if not dlw.GROUP_NAME.fullmatch(text):
        abort(404)
    return text


def _index(form: Form) -> str:
    return page("groups/index.html", groups=downlinks().groups(), form=form, dlw=dlw)


def _show(name: str, form: Form) -> str:
    return page("groups/show.html", group=downlinks().group(name), form=form, added=None, dlw=dlw)
