"""What the radio hears and sends, frame by frame; how its modules are; what the band sounds like."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, request

from webui import hardware_words as hw
from webui import rule_words as rules
from webui import time_words as tw
from webui.client import FRAMES_SHOWN, Frame
from webui.errors import Refused
from webui.forms import BandForm, read_band
from webui.hardware import Scan
from webui.pages import gateway, page, status
from webui.words import KINDS

blueprint = Blueprint("radio", __name__, url_prefix="/radio")

# A filter looks through everything the gateway keeps, not only through what one page shows.
FRAMES_SEARCHED = 500


@blueprint.get("")
def index() -> str:
    kind = _kind()
    return page("radio/index.html", frames=_frames(None, kind), kind=kind)


@blueprint.get("/rows")
def rows() -> Response:
    """Rows newer than `after`, newest first. `X-Whole: 1`: replace the table, the gateway counts anew."""
    after = request.args.get("after", type=int)
    kind = _kind()
    found = _frames(after, kind)
    whole = after is None
    if after is not None and not found and _restarted(after):
        found, whole = _frames(None, kind), True
    answer = Response(render_template("radio/_rows.html", frames=found))
    if whole:
        answer.headers["X-Whole"] = "1"
    return answer


@blueprint.get("/modules")
def modules() -> str:
    return page("radio/modules.html", hardware=gateway().radio(), hw=hw, rules=rules, tw=tw)


@blueprint.get("/modules/state")
def modules_state() -> str:
    """The changing part of the modules' page."""
    return render_template("radio/_modules.html", hardware=gateway().radio(), hw=hw, rules=rules, tw=tw)


@blueprint.get("/band")
def band() -> str:
    return page("radio/band.html", form=BandForm.around(status().radio.modules), found=None, hw=hw)


@blueprint.post("/band")
def do_band() -> str | tuple[str, int]:
    form = read_band(request.form)
    found: Scan | None = None
    if not form.errors:
        try:
            found = gateway().scan(form.start_hz, form.stop_hz, form.step_hz)
        except Refused as refusal:
            form.errors["form"] = refusal.detail
    shown = page("radio/band.html", form=form, found=found, hw=hw)
    return (shown, 422) if form.errors else shown


def _kind() -> str:
    kind = request.args.get("kind", "")
    return kind if kind in KINDS else ""


def _frames(after: int | None, kind: str) -> list[Frame]:
    if not kind:
        return gateway().frames(after)
    found = gateway().frames(after, limit=FRAMES_SEARCHED)
    return [frame for frame in found if frame.kind == kind][:FRAMES_SHOWN]


def _restarted(after: int) -> bool:
    """Frame numbers start again with the gateway; the newest one below the page's says that it did."""
    newest = gateway().frames(limit=1)
    return not newest or newest[0].n < after
