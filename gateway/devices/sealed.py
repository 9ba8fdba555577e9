"""A file that holds keys and travels between gateways: sealed under a passphrase, and checked before it is believed.

JSON on the outside, so that a person can see what it is: version, when and where it was made, how many devices. That
head is part of what the seal protects. Inside: AES-256-GCM under a key that argon2id makes of the passphrase.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Any

import argon2.low_level
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KIND = "fluxgate devices"
VERSION = 1
MIN_PASSPHRASE = 12
MAX_PASSPHRASE = 256
MAX_FILE = 24 << 20  # 10,000 devices with their DevNonces, in base64
_KEY, _SALT, _NONCE = 32, 16, 12  # bytes

# RFC 9106, 4: the second recommended choice, 64 MiB and three passes; half a second on a small board.
_MEMORY_KIB, _PASSES, _LANES = 65_536, 3, 4
# What a file from elsewhere may demand: more would let it stop a gateway with 512 MiB.
_MAX_MEMORY_KIB, _MAX_PASSES, _MAX_LANES = 131_072, 10, 8


class SealedError(Exception):
    """The file cannot be opened, or not with this passphrase; the words say which."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What anybody may read of the file."""

    kind: str
    version: int
    made: float  # Unix seconds
    gateway: str  # EUI
    region: str
    devices: int
    moved: bool = False  # the gateway it comes from has given the devices up


class _Kdf(msgspec.Struct, frozen=True):
    name: str
    memory_kib: int
    passes: int
    lanes: int
    salt: str  # base64, as the next ones


class _File(msgspec.Struct, frozen=True):
    head: Head
    kdf: _Kdf
    nonce: str
    sealed: str


def check_passphrase(passphrase: str) -> None:
    """Raises SealedError for one that is too short to keep anybody out."""
    if not MIN_PASSPHRASE <= len(passphrase) <= MAX_PASSPHRASE:
        raise SealedError(
            f"the passphrase has {MIN_PASSPHRASE} to {MAX_PASSPHRASE} characters: four or five words are easy to keep"
        )


def seal(head: Head, content: bytes, passphrase: str) -> bytes:
    """The file; takes about a second and 64 MiB, so not on the event loop. Raises SealedError for the passphrase."""
    check_passphrase(passphrase)
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    kdf = _Kdf("argon2id", _MEMORY_KIB, _PASSES, _LANES, _text(salt))
    sealed = AESGCM(_key(kdf, salt, passphrase)).encrypt(nonce, content, _protected(head, kdf))
    return msgspec.json.format(msgspec.json.encode(_File(head, kdf, _text(nonce), _text(sealed))), indent=1)


def read_head(data: bytes) -> Head:
    """What the file says of itself; nothing of it is proven before it was opened. Raises SealedError."""
    return _parsed(data).head


def open_sealed(data: bytes, passphrase: str) -> tuple[Head, bytes]:
    """Head and content; slow as `seal`. Raises SealedError and nothing else."""
    file = _parsed(data)
    kdf = file.kdf
    if kdf.name != "argon2id" or not (
        8 * kdf.lanes <= kdf.memory_kib <= _MAX_MEMORY_KIB
        and 1 <= kdf.passes <= _MAX_PASSES
        and 1 <= kdf.lanes <= _MAX_LANES
    ):
        raise SealedError(
            "the file demands more work to open it than this gateway does: it was not made by one"
        )
    salt, nonce, sealed = _bytes(kdf.salt), _bytes(file.nonce), _bytes(file.sealed)
    if not 8 <= len(salt) <= 64 or len(nonce) != _NONCE:
        raise SealedError("the file is damaged")
    try:
        content = AESGCM(_key(kdf, salt, passphrase)).decrypt(nonce, sealed, _protected(file.head, kdf))
    except InvalidTag:
        raise SealedError("wrong passphrase, or the file was changed on its way") from None
    return file.head, content


def _parsed(data: bytes) -> _File:
    if len(data) > MAX_FILE:
        raise SealedError(f"the file has more than {MAX_FILE >> 20} MB")
    try:
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise SealedError("this is no file with devices of a gateway, or a part of it is missing") from None
    if file.head.kind != KIND:
        raise SealedError("this file holds something else than devices")
    if file.head.version != VERSION:
        raise SealedError(
            f"the file has version {file.head.version}, and this gateway reads version {VERSION}: update it"
        )
    return file


def _key(kdf: _Kdf, salt: bytes, passphrase: str) -> bytes:
    return argon2.low_level.hash_secret_raw(
        passphrase.encode("utf-8", "surrogatepass"),
        salt,
        time_cost=kdf.passes,
        memory_cost=kdf.memory_kib,
        parallelism=kdf.lanes,
        hash_len=_KEY,
        type=argon2.low_level.Type.ID,
    )


def _protected(head: Head, kdf: _Kdf) -> bytes:
    """The outside, in one spelling: what is sealed opens with this head only."""
    return msgspec.json.encode([msgspec.to_builtins(head), msgspec.to_builtins(kdf)], order="sorted")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SealedError("the file is damaged") from None
