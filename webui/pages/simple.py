"""Simple nodes that are not LoRaWAN: which there are, registering one, sending to one."""

from __future__ import annotations

import re

from flask import Blueprint, abort, redirect, request, url_for
from werkzeug.wrappers import Response

from webui import simple_words as sw
from webui.errors import Refused
from webui.forms import Form
from webui.pages import gateway, page
from webui.security import session, sessions

blueprint = Blueprint("simple", __name__, url_prefix="/devices/simple")

_ID = re.compile(r"raw-[a-z0-9-]{1,40}")


@blueprint.get("")
def index() -> str:
    """A sender that was heard fills in what its frames tell."""
    heard = {name: request.args.get(name, "")[:3] for name in ("address", "own_address")}
    return _index(Form(values=sw.DEFAULTS | {name: text for name, text in heard.items() if text}))


@blueprint.post("")
def add() -> Response | tuple[str, int]:
    form, body = sw.read_node(request.form)
    if not form.errors:
        try:
            gateway().add_simple_node(body)
        except Refused as refusal:
            form.errors["form"] = refusal.detail
        else:
            _leave("Registered. What it sends appears on its channel.")
            return redirect(url_for("simple.index"), 303)
    return _index(form), 422


@blueprint.post("/<node_id>/remove")
def remove(node_id: str) -> Response:
    gateway().remove_simple_node(_known(node_id))
    _leave("Removed. What it sent stays in the store.")
    return redirect(url_for("simple.index"), 303)


@blueprint.post("/<node_id>/send")
def send(node_id: str) -> Response | tuple[str, int]:
    form = Form(values=dict(sw.DEFAULTS))
    payload = sw.read_payload(request.form.get("payload", ""))
    if payload is None:
        form.errors["send"] = f"Bytes in hex, 1 to {sw.MAX_BYTES} of them, such as 01 ff."
        return _index(form), 422
    try:
        gateway().send_to_simple_node(_known(node_id), payload)
    except Refused as refusal:
        form.errors["send"] = refusal.detail
        return _index(form), 422
    _leave("Sent. Such a node does not tell whether it has heard it.")
    return redirect(url_for("simple.index"), 303)


def _index(form: Form) -> str:
    found = gateway().simple_nodes()
    return page("simple/index.html", found=found, form=form, sw=sw)


def _known(node_id: str) -> str:
    """Only an id goes into an address of the API."""
    if not _ID.fullmatch(node_id):
        abort(404)
    return node_id


def _leave(sentence: str) -> None:
    if found := session():
        sessions().leave_notice(found, sentence)
