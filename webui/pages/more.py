"""What is asked rarely: the store, the version, the packet forwarders, signing out."""

from __future__ import annotations

from flask import Blueprint

from webui.pages import page

blueprint = Blueprint("more", __name__, url_prefix="/more")


@blueprint.get("")
def index() -> str:
    return page("more/index.html")
