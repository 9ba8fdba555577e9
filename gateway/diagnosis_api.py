"""The diagnosis in the REST API: what is wrong with whom and what to do, and who is heard without being registered."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.diagnosis.diagnoser import Diagnoser
from gateway.diagnosis.explanations import EXPLANATIONS
from gateway.diagnosis.finding import Finding
from gateway.diagnosis.heard import Heard
from gateway.diagnosis.reasons import Kind, Weight
from gateway.lorawan.types import DevAddr, DevEUI
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs, Parameter

MAX_FINDINGS = 500
MAX_HEARD = 512
MAX_TEXT = 100  # characters to search for

_WEIGHTS = {Weight.NOTE: "note", Weight.HURTS: "hurts", Weight.STOPS: "stops"}


class FindingView(msgspec.Struct):
    """Something that is or was wrong. Times are Unix seconds."""

    reason: str
    weight: str  # stops: the device cannot work like this; hurts; note
    words: str  # what is wrong
    remedy: str  # what to do
    meaning: str  # of findings with this reason
    first: float
    last: float
    count: int
    dev_eui: str | None = None
    dev_addr: str | None = None
    name: str | None = None  # of a registered device
    resolved: float | None = None  # None: it is still so
    evidence: dict[str, Any] = {}


class Findings(msgspec.Struct):
    findings: list[FindingView]


class HeardView(msgspec.Struct):
    """A sender that is not registered. Times are Unix seconds; the radio's values are of its last frame."""

    dev_eui: str | None  # where it asked to join
    join_eui: str | None
    dev_addr: str | None  # where it sent data
    gateway: str
    first: float
    last: float
    count: int
    rssi_dbm: int
    snr_db: float
    best_snr_db: float
    sf: int
    freq_hz: int
    fcnt: int | None
    words: str


class HeardList(msgspec.Struct):
    heard: list[HeardView]


class DiagnosisApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, diagnoser: Diagnoser) -> None:
        self._diagnoser = diagnoser

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table; each demands a signed-in user."""
        seconds = {"type": "number", "minimum": 0}
        return [
            Endpoint(
                *("GET", "/lorawan/diagnosis", self.diagnosis, Needs.USER),
                answers={200: Findings},
                refuses=(400,),
                parameters=(
                    Parameter("dev_eui", "findings of this device only: open ones first, the worst on top"),
                    Parameter("dev_addr", "findings about this unknown DevAddr only"),
                    Parameter("reason", "findings of this kind only"),
                    Parameter("q", "a text that is in the finding, its remedy or its evidence"),
                    Parameter("open", "1: only what is still so", {"type": "string", "enum": ["0", "1"]}),
                    Parameter("since", "seen at this Unix time or later", seconds),
                    Parameter("until", "begun at this Unix time or before", seconds),
                    Parameter("limit", "findings at most", _whole(MAX_FINDINGS)),
                ),
            ),
            Endpoint(
                *("GET", "/lorawan/heard", self.heard, Needs.USER),
                answers={200: HeardList},
                refuses=(400,),
                parameters=(Parameter("limit", "senders at most", _whole(MAX_HEARD)),),
            ),
        ]

    async def diagnosis(self, request: Request) -> Response:
        """Findings: what is wrong with which device, and what to do."""
        asked = request.query_params
        subject = _subject(asked.get("dev_eui", ""), asked.get("dev_addr", ""))
        reason, text = asked.get("reason", ""), asked.get("q", "")
        if reason and reason not in Kind._value2member_map_:
            raise Problem(400, f"there is no reason {reason[:40]!r}")
        if len(text) > MAX_TEXT:
            raise Problem(400, f"q has at most {MAX_TEXT} characters")
        until = asked.get("until")
        found = self._diagnoser.search(
            dev_eui=subject,
            reason=reason,
            text=text,
            since_ns=_ns(asked.get("since", "0")),
            until_ns=None if until is None else _ns(until),
            open_only=asked.get("open") == "1",
            limit=_limit(request, 100, MAX_FINDINGS),
        )
        return json_response(msgspec.to_builtins(Findings([self._view(each) for each in found])))

    async def heard(self, request: Request) -> Response:
        """Devices heard on air that are not registered here."""
        found = self._diagnoser.unknown(_limit(request, 100, MAX_HEARD))
        return json_response(msgspec.to_builtins(HeardList([_heard_view(each) for each in found])))

    def _view(self, finding: Finding) -> FindingView:
        known = EXPLANATIONS[finding.kind]
        return FindingView(
            reason=finding.kind.value,
            weight=_WEIGHTS[known.weight],
            words=finding.words,
            remedy=known.remedy,
            meaning=known.meaning,
            first=finding.first_ns / 1e9,
            last=finding.last_ns / 1e9,
            count=finding.count,
            dev_eui=finding.dev_eui,
            dev_addr=finding.dev_addr,
            name=self._diagnoser.name(finding.subject),
            resolved=None if finding.resolved_ns is None else finding.resolved_ns / 1e9,
            evidence=finding.evidence,
        )


def _heard_view(heard: Heard) -> HeardView:
    return HeardView(
        dev_eui=heard.dev_eui,
        join_eui=heard.join_eui,
        dev_addr=heard.dev_addr,
        gateway=heard.gateway,
        first=heard.first_ns / 1e9,
        last=heard.last_ns / 1e9,
        count=heard.count,
        rssi_dbm=heard.rssi_dbm,
        snr_db=heard.snr_db,
        best_snr_db=heard.best_snr_db,
        sf=heard.sf,
        freq_hz=heard.freq_hz,
        fcnt=heard.fcnt,
        words=heard.words,
    )


def _subject(dev_eui: str, dev_addr: str) -> str:
    try:
        if dev_eui:
            return str(DevEUI.parse(dev_eui))
        return str(DevAddr.parse(dev_addr)) if dev_addr else ""
    except ValueError as error:
        raise Problem(400, str(error)) from None


def _ns(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e10:
        raise Problem(400, "since and until are Unix seconds")
    return int(seconds * 1e9)


def _limit(request: Request, default: int, most: int) -> int:
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= most):
        raise Problem(400, f"limit is 0 to {most}")
    return int(text)


def _whole(most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": most}
