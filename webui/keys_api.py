"""API keys as the API gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from webui.client import Gateway, decode

_DISK = (507, 503)  # the gateway says in words what its disk will not take


class Key(msgspec.Struct, frozen=True):
    """Times are RFC 3339 in UTC; "" for never. `value` only where it was just made or replaced."""

    id: str
    name: str = ""
    scopes: list[str] = []
    issued_at: str = ""
    expires_at: str = ""
    used_at: str = ""
    old_value_until: str = ""
    value: str = ""


class Keys(msgspec.Struct, frozen=True):
    total: int = 0
    keys: list[Key] = []


@dataclass(frozen=True, slots=True)
class KeysApi:
    """The part of the API that is about one's own keys; raises what `Gateway` raises."""

    gateway: Gateway

    def keys(self) -> Keys:
        return decode(Keys, self._answer("GET", "/keys"))

    def add(self, body: Mapping[str, Any]) -> Key:
        return decode(Key, self._answer("POST", "/keys", body))

    def replace(self, key_id: str, overlap_s: int) -> Key:
        return decode(Key, self._answer("POST", f"/keys/{key_id}/rotate", {"overlap_s": overlap_s}))

    def remove(self, key_id: str) -> None:
        self._answer("DELETE", f"/keys/{key_id}")

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        return self.gateway.answer(method, path, body, refused=_DISK).content
