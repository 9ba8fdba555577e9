"""Devices, keys and counters outlive a damaged log, and counters go forward."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from gateway.lorawan import store
from hub.log import Log

MAX_FCNT_GAP = 16_384  # LoRaWAN 1.0.3, 4.3.1.5: a device refuses a larger jump


def test_every_table_is_copied_and_counters_jump_by_what_a_device_takes(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    session = (1, "0011223344556677", 0, 1, b"n", b"a", 1, 0, 0, 64, 0, 1, 0)

    async def main() -> None:
        log = Log.open(path, migrations=store.MIGRATIONS)
        tables = log.query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'lorawan%'")
        assert {name for (name,) in tables} == set(store.COPIED)
        await log.write(
            [
                ("INSERT INTO lorawan_session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", session),
                store.counter(store.JOIN_NONCE, 65),
            ]
        )
        await log.close()
        path.write_bytes(b"damaged" * 1000)
        log = Log.open(path, migrations=store.MIGRATIONS)
        ((jumped,),) = log.query("SELECT fcnt_down FROM lorawan_session")
        assert 64 + 300 < jumped < MAX_FCNT_GAP  # a downlink a second for as long as a copy may be late
        with contextlib.closing(log.reader()) as reader:
            assert store.Store().load(reader.connection).join_nonce == 65 + 4096
        await log.close()

    asyncio.run(main())
