"""The audit log: who was let in, who was refused, and who changed what."""

from __future__ import annotations

import time
from collections.abc import Mapping

from flask import Blueprint, Response, request
from werkzeug.wrappers import Response as AnyResponse

from webui import words
from webui.errors import Refused
from webui.forms import Form
from webui.pages import gateway, page
from webui.people_api import AuditLine, AuditLines, PeopleApi, Verdict

blueprint = Blueprint("audit", __name__, url_prefix="/audit")

KINDS = {
    "sign-in": "signing in",
    "sign-out": "signing out",
    "claim": "the claim",
    "totp": "codes",
    "account": "accounts",
    "role": "roles",
    "token": "tokens",
    "key": "keys",
    "oauth": "applications' sign-ins",
    "application": "applications",
    "certificate": "certificates",
    "policy": "policies",
    "thing": "things",
    "channel": "channels",
    "connection": "connections",
    "group": "organisations",
    "access": "what doors refused",
    "configuration": "settings and devices",
    "proxy": "proxies",
    "audit": "this log",
}
OUTCOMES = {"refused": "refused", "allowed": "let in", "done": "done"}
SINCE_S = {"hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}
_FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


def api() -> PeopleApi:
    return PeopleApi(gateway())


@blueprint.get("")
def index() -> str | tuple[str, int]:
    form = _asked(request.args)
    verdict: Verdict | None = None
    found = AuditLines()
    try:
        found = api().audit(_query(form, request.args.get("before", "")))
        if "verify" in request.args:
            verdict = api().verify_audit()
    except Refused as refusal:
        form.errors["form"] = words.sentence(refusal.detail)
        return _page(form, found, verdict), 403 if refusal.status == 403 else 422
    return _page(form, found, verdict)


@blueprint.get("/export")
def export() -> AnyResponse | tuple[str, int]:
    wanted = request.args.get("format", "csv")
    if wanted not in _FORMATS:
        wanted = "csv"
    form = _asked(request.args)
    try:
        answer = api().audit_export({**_query(form, ""), "format": wanted})
    except Refused as refusal:
        form.errors["form"] = words.sentence(refusal.detail)
        return _page(form, AuditLines(), None), 403 if refusal.status == 403 else 422
    name = f'attachment; filename="audit.{wanted}"'
    return Response(answer.content, 200, {"Content-Disposition": name}, content_type=_FORMATS[wanted])


def sentence(line: AuditLine) -> str:
    """What a line says, beside who and when."""
    parts = [line.resource, line.detail]
    return words.sentence(": ".join(part for part in parts if part)) if any(parts) else ""


def _asked(given: Mapping[str, str]) -> Form:
    values = {name: given.get(name, "").strip()[:256] for name in ("kind", "outcome", "since", "text")}
    if values["kind"] not in KINDS:
        values["kind"] = ""
    if values["outcome"] not in OUTCOMES:
        values["outcome"] = ""
    if values["since"] not in SINCE_S:
        values["since"] = ""
    return Form({name: value for name, value in values.items() if value})


def _query(form: Form, before: str) -> dict[str, str]:
    query: dict[str, str] = {
        name: form.values[name] for name in ("kind", "outcome", "text") if name in form.values
    }
    if since := form.values.get("since"):
        query["from"] = f"{time.time() - SINCE_S[since]:.0f}"
    if before.isascii() and before.isdigit() and len(before) < 10:
        query["before"] = before
    return query


def _page(form: Form, found: AuditLines, verdict: Verdict | None) -> str:
    return page(
        "audit/index.html",
        form=form,
        found=found,
        verdict=verdict,
        kinds=KINDS,
        outcomes=OUTCOMES,
        periods=SINCE_S,
        sentence=sentence,
    )
