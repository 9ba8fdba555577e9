"""From a node's frame to the hub's log, and from an order to the radio: the shell around `receiver`.

Readings go to the subtopic `<id>` of the node's channel, how they were heard to `<id>.radio`. Orders come over the
API or as messages to `commands.<id>`, and leave at once: such a node listens whenever it does not send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import msgspec

from gateway.codecs import CODECS, CodecError, Codecs, Decoded
from gateway.live import Entry, LiveFrames, heard, spoken
from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Downlink
from gateway.lorawan.publish import PROTOCOL, RAW_CODEC
from gateway.lorawan.receipts import TX_ERROR_WORDS
from gateway.rawlora import store
from gateway.rawlora.node import FPORT, Node, NodeError
from gateway.rawlora.receiver import Reading, Receiver
from hub.access import Access, Action, Circumstances, Principal, Resource
from hub.errors import HubError
from hub.hub import Hub
from hub.message import OCTET_STREAM, SENML_JSON, Message
from hub.registry_bulk import Wanted, create_connected, remove_all
from hub.senml import Record, arrival_s, encode_json
from hub.timekeeping import TRUSTED
from radio.gwmp import RxPacket, TxError, TxPacket

KLASS = "raw"  # of a Downlink that is none of LoRaWAN's
COMMANDS = "commands.raw-"
ACKNOWLEDGEMENT = "acknowledgement"
MAX_COMMAND = 4096  # bytes of a command message


class RawCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a command: bytes in hex, or named values for the node's codec."""

    payload: str | None = None
    data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Heard:
    """A reading on its way into the log."""

    reading: Reading
    answer: TxPacket | None
    gateway: bytes
    at: Instant


Transmit = Callable[[Downlink, bytes], None]


def is_raw_command(message: Message) -> bool:
    """Whether a message orders something for a simple node."""
    return message.protocol != PROTOCOL and message.subtopic.startswith(COMMANDS)


