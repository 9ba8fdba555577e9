"""Replayed, duplicated and reordered frames across kills, in short; tests/torture/replays.py takes a million.

And what a device's nonces cost: every DevNonce there is, in 8 KiB.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from gateway.lorawan import store
from gateway.lorawan.device import Device, DeviceConfig, DevNonces
from gateway.lorawan.types import AES128Key, DevEUI
from gateway.migrations import MIGRATIONS

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # torture.*

from torture import replays
from torture.noncememory import MOST, measured

EUI = DevEUI(0x70B3D57ED0000001)


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_accepted_twice(seed: int) -> None:
    result = replays.run(12_000, seed)
    assert result.problems == []
    assert result.accepted_twice == 0
    assert result.uplinks > 900
    assert result.joins > 20
    assert result.kills >= 3
    assert result.lost > 0
    assert result.refused["duplicate"] > 1000
    assert result.refused["replay"] > 500


def test_a_store_that_forgets_counters_is_found() -> None:
    result = replays.run(12_000, 1, forgets=True)
    assert result.accepted_twice > 0


def test_a_counter_that_is_used_before_its_reservation_is_kept_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it was once: the second downlink after a restart did not wait for the commit of the first."""
    run = partial(replays.run, 8000, kills=0.1, devices=3)
    assert [problem for seed in (1, 4) for problem in run(seed).problems] == []
    monkeypatch.setattr("gateway.lorawan.device.ReservedCounter.take", replays.careless_take)
    problems = [problem for seed in (1, 4) for problem in run(seed).problems]
    assert any("under one counter" in problem for problem in problems)


def test_every_dev_nonce_fits_into_8_kib_of_memory_and_of_rows() -> None:
    found = measured()
    assert found.rows_bytes == 8192
    assert found.memory_bytes <= 8192  # used up, they need no bits of their own any more
    assert found.most_bytes <= MOST
    few = measured(range(40_000, 40_100))
    assert few.most_bytes <= 1024


def test_every_dev_nonce_comes_back_from_the_store_and_is_refused() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        for migration in MIGRATIONS:
            for statement in migration.statements:
                db.execute(statement)
        writer = store.Store()
        device = Device(DeviceConfig(dev_eui=EUI, app_key=AES128Key(bytes(16))), EUI)
        for sql, parameters in writer.device_added(device):
            db.execute(sql, parameters)
        kept = DevNonces()
        for nonce in range(1 << 16):
            high, page = kept.add(nonce)
            if nonce & 0xFF == 0xFF:
                sql, parameters = store.dev_nonce(EUI, high, page)
                db.execute(sql, parameters)
        (device,) = writer.load(db).devices
        assert all(nonce in device.dev_nonces for nonce in range(1 << 16))
        (size, count) = db.execute("SELECT sum(length(used)), count(*) FROM lorawan_dev_nonce").fetchone()
        assert (size, count) == (8192, 256)
