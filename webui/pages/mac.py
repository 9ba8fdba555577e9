"""MAC commands: what a device is wanted to do, what it has agreed to, what was said; and how devices are steered."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import mac_words as mw
from webui.errors import Refused
from webui.forms import Form
from webui.pages import gateway, page
from webui.pages.devices import eui_of, leave

blueprint = Blueprint("mac", __name__, url_prefix="/devices")

ACTIONS = ("reset", "refresh", "status", "force_rejoin", "set")


@blueprint.get("/steering")
def steering() -> str:
    """What the radios hear, and how devices are brought there."""
    return page("mac/steering.html", steering=gateway().steering(), mw=mw)


@blueprint.get("/<dev_eui>/mac")
def show(dev_eui: str) -> str:
    return _show(eui_of(dev_eui), Form())


@blueprint.get("/<dev_eui>/mac/state")
def state(dev_eui: str) -> str:
    """The changing part of the page."""
    return render_template("mac/_state.html", mac=gateway().mac(eui_of(dev_eui)), mw=mw)


@blueprint.post("/<dev_eui>/mac")
def act(dev_eui: str) -> AnyResponse | tuple[str, int]:
    dev_eui = eui_of(dev_eui)
    form = Form(values={name: request.form.get(name, "").strip()[:20] for name in mw.ORDERS})
    body = _asked(form)
    if not form.errors:
        try:
            words = gateway().mac_action(dev_eui, body)
        except Refused as refusal:
            form.errors["form"] = refusal.detail
        else:
            leave(words[:1].upper() + words[1:] + ".")
            return redirect(url_for("mac.show", dev_eui=dev_eui), 303)
    return _show(dev_eui, form), 422


def _show(dev_eui: str, form: Form) -> str:
    """The page; with nothing posted the form has the orders that stand."""
    mac = gateway().mac(dev_eui)
    if not form.values:
        form.values = {name: str(value) for name, value in mac.orders.items()}
    return page("mac/show.html", device=gateway().device(dev_eui), mac=mac, form=form, mw=mw)


def _asked(form: Form) -> dict[str, Any]:
    """The body of the action; what cannot be read becomes an error of its field."""
    action = request.form.get("action", "")
    if action not in ACTIONS:
        form.errors["form"] = "That is not one of the actions."
        return {}
    body: dict[str, Any] = {"action": action}
    if action == "force_rejoin":
        body["rejoin_type"] = 2 if request.form.get("rejoin_type") == "2" else 0
    if action == "set":
        values: dict[str, int | None] = {}
        for name, text in form.values.items():
            if not text:
                values[name] = None
            elif text.isascii() and text.isdigit() and len(text) <= 10:
                values[name] = int(text)
            else:
                form.errors[name] = "A whole number, or empty."
        body["values"] = values
    return body
