"""The examples of docs/downlinks.md order what they say; its numbers and fields are those of the code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from gateway import downlinks
from gateway.group_api import NewGroup
from gateway.lorawan import classc, multicast, orders, orderstore
from gateway.lorawan.outcome import OrderFate
from gateway.lorawan.settings import Settings
from gateway.wanted import Command

PAGE = (Path(__file__).parents[2] / "docs" / "downlinks.md").read_text()
PROSE = " ".join(PAGE.split())
EXAMPLES = [
    command.replace("\\\n", " ")
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for command in block.strip().split("\n\n")
]


def first_cells(after: str) -> list[str]:
    table = PAGE.split(after, 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)


def test_fields_and_states_are_those_of_the_code() -> None:
    assert first_cells("| Field of the JSON") == [
        *("fport", "payload", "data", "records", "confirmed", "priority", "ttl_s", "id")
    ]
    assert set(first_cells("| Field of the JSON")) == {
        field.name for field in msgspec.structs.fields(Command)
    }
    assert first_cells("| `downlink` | when |") == [state.value for state in OrderFate]
    body = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[1]
    assert msgspec.json.decode(body, type=NewGroup).name == "lamps"


def test_numbers_are_those_of_the_code() -> None:
    for words, value in (
        ("(0.1 s before a window)", downlinks.LEAD_NS == 100_000_000),
        (
            "RxDelay and 0.3 s, or 1.3 s",
            (classc.RX1_OPEN_NS, classc.ANSWER_NS) == (300_000_000, 1_300_000_000),
        ),
        ("after 0.25 s, then twice as long each time, up to a minute", orders.FIRST_PAUSE_NS == 250_000_000),
        ("up to a minute", orders.LONGEST_PAUSE_NS == 60 * 10**9),
        ("`lorawan.max_downlinks` (16)", Settings().max_downlinks == 16),
        ("after 32 uplinks that could not carry it", orders.MAX_TOO_LONG == 32),
        ("up to 30 days", orders.MAX_TTL_S == 30 * 86_400),
        ("for 25 s counts as sent", orders.REPORT_NS == 25 * 10**9),
        ("The last 64 receipts", orderstore.HISTORY == 64),
        ("with 0.2 s between", multicast.SPACING_NS == 200_000_000),
        ("asked again, eight times", multicast.MAX_REFUSALS == 8),
        ("Up to 64 orders wait for a group", multicast.MAX_ORDERS == 64),
    ):
        assert words in PROSE, words
        assert value, words


def test_every_counter_is_named(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            shown = (await s.api.get("/metrics")).text
            counted = re.findall(
                r"^(fluxgate_(?:downlink|commands)_\w+|fluxgate_downlinks_waiting) ", shown, re.MULTILINE
            )
            assert set(first_cells("| Counter |")) == set(counted)

    asyncio.run(main())


async def line_with(output: asyncio.StreamReader, start: str) -> str:
    """The next line that begins like this."""
    async with asyncio.timeout(20):
        async for line in output:
            if line.decode().startswith(start):
                return line.decode()
    raise AssertionError(f"no line begins with {start!r}")


def test_the_examples_order_what_they_say(site: Any, device: Any, opened: Any) -> None:
    ordering = [each for each in EXAMPLES if not each.startswith("mosquitto_sub")]
    assert len(ordering) == 5

    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            await s.forwarder.pull()
            server = s.gateway.core.server
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            environment = os.environ | {
                "HOST": "127.0.0.1",
                "PORT": str(s.gateway.mqtt.port),
                "HTTP": str(s.gateway.http.port),
                "COAP": str(s.gateway.doors.coap.port),
                "CHANNEL": made.channel_id,
                "PATH": path,
                "DEVICE": str(device.dev_eui),
                "THING": made.thing_id,
                "KEY": made.thing_key,
            }
            listen = next(each for each in EXAMPLES if each.startswith("mosquitto_sub"))
            listening = await asyncio.create_subprocess_shell(
                f"exec stdbuf -oL {listen} -d -C 1 -W 20 -F 'got %p'",
                env=environment,
                stdout=asyncio.subprocess.PIPE,
            )
            assert listening.stdout is not None
            await line_with(listening.stdout, "Subscribed")
            for number, command in enumerate(ordering, start=1):
                process = await asyncio.create_subprocess_shell(
                    command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
                )
                out, _ = await asyncio.wait_for(process.communicate(), 20)
                assert process.returncode == 0, (command, out)
                await s.until(lambda count=number: server.device(device.dev_eui).queued == count)  # type: ignore[misc]
            waiting = [
                (order.fport, order.payload, order.confirmed, order.priority)
                for order in sorted(server.registered(device.dev_eui).orders, key=lambda each: each.number)
            ]
            assert waiting == [
                (10, b"\x01\xff", True, 0),
                (10, b"\x01\xff", False, 5),
                (10, b"\x01\xff", False, 0),
                (10, b"on", False, 0),
                (1, b"\x03\x01\x01", False, 0),
            ]
            told = json.loads((await line_with(listening.stdout, "got ")).removeprefix("got "))
            assert told[0]["vs"] == "queued"
            await listening.wait()

    asyncio.run(main())
