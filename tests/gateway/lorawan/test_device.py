"""Counters that never go back, nonces that are never forgotten, sealed keys."""

import random

import pytest

from gateway.lorawan.device import COUNTER_AHEAD, COUNTER_BLOCK, DeviceConfig, DevNonces, ReservedCounter
from gateway.lorawan.errors import OrderError
from gateway.lorawan.seal import Sealer
from gateway.lorawan.types import AES128Key, DevEUI


def test_a_counter_asks_for_a_new_block_before_the_old_one_is_used_up():
    counter = ReservedCounter(0, COUNTER_BLOCK)
    moved_at = []
    for expected in range(200):
        stored = counter.ceiling
        number, covered, moved = counter.take()
        assert number == expected
        assert covered
        assert number < stored
        if moved:
            moved_at.append((number, stored - number))
    assert moved_at
    assert all(left == COUNTER_AHEAD for _, left in moved_at)


def test_after_a_restart_the_first_numbers_are_new_and_wait_for_their_reservation():
    before = ReservedCounter(0, COUNTER_BLOCK)
    used = {before.take()[0] for _ in range(40)}
    after = ReservedCounter(before.ceiling, before.ceiling)
    number, covered, moved = after.take()
    assert number not in used
    assert not covered
    assert moved
    assert [after.take()[1] for _ in range(COUNTER_AHEAD // 2 - 1)] == [False] * (COUNTER_AHEAD // 2 - 1), (
        "killed now, counting would go on at the same number again: the reservation may not be on the disk"
    )
    assert all(after.take()[1] for _ in range(200))


def test_every_dev_nonce_is_remembered_in_8_kib():
    rng = random.Random(1)
    nonces, used, rows = DevNonces(), set(), {}
    for _ in range(3000):
        nonce = rng.randrange(1 << 16)
        assert (nonce in nonces) == (nonce in used)
        high, page = nonces.add(nonce)
        rows[high] = page
        used.add(nonce)
    assert sum(map(len, rows.values())) <= 8192
    again = DevNonces()
    for high, page in rows.items():
        again.restore(high, page)
    assert {nonce for nonce in range(1 << 16) if nonce in again} == used


def test_a_device_without_the_keys_of_its_activation_is_refused():
    with pytest.raises(OrderError, match="AppKey"):
        DeviceConfig(dev_eui=DevEUI(1))
    with pytest.raises(OrderError, match="NwkSKey"):
        DeviceConfig(dev_eui=DevEUI(1), activation="abp", app_key=AES128Key(bytes(16)))


def test_a_sealed_key_opens_for_its_own_purpose_only():
    sealer = Sealer({1: bytes(32)})
    sealed = sealer.seal(b"secret", b"here")
    assert b"secret" not in sealed
    assert sealer.unseal(sealed, b"here") == b"secret"
    assert sealer.seal(b"secret", b"here") != sealed
    for opener, data, context in (
        (sealer, sealed, b"there"),
        (Sealer({1: b"\1" * 32}), sealed, b"here"),
        (sealer, sealed[:-1] + bytes((sealed[-1] ^ 1,)), b"here"),
        (sealer, b"", b"here"),
    ):
        with pytest.raises(ValueError, match="sealed under"):
            opener.unseal(data, context)
