"""Home: is everything all right, and if not, what is it? Plus the lamps that all pages refresh."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, url_for
from werkzeug.wrappers import Response

from webui.client import Device, Value
from webui.errors import GatewayDown
from webui.pages import gateway, is_member, page, status

blueprint = Blueprint("home", __name__)

LAST_HEARD = 5


@blueprint.get("/")
def index() -> str | Response:
    if is_member():
        return redirect(url_for("organisations.index"), 303)
    return page("home/index.html", devices=_last_heard(), latest=_latest())


@blueprint.get("/state")
def state() -> str:
    """The changing part of Home."""
    return page("home/_state.html", devices=_last_heard(), latest=_latest())


@blueprint.get("/lamps")
def lamps() -> str:
    """The header's lamps; when the gateway does not answer, the banner that says so."""
    try:
        return render_template("_lamps.html", status=status())
    except GatewayDown:
        return render_template("_down.html")


def _last_heard() -> dict[str, list[Device]]:
    devices = gateway().devices()
    heard = [device for device in devices if device.last_seen is not None]
    heard.sort(key=lambda device: device.last_seen or 0.0, reverse=True)
    return {"all": devices, "heard": heard[:LAST_HEARD]}


def _latest() -> dict[str, list[Value]]:
    """What each device said last, of those that said something lately."""
    latest: dict[str, list[Value]] = {}
    for frame in gateway().frames():  # newest first
        if frame.dev_eui and frame.values:
            latest.setdefault(frame.dev_eui, frame.values)
    return latest
