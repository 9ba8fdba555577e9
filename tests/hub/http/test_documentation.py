"""docs/http.md is kept honest: its examples run, and its tables and the route table say the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub.http.app import ENDPOINTS
from hub.http.body import MAX_BODY
from hub.http.door import PING_S
from hub.http.export import MAX_EXPORTS, MAX_EXPORTS_EACH
from hub.http.follow import QUEUE
from hub.http.idempotency import KEPT, KEPT_OF_THING
from hub.http.limits import Limits
from hub.http.messages import MAX_READS, MAX_READS_EACH
from hub.http.sse import MAX_STREAMS, MAX_STREAMS_EACH
from hub.http.websocket import MAX_UNDER_WAY
from hub.hub import MAX_PAYLOAD
from tests.hub.examples import follow

Run = Callable[..., None]
TEXT = (Path(__file__).parents[3] / "docs" / "http.md").read_text()


def test_the_documented_requests_are_those_of_the_route_table() -> None:
    documented = re.findall(r"^\| `([A-Z]+) (/\S*)`", TEXT, re.MULTILINE)
    served = [(row.method, row.path) for row in ENDPOINTS]
    assert sorted(documented) == sorted(served)


def test_the_documented_bounds_are_those_of_the_code() -> None:
    bounds = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", TEXT.split("## Bounds")[1], re.MULTILINE))
    limits = Limits()
    expected = {
        "connections of a listener": (limits.connections, limits.connections_per_address),
        "request line and headers": (limits.head_bytes // 1024,),
        "body of a message; of another request": (MAX_BODY // 1024,),
        "time for a request to arrive": (int(limits.request_s),),
        "idle connection": (int(limits.idle_s),),
        "event streams and WebSockets": (MAX_STREAMS, MAX_STREAMS_EACH),
        "frames of one WebSocket without their answer": (MAX_UNDER_WAY,),
        "WebSocket frame": (limits.frame_bytes // 1024,),
        "silent WebSocket": (int(PING_S),),
        "messages waiting for one stream": (QUEUE,),
        "queries of the history; exports": (
            MAX_READS,
            MAX_EXPORTS,
            MAX_READS_EACH,
            MAX_EXPORTS_EACH,
        ),
        "answers 401 to one address (/64 in IPv6; not to the own host)": (
            int(limits.stranger_rate),
            limits.stranger_burst,
        ),
        "idempotency keys": (f"{KEPT_OF_THING:,}", f"{KEPT:,}"),
    }
    assert MAX_PAYLOAD == MAX_BODY
    for name, numbers in expected.items():
        for number in numbers:
            assert re.search(rf"(?<!\d){number}(?!\d)", bounds[name]), (name, number)


def learn(script: str, answer: Any) -> dict[str, str]:
    """What later examples call TOKEN, THING, KEY, CHANNEL and DEVICE."""
    if not isinstance(answer, dict):
        return {}
    names = {name: answer[field] for name, field in (("TOKEN", "token"), ("KEY", "key")) if field in answer}
    made = re.search(r"\$URL/(thing|channel|device)s -H", script)
    if made and "id" in answer:
        names[made[1].upper()] = answer["id"]
    return names


def test_the_examples_run_and_answer_as_written(run: Run) -> None:
    async def scenario(site: Any) -> None:
        names = {
            "URL": f"http://127.0.0.1:{site.door.port}",
            "CODE": site.hub.registry.claim_code(),
        }
        assert await follow(TEXT, names, learn) > 10

    run(scenario, claimed=False)
