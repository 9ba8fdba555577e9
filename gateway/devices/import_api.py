"""Delivery lists in the REST API: sent once, looked at, then registered whole or in part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.devices import csvfile
from gateway.devices.asking import flag, number, problems
from gateway.devices.importing import Defaults, Line, LineState, Plan, Planner, Plans
from gateway.devices.registration import Registration
from gateway.lorawan.types import DevEUI
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Media, Needs, Parameter

MAX_SHOWN = 1000  # lines in one answer
MODES = ("all", "good")


class Preview(msgspec.Struct):
    """What would happen with a file."""

    plan: str  # to confirm it by; "" where it was carried out
    counts: dict[str, int]  # lines by state
    whole: bool  # every line can be registered
    columns: dict[str, str]  # our field, and what the file calls it
    ignored: list[str]  # columns that are not known
    lines: list[Line]
    total: int  # lines that match, of which `lines` are a part


class Imported(msgspec.Struct):
    """What was registered. Keys of things are not told here: make new ones where they are needed."""

    registered: int
    passed_over: int
    devices: list[str]  # DevEUIs


class ImportApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, registration: Registration, mono_ns: Callable[[], int]) -> None:
        self._registration, self._mono_ns = registration, mono_ns
        self.plans = Plans()

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table, for administrators: the file holds keys."""
        whole = {"type": "integer", "minimum": 0}
        mode = Parameter(
            "mode",
            "all: nothing is registered unless every line can be; good: the lines that can be",
            {"type": "string", "enum": list(MODES)},
        )
        defaults = (
            Parameter("profile", "for lines that name none"),
            Parameter("codec", "for lines that name none"),
            Parameter("channel_id", "for lines that name none; left out: each gets one of its own"),
            Parameter("expected_interval_s", "for lines that name none", whole),
        )
        shown = (
            Parameter("state", "only lines in this state", {"type": "string", "enum": list(LineState)}),
            Parameter("offset", "lines to pass over", whole),
            Parameter("limit", f"lines at most, {MAX_SHOWN} where left out", whole),
        )
        one = "/lorawan/devices/import/{plan}"
        return [
            Endpoint(
                *("POST", "/lorawan/devices/import", self.upload, Needs.MANAGER),
                body=Media({"text/csv": {"type": "string"}}),
                answers={200: Preview, 201: Imported},
                refuses=(400, 404, 409, 413, 507),
                parameters=(
                    Parameter("dry_run", "1: only look", {"type": "string", "enum": ["0", "1"]}),
                    *(mode, *defaults, *shown),
                ),
                max_body=csvfile.MAX_BYTES,
            ),
            Endpoint(
                *("GET", one, self.preview, Needs.MANAGER),
                answers={200: Preview},
                refuses=(404,),
                parameters=shown,
            ),
            Endpoint(
                *("POST", one, self.confirm, Needs.MANAGER),
                body_required=False,
                answers={201: Imported},
                refuses=(400, 404, 409, 507),
                parameters=(mode,),
            ),
            Endpoint(*("DELETE", one, self.forget, Needs.MANAGER), answers={204: None}),
        ]

    async def upload(self, request: Request) -> Response:
        """Look through a CSV file of devices: a preview that can be confirmed."""
        dry_run, mode, asked = flag(request, "dry_run"), _mode(request), request.query_params
        interval = number(request, "expected_interval_s", 0, 1 << 30)
        defaults = Defaults(
            asked.get("profile", ""),
            asked.get("codec", ""),
            asked.get("channel_id", ""),
            interval if "expected_interval_s" in asked else None,
        )
        data = await request.body()
        registration = self._registration
        with problems():
            table = await asyncio.to_thread(csvfile.read, data)
        planner = Planner(registration.profiles.all, registration.codecs(), self._known)
        plan = await planner.plan(table, defaults, lambda: asyncio.sleep(0))
        if not dry_run:
            return await self._carry_out(plan, mode)
        return json_response(self._shown(request, plan, self.plans.keep(plan, self._mono_ns())))

    async def preview(self, request: Request) -> Response:
        """A page of a preview, a line of the file each."""
        return json_response(self._shown(request, self._plan(request), request.path_params["plan"]))

    async def confirm(self, request: Request) -> Response:
        """Register what a preview showed, all of it or the good lines."""
        answer = await self._carry_out(self._plan(request), _mode(request))
        self.plans.forget(request.path_params["plan"])
        return answer

    async def forget(self, request: Request) -> Response:
        """Forget a preview."""
        self.plans.forget(request.path_params["plan"])
        return Response(status_code=204)

    async def _carry_out(self, plan: Plan, mode: str) -> Response:
        wrong = len(plan.lines) - len(plan.asked)
        if mode == "all" and wrong:
            lines = "1 line" if wrong == 1 else f"{wrong} lines"
            first = next(line for line in plan.lines if line.state is not LineState.NEW)
            raise Problem(
                400,
                f"{lines} cannot be registered, so nothing was; line {first.line}: {'; '.join(first.problems)}",
            )
        if not plan.asked:
            raise Problem(400, "no line of the file can be registered")
        with problems():
            made = await self._registration.register_all(plan.asked)
        return json_response(Imported(len(made), wrong, [str(each.dev_eui) for each in made]), 201)

    def _plan(self, request: Request) -> Plan:
        plan = self.plans.get(request.path_params["plan"], self._mono_ns())
        if plan is None:
            raise Problem(404, "this preview is too old, or newer ones took its place: send the file again")
        return plan

    def _shown(self, request: Request, plan: Plan, name: str) -> Preview:
        state = request.query_params.get("state", "")
        if state and state not in list(LineState):
            raise Problem(400, f"state is one of {', '.join(LineState)}")
        lines = [line for line in plan.lines if not state or line.state == state]
        offset = number(request, "offset", 0, csvfile.MAX_LINES)
        limit = number(request, "limit", MAX_SHOWN, MAX_SHOWN)
        return Preview(
            name,
            plan.counts,
            plan.whole,
            plan.columns,
            plan.ignored,
            lines[offset : offset + limit],
            len(lines),
        )

    def _known(self, dev_eui: DevEUI) -> bool:
        return self._registration.server.registered(dev_eui) is not None


def _mode(request: Request) -> str:
    mode = request.query_params.get("mode", "all")
    if mode not in MODES:
        raise Problem(400, "mode is all or good")
    return mode
