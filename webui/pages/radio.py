"""What the radio hears and sends, frame by frame."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, request

from webui.client import FRAMES_SHOWN, Frame
from webui.pages import gateway, page
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
