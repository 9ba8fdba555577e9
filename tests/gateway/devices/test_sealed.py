"""Files under a passphrase: only that passphrase opens them, and nothing in them can be changed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gateway.devices import sealed
from gateway.devices.sealed import KIND, VERSION, Head, SealedError, open_sealed, read_head, seal

HEAD = Head(kind=KIND, version=VERSION, made=1.5, gateway="02f10f6a7e0000aa", region="EU868", devices=1)
WORDS = "four or five easy words"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "_MEMORY_KIB", 64)
    monkeypatch.setattr(sealed, "_PASSES", 1)


def test_a_file_opens_with_its_passphrase_and_shows_its_head_to_anybody() -> None:
    file = seal(HEAD, b"content", WORDS)
    assert open_sealed(file, WORDS) == (HEAD, b"content")
    assert read_head(file) == HEAD
    assert b"content" not in file


def test_another_passphrase_does_not_open_it() -> None:
    with pytest.raises(SealedError, match="wrong passphrase"):
        open_sealed(seal(HEAD, b"content", WORDS), WORDS + ".")


def test_it_opens_with_another_implementation_of_its_parts() -> None:
    """By hand from the documented format: argon2id (RFC 9106) and AES-256-GCM."""
    import base64

    from argon2.low_level import Type, hash_secret_raw
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    file = json.loads(seal(HEAD, b"content", WORDS))
    kdf = file["kdf"]
    key = hash_secret_raw(
        WORDS.encode(),
        base64.b64decode(kdf["salt"]),
        kdf["passes"],
        kdf["memory_kib"],
        kdf["lanes"],
        32,
        Type.ID,
    )
    whole = base64.b64decode(file["sealed"])
    opened = Cipher(
        algorithms.AES256(key), modes.GCM(base64.b64decode(file["nonce"]), whole[-16:])
    ).decryptor()
    opened.authenticate_additional_data(
        json.dumps([file["head"], kdf], separators=(",", ":"), sort_keys=True).encode()
    )
    assert opened.update(whole[:-16]) + opened.finalize() == b"content"


@pytest.mark.parametrize("passphrase", ["", "x" * 11, "x" * 257])
def test_a_passphrase_that_keeps_nobody_out_is_refused(passphrase: str) -> None:
    with pytest.raises(SealedError, match="12 to 256"):
        seal(HEAD, b"", passphrase)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("head", "gateway"), "02f10f6a7e0000ab", "changed on its way"),
        (("head", "moved"), True, "changed on its way"),
        (("head", "kind"), "cakes", "something else"),
        (("head", "version"), 2, "version 2"),
        (("kdf", "name"), "md5", "demands"),
        (("kdf", "memory_kib"), 1 << 30, "demands"),
        (("kdf", "passes"), 1000, "demands"),
        (("kdf", "lanes"), 0, "demands"),
        (("kdf", "salt"), "AA==", "damaged"),
        (("nonce",), "AA==", "damaged"),
        (("sealed",), "!", "damaged"),
        (("sealed",), "AAAA", "changed on its way"),
    ],
)
def test_a_changed_file_is_refused(path: tuple[str, ...], value: Any, words: str) -> None:
    file = json.loads(seal(HEAD, b"content", WORDS))
    place = file
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(SealedError, match=words):
        open_sealed(json.dumps(file).encode(), WORDS)


def test_the_real_work_factor_is_what_a_small_board_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    kdf = json.loads(seal(HEAD, b"", WORDS))["kdf"]
    assert (kdf["memory_kib"], kdf["passes"], kdf["lanes"]) == (65_536, 3, 4)


def test_only_its_own_error_comes_out_of_damaged_files() -> None:
    rng = random.Random(3)
    whole = seal(HEAD, b"content" * 20, WORDS)
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randrange(1, 40)]
                case _:
                    data[at:at] = rng.choice((b'"', b"{", b"9", b"\xff", b"null"))
        try:
            open_sealed(bytes(data), WORDS)
        except SealedError:
            refused += 1
    assert refused > 2900  # what is left has changed nothing but blanks and unused bits
