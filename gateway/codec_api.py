"""REST routes for payload codecs: the library, and a test bench for sources that are not in it yet.

Saving a codec runs its samples first; one that no longer gives what it should is refused with the difference, unless
the request says that this is wanted.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.codecs.base import FIRST_PORT, LAST_PORT, CodecError
from gateway.codecs.catalog import CODECS
from gateway.codecs.library import Body, Library, Sample, ScriptCodec, check, earlier, payload_of, removal
from gateway.codecs.trials import ASKS, Difference, Report, Trial, differences, try_own, try_script
from hub.http.body import read_json
from hub.http.problem import PROBLEM_JSON, Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Media, Needs
from hub.hub import Hub

REFUSAL = Media({PROBLEM_JSON: {"type": "object", "required": ["status", "detail", "differences"]}})
ABOUT_OWN = {
    "cayenne": "Cayenne Low Power Payload: channel, type, value",
    "senml": "SenML, JSON or CBOR, as the device sends it",
    "raw": "bytes stay bytes",
}


class CodecSummary(msgspec.Struct):
    """A codec in the list."""

    name: str
    kind: str  # "own", "javascript"
    description: str
    devices: int
    version: int
    samples: int
    updated: float | None  # Unix seconds
    held: str  # why it is not run; "" where it is


class WorkerState(msgspec.Struct):
    """The process that runs JavaScript."""

    running: bool
    holds: list[str]  # what confines it; empty before its first start
    calls: int
    started: int
    killed: int
    stopped: int
    died: int
    waiting: int


class CodecList(msgspec.Struct):
    codecs: list[CodecSummary]
    process: WorkerState


class CodecView(msgspec.Struct):
    """A JavaScript codec as it is stored. The same, without the rest, is what POST and PUT take."""

    name: str
    source: str
    description: str
    samples: list[Sample]
    units: dict[str, str]
    version: int
    created: float
    updated: float
    devices: int
    held: str
    calls: int  # since the gateway started or the source changed
    slowest_ms: float  # of late
    earlier: list[int]  # versions that can be gone back to


class CodecBody(msgspec.Struct, frozen=True):
    """What POST and PUT take; more, such as an export has, is passed over."""

    source: str
    name: str = ""
    description: str = ""
    samples: list[Sample] = []
    units: dict[str, str] = {}
    force: bool = False  # store it though samples give something else


class Refusal(msgspec.Struct):
    """Why a codec is not stored: a problem document that names the samples."""

    type: str
    title: str
    status: int
    detail: str
    error: str
    differences: list[Difference]


class TestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to try. Bytes as hex in `payload` or as base64."""

    __test__ = False

    ask: str = "decodeUplink"
    source: str = ""  # POST /codecs/test only
    payload: str = ""
    base64: str = ""
    fport: int | None = None
    recv_time: float | None = None  # Unix seconds; now, where it is not given
    data: Any = None  # of encodeDownlink
    units: dict[str, str] = {}


class Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int


