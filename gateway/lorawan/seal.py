"""Keys at rest: AES-256-GCM in an envelope.

Each key of a device is sealed under a *data key*; data keys lie in the database, wrapped by the *host key*, which is
a file of this machine alone. So a copied database or backup opens nothing, and a new host key costs one row: the data
keys are wrapped anew, all that they have sealed stays. A sealed blob names its form and its data key:

    0x02, data key id (u32, big endian), nonce (12 bytes), ciphertext, tag (16 bytes)

Form 1 had no head and was sealed under the host key itself; it still opens, and `stale` says that it should be
rewritten. Whoever can read the host key's file as well can open the keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.lorawan.outcome import Writes
from hub.database import Migration
from hub.log import Write

SEAL_KEY_SIZE = 32  # bytes, of host and data keys
_FORM = 0x02
_HEAD_SIZE = 5
_NONCE_SIZE = 12  # random; far below 2**32 seals a key (NIST SP 800-38D, 8.3)

DATA_KEYS = "lorawan_data_key"
_SCHEMA = (
    f"""CREATE TABLE {DATA_KEYS} (
        id INTEGER PRIMARY KEY,
        wrapped BLOB NOT NULL            -- sealed under the host key
    )""",
)
MIGRATIONS = (Migration("lorawan: data keys, wrapped by the host key", _SCHEMA, {DATA_KEYS: 10.0}),)


class HostKey:
    """The key of this machine, which seals nothing but data keys. Its repr shows nothing of it."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        if len(key) != SEAL_KEY_SIZE:
            raise ValueError(f"a sealing key has {SEAL_KEY_SIZE} bytes")
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return "HostKey(hidden)"

    def wrap(self, key_id: int, data_key: bytes) -> Write:
        """The row of a data key."""
        wrapped = _seal(self._cipher, data_key, _wrapping(key_id))
        return f"INSERT OR REPLACE INTO {DATA_KEYS}(id, wrapped) VALUES (?, ?)", (key_id, wrapped)

    def unwrap(self, key_id: int, wrapped: bytes) -> bytes:
        """Raises ValueError where another host key has wrapped it, or it is damaged."""
        return _unseal(self._cipher, wrapped, _wrapping(key_id))

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """What form 1 has sealed. Raises ValueError."""
        return _unseal(self._cipher, sealed, context)


class Sealer:
    """`seal` and `unseal` for `store.Store`. `context` says what the bytes are for and must match."""

    __slots__ = ("_ciphers", "_head", "_host", "_keys", "_newest")

    def __init__(self, keys: Mapping[int, bytes], host: HostKey | None = None) -> None:
        """`keys` are the data keys by id, of which the last seals; `host` opens what form 1 has sealed."""
        self._keys = dict(keys)
        self._host = host
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        newest = max(keys)
        self._newest = self._ciphers[newest]
        self._head = bytes((_FORM,)) + newest.to_bytes(4, "big")

    def __repr__(self) -> str:
        return f"Sealer({len(self._ciphers)} data keys hidden)"

    def seal(self, data: bytes, context: bytes) -> bytes:
        return self._head + _seal(self._newest, data, self._head + context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Raises ValueError for another key, another context or damaged bytes."""
        head, body = sealed[:_HEAD_SIZE], sealed[_HEAD_SIZE:]
        cipher = self._ciphers.get(int.from_bytes(head[1:], "big")) if head[:1] == bytes((_FORM,)) else None
        if cipher is not None:
            try:
                return _unseal(cipher, body, head + context)
            except ValueError:
                if self._host is None:
                    raise
        if self._host is None:
            raise ValueError("sealed under a data key that is not here")
        return self._host.unseal(sealed, context)  # a nonce of form 1 may look like a head

    def stale(self, sealed: bytes) -> bool:
        """Whether it should be sealed anew: it has form 1, or an earlier data key."""
        return sealed[:_HEAD_SIZE] != self._head

    def wrapped_by(self, host: HostKey) -> Writes:
        """The rows of all data keys under another host key: nothing else has to be written."""
        return [host.wrap(key_id, key) for key_id, key in self._keys.items()]


def opened(host: HostKey, rows: Iterable[tuple[int, bytes]]) -> dict[int, bytes]:
    """The data keys of the rows that this host key opens."""
    keys: dict[int, bytes] = {}
    for key_id, wrapped in rows:
        try:
            keys[key_id] = host.unwrap(key_id, wrapped)
        except ValueError:
            continue
    return keys


def new_data_key() -> bytes:
    return os.urandom(SEAL_KEY_SIZE)


def _wrapping(key_id: int) -> bytes:
    return f"lorawan/data key/{key_id}".encode()


def _seal(cipher: AESGCM, data: bytes, context: bytes) -> bytes:
    nonce = os.urandom(_NONCE_SIZE)
    return nonce + cipher.encrypt(nonce, data, context)


def _unseal(cipher: AESGCM, sealed: bytes, context: bytes) -> bytes:
    try:
        if len(sealed) < _NONCE_SIZE:
            raise InvalidTag
        return cipher.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], context)
    except InvalidTag:
        raise ValueError("sealed under another key, for another purpose, or damaged") from None
