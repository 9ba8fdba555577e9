"""What a gateway finds at its start: another one, damaged files, files of its own that nobody else may read."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import core
from gateway.config import show
from gateway.errors import StartFailed
from gateway.settings import Config, GatewaySection


def test_a_second_gateway_on_the_same_data_is_refused_and_told_why(
    site: Any, config: Config, tmp_path: Path
) -> None:
    settings = tmp_path / "second.toml"
    settings.write_text(show(config))

    async def main() -> None:
        async with site():
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "gateway", "--config", str(settings)),
                stderr=asyncio.subprocess.PIPE,
            )
            _, errors = await process.communicate()
            assert process.returncode == 1
            assert f"in use by another gateway (process {os.getpid()})" in errors.decode()
            assert "Traceback" not in errors.decode()
        async with site() as again:
            assert again.gateway.gwmp_port, "the directory is free again afterwards"

    asyncio.run(main())


def test_a_start_that_fails_lets_go_of_the_data(config: Config) -> None:
    async def main() -> None:
        nowhere = msgspec.structs.replace(
            config, gateway=GatewaySection(data_dir=config.gateway.data_dir, region="XX")
        )
        with pytest.raises(StartFailed):
            async with core.opened_core(nowhere):
                pass
        async with core.opened_core(config):
            pass

    asyncio.run(main())


@pytest.mark.parametrize("name", ["log.db", "registry.db", "history.db"])
def test_a_damaged_file_keeps_no_gateway_from_starting_and_is_said(
    site: Any, device: Any, config: Config, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await s.add(device)
        (Path(config.gateway.data_dir) / name).write_bytes(os.urandom(20_000))
        with caplog.at_level(logging.ERROR):
            async with site() as s:
                set_aside = s.gateway.source.status()["store"]["set_aside"]
                claimed = s.gateway.core.hub.registry.claim_code() is None
        assert set_aside == [f"{name}.damaged-1"]
        assert f"{name} is damaged: kept as {name}.damaged-1" in caplog.text
        # The registry has a copy, so that a damaged file does not open the door to the first comer
        assert claimed

    asyncio.run(main())


def test_what_a_gateway_writes_is_for_its_user_alone(config: Config, tmp_path: Path) -> None:
    settings = tmp_path / "fluxgate.toml"
    settings.write_text(show(config))
    process = subprocess.Popen([sys.executable, "-m", "gateway", "gateway", "--config", str(settings)])
    try:
        status = Path(config.gateway.runtime_dir) / "status.json"
        while not status.exists():
            assert process.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.05)
    finally:
        process.terminate()
    assert process.wait(10) == 0
    folders = [Path(config.gateway.data_dir), Path(config.gateway.runtime_dir)]
    written = [*folders, *(path for folder in folders for path in folder.iterdir())]
    assert len(written) > 8
    assert [path for path in written if path.stat().st_mode & 0o077] == []
