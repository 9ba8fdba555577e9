"""Devices as the API gives them to people who register, change and move them; the rest is in `client`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from webui.client import Device, Gateway, NewDevice, decode

IMPORT_S = 120.0  # ten thousand devices on a slow board
SEAL_S = 60.0  # making a key of a passphrase, in line behind others
_DISK = (507,)  # the gateway says in words what its disk will not take
TOTAL = "x-total-count"


class Profile(msgspec.Struct, frozen=True):
    name: str
    built_in: bool = False
    devices: int = 0
    body: dict[str, Any] = {}

    @property
    def words(self) -> str:
        """For a list to choose from."""
        about = (
            self.body.get("description")
            or f"LoRaWAN {self.body.get('version')}, class {self.body.get('device_class')}"
        )
        return str(about) if self.built_in else f"{self.name}: {about}"


class ProfileList(msgspec.Struct, frozen=True):
    profiles: list[Profile] = []
    region: str = ""


class Label(msgspec.Struct, frozen=True):
    """What was read from a label."""

    form: str = ""
    dev_eui: str = ""
    join_eui: str = ""
    app_key: str = ""
    nwk_key: str = ""
    dev_addr: str = ""
    nwk_s_key: str = ""
    app_s_key: str = ""
    serial: str = ""
    checked: bool = False
    registered: bool = False
    notes: list[str] = []


class Line(msgspec.Struct, frozen=True):
    """What would happen with a line of a delivery list."""

    line: int
    state: str = ""  # new wrong twice registered
    dev_eui: str = ""
    name: str = ""
    activation: str = ""
    profile: str = ""
    codec: str = ""
    problems: list[str] = []
    warnings: list[str] = []


class Preview(msgspec.Struct, frozen=True):
    plan: str = ""
    counts: dict[str, int] = {}
    whole: bool = False
    columns: dict[str, str] = {}
    ignored: list[str] = []
    lines: list[Line] = []
    total: int = 0


class Imported(msgspec.Struct, frozen=True):
    registered: int = 0
    passed_over: int = 0


class Heard(msgspec.Struct, frozen=True):
    """A sender that is not registered. Times are Unix seconds."""

    dev_eui: str | None = None
    join_eui: str | None = None
    dev_addr: str | None = None
    first: float = 0.0
    last: float = 0.0
    count: int = 0
    rssi_dbm: float | None = None
    snr_db: float | None = None
    sf: int | None = None
    freq_hz: int | None = None
    words: str = ""


class _HeardList(msgspec.Struct, frozen=True):
    heard: list[Heard] = []


class Session(msgspec.Struct, frozen=True):
    """A device's session, without keys."""

    active: bool = False
    dev_addr: str | None = None
    version: str | None = None
    fcnt_up: int | None = None
    fcnt_down: int | None = None
    exported: float | None = None
    moved: float | None = None
    both: bool = False


class Arrival(msgspec.Struct, frozen=True):
    dev_eui: str
    name: str = ""
    joined: bool = False
    warnings: list[str] = []


class Arrived(msgspec.Struct, frozen=True):
    received: int = 0
    arrivals: list[Arrival] = []


@dataclass(frozen=True, slots=True)
class Fleet:
    """Raises GatewayDown, SignedOut or Refused and nothing else, as `Gateway` does."""

    gateway: Gateway

    def find(self, asked: Mapping[str, str]) -> tuple[list[Device], int]:
        """A page of devices, and how many there are in all."""
        answer = self.gateway.answer("GET", "/lorawan/devices", params=asked)
        found = decode(list[Device], answer.content)
        total = answer.headers.get(TOTAL, "")
        return found, int(total) if total.isdigit() else len(found)

    def add(self, fields: Mapping[str, Any]) -> NewDevice:
        return decode(NewDevice, self._send("POST", "/lorawan/devices", fields))

    def change(self, dev_eui: str, fields: Mapping[str, Any]) -> None:
        self._send("PUT", f"/lorawan/devices/{dev_eui}", fields)

    def adopt(self, dev_eui: str, fields: Mapping[str, Any]) -> NewDevice:
        return decode(NewDevice, self._send("POST", f"/lorawan/devices/{dev_eui}/adopt", fields))

    def label(self, text: str) -> Label:
        return decode(Label, self._send("POST", "/lorawan/devices/qr", {"text": text}))

    def heard(self, limit: int = 100) -> list[Heard]:
        answer = self.gateway.answer("GET", "/lorawan/heard", params={"limit": str(limit)})
        return decode(_HeardList, answer.content).heard

    def profiles(self) -> ProfileList:
        return decode(ProfileList, self._send("GET", "/lorawan/profiles"))

    def profile(self, name: str) -> Profile:
        return decode(Profile, self._send("GET", f"/lorawan/profiles/{name}"))

    def put_profile(self, name: str, body: Mapping[str, Any]) -> None:
        self._send("PUT", f"/lorawan/profiles/{name}", body)

    def remove_profile(self, name: str) -> None:
        self._send("DELETE", f"/lorawan/profiles/{name}")

    def preview(self, data: bytes, defaults: Mapping[str, str], limit: int) -> Preview:
        params = {**defaults, "dry_run": "1", "limit": str(limit)}
        answer = self.gateway.answer(
            "POST",
            "/lorawan/devices/import",
            params=params,
            timeout_s=IMPORT_S,
            content=data,
            content_type="text/csv",
        )
        return decode(Preview, answer.content)

    def look_again(self, plan: str, params: Mapping[str, str]) -> Preview:
        answer = self.gateway.answer("GET", f"/lorawan/devices/import/{plan}", params=params)
        return decode(Preview, answer.content)

    def confirm(self, plan: str, mode: str) -> Imported:
        answer = self.gateway.answer(
            "POST",
            f"/lorawan/devices/import/{plan}",
            params={"mode": mode},
            timeout_s=IMPORT_S,
            refused=_DISK,
        )
        return decode(Imported, answer.content)

    def forget(self, plan: str) -> None:
        self._send("DELETE", f"/lorawan/devices/import/{plan}")

    def session(self, dev_eui: str) -> Session:
        return decode(Session, self._send("GET", f"/lorawan/devices/{dev_eui}/session"))

    def export_session(self, dev_eui: str, passphrase: str, move: bool) -> bytes:
        """A sealed file."""
        return self._slow(f"/lorawan/devices/{dev_eui}/session", {"passphrase": passphrase, "move": move})

    def export_site(self, passphrase: str, move: bool) -> bytes:
        return self._slow("/lorawan/transfer/export", {"passphrase": passphrase, "move": move})

    def take_back(self, dev_eui: str) -> None:
        self._send("DELETE", f"/lorawan/devices/{dev_eui}/session/move")

    def receive(self, file: Mapping[str, Any], passphrase: str) -> Arrived:
        return decode(
            Arrived, self._slow("/lorawan/transfer/import", {"passphrase": passphrase, "file": file})
        )

    def _slow(self, path: str, body: Mapping[str, Any]) -> bytes:
        return self.gateway.answer("POST", path, body, timeout_s=SEAL_S, refused=_DISK).content

    def device_list(self) -> bytes:
        """CSV, without keys."""
        return self.gateway.answer("GET", "/lorawan/devices/export", timeout_s=IMPORT_S).content

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        return self.gateway.answer(method, path, body, refused=_DISK).content
