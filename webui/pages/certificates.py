"""Certificates: made for a thing, downloaded, revoked, which end soon; and the authority that others trust."""

from __future__ import annotations

import base64
import re

from flask import Blueprint, Response, abort, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import device_words as dw
from webui.certificates_api import Authorities, CertificatesApi, unix_s
from webui.errors import Refused
from webui.forms import Form
from webui.pages import gateway, page
from webui.pages.devices import leave

blueprint = Blueprint("certificates", __name__, url_prefix="/certificates")

PAGE = 50
SOON_S = 90 * 86_400
VIEWS = {"": "All", "good": "In use", "soon": "End soon", "revoked": "Revoked"}
PIECE = 900  # characters: what a page puts out at once is bounded
MAX_REQUEST = 8192
_SERIAL = re.compile(r"[0-9a-f]{32}")
_THING = re.compile(r"[\w-]{1,64}", re.ASCII)


def api() -> CertificatesApi:
    return CertificatesApi(gateway())


@blueprint.get("")
def index() -> str:
    return _list(Form({"thing": request.args.get("thing", "")[:64]}))


@blueprint.post("")
def make() -> str | tuple[str, int]:
    form = Form({"thing": request.form.get("thing", "").strip()[:64]})
    csr = request.form.get("csr", "")[: MAX_REQUEST + 1].strip()
    if not _THING.fullmatch(form.values["thing"]):
        form.errors["thing"] = "Type a thing's id, or choose one from the list."
    if not form.errors:
        try:
            made = api().make(form.values["thing"], csr)
        except Refused as refusal:
            form.errors["thing" if refusal.status == 404 else "form"] = dw.sentence(refusal.detail)
        else:
            files = {
                "certificate": made.certificate,
                "private key": made.private_key,
                "authority": made.authority,
            }
            return page(
                "certificates/made.html",
                made=made,
                files={
                    title: _file(f"{made.thing_id}.{end}", text)
                    for (title, text), end in zip(files.items(), ("pem", "key", "authority.pem"), strict=True)
                    if text
                },
            )
    return _list(form), 422


@blueprint.get("/authority.pem")
def authority() -> AnyResponse:
    """What devices and browsers trust."""
    try:
        content = api().authority()
    except Refused as refusal:
        leave(dw.sentence(refusal.detail))
        return redirect(url_for("certificates.index"), 303)
    headers = {"Content-Disposition": 'attachment; filename="gateway-authority.pem"'}
    return Response(content, headers=headers, content_type="application/x-pem-file")


@blueprint.post("/authority/follow")
def follow() -> AnyResponse:
    try:
        api().follow()
    except Refused as refusal:
        leave(dw.sentence(refusal.detail))
    else:
        leave("A new issuing authority is at work. What the old one has signed stays good.")
    return redirect(url_for("certificates.index"), 303)


@blueprint.get("/<serial>")
def show(serial: str) -> str:
    one = api().certificate(_checked(serial))
    return page(
        "certificates/show.html",
        one=one,
        thing=_thing_name(one.thing_id),
        file=_file(f"{one.thing_id}.pem", one.certificate),
        unix_s=unix_s,
    )


@blueprint.post("/<serial>/revoke")
def revoke(serial: str) -> AnyResponse:
    try:
        api().revoke(_checked(serial), request.form.get("reason", "").strip()[:200])
    except Refused as refusal:
        leave(dw.sentence(refusal.detail))
    else:
        leave("Revoked. What came in with it is cut off.")
    return redirect(url_for("certificates.show", serial=serial), 303)


def _list(form: Form) -> str:
    view = request.args.get("view", "")
    if view not in VIEWS:
        abort(404)
    search = request.args.get("q", "")[:64]
    asked = {"limit": str(PAGE), "q": search}
    if view == "soon":
        asked["expiring_s"] = str(SOON_S)
    elif view:
        asked["state"] = view
    thing = request.args.get("thing", "")
    if _THING.fullmatch(thing):
        asked["thing_id"] = thing
    start = request.args.get("offset", "0")
    offset = int(start) if start.isascii() and start.isdigit() and len(start) < 7 else 0
    if offset:
        asked["offset"] = str(offset)
    found = api().certificates(asked)
    things = api().things()
    return page(
        "certificates/index.html",
        form=form,
        found=found,
        names={each.id: each.name for each in things},
        things=things,
        authorities=_authorities(),
        view=view,
        views=VIEWS,
        search=search,
        later=offset + PAGE if offset + PAGE < found.total else 0,
        unix_s=unix_s,
    )


def _authorities() -> Authorities | None:
    """None for somebody who is a member of organisations only."""
    try:
        return api().authorities()
    except Refused as refusal:
        if refusal.status != 403:
            raise
        return None


def _thing_name(thing_id: str) -> str:
    try:
        return api().thing(thing_id).name
    except Refused:
        return ""  # it is gone; its certificates are not


def _file(name: str, text: str) -> dict[str, object]:
    """A text to be shown line by line, and to be downloaded without asking the gateway for it again."""
    encoded = base64.b64encode(text.encode()).decode()
    pieces = [encoded[at : at + PIECE] for at in range(0, len(encoded), PIECE)]
    return {"name": name, "lines": text.splitlines(), "pieces": pieces}


def _checked(serial: str) -> str:
    """Only a serial number goes into an address of the API."""
    if not _SERIAL.fullmatch(serial):
        abort(404)
    return serial
