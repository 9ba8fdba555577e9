"""Profiles: what a kind of device can do and how it is treated."""

from __future__ import annotations

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import device_words as dw
from webui.device_forms import CLASSES, NUMBERS, UNITS, VERSIONS, profile_body, profile_fields, read_profile
from webui.errors import Refused
from webui.fleet import Profile
from webui.forms import Form
from webui.pages import page
from webui.pages.devices import codec_choices, fleet, leave

blueprint = Blueprint("device_profiles", __name__, url_prefix="/devices/profiles")


@blueprint.get("")
def index() -> str:
    found = fleet().profiles().profiles
    return page(
        "device_profiles/index.html",
        own=[profile for profile in found if not profile.built_in],
        built_in=[profile for profile in found if profile.built_in],
    )


@blueprint.get("/add")
def add() -> str:
    """A new one, with the values of the one it is a copy of."""
    profiles = fleet().profiles().profiles
    body = next((each.body for each in profiles if each.name == request.args.get("copy")), {})
    form = profile_fields("", body)
    form.values["description"] = ""
    return _form(form, profiles)


@blueprint.post("/add")
def do_add() -> AnyResponse | tuple[str, int]:
    form = read_profile(request.form)
    profiles = fleet().profiles().profiles
    if any(each.name == form.values["name"] for each in profiles):
        form.errors["name"] = "There is one with this name already."
    if not form.errors and _put(form):
        leave("Made. Devices can have it from now on.")
        return redirect(url_for("device_profiles.index"), 303)
    return _form(form, profiles), 422


@blueprint.get("/<name>")
def show(name: str) -> str:
    profile = fleet().profile(name)
    return _form(profile_fields(profile.name, profile.body), fleet().profiles().profiles, profile)


@blueprint.post("/<name>")
def change(name: str) -> AnyResponse | tuple[str, int]:
    profile = fleet().profile(name)
    form = read_profile({**request.form, "name": profile.name})
    if not form.errors and _put(form):
        leave("Changed. Its devices have it already.")
        return redirect(url_for("device_profiles.index"), 303)
    return _form(form, fleet().profiles().profiles, profile), 422


@blueprint.post("/<name>/remove")
def remove(name: str) -> AnyResponse | tuple[str, int]:
    profile = fleet().profile(name)
    try:
        fleet().remove_profile(profile.name)
    except Refused as refusal:
        form = profile_fields(profile.name, profile.body)
        form.errors["form"] = dw.sentence(refusal.detail)
        return _form(form, fleet().profiles().profiles, profile), 422
    leave("Removed.")
    return redirect(url_for("device_profiles.index"), 303)


def _put(form: Form) -> bool:
    try:
        fleet().put_profile(form.values["name"], profile_body(form))
    except Refused as refusal:
        field = next((name for name in NUMBERS if refusal.detail.startswith(name)), "form")
        form.errors[field] = dw.sentence(refusal.detail)
        return False
    return True


def _form(form: Form, profiles: list[Profile], profile: Profile | None = None) -> str:
    return page(
        "device_profiles/form.html",
        form=form,
        profile=profile,
        codecs=codec_choices(form.values.get("codec", "")),
        units=UNITS,
        versions=VERSIONS,
        classes=CLASSES,
        numbers=NUMBERS,
    )
