"""From the link's frames to the hub's log: verify, decode, authorise, append, answer.

One call per frame and no task: what has to wait for a commit is a callback of it. A downlink that acknowledges
leaves only after the commit of what it acknowledges. A frame whose codec answers later is appended when it has, and
what else concerns that device's state waits behind it: `gateway.turns`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

from gateway.codecs import Decoded, LaterCodec
from gateway.copies import Heard, by_gateway
from gateway.diagnosis.diagnoser import Diagnoser
from gateway.downlinks import Downlinks
from gateway.live import Entry, LiveFrames, heard
from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Downlink, Joined, Rejected, Uplink, Writes
from gateway.lorawan.publish import PROTOCOL, Published, Publisher
from gateway.lorawan.server import NetworkServer
from gateway.rawlora.service import KLASS, RawLora
from gateway.turns import Turns
from hub.access import Access, Action, Circumstances, Principal, Resource
from hub.errors import Busy, HubError, LogFailed, LogFull
from hub.log import Log
from hub.message import Message
from hub.senml import arrival_s
from radio.gwmp import RxPacket, TxError
from radio.lora import SYNC_WORD_LORAWAN

log = logging.getLogger(__name__)

_BY_LORA = Circumstances(PROTOCOL)
BURST = 64  # frames whose stages are done together; with more of them a frame gets no cheaper
MAX_OF_TWO_SIDES = 32  # devices that are warned of
NOT_ASKED = "it has not answered: too many frames waited for their codecs, or the gateway was ending"


@dataclass(slots=True)
class UplinkCounters:
    """Since the start of the process; the LoRaWAN server counts what it decides itself."""

    frames: int = 0
    messages: int = 0
    senml_records: int = 0
    undecodable: int = 0  # stored raw, because the device's codec refused the payload
    denied: int = 0  # the device's thing may not publish on its channel
    store_busy: int = 0  # verified, and not kept: the log had no room


@dataclass(slots=True)
class Uplinks:
    """`gateway.link.Receiver` over the LoRaWAN server and the hub."""

    server: NetworkServer
    publisher: Publisher
    access: Access
    log: Log
    live: LiveFrames
    clock: Callable[[], Instant]
    counters: UplinkCounters = field(default_factory=UplinkCounters)
    elsewhere: Callable[[int, int], Sequence[str]] = lambda _join_eui, _dev_eui: ()
    """The further servers that are sent the joins of a JoinEUI and DevEUI, and may answer them."""
    turns: Turns = field(default_factory=Turns)
    downlinks: Downlinks = field(init=False)
    diagnoser: Diagnoser = field(init=False)
    raw: RawLora | None = None  # what is not LoRaWAN goes there
    _of_two_sides: dict[int, str] = field(default_factory=dict)  # by DevEUI: a warning

    def __post_init__(self) -> None:
        self.diagnoser = Diagnoser(self.server, groups=lambda: self.server.groups.by_addr)
        self.downlinks = Downlinks(
            self.server, self.access, self.log, self.live, self.clock, self.turns, self.publisher.boot
        )

    def receive(self, packets: tuple[RxPacket, ...], eui: bytes) -> None:
        """Take frames that one gateway handed in at once."""
        now = self.clock()
        for at in range(0, len(packets), BURST):
            self._burst(packets[at : at + BURST], eui, now)

    def take(self, rx: RxPacket, eui: bytes, now: Instant, others: Sequence[Heard] = ()) -> None:
        """Take one frame, as the gateway `eui` heard it at `now`; `others`: its copies, best first."""
        self._burst((rx,), eui, now, others)

    def _burst(
        self, packets: Sequence[RxPacket], eui: bytes, now: Instant, others: Sequence[Heard] = ()
    ) -> None:
        """Verify frames one after the other, then publish what they say together: each stage for all of them.

        So the processor meets the code of a stage in its cache, for all frames but the first.
        """
        uplinks: list[Uplink] = []
        for rx in packets:
            self.counters.frames += 1
            if rx.sync_word != SYNC_WORD_LORAWAN:
                if self.raw is not None:
                    self.raw.take(rx, eui, now)
                continue
            outcome = self.server.handle(rx, eui, now)
            self.diagnoser.outcome(outcome, eui, now)
            if others and outcome.downlink is not None:
                self.downlinks.heard_by(outcome.downlink, rx, by_gateway(Heard(rx, eui), others)[1:], now)
            if type(outcome) is Uplink:
                uplinks.append(outcome)
                continue
            self._uplinks(uplinks, eui, others)
            uplinks = []
            if type(outcome) is Joined:
                self._joined(outcome, eui)
            elif type(outcome) is Rejected:
                self._rejected(outcome, eui, now)
        self._uplinks(uplinks, eui, others)

    def warnings(self) -> list[str]:
        """Sentences on devices that belong to two sides."""
        return list(self._of_two_sides.values())

    def sent(self, downlink: Downlink, window: int) -> None:
        """A gateway has taken a downlink for sending in that window, which counts from 1."""
        if downlink.klass == KLASS and self.raw is not None:
            self.raw.sent(downlink)
            return
        self.diagnoser.sent(downlink, window, self.clock())
        self.downlinks.sent(downlink, window)

    def failed(self, downlink: Downlink, error: TxError) -> None:
        """No window could be used."""
        if downlink.klass == KLASS and self.raw is not None:
            self.raw.failed(downlink, error)
            return
        self.diagnoser.failed(downlink, error, self.clock(), radio_says=downlink.refusal)
        self.downlinks.failed(downlink, error)

    def close(self) -> None:
        """Append what still waits for a codec, as bytes; the gateway is about to end."""
        self.turns.close()

    def _uplinks(self, uplinks: Sequence[Uplink], eui: bytes, others: Sequence[Heard]) -> None:
        """Publish and answer uplinks, in their order; with `others` it is one."""
        if not uplinks:
            return
        gateways: Sequence[Heard] = ()
        if others:
            gateways = by_gateway(Heard(uplinks[0].rx, eui), others)
            uplinks[0].device.gateways = tuple(each.eui for each in gateways)
        publisher = self.publisher
        if publisher.codecs.later or self.turns:  # neither, on most gateways
            for uplink in uplinks:
                self._in_turn(uplink, eui, gateways)
            return
        self._append([(uplink, publisher.messages(uplink, gateways)) for uplink in uplinks], eui, gateways)
        for uplink in uplinks:
            if uplink.downlink is not None:
                self._answer_now(uplink.downlink, eui)

    def _in_turn(self, uplink: Uplink, eui: bytes, gateways: Sequence[Heard]) -> None:
        """As above, behind what waits of its device, or for its codec."""
        if (codec := self.publisher.later(uplink)) is not None:
            self._ask(codec, uplink, eui, gateways)
            return
        made = self.publisher.messages(uplink, gateways)
        self.turns.run(uplink.device.dev_eui, partial(self._append, ((uplink, made),), eui, gateways))
        self._answer_now(uplink.downlink, eui)

    def _ask(self, codec: LaterCodec, uplink: Uplink, eui: bytes, gateways: Sequence[Heard]) -> None:
        """Give the payload to a codec that answers later; the frame is appended when it has, in its device's order."""

        def append(decoded: Decoded) -> None:
            self._append(((uplink, self.publisher.messages(uplink, gateways, decoded)),), eui, gateways)

        device, fport = uplink.device, uplink.fport or 0
        turn = self.turns.take(device.dev_eui, partial(append, Decoded(problem=NOT_ASKED)))
        codec.decode_later(
            fport,
            uplink.payload,
            arrival_s(uplink.at.wall_ns),
            device.base_name,
            lambda decoded: self.turns.ready(turn, partial(append, decoded)),
        )
        self._answer_now(uplink.downlink, eui)

    def _append(
        self, made: Sequence[tuple[Uplink, Published]], eui: bytes, gateways: Sequence[Heard]
    ) -> None:
        """Give what uplinks say to the log, in their order; one that is answered after its commit by itself."""
        plain: list[tuple[Uplink, Published]] = []
        refused: list[Uplink] = []
        for each in made:
            uplink = each[0]
            if uplink.durable or uplink.downlink is not None:
                refused += self._store(plain, gateways)
                plain = []
                refused += self._store((each,), gateways, self._answer(uplink.downlink, eui, uplink))
            else:
                plain.append(each)
        refused += self._store(plain, gateways)
        # A device's counter goes back to where it was before the first of them.
        for uplink in reversed(refused):
            self.server.not_stored(uplink)

    def _store(
        self,
        made: Sequence[tuple[Uplink, Published]],
        gateways: Sequence[Heard],
        done: Callable[[HubError | None], None] | None = None,
    ) -> Sequence[Uplink]:
        """Have the messages of uplinks kept, each with its device's writes; returns those the log has no room for.

        `done`, of one uplink, is for after its commit.
        """
        if not made:
            return ()
        counters = self.counters
        context = _BY_LORA if self.access.lasting else None
        entries = [self._entry(uplink, published, context) for uplink, published in made]
        refused: list[Uplink] = []
        trouble = ""
        try:
            if done is None:
                self.log.post_each([(messages, writes) for messages, writes, _ in entries])
            else:
                self.log.submit(entries[0][0], entries[0][1], done)
        except (Busy, LogFull) as error:
            trouble = f"not stored: {error.reason}"
            refused = [uplink for uplink, _ in made]
            counters.store_busy += len(refused)
            for uplink in refused:
                self.diagnoser.not_stored(error.reason, uplink.at)
        except LogFailed:
            return ()  # the process is about to end; the device repeats what matters to it
        add = self.live.add
        for (uplink, published), (messages, _, detail) in zip(made, entries, strict=True):
            if messages and not refused:
                counters.messages += len(messages)
                counters.senml_records += len(published.decoded) + published.radio_records
            details = partial(_uplink_details, uplink, trouble or detail, published, gateways)
            add("uplink", uplink.at.wall_ns / 1e9, details)
        return refused

    def _entry(
        self, uplink: Uplink, published: Published, context: Circumstances | None
    ) -> tuple[list[Message], Writes, str]:
        """Messages and writes for the log, and what people are told; no messages where the thing may not publish."""
        config = uplink.device.config
        messages, writes, detail = published.messages, uplink.writes, published.problem
        principal, resource = _asked(config.thing_id, config.channel_id, uplink.device.topic)
        if context is None:
            context = Circumstances(PROTOCOL, "", len(uplink.payload))
        decision = self.access.decide(principal, Action.PUBLISH, resource, context)
        if not decision.allowed:
            self.counters.denied += 1
            self.diagnoser.not_published(uplink, decision.reason, uplink.at)
            messages, detail = [], f"not published: {decision.reason}"
        if published.problem:
            self.counters.undecodable += 1
            self.diagnoser.undecodable(uplink, published.problem, uplink.at)
        if uplink.receipts:
            told, kept = self.downlinks.told(uplink.receipts)
            messages, writes = [*messages, *told], uplink.writes + kept
        return messages, writes, detail

    def _joined(self, joined: Joined, eui: bytes) -> None:
        self.turns.run(joined.device.dev_eui, partial(self._append_join, joined, eui))

    def _append_join(self, joined: Joined, eui: bytes) -> None:
        try:
            self.log.submit((), joined.writes, self._answer(joined.downlink, eui))
        except HubError as error:
            log.error("a join could not be stored and is not answered: %s", error)
            return
        self.live.add(
            "join", joined.at.wall_ns / 1e9, partial(_join_details, joined, self._warn_of_two(joined))
        )

    def _warn_of_two(self, joined: Joined) -> str:
        """Words where a server elsewhere was given this join too and may answer it; "" where none was."""
        if joined.rejoin in (0, 2):
            return ""  # they name a network, no JoinEUI
        at = 1 if joined.rejoin is None else 2
        join_eui = int.from_bytes(joined.rx.data[at : at + 8], "little")
        dev_eui = joined.device.dev_eui
        servers = self.elsewhere(join_eui, dev_eui)
        if not servers:
            self._of_two_sides.pop(dev_eui, None)
            return ""
        words = (
            f"device {dev_eui} is registered here, and its joins are sent to {', '.join(servers)} as well, which may "
            "answer them: take it out of one of the two, or out of the join_euis or dev_euis of [[radio.server]]"
        )
        self.diagnoser.two_servers(joined.device, words, joined.at)
        if dev_eui not in self._of_two_sides and len(self._of_two_sides) < MAX_OF_TWO_SIDES:
            self._of_two_sides[dev_eui] = words
            log.warning("%s", words)
        return words

    def _rejected(self, rejected: Rejected, eui: bytes, now: Instant) -> None:
        if rejected.downlink is not None:
            self.turns.run(
                rejected.dev_eui or 0, partial(self._answer_again, rejected, rejected.downlink, eui)
            )
        self.live.add("rejected", now.wall_ns / 1e9, partial(_rejected_details, rejected))
        self._answer_now(rejected.downlink, eui)

    def _answer_again(self, rejected: Rejected, downlink: Downlink, eui: bytes) -> None:
        try:
            told, kept = self.downlinks.told(rejected.receipts)
            self.log.submit(told, rejected.writes + kept, self._answer(downlink, eui))
        except HubError as error:
            log.error("a repeated ACK is not sent: %s", error)

    def _answer(
        self, downlink: Downlink | None, eui: bytes, uplink: Uplink | None = None
    ) -> Callable[[HubError | None], None]:
        """What to do after the commit: send a downlink that waited for it, unless the commit failed."""

        def done(error: HubError | None) -> None:
            if error is not None:
                log.error("no answer is sent, as the frame was not stored: %s", error)
                if uplink is not None:
                    self.server.not_stored(uplink)
            elif downlink is not None and downlink.after_commit:
                self._transmit(downlink, eui)

        return done

    def _answer_now(self, downlink: Downlink | None, eui: bytes) -> None:
        """Send a downlink that acknowledges nothing and therefore waits for no commit."""
        if downlink is not None and not downlink.after_commit:
            self._transmit(downlink, eui)

    def _transmit(self, downlink: Downlink, eui: bytes) -> None:
        self.downlinks.transmit(downlink, eui)


