"""Devices: what they said, how well they are heard, adding them, sending to them."""

from __future__ import annotations

from flask import Blueprint, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from webui.client import Device, Frame, Value
from webui.errors import Refused
from webui.forms import CODECS, DownlinkForm, Form, maybe_hex, read_device, read_downlink
from webui.pages import gateway, page
from webui.security import session, sessions

blueprint = Blueprint("devices", __name__, url_prefix="/devices")

FRAMES_OF_DEVICE = 500  # all the gateway keeps; the page shows RECENT of them
RECENT = 10


@blueprint.get("")
def index() -> str:
    return page("devices/index.html", devices=_sorted())


@blueprint.get("/list")
def listed() -> str:
    """The changing part of the list."""
    return render_template("devices/_list.html", devices=_sorted())


@blueprint.get("/add")
def add() -> str:
    """The form; a frame that was refused as unknown fills in what it told about its sender."""
    heard = {name: maybe_hex(request.args.get(name, ""), 8) or "" for name in ("dev_eui", "join_eui")}
    return page("devices/add.html", form=Form(values={"activation": "otaa", **heard}), codecs=CODECS)


@blueprint.post("/add")
def do_add() -> str | tuple[str, int]:
    form = read_device(request.form)
    if not form.errors:
        try:
            made = gateway().add_device(form.values)
        except Refused as refusal:
            field = "dev_eui" if refusal.status == 409 else "form"
            form.errors[field] = refusal.detail
        else:
            return page("devices/added.html", made=made, name=form.values["name"]), 201
    return page("devices/add.html", form=form, codecs=CODECS), 422


@blueprint.get("/<dev_eui>")
def show(dev_eui: str) -> str:
    return _show(_eui(dev_eui), DownlinkForm())


@blueprint.get("/<dev_eui>/state")
def state(dev_eui: str) -> str:
    """The changing part of a device's page."""
    return render_template("devices/_state.html", **_state(_eui(dev_eui)))


@blueprint.post("/<dev_eui>/downlinks")
def send(dev_eui: str) -> Response | tuple[str, int]:
    dev_eui = _eui(dev_eui)
    form = read_downlink(request.form)
    if not form.errors:
        try:
            gateway().queue_downlink(dev_eui, form.fport, form.payload, form.confirmed)
        except Refused as refusal:
            form.errors["form"] = refusal.detail
        else:
            _leave("Queued. It goes out after the device's next uplink: a class A device listens only then.")
            return redirect(url_for("devices.show", dev_eui=dev_eui), 303)
    return _show(dev_eui, form), 422


@blueprint.get("/<dev_eui>/remove")
def remove(dev_eui: str) -> str:
    return page("devices/remove.html", device=gateway().device(_eui(dev_eui)))


@blueprint.post("/<dev_eui>/remove")
def do_remove(dev_eui: str) -> Response:
    gateway().remove_device(_eui(dev_eui))
    _leave("Removed. What it sent stays in the store.")
    return redirect(url_for("devices.index"), 303)


def _eui(text: str) -> str:
    """Only an EUI goes into an address of the API."""
    digits = maybe_hex(text, 8)
    if digits is None:
        abort(404)
    return digits


def _sorted() -> list[Device]:
    """Most recently heard first; those never heard, which need somebody, at the end by name."""
    devices = gateway().devices()
    return sorted(
        devices, key=lambda device: (-(device.last_seen or 0.0), device.name.lower(), device.dev_eui)
    )


def _show(dev_eui: str, downlink: DownlinkForm) -> str:
    return page("devices/show.html", downlink=downlink, posted=request.form, **_state(dev_eui))


def _state(dev_eui: str) -> dict[str, object]:
    frames = gateway().frames(limit=FRAMES_OF_DEVICE, dev_eui=dev_eui)
    return {"device": gateway().device(dev_eui), "frames": frames[:RECENT], "readings": _latest(frames)}


def _latest(frames: list[Frame]) -> list[tuple[Value, float]]:
    """The newest value of each name, with the time of its frame."""
    found: dict[str, tuple[Value, float]] = {}
    for frame in frames:
        for value in frame.values or ():
            found.setdefault(value.n, (value, frame.time))
    return sorted(found.values(), key=lambda item: item[0].n)


def _leave(sentence: str) -> None:
    if found := session():
        sessions().leave_notice(found, sentence)
