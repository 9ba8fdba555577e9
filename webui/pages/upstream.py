"""The way to the cloud: is it open, how much waits, what is wrong."""

from __future__ import annotations

from flask import Blueprint

from webui.pages import page

blueprint = Blueprint("upstream", __name__, url_prefix="/upstream")


@blueprint.get("")
def index() -> str:
    return page("upstream/index.html")


@blueprint.get("/list")
def listed() -> str:
    """The changing part of the page."""
    return page("upstream/_list.html")
