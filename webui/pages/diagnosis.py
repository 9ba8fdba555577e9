"""What is wrong and what to do: of one device, and of all of them, searchable."""

from __future__ import annotations

import time

from flask import Blueprint, abort, render_template, request

from webui import diagnosis_words as dw
from webui.findings import Finding
from webui.forms import maybe_hex
from webui.pages import gateway, page

blueprint = Blueprint("diagnosis", __name__, url_prefix="/devices")

SHOWN = 100
MAX_WORDS = 100  # characters to search for
SPANS = {"": "Any time", "3600": "Last hour", "86400": "Last day", "604800": "Last week"}


@blueprint.get("/diagnosis")
def index() -> str:
    """Everything that was found, the newest first."""
    return page("diagnosis/index.html", found=_search(), asked=_asked(), spans=SPANS, dw=dw)


@blueprint.get("/<dev_eui>/diagnosis")
def show(dev_eui: str) -> str:
    """One device."""
    dev_eui = _eui(dev_eui)
    return page("diagnosis/show.html", device=gateway().device(dev_eui), found=_of(dev_eui), dw=dw)


@blueprint.get("/<dev_eui>/diagnosis/state")
def state(dev_eui: str) -> str:
    """The changing part of a device's page."""
    dev_eui = _eui(dev_eui)
    return render_template(
        "diagnosis/_state.html", device=gateway().device(dev_eui), found=_of(dev_eui), dw=dw
    )


def _eui(text: str) -> str:
    digits = maybe_hex(text, 8)
    if digits is None:
        abort(404)
    return digits


def _of(dev_eui: str) -> list[Finding]:
    return gateway().diagnosis(dev_eui=dev_eui, limit=SHOWN)


def _asked() -> dict[str, str]:
    """What is searched for, as the form has it."""
    span = request.args.get("span", "")
    return {
        "q": request.args.get("q", "")[:MAX_WORDS],
        "span": span if span in SPANS else "",
        "open": "1" if request.args.get("open") == "1" else "",
    }


def _search() -> list[Finding]:
    asked = _asked()
    since = time.time() - int(asked["span"]) if asked["span"] else None
    return gateway().diagnosis(q=asked["q"], open_only=bool(asked["open"]), since=since, limit=SHOWN)
