"""Joins of a device: how many nonces it has used, and a technician's leave to begin them anew."""

from __future__ import annotations

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui.pages import gateway, page
from webui.pages.devices import eui_of, leave

blueprint = Blueprint("joins", __name__, url_prefix="/devices")

MINUTES = (10, 60, 480)  # of leave


@blueprint.get("/<dev_eui>/joins")
def show(dev_eui: str) -> str:
    dev_eui = eui_of(dev_eui)
    device, joins = gateway().device(dev_eui), gateway().joins(dev_eui)
    return page("joins/show.html", device=device, joins=joins, choices=MINUTES)


@blueprint.post("/<dev_eui>/joins")
def allow(dev_eui: str) -> AnyResponse:
    """Leave for the minutes chosen; anything else takes it back."""
    dev_eui = eui_of(dev_eui)
    chosen = request.form.get("minutes", "")
    minutes = next((each for each in MINUTES if chosen == str(each)), 0)
    gateway().allow_nonce_restart(dev_eui, minutes)
    words = (
        f"It may begin its nonces anew for {minutes} minutes."
        if minutes
        else "It may not begin anew any more."
    )
    leave(words)
    return redirect(url_for("joins.show", dev_eui=dev_eui), 303)
