"""docs/devices.md names every request, field and state there is, and its commands work as they stand."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.devices import sealed
from gateway.devices.fields import Given
from gateway.devices.fleet import NAMED
from gateway.devices.importing import MAX_PLANS, LineState
from gateway.devices.parts import DeviceParts
from gateway.devices.reports import State
from gateway.lorawan.profile import Profile

TEXT = (Path(__file__).parents[3] / "docs" / "devices.md").read_text()


def section(title: str) -> str:
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> list[str]:
    cells = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_every_request_is_documented(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            parts: DeviceParts = s.gateway.devices
            documented = re.findall(r"^\| `([A-Z]+) (/\S*)`", TEXT, re.MULTILINE)
            assert sorted(documented) == sorted((row.method, row.path) for row in parts.endpoints())

    asyncio.run(main())


def test_every_field_and_state_is_documented() -> None:
    assert set(first_cells(section("Registering a device"))) == set(Given.__struct_fields__)
    profile = {field.name for field in dataclasses.fields(Profile)} - {"name"}
    assert set(first_cells(section("Profiles"))) == profile
    assert first_cells(section("How a device stands")) == [
        State.OK,
        *(state for state in State if state is not State.OK),
    ]
    assert all(f"`{state}`" in section("Delivery lists") for state in LineState)


def test_the_numbers_are_those_of_the_code() -> None:
    assert (MAX_PLANS, NAMED) == (8, 5)
    assert "holds eight files" in TEXT
    assert "names the first five" in TEXT


def test_the_commands_work(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "_MEMORY_KIB", 64)
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 5

    async def main() -> None:
        async with site() as s:
            await s.claim()
            token = s.api.headers["authorization"].removeprefix("Bearer ")
            known = {
                "HOST": f"127.0.0.1:{s.gateway.http.port}",
                "TOKEN": token,
                "FOLDER": str(tmp_path),
                "PATH": os.environ["PATH"],
            }
            for block in blocks:
                process = await asyncio.create_subprocess_exec(
                    *("bash", "-euo", "pipefail", "-c", block),
                    env=known,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                )
                output, errors = await asyncio.wait_for(process.communicate(), 60)
                assert process.returncode == 0, (block, output, errors)
            names = {device["name"] for device in (await s.api.get("/lorawan/devices")).json()}
            assert names == {"Cold room 2", "Loft"}
            shown = (await s.api.get("/lorawan/devices/a84041035660e3aa")).json()
            assert (shown["profile"], shown["codec"], shown["moved"]) == ("EM300-TH", "raw", None)

    asyncio.run(main())
