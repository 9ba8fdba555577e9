"""Codecs: the list, an editor with samples and units, and a bench that tries bytes before anything is stored."""

from __future__ import annotations

import json
import re

from flask import Blueprint, Response, redirect, request, url_for
from markupsafe import Markup, escape
from werkzeug.wrappers import Response as AnyResponse

from webui import codec_forms as forms
from webui import device_words as dw
from webui.codecs import Codec, Codecs, Report
from webui.errors import Refused
from webui.forms import Form
from webui.pages import gateway, page
from webui.pages.devices import leave
from webui.security import takes_text

blueprint = Blueprint("codecs", __name__, url_prefix="/codecs")

MAX_FORM = 1 << 20  # a source of 200,000 characters, each up to three bytes and then escaped
MAX_SHOWN = 20_000  # characters of a result
_NAME = re.compile(r"[a-z0-9._-]{1,64}")


def codecs() -> Codecs:
    return Codecs(gateway())


@blueprint.get("")
def index() -> str:
    return page("codecs/index.html", found=codecs().all())


@blueprint.get("/new")
def new() -> str:
    return _editor(Form({"source": forms.TEMPLATE, "bytes": "00d7", "fport": "1"}))


@blueprint.post("/new")
@takes_text(MAX_FORM)
def create() -> AnyResponse | tuple[str, int]:
    form = forms.read(request.form)
    if request.form.get("do") != "save":
        return _tried(form, None)
    body = forms.body_of(form, form.values["name"], force=bool(request.form.get("force")))
    return _kept(form, None, body)


@blueprint.post("/import")
@takes_text(MAX_FORM)
def take_file() -> AnyResponse | tuple[str, int]:
    """An exported codec, looked at before it is stored."""
    sent = request.files.get("file")
    text = sent.read(MAX_FORM) if sent else b""
    form = Form(dict.fromkeys(forms.NAMES, ""))
    try:
        read = json.loads(text)
        form = forms.of_codec(_codec_of(read))
    except (ValueError, TypeError):
        form.errors["form"] = "This file is no codec: choose one that was exported here."
        return _editor(form), 422
    return _editor(form), 200


@blueprint.get("/<name>")
def show(name: str) -> str:
    codec = _found(name)
    return _editor(forms.of_codec(codec), codec)


@blueprint.post("/<name>")
@takes_text(MAX_FORM)
def change(name: str) -> AnyResponse | tuple[str, int]:
    codec = _found(name)
    form = forms.read(request.form)
    if request.form.get("do") != "save":
        return _tried(form, codec)
    body = forms.body_of(form, codec.name, force=bool(request.form.get("force")))
    return _kept(form, codec, body)


@blueprint.post("/<name>/lift")
def lift(name: str) -> AnyResponse:
    codec = _found(name)
    codecs().lift(codec.name)
    leave("It is run again.")
    return redirect(url_for("codecs.show", name=codec.name), 303)


@blueprint.post("/<name>/rollback")
def roll_back(name: str) -> AnyResponse:
    codec = _found(name)
    version = request.form.get("version", "")
    if version.isascii() and version.isdigit() and len(version) < 10:
        codecs().roll_back(codec.name, int(version))
        leave(f"Version {version} is in use again.")
    return redirect(url_for("codecs.show", name=codec.name), 303)


@blueprint.post("/<name>/remove")
def remove(name: str) -> AnyResponse | tuple[str, int]:
    codec = _found(name)
    try:
        codecs().remove(codec.name)
    except Refused as refusal:
        form = forms.of_codec(codec)
        form.errors["form"] = dw.sentence(refusal.detail)
        return _editor(form, codec), 422
    leave("Removed.")
    return redirect(url_for("codecs.index"), 303)


@blueprint.get("/<name>/export")
def export(name: str) -> Response:
    codec = _found(name)
    answer = Response(codecs().export(codec.name), content_type="application/json")
    answer.headers["Content-Disposition"] = f'attachment; filename="{codec.name}.codec.json"'
    return answer


def _found(name: str) -> Codec:
    """Raises Refused, which becomes a page, where there is none."""
    return codecs().one(name if _NAME.fullmatch(name) else "-")


def _tried(form: Form, codec: Codec | None) -> tuple[str, int]:
    trial = forms.trial_of(form)
    if form.errors:
        return _editor(form, codec), 422
    try:
        report = codecs().attempt(trial)
    except Refused as refusal:
        form.errors["form"] = dw.sentence(refusal.detail)
        return _editor(form, codec), 422
    if request.form.get("do") == "sample":
        forms.add_sample(form, report, trial)
    return _editor(form, codec, report), 200


def _kept(form: Form, codec: Codec | None, body: dict[str, object]) -> AnyResponse | tuple[str, int]:
    if not form.errors:
        try:
            made = codecs().change(codec.name, body) if codec else codecs().create(body)
        except Refused as refusal:
            form.errors["form"] = dw.sentence(refusal.detail)
        else:
            leave(f"Stored as version {made.version}.")
            return redirect(url_for("codecs.show", name=made.name), 303)
    return _editor(form, codec), 422


def _editor(form: Form, codec: Codec | None = None, report: Report | None = None) -> str:
    return page(
        "codecs/edit.html",
        form=form,
        codec=codec,
        report=report,
        asks=forms.ASKS,
        whole=_whole,
        shown=_shown,
    )


def _codec_of(read: object) -> Codec:
    """Raises ValueError, TypeError."""
    if not isinstance(read, dict) or not isinstance(read.get("source"), str):
        raise TypeError("no codec")
    known = ("source", "description", "samples", "units")
    return forms.codec_of(str(read.get("name", "")), {name: read[name] for name in known if name in read})


def _whole(text: str) -> Markup:
    """A source must not be shortened, as other values of a page are."""
    return escape(text)


def _shown(value: object) -> Markup:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return escape(text[:MAX_SHOWN] + ("…" if len(text) > MAX_SHOWN else ""))