class RawLora:
    """One of a gateway. `transmit` is how frames leave; None until the links are there."""

    def __init__(
        self,
        hub: Hub,
        live: LiveFrames,
        clock: Callable[[], Instant],
        codecs: Codecs,
        receiver: Receiver | None = None,
    ) -> None:
        self.receiver = receiver or Receiver()
        self.transmit: Transmit | None = None
        self.denied = 0  # readings: the node's thing may not publish on its channel
        self.not_stored = 0
        self.refused = 0  # commands that could not be carried out
        self._hub = hub
        self._access: Access = hub.access
        self._live = live
        self._clock = clock
        self._codecs = codecs
        self._orders = 0
        self._awaited: set[bytes] = set()  # acknowledgements that wait for a commit; bounded as the log is
        self.close = hub.log.on_commit(self._committed)

    def counters(self) -> dict[str, int]:
        """Since the start of the process."""
        own = {"denied": self.denied, "not_stored": self.not_stored, "commands_refused": self.refused}
        return asdict(self.receiver.counters) | own

    # Up

    def take(self, rx: RxPacket, gateway: bytes, now: Instant) -> None:
        """Take a frame of a private module."""
        taken = self.receiver.take(rx, gateway, now.mono_ns, now.wall_ns)
        if taken.reading is None:
            if taken.answer is not None and taken.answer.data not in self._awaited:
                self._send(taken.answer, gateway, ACKNOWLEDGEMENT)
            self._live.add("rejected", now.wall_ns / 1e9, partial(_refused_details, rx, taken.why))
            return
        heard_now = _Heard(taken.reading, taken.answer, gateway, now)
        if taken.answer is not None:
            self._awaited.add(taken.answer.data)
        node = taken.reading.node
        later = None if node.codec in CODECS else self._codecs.later.get(node.codec)
        if later is None:
            self._publish(heard_now, None)
        else:
            later.decode_later(
                FPORT,
                taken.reading.payload,
                arrival_s(now.wall_ns),
                node.base_name,
                partial(self._publish, heard_now),
            )

    def _publish(self, one: _Heard, decoded: Decoded | None) -> None:
        node = one.reading.node
        principal, resource = Principal("thing", node.thing_id), Resource(node.channel_id, node.id)
        context = Circumstances(PROTOCOL, "", len(one.reading.payload))
        decision = self._access.decide(principal, Action.PUBLISH, resource, context)
        messages: list[Message] = []
        if decision.allowed:
            messages, detail = self._messages(one, decoded)
        else:
            self.denied += 1
            detail = f"not published: {decision.reason}"
        try:
            if one.answer is None:
                self._hub.log.post(messages, [])
            else:  # acknowledged is what is durable
                self._hub.log.submit(messages, [], partial(self._stored, one))
        except HubError as error:
            self._stored(one, error)
            detail = f"not stored: {error}"
        self._live.add("uplink", one.at.wall_ns / 1e9, partial(_reading_details, one.reading, detail))

    def _stored(self, one: _Heard, error: HubError | None) -> None:
        if one.answer is not None:
            self._awaited.discard(one.answer.data)
        if error is not None:
            self.not_stored += 1
            self.receiver.not_stored(one.reading)
        elif one.answer is not None:
            self._send(one.answer, one.gateway, ACKNOWLEDGEMENT)

    def _messages(self, one: _Heard, decoded: Decoded | None) -> tuple[list[Message], str]:
        """The messages of a reading, and why its payload stayed bytes, where it should not have."""
        reading, now, problem = one.reading, one.at, ""
        node = reading.node
        time_s = arrival_s(now.wall_ns)
        content_type, body = OCTET_STREAM, reading.payload
        now_s = None if now.quality in TRUSTED else time_s
        try:
            records = self._records(reading, time_s, decoded)
            if records:
                content_type = SENML_JSON
                body = encode_json(records, base_name=node.base_name, arrival_s=now_s)
        except CodecError as error:
            problem = f"codec {node.codec}: {error}"
        radio = encode_json(_radio(reading, time_s), base_name=node.base_name, arrival_s=now_s)
        return [
            self._message(node, node.id, content_type, body, now),
            self._message(node, f"{node.id}.radio", SENML_JSON, radio, now),
        ], problem

    def _records(self, reading: Reading, time_s: float, decoded: Decoded | None) -> list[Record]:
        """Nothing where the payload is to stay bytes. Raises CodecError."""
        name = reading.node.codec
        if decoded is not None:
            if decoded.problem:
                raise CodecError(decoded.problem)
            return decoded.records
        if name == RAW_CODEC or not reading.payload:
            return []
        codec = CODECS.get(name)
        if codec is None:
            raise CodecError(f"there is no codec of this name; there are {', '.join(self._codecs.names())}")
        return codec.decode(FPORT, reading.payload, time_s, reading.node.base_name)

    def _message(self, node: Node, subtopic: str, content_type: str, body: bytes, now: Instant) -> Message:
        return Message(
            node.channel_id,
            subtopic,
            node.thing_id,
            PROTOCOL,
            content_type,
            body,
            now.wall_ns,
            time=now.quality,
            boot=self._hub.boot,
        )

    # Down

    async def order(self, node_id: str, command: RawCommand) -> str:
        """Send to a node at once; returns the order's id. Raises UnknownNode, NodeError, CodecError."""
        node = self.receiver.node(node_id)
        if (command.payload is None) == (command.data is None):
            raise NodeError('give either "payload", bytes in hex, or "data", values for the codec')
        if command.data is not None:
            _, payload = await self._codecs.encode(node.codec, None, command.data)
        else:
            payload = _hex(command.payload or "")
        packet, gateway = self.receiver.order(node_id, payload)
        return self._send(packet, gateway, f"to {node.name or node.id}")

    def _send(self, packet: TxPacket, gateway: bytes, what: str) -> str:
        self._orders += 1
        order_id = f"raw-{self._orders}"
        if self.transmit is not None:
            downlink = Downlink(
                id=order_id,
                dev_eui=None,
                windows=(packet,),
                confirmed=False,
                fcnt=None,
                after_commit=False,
                klass=KLASS,
                gateway=gateway,
                group=what,
                names=("at once",),
            )
            self.transmit(downlink, gateway)
        return order_id

    def sent(self, downlink: Downlink) -> None:
        """A gateway took a frame for a node."""
        self._told(downlink, f"{downlink.group}: sent at once")

    def failed(self, downlink: Downlink, error: TxError) -> None:
        """No gateway could send it; there is no second window."""
        self._told(downlink, f"{downlink.group}: not sent: {TX_ERROR_WORDS.get(error, str(error))}")

    def _told(self, downlink: Downlink, detail: str) -> None:
        entry = {"detail": detail, **spoken(downlink.windows[0])}
        self._live.add("downlink", self._clock().wall_ns / 1e9, lambda: entry)

    def _committed(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if is_raw_command(message):
                self._command(message)

    def _command(self, message: Message) -> None:
        """Carry out an order that came as a message, once it is durable. A crash before that loses it with the rest."""
        node_id = message.subtopic.removeprefix("commands.")
        try:
            node = self.receiver.node(node_id)
            if node.channel_id != message.channel:
                raise NodeError("the node belongs to another channel")
            if message.content_type == OCTET_STREAM:
                payload = message.payload
            else:
                if len(message.payload) > MAX_COMMAND:
                    raise NodeError(f"a command has at most {MAX_COMMAND} bytes")
                payload = self._said(node, msgspec.json.decode(message.payload, type=RawCommand))
            packet, gateway = self.receiver.order(node_id, payload)
        except (NodeError, CodecError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.refused += 1
            detail = f"command refused: {error}"
            entry = {"reason": "command", "detail": detail, "name": node_id}
            self._live.add("rejected", self._clock().wall_ns / 1e9, lambda: entry)
            return
        self._send(packet, gateway, f"to {node.name or node.id}")

    def _said(self, node: Node, command: RawCommand) -> bytes:
        if command.data is None:
            return _hex(command.payload or "")
        codec = CODECS.get(node.codec)
        if codec is None:
            raise NodeError(f"codec {node.codec} writes over the API only: give payload, bytes in hex")
        return codec.encode(None, command.data)[1]

    # Nodes

    async def register(self, node: Node, channel_id: str = "") -> tuple[Node, str]:
        """Make its thing and channel and keep it; returns it with the thing's key. Raises NodeError, NotFound, ..."""
        self.receiver.check(node)
        if self._codecs.get(node.codec) is None:
            raise NodeError(f"there is no codec {node.codec!r}; there are {', '.join(self._codecs.names())}")
        wanted = Wanted(node.name or node.id, {"lora": {"raw": node.id}}, channel_id)
        (made,) = await asyncio.to_thread(create_connected, self._hub.registry, [wanted])
        node = replace(node, thing_id=made.thing.id, channel_id=made.channel_id, name=node.name or node.id)
        try:
            self.receiver.check(node)  # another of the same id may have come meanwhile
            await self._hub.log.write([store.added(node)])
        except BaseException:
            own = [made.channel_id] if made.own_channel else []
            await asyncio.to_thread(remove_all, self._hub.registry, [made.thing.id], own)
            raise
        self.receiver.add(node)
        return node, made.key

    async def unregister(self, node_id: str) -> None:
        """Forget a node; its channel with what it has sent stays. Raises UnknownNode."""
        node = self.receiver.remove(node_id)
        await self._hub.log.write([store.gone(node_id)])
        await asyncio.to_thread(remove_all, self._hub.registry, [node.thing_id], [])


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise NodeError('payload is not hex: two digits a byte, such as "0a1f"') from None


def _radio(reading: Reading, time_s: float) -> list[Record]:
    rx, base = reading.rx, reading.node.base_name
    values = [
        ("rssi", "dBm", float(rx.rssi_dbm)),
        ("snr", "dB", rx.lsnr_db),
        ("sf", "", float(rx.modulation.sf)),
        ("frequency", "Hz", float(rx.freq_hz)),
    ]
    if reading.datagram is not None:
        values.append(("id", "count", float(reading.datagram.id)))
    return [Record(name=base + name, unit=unit, value=value, time=time_s) for name, unit, value in values]


def _reading_details(reading: Reading, detail: str) -> Entry:
    return {**heard(reading.rx), "name": reading.node.name or reading.node.id, "detail": detail}


def _refused_details(rx: RxPacket, why: str) -> Entry:
    return {**heard(rx), "reason": "raw", "detail": f"not LoRaWAN: {why}"}
