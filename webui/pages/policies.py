"""Policies: documents that say who may do what, an editor for them, and the reason for a decision."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, abort, redirect, request, url_for
from markupsafe import Markup, escape
from werkzeug.wrappers import Response as AnyResponse

from webui import device_words as dw
from webui.errors import Refused
from webui.forms import Form
from webui.pages import gateway, page
from webui.pages.devices import leave
from webui.rights import Answer, Document, Rights
from webui.security import takes_text

blueprint = Blueprint("policies", __name__, url_prefix="/policies")

MAX_FORM = 1 << 20  # a document of 256 KiB, escaped
ACTIONS = ("publish", "subscribe", "deliver", "connect", "manage")
TEMPLATE = """{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "small-messages-only",
      "Effect": "Deny",
      "Principal": "things/*",
      "Action": "Publish",
      "Resource": "*",
      "Condition": {"NumericGreaterThan": {"payload_size": 4096}}
    }
  ]
}
"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ASKED = ("who", "id", "action", "channel", "subtopic", "protocol", "source_ip", "payload_size")


def rights() -> Rights:
    return Rights(gateway())


@blueprint.get("")
def index() -> str:
    return _list(Form({"who": "thing", "action": "publish"}))


@blueprint.post("/explain")
def explain() -> str | tuple[str, int]:
    form = Form({name: request.form.get(name, "").strip() for name in _ASKED})
    answer = None
    size = form.values["payload_size"]
    if size and not (size.isascii() and size.isdigit() and len(size) < 10):
        form.errors["payload_size"] = "A number of bytes."
    if not form.values["id"]:
        form.errors["id"] = "The id of a thing, or the id or address of a person."
    if form.values["action"] not in ACTIONS:
        abort(400)
    if not form.errors:
        question: dict[str, Any] = {
            "action": form.values["action"],
            "user" if form.values["who"] == "user" else "thing": form.values["id"],
            **{name: form.values[name] for name in ("channel", "subtopic", "protocol", "source_ip")},
        }
        if size:
            question["payload_size"] = int(size)
        answer = rights().explain(question)
    return _list(form, answer), 422 if form.errors else 200


@blueprint.get("/new")
def new() -> str:
    return _editor(Form({"name": "", "document": TEMPLATE}))


@blueprint.post("/new")
@takes_text(MAX_FORM)
def create() -> AnyResponse | tuple[str, int]:
    form = _read()
    if not _NAME.fullmatch(form.values["name"]):
        form.errors["name"] = "1 to 64 letters, digits, dots, - or _, with a letter or digit at first."
    elif any(each.name == form.values["name"] for each in rights().policies()):
        form.errors["name"] = "There is one with this name already."
    return _kept(form, None)


@blueprint.get("/<name>")
def show(name: str) -> str:
    found = rights().policy(_checked(name))
    return _editor(Form({"name": found.name, "document": found.document}), found)


@blueprint.post("/<name>")
@takes_text(MAX_FORM)
def change(name: str) -> AnyResponse | tuple[str, int]:
    form = _read()
    form.values["name"] = _checked(name)
    return _kept(form, rights().policy(name))


@blueprint.post("/<name>/remove")
def remove(name: str) -> AnyResponse:
    rights().remove_policy(_checked(name))
    leave("Removed. What it said holds no longer.")
    return redirect(url_for("policies.index"), 303)


def _kept(form: Form, found: Document | None) -> AnyResponse | tuple[str, int]:
    if not form.errors:
        try:
            rights().put_policy(form.values["name"], form.values["document"])
        except Refused as refusal:
            form.errors["document"] = dw.sentence(refusal.detail)
        else:
            leave("In force from now on, also for what is connected.")
            return redirect(url_for("policies.show", name=form.values["name"]), 303)
    return _editor(form, found), 422


def _read() -> Form:
    text = request.form.get("document", "").replace("\r\n", "\n")
    return Form({"name": request.form.get("name", "").strip(), "document": text})


def _list(form: Form, answer: Answer | None = None) -> str:
    return page(
        "policies/index.html", policies=rights().policies(), form=form, answer=answer, actions=ACTIONS
    )


def _editor(form: Form, found: Document | None = None) -> str:
    whole = Markup(escape(form.values["document"]))  # not cut as other values of a page are
    return page("policies/show.html", form=form, found=found, text=whole)


def _checked(name: str) -> str:
    """Only a policy's name goes into an address of the API."""
    if not _NAME.fullmatch(name):
        abort(404)
    return name
