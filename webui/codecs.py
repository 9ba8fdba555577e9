"""Codecs as the API gives them: the list, one with its source and samples, and what the bench says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from webui.client import Gateway, decode

RUN_S = 30.0  # samples of a slow codec on a small board
_DISK = (507,)  # the gateway says in words what its disk will not take


class Summary(msgspec.Struct, frozen=True):
    name: str
    kind: str = "javascript"  # own, javascript
    description: str = ""
    devices: int = 0
    version: int = 1
    samples: int = 0
    updated: float | None = None  # unix seconds
    held: str = ""  # a sentence, where it is not run


class Process(msgspec.Struct, frozen=True):
    """What runs JavaScript."""

    running: bool = False
    holds: list[str] = []
    calls: int = 0
    started: int = 0
    killed: int = 0
    stopped: int = 0
    died: int = 0
    waiting: int = 0


class CodecList(msgspec.Struct, frozen=True):
    codecs: list[Summary] = []
    process: Process = Process()


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    payload: str
    fport: int = 1
    name: str = ""
    recv_time: str = ""
    expected: Any = None


class Codec(msgspec.Struct, frozen=True):
    name: str
    source: str = ""
    description: str = ""
    samples: list[Sample] = []
    units: dict[str, str] = {}
    version: int = 1
    updated: float | None = None
    devices: int = 0
    held: str = ""
    calls: int = 0
    slowest_ms: float = 0.0
    earlier: list[int] = []


class Report(msgspec.Struct, frozen=True):
    """What a trial gave."""

    problem: str = ""
    line: int = 0
    data: Any = None
    records: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    fport: int | None = None
    payload: str = ""
    warnings: list[str] = []
    log: list[str] = []
    ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Codecs:
    """The part of the API that is about codecs. Raises GatewayDown, SignedOut, Refused."""

    gateway: Gateway

    def all(self) -> CodecList:
        return decode(CodecList, self._send("GET", "/codecs"))

    def one(self, name: str) -> Codec:
        return decode(Codec, self._send("GET", f"/codecs/{name}"))

    def create(self, body: Mapping[str, Any]) -> Codec:
        return decode(Codec, self._send("POST", "/codecs", body))

    def change(self, name: str, body: Mapping[str, Any]) -> Codec:
        return decode(Codec, self._send("PUT", f"/codecs/{name}", body))

    def remove(self, name: str) -> None:
        self._send("DELETE", f"/codecs/{name}")

    def lift(self, name: str) -> None:
        self._send("POST", f"/codecs/{name}/lift")

    def roll_back(self, name: str, version: int) -> None:
        self._send("POST", f"/codecs/{name}/rollback", {"version": version})

    def export(self, name: str) -> bytes:
        return self._send("GET", f"/codecs/{name}/export")

    def attempt(self, body: Mapping[str, Any], name: str = "") -> Report:
        """A trial of a source that comes with it, or of the codec `name`."""
        return decode(Report, self._send("POST", f"/codecs/{name}/test" if name else "/codecs/test", body))

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        return self.gateway.answer(method, path, body, timeout_s=RUN_S, refused=_DISK).content