@lru_cache(maxsize=16_384)
def _asked(thing_id: str, channel_id: str, topic: str) -> tuple[Principal, Resource]:
    """Who asks to publish where: the same two values for every frame of a device."""
    return Principal("thing", thing_id), Resource(channel_id, topic)


def _uplink_details(uplink: Uplink, detail: str, made: Published, gateways: Sequence[Heard]) -> Entry:
    return {
        **heard(uplink.rx),
        "gateways": [{"eui": each.eui.hex(), **heard(each.rx)} for each in gateways] or None,
        "dev_eui": str(uplink.device.dev_eui),
        "dev_addr": str(uplink.dev_addr),
        "name": uplink.device.config.name,
        "fcnt": uplink.fcnt,
        "fport": uplink.fport,
        "detail": detail or "; ".join((*uplink.notes, *made.notes)),
        "values": made.values,
    }


def _join_details(joined: Joined, warning: str) -> Entry:
    return {
        **heard(joined.rx),
        "dev_eui": str(joined.device.dev_eui),
        "dev_addr": str(joined.dev_addr),
        "name": joined.device.config.name,
        "detail": warning or "; ".join(joined.notes) or _joined_words(joined),
    }


def _joined_words(joined: Joined) -> str:
    if joined.rejoin is None:
        return f"joined with DevNonce {joined.dev_nonce}"
    return f"rejoined (type {joined.rejoin}) with RJcount {joined.dev_nonce}"


def _rejected_details(rejected: Rejected) -> Entry:
    return {
        **heard(rejected.rx),
        "dev_eui": None if rejected.dev_eui is None else str(rejected.dev_eui),
        "dev_addr": None if rejected.dev_addr is None else str(rejected.dev_addr),
        "fcnt": rejected.fcnt,
        "reason": str(rejected.reason),
        "detail": rejected.detail,
    }
