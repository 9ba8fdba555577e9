"""A message as other systems carry it: the protobuf `Message` of Mainflux 0.11 to 0.15, with fields of our own.

Fields 1 to 6 are Mainflux's and mean the same here. Its `Message` has no place for a content type, an identity or
the quality of a time: those are fields from 1001 on, which a reader that does not know them passes over. The
descriptor is built here, so nothing is generated and no compiler is needed; `SCHEMA` shows it as text.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from .errors import WireError
from .message import Message, Properties, TimeQuality

MAX_BYTES = 1 << 20  # of one encoded message: what a NATS server takes unless told otherwise
MAX_NAME = 64  # characters of channel, publisher, protocol, gateway
MAX_TEXT = 1024  # characters of a subtopic, content type or response topic
MAX_USER_PROPERTIES = 64

SCHEMA = """\
syntax = "proto3";
package fluxgate;
message Message {
  string channel = 1;
  string subtopic = 2;           // elements joined by dots
  string publisher = 3;
  string protocol = 4;
  bytes payload = 5;
  int64 created = 6;             // UTC, nanoseconds
  string content_type = 1001;
  string gateway = 1002;         // which gateway took it in; with seq unique for ever
  uint64 seq = 1003;             // its number there, from 1
  string time = 1004;            // how good `created` is: gnss, ntp, restored, unset
  string boot = 1005;            // boot of the gateway that `created` belongs to
  optional uint32 qos = 1006;    // 0 to 2
  bool retain = 1007;
  Properties properties = 1008;  // of an MQTT 5 publisher
}
message Properties {
  optional uint32 payload_format = 1;
  optional uint64 expiry_s = 2;
  string response_topic = 3;
  optional bytes correlation_data = 4;
  repeated UserProperty user = 5;
  string content_type = 6;
}
message UserProperty {
  string name = 1;
  string value = 2;
}
"""

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


def encode(message: Message, gateway: str) -> bytes:
    """The protobuf form of `message`.

    `gateway` names the one that took it in; a message with an origin keeps that. Raises WireError where it has no
    form: too large, a text that is no UTF-8, a number out of range.
    """
    origin = parse_origin(message.origin) if message.origin else None
    source, seq = origin or (gateway, message.seq)
    try:
        wire = _Message(
            channel=message.channel,
            subtopic=message.subtopic,
            publisher=message.publisher,
            protocol=message.protocol,
            payload=message.payload,
            created=message.created_ns,
            content_type=message.content_type,
            gateway=source,
            seq=seq,
            time=message.time.value,
            boot=message.boot,
            qos=message.qos,
            retain=message.retain,
        )
        if message.properties is not None:
            _put_properties(wire.properties, message.properties)
        encoded: bytes = wire.SerializeToString()
    except (ValueError, TypeError) as error:
        raise WireError(f"no protobuf form: {error}") from None
    if len(encoded) > MAX_BYTES:
        raise WireError(f"larger than {MAX_BYTES} bytes")
    return encoded


def decode(data: bytes) -> Message:
    """The message that `data` holds, without a number of this hub; `origin` names it where the sender did.

    `content_type` is "" where the sender is no gateway of ours. Raises WireError.
    """
    if len(data) > MAX_BYTES:
        raise WireError(f"larger than {MAX_BYTES} bytes")
    try:
        wire = _Message.FromString(data)
    except DecodeError as error:
        raise WireError(f"no protobuf message: {error}") from None
    if max(map(len, (wire.channel, wire.publisher, wire.protocol, wire.gateway, wire.boot))) > MAX_NAME:
        raise WireError(f"a name is longer than {MAX_NAME} characters")
    if max(len(wire.subtopic), len(wire.content_type)) > MAX_TEXT:
        raise WireError(f"a text is longer than {MAX_TEXT} characters")
    return Message(
        wire.channel,
        wire.subtopic,
        wire.publisher,
        wire.protocol,
        wire.content_type,
        wire.payload,
        wire.created,
        time=_quality(wire.time),
        boot=wire.boot,
        qos=min(wire.qos, 2) if wire.HasField("qos") else 2,
        retain=wire.retain,
        properties=_get_properties(wire.properties) if wire.HasField("properties") else None,
        origin=f"{wire.gateway}/{wire.seq}" if wire.gateway and wire.seq else "",
    )


def parse_origin(origin: str) -> tuple[str, int]:
    """Gateway and sequence number of "<gateway>/<seq>". Raises WireError."""
    gateway, _, seq = origin.rpartition("/")
    if not gateway or not seq.isascii() or not seq.isdigit():
        raise WireError(f"no origin: {origin[:80]!r}")
    return gateway, int(seq)


def _put_properties(wire: Any, properties: Properties) -> None:
    if properties.payload_format is not None:
        wire.payload_format = properties.payload_format
    if properties.expiry_s is not None:
        wire.expiry_s = properties.expiry_s
    if properties.correlation_data is not None:
        wire.correlation_data = properties.correlation_data
    wire.response_topic = properties.response_topic
    wire.content_type = properties.content_type
    for name, value in properties.user:
        wire.user.add(name=name, value=value)
    wire.SetInParent()  # also where all of it is empty


def _get_properties(wire: Any) -> Properties:
    if len(wire.user) > MAX_USER_PROPERTIES:
        raise WireError(f"more than {MAX_USER_PROPERTIES} user properties")
    if max(len(wire.response_topic), len(wire.content_type)) > MAX_TEXT:
        raise WireError(f"a text is longer than {MAX_TEXT} characters")
    return Properties(
        payload_format=wire.payload_format if wire.HasField("payload_format") else None,
        expiry_s=wire.expiry_s if wire.HasField("expiry_s") else None,
        response_topic=wire.response_topic,
        correlation_data=wire.correlation_data if wire.HasField("correlation_data") else None,
        user=tuple((pair.name, pair.value) for pair in wire.user),
        content_type=wire.content_type,
    )


def _quality(word: str) -> TimeQuality:
    """UNSET where the word is none of ours: nothing is known about the time then."""
    try:
        return TimeQuality(word)
    except ValueError:
        return TimeQuality.UNSET


def _class_of(schema: str) -> Any:
    """The class of the first message of `schema`, a proto3 file of flat messages, one field a line."""
    file = descriptor_pb2.FileDescriptorProto(name="fluxgate/message.proto", syntax="proto3")
    kind = descriptor_pb2.DescriptorProto()
    for line in schema.splitlines():
        words = line.partition("//")[0].replace(";", "").replace("=", " ").split()
        match words:
            case ["package", name]:
                file.package = name
            case ["message", name, "{"]:
                kind = file.message_type.add(name=name)
            case ["optional" | "repeated" as label, typename, name, number]:
                _add_field(kind, file.package, label, typename, name, int(number))
            case [typename, name, number] if number.isdigit():
                _add_field(kind, file.package, "", typename, name, int(number))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    first = f"{file.package}.{file.message_type[0].name}"
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(first))


def _add_field(
    kind: descriptor_pb2.DescriptorProto, package: str, label: str, typename: str, name: str, number: int
) -> None:
    field = kind.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if label == "repeated":
        field.label = _Field.LABEL_REPEATED
    elif label == "optional":  # proto3 tells "not there" from zero by a one-of with one member
        field.proto3_optional = True
        field.oneof_index = len(kind.oneof_decl)
        kind.oneof_decl.add(name=f"_{name}")
    if typename in _KINDS:
        field.type = _KINDS[typename]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{package}.{typename}"


_Message = _class_of(SCHEMA)