class CodecApi:
    """The handlers; `endpoints` is their part of the route table."""

    def __init__(self, hub: Hub, library: Library, used: Callable[[], Counter[str]]) -> None:
        """`used` counts the devices of each codec."""
        self._hub, self._library, self._used = hub, library, used

    def endpoints(self) -> list[Endpoint]:
        """What the HTTP door mounts."""
        return [
            Endpoint("GET", "/codecs", self.codecs, Needs.USER, answers={200: CodecList}),
            Endpoint(
                *("POST", "/codecs", self.create, Needs.MANAGER),
                body=CodecBody,
                answers={201: CodecView, 422: REFUSAL},
                refuses=(409, 507),
            ),
            Endpoint(
                "POST", "/codecs/test", self.try_source, Needs.MANAGER, body=TestBody, answers={200: Report}
            ),
            Endpoint(
                "GET", "/codecs/{name}", self.show, Needs.USER, answers={200: CodecView}, refuses=(404,)
            ),
            Endpoint(
                *("PUT", "/codecs/{name}", self.change, Needs.MANAGER),
                body=CodecBody,
                answers={200: CodecView, 422: REFUSAL},
                refuses=(404, 507),
            ),
            Endpoint(
                *("DELETE", "/codecs/{name}", self.remove, Needs.MANAGER),
                answers={204: None},
                refuses=(404, 409, 507),
            ),
            Endpoint(
                *("POST", "/codecs/{name}/test", self.try_stored, Needs.MANAGER),
                body=TestBody,
                answers={200: Report},
                refuses=(404,),
            ),
            Endpoint(
                "POST",
                "/codecs/{name}/lift",
                self.lift,
                Needs.MANAGER,
                answers={200: CodecView},
                refuses=(404,),
            ),
            Endpoint(
                *("POST", "/codecs/{name}/rollback", self.roll_back, Needs.MANAGER),
                body=Rollback,
                answers={200: CodecView},
                refuses=(404, 507),
            ),
            Endpoint(
                *("GET", "/codecs/{name}/export", self.export, Needs.USER),
                answers={200: CodecBody},
                refuses=(404,),
            ),
        ]

    async def codecs(self, request: Request) -> Response:
        """A codec with its source and samples."""
        used = self._used()
        own = [CodecSummary(name, "own", ABOUT_OWN[name], used[name], 1, 0, None, "") for name in CODECS]
        stored = [
            CodecSummary(
                name,
                "javascript",
                codec.body.description,
                used[name],
                codec.body.version,
                len(codec.body.samples),
                codec.body.updated_ns / 1e9,
                codec.script.strikes.held,
            )
            for name, codec in sorted(self._library.items())
        ]
        worker = self._library.worker
        counted = worker.counters
        state = WorkerState(
            worker.pid is not None,
            worker.holds,
            counted.calls,
            counted.started,
            counted.killed,
            counted.stopped,
            counted.died,
            worker.waiting,
        )
        return json_response(msgspec.to_builtins(CodecList(own + stored, state)))

    async def show(self, request: Request) -> Response:
        """Store a codec; its samples are run, and one that gives something else stops it."""
        return json_response(msgspec.to_builtins(self._view(self._codec(request))))

    async def create(self, request: Request) -> Response:
        """Change a stored codec; its samples are run first."""
        asked = await read_json(request, CodecBody)
        if asked.name in self._library or asked.name in CODECS:
            raise Problem(409, f"there is a codec {asked.name} already")
        return await self._store(asked.name, asked, 201)

    async def change(self, request: Request) -> Response:
        """Remove a stored codec that no device uses."""
        asked = await read_json(request, CodecBody)
        return await self._store(self._codec(request).name, asked, 200)

    async def remove(self, request: Request) -> Response:
        """Try a source that is not stored: decode or encode, with log, time and SenML."""
        codec = self._codec(request)
        count = self._used()[codec.name]
        if count:
            raise Problem(409, f"{count} devices use {codec.name}: give them another codec first")
        await self._hub.log.write(removal(codec.name))
        with contextlib.suppress(KeyError):  # two requests at once
            self._library.forget(codec.name)
        return Response(status_code=204)

    async def try_source(self, request: Request) -> Response:
        """Try a stored codec: decode or encode, with log, time and SenML."""
        asked = await read_json(request, TestBody)
        if not asked.source.strip():
            raise Problem(400, "there is no source to try")
        return await self._try(asked.source, asked.units, asked)

    async def try_stored(self, request: Request) -> Response:
        """Put an earlier version in use again."""
        asked = await read_json(request, TestBody)
        name = request.path_params["name"]
        if name in CODECS:
            return json_response(msgspec.to_builtins(try_own(CODECS[name], _trial(asked, self._now_s()))))
        body = self._codec(request).body
        return await self._try(body.source, asked.units or body.units, asked)

    async def lift(self, request: Request) -> Response:
        """Run a codec again that was put on hold."""
        codec = self._codec(request)
        codec.script.strikes.lift()
        return json_response(msgspec.to_builtins(self._view(codec)))

    async def roll_back(self, request: Request) -> Response:
        """A stored codec as a file for another gateway."""
        codec = self._codec(request)
        asked = await read_json(request, Rollback)
        for body in self._earlier(codec.name):
            if body.version == asked.version:
                return await self._keep(codec.name, body, 200)
        raise Problem(404, f"version {asked.version} of {codec.name} is not kept")

    async def export(self, request: Request) -> Response:
        """A stored codec as a file for another gateway."""
        codec = self._codec(request)
        body = codec.body
        shown = msgspec.to_builtins(
            CodecBody(body.source, codec.name, body.description, body.samples, body.units)
        )
        return json_response(
            shown, 200, {"content-disposition": f'attachment; filename="{codec.name}.codec.json"'}
        )

    def _now_s(self) -> float:
        return self._hub.clock()[0] / 1e9

    async def _store(self, name: str, asked: CodecBody, status: int) -> Response:
        body = Body(
            source=asked.source, description=asked.description, samples=asked.samples, units=asked.units
        )
        try:
            check(name, body)
            script = self._library.script(body.source)
            found = await differences(self._library.worker, script, body, self._now_s())
        except CodecError as error:
            raise Problem(400, str(error)) from None
        if found and (found[0].sample < 0 or not asked.force):
            words = _words(found)
            refusal = Refusal("about:blank", "Unprocessable Content", 422, words, words, found)
            return Response(msgspec.json.encode(refusal), 422, media_type=PROBLEM_JSON)
        return await self._keep(name, body, status)

    async def _keep(self, name: str, body: Body, status: int) -> Response:
        try:
            codec, writes = self._library.prepare(name, body, self._hub.clock()[0])
        except CodecError as error:
            raise Problem(400, str(error)) from None
        await self._hub.log.write(writes)
        self._library.take(codec)
        return json_response(msgspec.to_builtins(self._view(codec)), status, {"location": f"/codecs/{name}"})

    async def _try(self, source: str, units: dict[str, str], asked: TestBody) -> Response:
        library = self._library
        report = await try_script(library.worker, library.script(source), units, _trial(asked, self._now_s()))
        return json_response(msgspec.to_builtins(report))

    def _codec(self, request: Request) -> ScriptCodec:
        name = request.path_params["name"]
        codec = self._library.get(name)
        if codec is None:
            own = " with a source: it belongs to the gateway itself" if name in CODECS else ""
            raise Problem(404, f"there is no codec {name}{own}")
        return codec

    def _earlier(self, name: str) -> list[Body]:
        with contextlib.closing(self._hub.log.reader()) as reader:
            return earlier(reader.connection, name)

    def _view(self, codec: ScriptCodec) -> CodecView:
        body, limit = codec.body, codec.script.limit
        return CodecView(
            codec.name,
            body.source,
            body.description,
            body.samples,
            body.units,
            body.version,
            body.created_ns / 1e9,
            body.updated_ns / 1e9,
            self._used()[codec.name],
            codec.script.strikes.held,
            limit.calls,
            round(limit.slowest_s * 1000, 3),
            [each.version for each in self._earlier(codec.name)],
        )


def _words(found: Sequence[Difference]) -> str:
    sentences = []
    for each in found[:5]:
        words = f"{each.name}: {each.problem}"
        if each.got is not None:
            expected, got = (msgspec.json.encode(value).decode()[:200] for value in (each.expected, each.got))
            words += f", {got} where {expected} was expected"
        sentences.append(words)
    more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
    return "; ".join(sentences) + more


def _trial(asked: TestBody, now_s: float) -> Trial:
    """Raises Problem 400."""
    if asked.ask not in ASKS:
        raise Problem(400, f"ask is one of {', '.join(ASKS)}")
    if asked.fport is not None and not FIRST_PORT <= asked.fport <= LAST_PORT:
        raise Problem(400, f"fport is {FIRST_PORT} to {LAST_PORT}")
    try:
        if asked.base64:
            payload = payload_of(base64.b64decode(asked.base64, validate=True).hex())
        else:
            payload = payload_of(asked.payload)
    except binascii.Error:
        raise Problem(400, "base64 is not base64") from None
    except CodecError as error:
        raise Problem(400, str(error)) from None
    return Trial(asked.ask, asked.fport, payload, asked.recv_time or now_s, asked.data)
