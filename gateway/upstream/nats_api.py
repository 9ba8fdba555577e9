"""Answers of JetStream's API, as far as they are used here; whatever a server sends, only ApiError comes out."""

from __future__ import annotations

from typing import TypeVar

import msgspec

UNREADABLE = "an answer that cannot be read"


class ApiError(Exception):
    """JetStream's API said no. `code` is its `err_code`, 0 where the answer cannot be read."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code
        self.description = description


class ApiDenied(Exception):
    """This user may not call that part of JetStream's API."""


class Done(msgspec.Struct, frozen=True):
    """An answer of which only counts that it is no error."""


class StreamConfig(msgspec.Struct, frozen=True):
    subjects: tuple[str, ...] | None = None
    retention: str = ""
    duplicate_window: int = 0  # ns


class StreamState(msgspec.Struct, frozen=True):
    last_seq: int = 0


class StreamInfo(msgspec.Struct, frozen=True):
    config: StreamConfig
    state: StreamState = StreamState()
    created: str = ""  # tells a stream from an earlier one of its name


class ConsumerConfig(msgspec.Struct, frozen=True):
    filter_subject: str = ""
    filter_subjects: tuple[str, ...] | None = None


class Place(msgspec.Struct, frozen=True):
    consumer_seq: int = 0
    stream_seq: int = 0


class ConsumerInfo(msgspec.Struct, frozen=True):
    config: ConsumerConfig
    delivered: Place = Place()
    ack_floor: Place = Place()
    num_ack_pending: int = 0


class _Error(msgspec.Struct, frozen=True):
    err_code: int = 0
    code: int = 0
    description: str = ""


class _Failed(msgspec.Struct, frozen=True):
    error: _Error | None = None


_T = TypeVar("_T")

_decode_failed = msgspec.json.Decoder(_Failed).decode


def decode_reply(data: bytes, kind: type[_T]) -> _T:
    """An answer as `kind`. Raises ApiError."""
    try:
        error = _decode_failed(data).error
        if error is None:
            return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ApiError(0, UNREADABLE) from None
    raise ApiError(error.err_code or error.code, error.description)


def check_acknowledgement(data: bytes) -> None:
    """Raises ApiError where an answer to a publish is no acknowledgement."""
    try:
        error = _decode_failed(data).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ApiError(0, UNREADABLE) from None
    if error is not None:
        raise ApiError(error.err_code or error.code, error.description)
