"""docs/mqtt.md names every limit with its default, every counter and `$SYS` topic it names exists, its examples run."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hub.hub import MAX_PAYLOAD
from hub.mqtt.limits import COUNTERS, Limits
from hub.mqtt.properties import MAX_USER_BYTES, MAX_USER_PROPERTIES
from hub.mqtt.reasons import Reason
from hub.mqtt.system import TOPICS
from hub.topics import MAX_ELEMENTS, MAX_SUBTOPIC

Open = Callable[..., Any]

PAGE = (Path(__file__).parents[3] / "docs" / "mqtt.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| .*? \| (?:`(\w+)` )?\|$", PAGE, re.MULTILINE)


def test_each_limit_is_documented_with_its_default() -> None:
    assert {name: float(default) for name, default, _ in ROWS} == asdict(Limits())


def test_each_counter_of_the_page_exists() -> None:
    assert {counter for _, _, counter in ROWS if counter} <= set(COUNTERS)
    assert set(re.findall(r"`((?:refused|lost|dropped|expired)\w*)`", PAGE)) <= set(COUNTERS)


def test_largest_payload_fits_into_a_packet() -> None:
    assert f"at most {MAX_PAYLOAD} bytes" in PAGE
    assert Limits().packet_bytes >= MAX_PAYLOAD + 1024 + 128


def test_each_system_topic_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| `(\$SYS/[^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)
    assert [topic for topic, _ in rows] == list(TOPICS)


def test_bounds_named_in_prose_are_those_of_the_code() -> None:
    words = " ".join(PAGE.split())
    assert f"at most {MAX_USER_PROPERTIES} user properties of {MAX_USER_BYTES} bytes" in words
    assert f"at most {MAX_ELEMENTS} elements and {MAX_SUBTOPIC} characters" in words


def test_each_code_of_the_page_is_a_reason_code() -> None:
    codes = {int(code, 16) for code in re.findall(r"0x[0-9A-F]{2}", PAGE)}
    assert codes <= set(Reason)
    assert len(codes) > 15


async def started(command: str, env: dict[str, str]) -> asyncio.subprocess.Process:
    """A subscriber of the page, once it has subscribed; it ends after a message."""
    process = await asyncio.create_subprocess_shell(
        command.replace("mosquitto_sub", "stdbuf -oL mosquitto_sub -d -C 1 -W 30"),
        env=os.environ | env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    while b"SUBACK" not in (line := await process.stdout.readline()):
        assert line, command
    return process


def test_the_examples_run(open_world: Open) -> None:
    """Subscribers are started first and then all publishers run: each subscriber has to get something."""
    examples = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)

    async def main() -> None:
        async with open_world() as world:
            registry = world.hub.registry
            user = registry.create_user("admin@example.org", "correct horse battery staple")
            env = {
                "HOST": "127.0.0.1",
                "PORT": str(world.door.port),
                "THING": world.ids["a"],
                "KEY": world.keys["a"],
                "CHANNEL": world.channel,
                "EMAIL": user.email,
                "TOKEN": registry.issue_token(user.id, world.hub.clock()[0] / 1e9),
            }
            subscribers = [await started(each, env) for each in examples if "mosquitto_sub" in each]
            publishers = [each for each in examples if "mosquitto_pub" in each]
            assert len(subscribers) >= 5
            assert len(publishers) >= 3
            for each in publishers:
                process = await asyncio.create_subprocess_shell(each, env=os.environ | env)
                assert await asyncio.wait_for(process.wait(), 30) == 0, each
            for process in subscribers:
                out, _ = await process.communicate()
                assert process.returncode == 0, out

    asyncio.run(main())
