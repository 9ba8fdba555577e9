"""Devices, keys and counters outlive a damaged log, and counters go forward."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.lorawan import store
from gateway.migrations import MIGRATIONS
from gateway.settings import Config
from hub.log import Log

MAX_FCNT_GAP = 16_384  # LoRaWAN 1.0.3, 4.3.1.5: a device refuses a larger jump


def test_every_table_is_copied_and_counters_jump_by_what_a_device_takes(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    values = 1, "0011223344556677", 0, 1, b"n", b"a", 1, 0, 0, 64, 128, 0, 1, 0, 1
    session = (
        "INSERT INTO lorawan_session(id, dev_eui, pending, dev_addr, nwk_s_key, app_s_key, rx1_delay_s, rx1_dr_offset,"
        " rx2_dr, fcnt_down, fcnt_down_app, tx_power, nb_trans, channel_plan, v1_1)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )

    async def main() -> None:
        log = Log.open(path, migrations=MIGRATIONS)
        assert set(store.COPIED) <= {table for migration in MIGRATIONS for table in migration.copied}
        await log.write(
            [
                (session, values),
                store.counter(store.JOIN_NONCE, 65),
            ]
        )
        await log.close()
        path.write_bytes(b"damaged" * 1000)
        log = Log.open(path, migrations=MIGRATIONS)
        ((network, app),) = log.query("SELECT fcnt_down, fcnt_down_app FROM lorawan_session")
        assert 64 + 300 < network < MAX_FCNT_GAP  # a downlink a second for as long as a copy may be late
        assert 128 + 300 < app < MAX_FCNT_GAP
        with contextlib.closing(log.reader()) as reader:
            assert store.Store().load(reader.connection).join_nonce == 65 + 4096
        await log.close()

    asyncio.run(main())


def test_a_device_whose_stored_keys_are_damaged_is_taken_from_the_copy(
    site: Any, config: Config, device: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(config.gateway.data_dir) / "log.db"

    def damage(*wheres: str) -> None:
        with contextlib.closing(sqlite3.connect(path)) as database:
            for where in wheres:
                database.execute(where)
            database.commit()

    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.forwarder.push(device.uplink())
        damage("UPDATE lorawan_session SET nwk_s_key = zeroblob(60)")
        async with site() as s:
            assert "are taken from the log's copy" in caplog.text
            counter = s.gateway.core.server.device(device.config().dev_eui).fcnt_up
            assert counter == 0
            await s.forwarder.push(device.uplink())
            assert s.gateway.core.server.counters.uplinks == 1
        caplog.clear()
        damage("UPDATE lorawan_session SET nwk_s_key = zeroblob(60)")
        path.with_name("log.db.copy").unlink()  # the control: nothing to take it from
        async with site() as s:
            assert "register it again" in caplog.text
            assert s.gateway.core.server.devices() == []

    asyncio.run(main())
