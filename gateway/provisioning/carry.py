"""Carrying out a plan: checks that change nothing, then one request after the other."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.devices.fields import FieldErrors, Given, read
from gateway.devices.profiles import BUILT_IN, ProfileBody
from gateway.lorawan.errors import OrderError
from gateway.lorawan.profile import Profile
from gateway.provisioning.errors import CannotApply
from gateway.provisioning.keyfile import KeyFile
from gateway.provisioning.layout import Layout
from gateway.provisioning.state import State
from gateway.provisioning.steps import Env, Made, Plan, Ref, Step, Text
from gateway.rest.client import Api, ApiError

OWN_CODECS = frozenset({"cayenne", "senml", "raw"})
UNKNOWN = "00000000-0000-4000-8000-000000000000"  # stands for an id that is not there yet when a document is checked
PASSWORD_BYTES = 15  # 120 bits: 20 characters that people can type
KEY_BYTES = 32


class Interrupted(Exception):
    """A step that failed after others were done. Applying the layout again goes on from there."""

    def __init__(self, step: Step, done: int, of: int, error: ApiError) -> None:
        super().__init__(f"{step}: {error}")
        self.done, self.of, self.error = done, of, error


def check(api: Api, layout: Layout, state: State, plan: Plan, found: Mapping[str, str]) -> None:
    """All that can be known before the first change. Raises CannotApply with every fault, ApiError."""
    problems = [*plan.problems, *_rights(api, plan), *_profiles(layout), *_devices(layout, state, found)]
    for step in plan.steps:
        if isinstance(step.body, Text):
            text = step.body.filled(lambda ref: state.id_of(ref.kind, ref.name) or UNKNOWN)
            try:
                api.send("POST", "/policies/check", content=text.encode())
            except ApiError as error:
                if error.http_status not in (400, 422):
                    raise
                problems.append(f"{step.says}: {error}")
    if problems:
        raise CannotApply(problems)


def _rights(api: Api, plan: Plan) -> list[str]:
    if not plan.steps:
        return []
    role = api.get("/users/profile")["role"]
    needed = "admin" if plan.needs_administrator else "technician"
    enough = role == "admin" or role == needed
    return [] if enough else [f"this layout needs the role {needed}, and yours is {role}"]


def _profiles(layout: Layout) -> list[str]:
    problems = []
    for item in layout.profile:
        try:
            msgspec.convert(item.settings, ProfileBody).named(item.name)
        except (msgspec.ValidationError, OrderError) as error:
            problems.append(f"profile {item.name}: {error}")
    return problems


def _devices(layout: Layout, state: State, found: Mapping[str, str]) -> list[str]:
    """What the gateway would refuse of new devices, by its own rules."""
    profiles = dict(BUILT_IN)
    codecs = {*OWN_CODECS, *(item.name for item in layout.codec)}
    for name, settings in (
        *((each["name"], each["body"]) for each in state.profile.values()),
        *((item.name, item.settings) for item in layout.profile),
    ):
        profile = _profile(name, settings)
        if profile is not None:
            profiles[name] = profile
    problems = []
    for item in layout.device:
        if item.dev_eui.lower() in state.device:
            continue
        fields: dict[str, Any] = {
            name: getattr(item, name) for name in Given.__struct_fields__ if name != "channel_id"
        }
        given = msgspec.convert(
            {
                name: found.get(value, value) if isinstance(value, str) else value
                for name, value in fields.items()
            },
            Given,
        )
        # What only the gateway has is for the gateway to judge.
        known = {**profiles, **({} if given.profile in profiles else {given.profile: BUILT_IN["default"]})}
        try:
            read(given, known, codecs | {given.codec})
        except FieldErrors as error:
            problems += [f"device {item.dev_eui}: {words}" for words in error.errors.values()]
    return problems


def _profile(name: str, settings: Mapping[str, Any]) -> Profile | None:
    try:
        return msgspec.convert(settings, ProfileBody).named(name)
    except (msgspec.ValidationError, OrderError):
        return None


def carry_out(
    api: Api, plan: Plan, state: State, found: Mapping[str, str], keys: KeyFile, told: Callable[[Step], None]
) -> None:
    """Do every step; `told` hears of each that is done. Raises Interrupted."""
    ids: dict[Ref, str] = {}

    def id_of(ref: Ref) -> str:
        return ids.get(ref) or state.id_of(ref.kind, ref.name)

    for number, step in enumerate(plan.steps):
        try:
            _do(api, step, id_of, ids, found, keys)
        except ApiError as error:
            raise Interrupted(step, number, len(plan.steps), error) from None
        told(step)


def _do(
    api: Api,
    step: Step,
    id_of: Callable[[Ref], str],
    ids: dict[Ref, str],
    found: Mapping[str, str],
    keys: KeyFile,
) -> None:
    path = "".join(quote(id_of(part), safe="") if isinstance(part, Ref) else part for part in step.path)
    if isinstance(step.body, Text):
        api.send(step.method, path, content=step.body.filled(id_of).encode())
        return
    answer = api.send(step.method, path, _filled(step.body, id_of, found, keys))
    answers = answer[step.each] if step.each else [answer]
    for ref, made in zip(step.makes, answers, strict=False):
        if "id" in made:
            ids[ref] = str(made["id"])
        secret = {field: made[field] for field in step.keeps if made.get(field)}
        if secret or (ref.kind, ref.name) in keys.kept:
            keys.put(ref.kind, ref.name, **({"id": made["id"]} if "id" in made else {}), **secret)


def _filled(body: Any, id_of: Callable[[Ref], str], found: Mapping[str, str], keys: KeyFile) -> Any:
    """The body with every open place filled. What is made up is in the key file before it is returned."""
    match body:
        case dict():
            return {name: _filled(each, id_of, found, keys) for name, each in body.items()}
        case list():
            return [_filled(each, id_of, found, keys) for each in body]
        case Ref():
            return id_of(body)
        case Env(name):
            return found[name]
        case Made(kind, name, field):
            kept = keys.get(kind, name, field)
            if not kept:
                kept = secrets.token_urlsafe(PASSWORD_BYTES if field == "password" else KEY_BYTES)
                keys.put(kind, name, **{field: kept})
            return kept
    return body
