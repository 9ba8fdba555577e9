"""Sessions on the move: a device's tab, and files of one device or a whole site."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import device_words as dw
from webui.device_forms import MIN_SEAL, read_passphrase
from webui.errors import Refused
from webui.forms import Form
from webui.pages import gateway, page
from webui.pages.devices import eui_of, fleet, leave
from webui.security import takes_file

blueprint = Blueprint("device_session", __name__, url_prefix="/devices")

MAX_FILE = 24 << 20  # as the gateway takes
FORM_AROUND = 64 << 10


@blueprint.get("/<dev_eui>/session")
def show(dev_eui: str) -> str:
    return _show(eui_of(dev_eui), Form())


@blueprint.post("/<dev_eui>/session")
def export(dev_eui: str) -> AnyResponse | tuple[str, int]:
    """The sealed file of one device."""
    dev_eui = eui_of(dev_eui)
    form = read_passphrase(request.form)
    if not form.errors:
        try:
            file = fleet().export_session(
                dev_eui, form.values["passphrase"], request.form.get("do") == "move"
            )
        except Refused as refusal:
            form.errors["form"] = dw.sentence(refusal.detail)
        else:
            return _download(file, f"device-{dev_eui}.json")
    return _show(dev_eui, form), 422


@blueprint.post("/<dev_eui>/session/take-back")
def take_back(dev_eui: str) -> AnyResponse:
    dev_eui = eui_of(dev_eui)
    fleet().take_back(dev_eui)
    leave("Served here again.")
    return redirect(url_for("device_session.show", dev_eui=dev_eui), 303)


@blueprint.get("/transfer")
def transfer() -> str:
    """Many devices in one file, away and here."""
    return _transfer(Form(), Form())


@blueprint.post("/transfer/export")
def export_site() -> AnyResponse | tuple[str, int]:
    form = read_passphrase(request.form)
    if not form.errors:
        try:
            file = fleet().export_site(form.values["passphrase"], request.form.get("do") == "move")
        except Refused as refusal:
            form.errors["form"] = dw.sentence(refusal.detail)
        else:
            return _download(file, "site.json")
    return _transfer(form, Form()), 422


@blueprint.post("/transfer/import")
@takes_file(MAX_FILE + FORM_AROUND)
def receive() -> str | tuple[str, int]:
    form = _opening(request.form)
    sent = request.files.get("file")
    data = b""
    if sent:
        data = sent.read(MAX_FILE + 1)
        sent.close()
    try:
        file = msgspec.json.decode(data) if data else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        file = None
    if not isinstance(file, dict):
        form.errors["file"] = "Choose the file that the other gateway gave."
    elif not form.errors:
        try:
            arrived = fleet().receive(file, form.values["opening"])
        except Refused as refusal:
            wrong = "passphrase" in refusal.detail
            form.errors["opening" if wrong else "file"] = dw.sentence(refusal.detail)
        else:
            return page("device_session/arrived.html", arrived=arrived)
    return _transfer(Form(), form), 422


def _opening(posted: Mapping[str, str]) -> Form:
    words = posted.get("opening", "")
    errors = {} if words else {"opening": "The passphrase it was sealed with."}
    return Form(values={"opening": words[:256]}, errors=errors)


def _download(file: bytes, name: str) -> Response:
    answer = Response(file, content_type="application/json")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _show(dev_eui: str, form: Form) -> str:
    return page(
        "device_session/show.html",
        device=gateway().device(dev_eui),
        found=fleet().session(dev_eui),
        form=form,
        least=MIN_SEAL,
    )


def _transfer(away: Form, here: Form) -> str:
    return page("device_session/transfer.html", form=away, here=here, least=MIN_SEAL)
