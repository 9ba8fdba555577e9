"""A device's downlinks: what waits, what became of what was ordered, and the form that orders one."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import downlink_words as dlw
from webui.downlinks import Downlinks
from webui.errors import Refused
from webui.forms import Form
from webui.pages import gateway, page
from webui.pages.devices import eui_of, leave

blueprint = Blueprint("downlinks", __name__, url_prefix="/devices")


def downlinks() -> Downlinks:
    return Downlinks(gateway())


@blueprint.get("/<dev_eui>/downlinks")
def show(dev_eui: str) -> str:
    return _show(eui_of(dev_eui), Form())


@blueprint.get("/<dev_eui>/downlinks/state")
def state(dev_eui: str) -> str:
    """The changing part of the page."""
    dev_eui = eui_of(dev_eui)
    return render_template(
        "downlinks/_state.html", device=gateway().device(dev_eui), found=downlinks().of(dev_eui), dlw=dlw
    )


@blueprint.post("/<dev_eui>/downlinks/new")
def order(dev_eui: str) -> AnyResponse | tuple[str, int]:
    dev_eui = eui_of(dev_eui)
    form, body = dlw.read_order(request.form)
    if not form.errors:
        try:
            downlinks().order(dev_eui, body)
        except Refused as refusal:
            form.errors["form"] = refusal.detail
        else:
            leave(f"Queued. {dlw.when_it_leaves(downlinks().of(dev_eui))}")
            return redirect(url_for("downlinks.show", dev_eui=dev_eui), 303)
    return _show(dev_eui, form), 422


@blueprint.post("/<dev_eui>/downlinks/cancel")
def cancel(dev_eui: str) -> AnyResponse:
    """Take back the order that the button names, or all."""
    dev_eui = eui_of(dev_eui)
    order_id = request.form.get("id", "")
    try:
        downlinks().cancel(dev_eui, order_id if dlw.ORDER_ID.fullmatch(order_id) else "")
    except Refused as refusal:
        leave(refusal.detail)
    else:
        leave("Taken back." if order_id else "The queue is empty.")
    return redirect(url_for("downlinks.show", dev_eui=dev_eui), 303)


def _show(dev_eui: str, form: Form) -> str:
    device = gateway().device(dev_eui)
    return page("downlinks/show.html", device=device, found=downlinks().of(dev_eui), form=form, dlw=dlw)
