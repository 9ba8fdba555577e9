"""Topics: where a message goes, as MQTT, HTTP and CoAP spell it and as the hub keeps it.

`channels/<id>/messages[/<subtopic>...]` is the one form (Mainflux 0.13); a `mainflux/` prefix and a last
element `senml-json`, `senml-cbor` or `octet-stream` that names the content type are the forms of 2017, and so
is `mainflux/channels/<id>` alone to publish to; `ct/application_senml-json` at the end is that of Mainflux 0.4 to 0.10.
Inside, a subtopic is its elements joined by dots. Filters use MQTT's `+` and `#` (MQTT 5.0, 4.7).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import TopicError
from .message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON

ANY = "+"  # exactly one element
REST = "#"  # the element above it and everything below
ANY_CHANNEL = ANY

MAX_SUBTOPIC = 1024  # characters: as Mainflux bounds a thing's name; the log repeats it in each row
MAX_ELEMENTS = 32  # depth: bounds the router's walk (deep topics overflowed a broker's stack elsewhere)

CONTENT_TYPE_WORDS = {"senml-json": SENML_JSON, "senml-cbor": SENML_CBOR, "octet-stream": OCTET_STREAM}

# Behind `ct/`: a media type with / written as _ and + as -
CONTENT_TYPES_OF_2018 = {
    named.replace("/", "_").replace("+", "-"): named for named in (SENML_JSON, SENML_CBOR, JSON, OCTET_STREAM)
}
OF_2017 = "mainflux/"

_CHANNEL = re.compile(r"[\w-]{1,64}", re.ASCII)
# `*` and `>` are wildcards on the NATS bus that Mainflux messages travel on elsewhere.
_FORBIDDEN = re.compile(r"[*>+#\x00-\x1f\x7f]")


class Address(NamedTuple):
    """Where one message goes. `content_type` is None where the topic does not say."""

    channel: str
    subtopic: str
    content_type: str | None = None


class Filter(NamedTuple):
    """What a subscriber asks for: `channel` is an id or `+`; `subtopic` is dotted, with `+` and a last `#`.

    `content_type` is None for all, or the one that the filter's last word named.
    """

    channel: str
    subtopic: str
    content_type: str | None = None


def parse_topic(topic: str) -> Address:
    """Parse a topic name of PUBLISH, or a request path. Raises TopicError."""
    plain = topic.removeprefix("/")
    levels = plain.removeprefix(OF_2017).split("/")
    if len(levels) == 2 and plain.startswith(OF_2017):
        levels.append("messages")
    if len(levels) < 3 or levels[0] != "channels" or levels[2] != "messages":
        raise TopicError("a topic is channels/<id>/messages[/<subtopic>]")
    if not _CHANNEL.fullmatch(levels[1]):
        raise TopicError("a channel id has 1 to 64 letters, digits, - or _")
    content_type = CONTENT_TYPE_WORDS.get(levels[-1]) if len(levels) > 3 else None
    rest = levels[3:-1] if content_type else levels[3:]
    if len(rest) > 1 and rest[-2] == "ct" and rest[-1] in CONTENT_TYPES_OF_2018:
        content_type = CONTENT_TYPES_OF_2018[rest[-1]]
        rest = rest[:-2]
    return Address(levels[1], parse_subtopic("/".join(rest)), content_type)


def parse_subtopic(text: str) -> str:
    """Bring a subtopic written with slashes or dots into dots, empty elements dropped. Raises TopicError."""
    if not text:
        return ""
    if len(text) > MAX_SUBTOPIC:
        raise TopicError(f"a subtopic is at most {MAX_SUBTOPIC} characters")
    if _FORBIDDEN.search(text):
        raise TopicError("a subtopic to publish to has no wildcard or control character")
    elements = [element for element in text.replace("/", ".").split(".") if element]
    if len(elements) > MAX_ELEMENTS:
        raise TopicError(f"a subtopic has at most {MAX_ELEMENTS} elements")
    return ".".join(elements)


def parse_filter(text: str) -> Filter:
    """Parse a topic filter of SUBSCRIBE (MQTT 5.0, 4.7.1). Raises TopicError.

    `#`, `channels/#` and `+/+/messages` are understood: everything lives below `channels/<id>/messages`.
    """
    levels = text.removeprefix("/").removeprefix(OF_2017).split("/")
    _check_wildcards(levels)
    channel = ANY_CHANNEL
    for depth, level in enumerate(levels[:3]):
        if level == REST:
            return Filter(channel, REST)
        if depth == 1:
            if level != ANY and not _CHANNEL.fullmatch(level):
                raise TopicError("a channel id has 1 to 64 letters, digits, - or _")
            channel = level
        elif level not in (ANY, ("channels", "", "messages")[depth]):
            raise TopicError("a filter is channels/<id>/messages[/<subtopic>]")
    if len(levels) < 3:
        raise TopicError("a filter is channels/<id>/messages[/<subtopic>]")
    content_type = CONTENT_TYPE_WORDS.get(levels[-1]) if len(levels) > 3 else None
    rest = levels[3:-1] if content_type else levels[3:]
    elements = [element for element in "/".join(rest).replace("/", ".").split(".") if element]
    if len(elements) > MAX_ELEMENTS:
        raise TopicError(f"a filter has at most {MAX_ELEMENTS} elements below the channel")
    return Filter(channel, ".".join(elements), content_type)


def format_topic(channel: str, subtopic: str = "", content_type: str | None = None) -> str:
    """The topic under which a subscriber receives a message; `content_type` adds the word of 2017."""
    topic = f"channels/{channel}/messages"
    if subtopic:
        topic += "/" + subtopic.replace(".", "/")
    for word, named in CONTENT_TYPE_WORDS.items():
        if named == content_type:
            topic += "/" + word
    return topic


def subtopic_fits(wanted: str, subtopic: str) -> bool:
    """Whether a dotted subtopic is one that a dotted filter asks for (MQTT 5.0, 4.7.1)."""
    if wanted == subtopic:
        return True
    pattern = wanted.split(".") if wanted else []
    elements = subtopic.split(".") if subtopic else []
    for at, element in enumerate(pattern):
        if element == REST:
            return True
        if at >= len(elements) or element not in (ANY, elements[at]):
            return False
    return len(pattern) == len(elements)


def _check_wildcards(levels: list[str]) -> None:
    if len("/".join(levels)) > MAX_SUBTOPIC + 128:
        raise TopicError("the filter is too long")
    for depth, level in enumerate(levels):
        if level == REST:
            if depth != len(levels) - 1:
                raise TopicError("# stands only at the end of a filter")
        elif (level != ANY and _FORBIDDEN.search(level)) or (
            "." in level and (set(level.split(".")) & {ANY, REST})
        ):
            raise TopicError("+ and # stand alone in their level")
