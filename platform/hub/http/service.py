"""What a monitor asks: health, version and counters. Open to all, since it names no thing, channel or person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.disk import DiskState
from hub.http.auth import hub_of
from hub.http.body import encode_json
from hub.http.table import Endpoint, Media, Needs


class Version(Struct):
    """What is running."""

    service: str
    version: str


class Running(Struct):
    running: bool


# A metric's name, with its labels where it has some: `fluxgate_uplinks_total`, `x_total{reason="replay"}`.
Counters = Callable[[], Mapping[str, float]]


async def health(request: Request) -> Response:
    """`GET /health` as Mainflux 0.13 answers it (draft-inadarei-api-health-check).

    `warn` while new messages are refused: what is stored can be read, and a restart would mend nothing.
    """
    log = hub_of(request).log
    body = {"status": "pass", "version": request.app.state.version, "description": "hub service"}
    if log.state is not DiskState.OK:
        body |= {"status": "warn", "output": log.state_reason}
    return Response(
        encode_json(body), media_type="application/health+json", headers={"cache-control": "no-store"}
    )


async def version(request: Request) -> Response:
    """`GET /version` (Mainflux up to 0.12)."""
    return json_response({"service": "hub", "version": request.app.state.version})


async def status(request: Request) -> Response:
    """`GET /status` of 2017."""
    return json_response({"running": True})


async def metrics(request: Request) -> Response:
    """`GET /metrics`: every counter handed to the app, in the text format of Prometheus (0.0.4)."""
    text = prometheus(counters() for counters in request.app.state.counters)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def prometheus(groups: Iterable[Mapping[str, float]]) -> str:
    """Metrics as text; a name that ends in `_total` is a counter, any other a gauge."""
    families: dict[str, list[str]] = {}
    for group in groups:
        for name, value in group.items():
            families.setdefault(name.partition("{")[0], []).append(f"{name} {value}")
    lines = []
    for family, samples in sorted(families.items()):
        kind = "counter" if family.endswith("_total") else "gauge"
        lines += [f"# TYPE {family} {kind}", *samples]
    return "\n".join(lines) + "\n"


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(encode_json(value), status, dict(headers or {}), "application/json")


ENDPOINTS = [
    Endpoint(
        "GET",
        "/health",
        health,
        Needs.NOTHING,
        answers={200: Media({"application/health+json": {"type": "object", "required": ["status"]}})},
    ),
    Endpoint("GET", "/version", version, Needs.NOTHING, answers={200: Version}),
    Endpoint("GET", "/status", status, Needs.NOTHING, answers={200: Running}),
    Endpoint(
        "GET", "/metrics", metrics, Needs.NOTHING, answers={200: Media({"text/plain": {"type": "string"}})}
    ),
]
