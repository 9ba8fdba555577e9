"""What a command wants: a message's subtopic, content type and payload, read into one value. Pure.

commands.<DevEUI>            JSON with port and payload; or SenML, which the device's codec turns into bytes
commands.<DevEUI>.<port>     the payload as it is; SenML and JSON objects go through the codec
commands.groups.<name>       as the first, for a multicast group, whose payload is bytes
commands.groups.<name>.<port>
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from gateway.lorawan.types import DevEUI
from hub import senml
from hub.errors import SenmlError
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON
from hub.senml import Record

PREFIX = "commands."
GROUPS = "groups"
MAX_PAYLOAD = 16_384  # bytes of a command; the longest downlink has 242
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CommandError(Exception):
    """A command that cannot be carried out; the text says why and what to do."""


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON body of a command. Bytes in `payload`, or what the device's codec makes bytes of."""

    fport: int | None = None  # None: the codec's own
    payload: str | None = None  # hex
    data: dict[str, Any] | None = None  # named values, as the codec takes them
    records: list[dict[str, Any]] | None = None  # SenML
    confirmed: bool = False
    priority: int = 0  # 0..255, the highest goes first
    ttl_s: float | None = None  # after that it is not sent any more; None: it waits
    id: str = ""  # a name of one's own: the same order is not taken twice while it waits


@dataclass(frozen=True, slots=True)
class Wanted:
    """For a device, `dev_eui`, or a group. Either `payload` or `value`, which goes through the device's codec."""

    dev_eui: DevEUI | None = None
    group: str = ""
    fport: int | None = None
    payload: bytes | None = None
    value: Mapping[str, Any] | Sequence[Record] | None = None
    confirmed: bool = False
    priority: int = 0
    ttl_s: float | None = None
    id: str = ""

    def within(self, ttl_s: float) -> Wanted:
        """The same, to be sent within so many seconds."""
        return replace(self, ttl_s=ttl_s)


def parse(subtopic: str, content_type: str, payload: bytes, now_s: float) -> Wanted:
    """Raises CommandError for anything that is not a command."""
    if len(payload) > MAX_PAYLOAD:
        raise CommandError(f"{len(payload)} bytes; a command has at most {MAX_PAYLOAD}")
    first, *rest = subtopic.removeprefix(PREFIX).split(".")
    if first == GROUPS:
        if not rest:
            raise CommandError("no group is named: publish to commands/groups/<name>")
        target, rest = Wanted(group=rest[0]), rest[1:]
    else:
        try:
            target = Wanted(DevEUI.parse(first))
        except ValueError as error:
            raise CommandError(str(error)) from None
    if len(rest) > 1:
        raise CommandError("the subtopic goes on after the port: publish to commands/<DevEUI>/<port>")
    if rest:
        return _for_port(replace(target, fport=_port(rest[0])), content_type, payload, now_s)
    return _without_port(target, content_type, payload, now_s)


def of_command(target: Wanted, command: Command, now_s: float) -> Wanted:
    """The JSON form. Raises CommandError."""
    if command.id and not _ID.fullmatch(command.id):
        raise CommandError("id has 1 to 64 letters, digits, dots, dashes or underscores")
    given = [name for name in ("payload", "data", "records") if getattr(command, name) is not None]
    if len(given) > 1:
        raise CommandError(f"{' and '.join(given)} are given: one of them says what to send")
    payload: bytes | None = None
    value: Mapping[str, Any] | Sequence[Record] | None = command.data
    if command.records is not None:
        value = _records(SENML_JSON, msgspec.json.encode(command.records), now_s)
    elif command.data is None:
        try:
            payload = bytes.fromhex(command.payload or "")
        except ValueError:
            raise CommandError('payload is not hex: two digits a byte, such as "0a1f"') from None
    return replace(
        target,
        fport=command.fport if command.fport is not None else target.fport,
        payload=payload,
        value=value,
        confirmed=command.confirmed,
        priority=command.priority,
        ttl_s=command.ttl_s,
        id=command.id,
    )


def _without_port(target: Wanted, content_type: str, payload: bytes, now_s: float) -> Wanted:
    if content_type in (SENML_JSON, SENML_CBOR):
        return replace(target, value=_records(content_type, payload, now_s))
    try:
        command = msgspec.json.decode(payload, type=Command)
    except msgspec.ValidationError as error:
        raise CommandError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if content_type == OCTET_STREAM:
            raise CommandError(
                "not JSON; where the payload is meant as it is, publish to commands/<DevEUI>/<port>"
            ) from None
        raise CommandError(f"not JSON: {error}") from None
    return of_command(target, command, now_s)


def _for_port(target: Wanted, content_type: str, payload: bytes, now_s: float) -> Wanted:
    if content_type in (SENML_JSON, SENML_CBOR):
        return replace(target, value=_records(content_type, payload, now_s))
    if content_type == JSON:
        # What only looks like JSON are bytes.
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return replace(target, value=msgspec.json.decode(payload, type=dict[str, Any]))
    return replace(target, payload=payload)


def _records(content_type: str, payload: bytes, now_s: float) -> list[Record]:
    try:
        return senml.decode(content_type, payload, now_s)
    except SenmlError as error:
        raise CommandError(f"not SenML: {error}") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3):
        raise CommandError(f"{text!r} is not a port: publish to commands/<DevEUI>/<port>")
    return int(text)
