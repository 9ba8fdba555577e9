"""docs/http.md is kept honest: its examples run, and its tables and the route table say the same."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.http.app import ENDPOINTS
from hub.http.body import MAX_BODY
from hub.http.door import PING_S
from hub.http.export import MAX_EXPORTS
from hub.http.follow import QUEUE
from hub.http.idempotency import KEPT, KEPT_OF_THING
from hub.http.limits import Limits
from hub.http.messages import MAX_READS
from hub.http.sse import MAX_STREAMS
from hub.hub import MAX_PAYLOAD

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
        "event streams and WebSockets": (MAX_STREAMS,),
        "WebSocket frame": (limits.frame_bytes // 1024,),
        "silent WebSocket": (int(PING_S),),
        "messages waiting for one stream": (QUEUE,),
        "queries of the history; exports": (MAX_READS, MAX_EXPORTS),
        "idempotency keys": (f"{KEPT_OF_THING:,}", f"{KEPT:,}"),
    }
    assert MAX_PAYLOAD == MAX_BODY
    for name, numbers in expected.items():
        for number in numbers:
            assert re.search(rf"(?<!\d){number}(?!\d)", bounds[name]), (name, number)


def fits(template: Any, value: Any) -> bool:
    """Whether an answer is the documented one; the text ... stands for anything."""
    if template == "...":
        return True
    if isinstance(template, dict):
        return (
            isinstance(value, dict)
            and template.keys() == value.keys()
            and all(fits(template[key], value[key]) for key in template)
        )
    if isinstance(template, list):
        return isinstance(value, list) and len(template) == len(value) and all(map(fits, template, value))
    return bool(template == value)


def remember(names: dict[str, str], script: str, answer: Any) -> None:
    """Keep what later examples call TOKEN, THING, KEY, CHANNEL and DEVICE."""
    if not isinstance(answer, dict):
        return
    if "token" in answer:
        names["TOKEN"] = answer["token"]
    if "key" in answer:
        names["KEY"] = answer["key"]
    made = re.search(r"\$URL/(thing|channel|device)s -H", script)
    if made and "id" in answer:
        names[made[1].upper()] = answer["id"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_examples_run_and_answer_as_written(run: Run) -> None:
    examples = re.findall(r"```sh\n(.*?)```\n```json\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) == TEXT.count("```sh\n") > 10

    async def scenario(site: Any) -> None:
        names = {
            "URL": f"http://127.0.0.1:{site.door.port}",
            "CODE": site.hub.registry.claim_code(),
            "PATH": os.environ["PATH"],
            "no_proxy": "*",
        }
        for script, documented in examples:
            process = await asyncio.create_subprocess_exec(
                "bash",
                "-euc",
                script,
                env=names,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            output, errors = await process.communicate()
            assert process.returncode == 0, (script, errors)
            answer = json.loads(output)
            assert fits(json.loads(documented), answer), (script, answer)
            remember(names, script, answer)

    run(scenario, claimed=False)
