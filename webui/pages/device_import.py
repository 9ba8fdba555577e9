"""Delivery lists: sent once, looked at line by line, then added."""

from __future__ import annotations

import re

from flask import Blueprint, Response, abort, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import device_words as dw
from webui.device_forms import UNITS, read_interval
from webui.errors import Refused
from webui.fleet import Preview
from webui.forms import Form
from webui.pages import page
from webui.pages.devices import codec_choices, fleet, leave
from webui.security import takes_file
from webui.words import counted

blueprint = Blueprint("device_import", __name__, url_prefix="/devices/import")

MAX_FILE = 4 << 20  # as the gateway takes
FORM_AROUND = 64 << 10
SHOWN = 100  # lines on one page
STATES = {
    "": "All",
    "new": "Can be added",
    "wrong": "Wrong",
    "twice": "Twice",
    "registered": "Registered already",
}
TEMPLATE = (
    "dev_eui,join_eui,app_key,name,profile,codec,interval\r\n"
    "a84041ffff1c3d5e,a840410000000107,00112233445566778899aabbccddeeff,Cold room 1,LoRaWAN-1.0.3-A,cayenne,15 min\r\n"
)
_PLAN = re.compile(r"[A-Za-z0-9_-]{1,64}")


@blueprint.get("")
def index() -> str:
    return _form(Form())


@blueprint.get("/template.csv")
def template() -> Response:
    """A file to fill in."""
    answer = Response(TEMPLATE, content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = 'attachment; filename="devices.csv"'
    return answer


@blueprint.post("")
@takes_file(MAX_FILE + FORM_AROUND)
def upload() -> AnyResponse | tuple[str, int]:
    form = Form(
        values={name: request.form.get(name, "").strip()[:64] for name in ("profile", "codec", "channel_id")}
    )
    read_interval(request.form, form)
    sent = request.files.get("file")
    data = b""
    if sent:
        data = sent.read(MAX_FILE + 1)
        sent.close()  # a long one lies in a file of its own
    if not data:
        data = request.form.get("text", "").encode()
    if not data.strip():
        form.errors["file"] = "Choose a file, or paste its lines below."
    elif len(data) > MAX_FILE:
        form.errors["file"] = "At most 4 MB: split the file."
    if not form.errors:
        names = ("profile", "codec", "channel_id", "expected_interval_s")
        defaults = {name: form.values[name] for name in names if form.values[name]}
        try:
            made = fleet().preview(data, defaults, 0)
        except Refused as refusal:
            form.errors["file"] = dw.sentence(refusal.detail)
        else:
            return redirect(url_for("device_import.preview", plan=made.plan), 303)
    return _form(form), 422


@blueprint.get("/<plan>")
def preview(plan: str) -> str:
    """What would happen with each line; nothing has happened yet."""
    return _preview(_plan(plan), "")


@blueprint.post("/<plan>")
def confirm(plan: str) -> AnyResponse | tuple[str, int]:
    plan = _plan(plan)
    if request.form.get("do") == "forget":
        fleet().forget(plan)
        leave("Nothing was added.")
        return redirect(url_for("device_import.index"), 303)
    mode = "good" if request.form.get("mode") == "good" else "all"
    try:
        made = fleet().confirm(plan, mode)
    except Refused as refusal:
        return _preview(plan, dw.sentence(refusal.detail)), 422
    passed = f" {counted(made.passed_over, 'line')} passed over." if made.passed_over else ""
    leave(f"{counted(made.registered, 'device')} added.{passed}")
    return redirect(url_for("devices.index"), 303)


def _plan(text: str) -> str:
    if not _PLAN.fullmatch(text):
        abort(404)
    return text


def _form(form: Form) -> str:
    profiles = fleet().profiles().profiles
    codecs = codec_choices()
    return page("device_import/index.html", form=form, profiles=profiles, codecs=codecs, units=UNITS)


def _preview(plan: str, refused: str) -> str:
    state = request.args.get("state", "")
    state = state if state in STATES else ""
    at = request.args.get("page", "1")
    number = int(at) if at.isascii() and at.isdigit() and 0 < len(at) < 5 else 1
    asked = {"offset": str((number - 1) * SHOWN), "limit": str(SHOWN), "state": state}
    found: Preview = fleet().look_again(plan, {name: value for name, value in asked.items() if value})
    pages = max(1, -(-found.total // SHOWN))
    return page(
        "device_import/preview.html",
        plan=plan,
        found=found,
        state=state,
        states=STATES,
        number=number,
        pages=pages,
        refused=refused,
        dw=dw,
    )
