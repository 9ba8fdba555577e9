"""The JetStream stream that messages go to: looked up, made where that is wanted, never changed."""

from __future__ import annotations

import logging

from . import nats_words
from .errors import SinkRefused
from .nats_api import ApiDenied, ApiError, Done, StreamInfo
from .nats_config import StreamSettings
from .nats_link import NatsLink

log = logging.getLogger("gateway.upstream")

NANOSECONDS = 1_000_000_000


async def ensure_stream(link: NatsLink, settings: StreamSettings, subjects: str) -> None:
    """See that the stream takes `subjects`, a filter such as `channels.>`. Raises SinkError.

    A user without the right to ask is believed: the first publish will tell.
    """
    try:
        info = await link.api(f"STREAM.INFO.{settings.stream}", StreamInfo)
    except ApiDenied:
        return
    except ApiError as error:
        if error.code != nats_words.NO_STREAM or not settings.create_stream:
            raise nats_words.of_api(error.code, error.description, settings.stream) from error
        await _create(link, settings, subjects)
        return
    taken = info.config.subjects or ()
    if not any(_covers(each, subjects) for each in taken):
        raise SinkRefused(f"stream {settings.stream} takes {', '.join(taken) or 'nothing'}, not {subjects}")
    window_s = info.config.duplicate_window / NANOSECONDS
    if window_s < settings.duplicate_window_s:
        log.warning(
            "stream %s knows a message again for %d s only (duplicate_window_s = %d): after a longer outage "
            "up to a window of messages can be stored twice",
            settings.stream,
            window_s,
            settings.duplicate_window_s,
        )


async def _create(link: NatsLink, settings: StreamSettings, subjects: str) -> None:
    try:
        await link.api(f"STREAM.CREATE.{settings.stream}", Done, _description(settings, subjects))
    except ApiDenied as error:
        raise SinkRefused(nats_words.missing_stream(settings.stream)) from error
    except ApiError as error:
        raise nats_words.of_api(error.code, error.description, settings.stream) from error
    log.info("stream %s made for %s", settings.stream, subjects)


def _description(settings: StreamSettings, subjects: str) -> dict[str, object]:
    return {
        "name": settings.stream,
        "subjects": [subjects],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_age": settings.max_age_s * NANOSECONDS,
        "max_bytes": settings.max_bytes or -1,
        "num_replicas": settings.replicas,
        "duplicate_window": settings.duplicate_window_s * NANOSECONDS,
        "allow_direct": True,
    }


def _covers(wide: str, narrow: str) -> bool:
    """Whether every subject that matches `narrow` matches `wide`; both may end in `>` and have `*`."""
    wide_words, narrow_words = wide.split("."), narrow.split(".")
    for index, word in enumerate(wide_words):
        if word == ">":
            return len(narrow_words) > index
        if index >= len(narrow_words) or narrow_words[index] == ">":
            return False
        if word not in ("*", narrow_words[index]):
            return False
    return len(wide_words) == len(narrow_words)
