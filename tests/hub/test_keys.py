"""Secrets in files: which of two copies is believed, and what is said when neither can be."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hub.keys import ServerKey, Unreadable, load_secret

LOSS = "everything is void"


def load(folder: Path) -> bytes:
    return load_secret(folder / "a.key", 32, LOSS)


def test_a_secret_is_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    secret = load(tmp_path)
    assert len(secret) == 32
    assert load(tmp_path) == secret
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["a.key", "a.key.copy"])
@pytest.mark.parametrize("position", range(0, 40, 3))
def test_a_flipped_bit_anywhere_has_the_other_file_believed(tmp_path: Path, name: str, position: int) -> None:
    secret = load(tmp_path)
    damaged = bytearray((tmp_path / name).read_bytes())
    damaged[position] ^= 1
    (tmp_path / name).write_bytes(damaged)
    assert load(tmp_path) == secret
    assert (tmp_path / "a.key").read_bytes() == (tmp_path / "a.key.copy").read_bytes(), "and mended"


@pytest.mark.parametrize("content", [b"", b"short", bytes(32), bytes(40), b"x" * 100])
def test_without_any_whole_file_new_bytes_are_made_and_the_loss_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    secret = load(tmp_path)
    (tmp_path / "a.key").write_bytes(content)
    (tmp_path / "a.key.copy").write_bytes(b"other damage")
    with caplog.at_level(logging.ERROR):
        again = load(tmp_path)
    assert again != secret
    assert LOSS in caplog.text
    assert (tmp_path / "a.key.damaged").read_bytes() == content
    assert load(tmp_path) == again


def test_a_file_without_checksum_of_an_earlier_version_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_bytes(b"k" * 32)
    assert load(tmp_path) == b"k" * 32
    assert load(tmp_path) == b"k" * 32


def test_a_sealed_secret_opens_for_its_purpose_and_under_its_key_alone() -> None:
    key = ServerKey(bytes(range(32)))
    sealed = key.seal("authority", b"a private key")
    assert b"private" not in sealed
    assert key.unseal("authority", sealed) == b"a private key"
    for other, purpose in ((key, "signing"), (ServerKey(bytes(32)), "authority")):
        with pytest.raises(Unreadable):
            other.unseal(purpose, sealed)


@pytest.mark.parametrize("position", range(0, 41, 4))
def test_a_sealed_secret_with_a_flipped_or_missing_byte_is_unreadable(position: int) -> None:
    key = ServerKey(bytes(range(32)))
    sealed = key.seal("authority", b"a private key")
    damaged = bytearray(sealed)
    damaged[position] ^= 1
    for bytes_ in (bytes(damaged), sealed[:position]):
        with pytest.raises(Unreadable):
            key.unseal("authority", bytes_)
