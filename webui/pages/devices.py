"""Devices: the list, what each said and how well it is heard, adding and changing them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import device_words as dw
from webui.client import Device, Frame, Value
from webui.codecs import Codecs
from webui.device_forms import (
    CODECS,
    SORTS,
    UNITS,
    device_body,
    edit_body,
    interval_fields,
    read_device,
    read_edit,
)
from webui.errors import Refused
from webui.fleet import Fleet, Label
from webui.forms import DownlinkForm, Form, maybe_hex, read_downlink
from webui.pages import gateway, page
from webui.security import session, sessions, uses_camera

blueprint = Blueprint("devices", __name__, url_prefix="/devices")

FRAMES_OF_DEVICE = 500  # all the gateway keeps; the page shows RECENT of them
RECENT = 10
PER_PAGE = 50
MAX_QUERY = 100
MAX_LABEL = 4296


def fleet() -> Fleet:
    return Fleet(gateway())


@blueprint.get("")
def index() -> str:
    return page("devices/index.html", sorts=SORTS, **_listed())


@blueprint.get("/list")
def listed() -> str:
    """The changing part of the list."""
    return render_template("devices/_list.html", **_listed())


@blueprint.get("/export")
def export() -> Response:
    """The list as a file for spreadsheets."""
    answer = Response(fleet().device_list(), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = 'attachment; filename="devices.csv"'
    return answer


@blueprint.get("/add")
@uses_camera
def add() -> str:
    """The form; a frame that was refused as unknown fills in what it told about its sender."""
    heard = {name: maybe_hex(request.args.get(name, ""), 8) or "" for name in ("dev_eui", "join_eui")}
    return _add(Form(values={"activation": "otaa", **heard}))


@blueprint.post("/label")
@uses_camera
def label() -> str | tuple[str, int]:
    """What a label says becomes the form; what was typed into it before stays where the label says nothing."""
    text = request.form.get("text", "")[:MAX_LABEL]
    typed = {
        name: request.form.get(name, "") for name in ("name", "profile", "codec") if name in request.form
    }
    form = Form(values={"activation": "otaa", "text": text, **typed})
    try:
        found = fleet().label(text)
    except Refused as refusal:
        form.errors["text"] = dw.sentence(refusal.detail)
        return _add(form), 422
    form.values |= dw.label_fields(found)
    return _add(form, found)


@blueprint.post("/add")
@uses_camera
def do_add() -> str | tuple[str, int]:
    form = read_device(request.form)
    if not form.errors:
        try:
            made = fleet().add(device_body(form))
        except Refused as refusal:
            form.errors[dw.field_of(refusal)] = dw.sentence(refusal.detail)
        else:
            return page("devices/added.html", made=made, name=form.values["name"]), 201
    return _add(form), 422


@blueprint.get("/<dev_eui>")
def show(dev_eui: str) -> str:
    return _show(eui_of(dev_eui), DownlinkForm())


@blueprint.get("/<dev_eui>/state")
def state(dev_eui: str) -> str:
    """The changing part of a device's page."""
    return render_template("devices/_state.html", **_state(eui_of(dev_eui)))


@blueprint.post("/<dev_eui>/downlinks")
def send(dev_eui: str) -> AnyResponse | tuple[str, int]:
    dev_eui = eui_of(dev_eui)
    form = read_downlink(request.form)
    if not form.errors:
        try:
            gateway().queue_downlink(dev_eui, form.fport, form.payload, form.confirmed)
        except Refused as refusal:
            form.errors["form"] = refusal.detail
        else:
            leave("Queued. It goes out after the device's next uplink: a class A device listens only then.")
            return redirect(url_for("devices.show", dev_eui=dev_eui), 303)
    return _show(dev_eui, form), 422


@blueprint.get("/<dev_eui>/edit")
def edit(dev_eui: str) -> str:
    device = gateway().device(eui_of(dev_eui))
    interval = device.expected_interval_s if device.own_interval else 0
    form = Form(
        values={
            "name": device.name,
            "profile": device.profile,
            "codec": device.codec if device.own_codec else "",
            "channel_id": device.channel_id,
            "description": device.description,
            **interval_fields(interval),
        }
    )
    return _edit(device, form)


