"""Devices that call and are not registered: who they are, and making them ours."""

from __future__ import annotations

from flask import Blueprint, abort, render_template, request

from webui import device_words as dw
from webui.device_forms import UNITS, device_body, read_adoption
from webui.errors import Refused
from webui.fleet import Heard
from webui.forms import Form
from webui.pages import page
from webui.pages.devices import codec_choices, eui_of, fleet

blueprint = Blueprint("device_heard", __name__, url_prefix="/devices/heard")

SHOWN = 100
ALL = 512  # as many as the gateway remembers


@blueprint.get("")
def index() -> str:
    return page("device_heard/index.html", heard=fleet().heard(SHOWN), dw=dw)


@blueprint.get("/list")
def listed() -> str:
    """The changing part."""
    return render_template("device_heard/_list.html", heard=fleet().heard(SHOWN), dw=dw)


@blueprint.get("/<dev_eui>")
def adopt(dev_eui: str) -> str:
    return _form(_heard(dev_eui), Form())


@blueprint.post("/<dev_eui>")
def do_adopt(dev_eui: str) -> str | tuple[str, int]:
    heard = _heard(dev_eui)
    form = read_adoption(request.form)
    if not form.errors:
        try:
            made = fleet().adopt(eui_of(dev_eui), device_body(form))
        except Refused as refusal:
            # "this AppKey does not fit ..." is about that field, whatever the sentence begins with.
            about = next((key for key, label in _KEYS.items() if label in refusal.detail.split(":")[0]), "")
            form.errors[about or dw.field_of(refusal)] = dw.sentence(refusal.detail)
        else:
            return page("devices/added.html", made=made, name=form.values["name"]), 201
    return _form(heard, form), 422


_KEYS = {"nwk_key": "NwkKey", "app_key": "AppKey"}


def _heard(dev_eui: str) -> Heard:
    dev_eui = eui_of(dev_eui)
    found = next((each for each in fleet().heard(ALL) if each.dev_eui == dev_eui), None)
    if found is None:
        abort(404, "This device was not heard lately, or is registered by now.")
    return found


def _form(heard: Heard, form: Form) -> str:
    profiles = fleet().profiles().profiles
    codecs = codec_choices()
    return page(
        "device_heard/adopt.html",
        heard=heard,
        form=form,
        profiles=profiles,
        codecs=codecs,
        units=UNITS,
        dw=dw,
    )