@blueprint.post("/<dev_eui>/edit")
def do_edit(dev_eui: str) -> AnyResponse | tuple[str, int]:
    dev_eui = eui_of(dev_eui)
    form = read_edit(request.form)
    if not form.errors:
        try:
            fleet().change(dev_eui, edit_body(form))
        except Refused as refusal:
            form.errors[dw.field_of(refusal)] = dw.sentence(refusal.detail)
        else:
            leave("Changed.")
            return redirect(url_for("devices.show", dev_eui=dev_eui), 303)
    return _edit(gateway().device(dev_eui), form), 422


@blueprint.get("/<dev_eui>/remove")
def remove(dev_eui: str) -> str:
    return page("devices/remove.html", device=gateway().device(eui_of(dev_eui)))


@blueprint.post("/<dev_eui>/remove")
def do_remove(dev_eui: str) -> AnyResponse:
    gateway().remove_device(eui_of(dev_eui))
    leave("Removed. What it sent stays in the store.")
    return redirect(url_for("devices.index"), 303)


def eui_of(text: str) -> str:
    """Only an EUI goes into an address of the API."""
    digits = maybe_hex(text, 8)
    if digits is None:
        abort(404)
    return digits


def codec_choices(now: str = "") -> dict[str, str]:
    """The codecs to choose from: those that are built in, the gateway's own, and the one that is chosen now."""
    found = {each.name: each.description for each in Codecs(gateway()).all().codecs}
    own = {name: f"{name}: {text}" if text else name for name, text in found.items() if name not in CODECS}
    return {**CODECS, **own, **({now: now} if now and now not in CODECS and now not in own else {})}


def leave(words: str) -> None:
    """A sentence for the next page."""
    if found := session():
        sessions().leave_notice(found, words)


def _listed() -> dict[str, object]:
    """The part of the list that the address asks for."""
    asked = _asked(request.args)
    at = request.args.get("page", "1")
    number = int(at) if at.isascii() and at.isdigit() and 0 < len(at) < 5 else 1
    wanted = {**asked, "offset": str((number - 1) * PER_PAGE), "limit": str(PER_PAGE)}
    devices, total = fleet().find({name: value for name, value in wanted.items() if value})
    pages = max(1, -(-total // PER_PAGE))
    given = {name: value for name, value in asked.items() if value}
    return {
        "devices": devices,
        "total": total,
        "asked": asked,
        "number": number,
        "pages": pages,
        "query": urlencode({**given, "page": number}),
        "earlier": urlencode({**given, "page": number - 1}) if number > 1 else "",
        "later": urlencode({**given, "page": number + 1}) if number < pages else "",
        "dw": dw,
    }


def _asked(args: Mapping[str, str]) -> dict[str, str]:
    sort = args.get("sort", "")
    return {
        "q": args.get("q", "").strip()[:MAX_QUERY],
        "attention": "1" if args.get("attention") == "1" else "",
        "profile": args.get("profile", "")[:64],
        "sort": sort if sort in SORTS else "",
    }


def _add(form: Form, found: Label | None = None) -> str:
    profiles = fleet().profiles().profiles
    return page(
        "devices/add.html",
        form=form,
        label=found,
        profiles=profiles,
        codecs=codec_choices(form.values.get("codec", "")),
        units=UNITS,
        dw=dw,
    )


def _edit(device: Device, form: Form) -> str:
    profiles = fleet().profiles().profiles
    codecs = codec_choices(device.codec)
    return page(
        "devices/edit.html", device=device, form=form, profiles=profiles, codecs=codecs, units=UNITS, dw=dw
    )


def _show(dev_eui: str, downlink: DownlinkForm) -> str:
    return page("devices/show.html", downlink=downlink, posted=request.form, **_state(dev_eui))


def _state(dev_eui: str) -> dict[str, object]:
    frames = gateway().frames(limit=FRAMES_OF_DEVICE, dev_eui=dev_eui)
    return {
        "device": gateway().device(dev_eui),
        "frames": frames[:RECENT],
        "readings": _latest(frames),
        "dw": dw,
    }


def _latest(frames: list[Frame]) -> list[tuple[Value, float]]:
    """The newest value of each name, with the time of its frame."""
    found: dict[str, tuple[Value, float]] = {}
    for frame in frames:
        for value in frame.values or ():
            found.setdefault(value.n, (value, frame.time))
    return sorted(found.values(), key=lambda item: item[0].n)
