"""The history's tail: what is committed and not yet in chunks, as arrays by series, in memory.

Fed on the event loop from the log's commits, rebuilt from the log at start. Other threads read it without a lock:
arrays only ever grow, sequence numbers last, and what compaction took goes away by putting a new `Run` in the old
one's place. So a reader that looks at the tail first and at the file afterwards sees every record, and passes over
those of the tail that the file says it has (`upto`).
"""

from __future__ import annotations

import contextlib
import logging
import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from . import senml
from .errors import SenmlError
from .history_chunks import Item, Values
from .history_model import MESSAGES, Query, SeriesKey, dotted
from .message import JSON, SENML_CBOR, SENML_JSON, Message
from .timekeeping import TRUSTED

log = logging.getLogger("hub.history")

MAX_SERIES = 100_000  # kept in memory at about 700 bytes each; the records of further series are not kept
TAIL_RECORDS: Final = 262_144  # that start a compaction; 28 bytes each
TAIL_MESSAGES: Final = 65_536  # so that a start reads them back in half a second
TAIL_BYTES: Final = 16 << 20  # of text, data and messages
NUMBER_BYTES = 24  # of a number that is an object of its own
MAX_TAIL = 2  # times these: then nothing more is taken until compaction gets on

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Run:
    """The tail of one series, in the order of arrival."""

    __slots__ = ("boots", "chunked", "reach", "seqs", "sizes", "times", "values")

    def __init__(self, chunked: int, reach: Mapping[int, float]) -> None:
        self.chunked = chunked  # records of the series that are in chunks
        self.reach = (
            reach  # no chunk has a later time than this, by the clock that gave it; replaced as a whole
        )
        self.times = array("d")
        self.values: Values = array("d")
        self.sizes = array("i")  # bytes of each value where `values` is a list, else empty
        # Whose clock gave each time, 0 where the time is right; None: all are right.
        self.boots: array[int] | None = None
        self.seqs = array("q")  # appended to last: its length is what may be read


class Series:
    """A series and its tail; `run` is only ever replaced as a whole."""

    __slots__ = ("id", "key", "run", "saved")

    def __init__(
        self, series_id: int, key: SeriesKey, chunked: int, reach: Mapping[int, float], saved: bool
    ) -> None:
        self.id = series_id
        self.key = key
        self.run = Run(chunked, reach)
        self.saved = saved  # its row is in the file


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of one series that compaction takes from the tail, in the order of arrival."""

    series: Series
    times: array[float]
    values: Values
    boots: array[int] | None  # None: all 0
    seqs: array[int]


class Tail:
    """All series, and their records that are not in chunks yet."""

    def __init__(self, seq: int, boots: Mapping[str, int]) -> None:
        self.seq = seq  # everything up to this message has been looked at
        self.series: dict[int, Series] = {}
        self.channels: dict[str, list[Series]] = {}
        self.boots = dict(boots)
        self.records = 0
        self.messages = 0  # since the last compaction
        self.size_bytes = 0  # of values that are not numbers
        self.undecodable = 0  # messages whose SenML did not decode
        self.refused = 0  # records of series beyond MAX_SERIES
        self.skip: Mapping[int, int] = {}  # series to the message up to which chunks hold it already
        self._sources: dict[tuple[str, str, str, str], dict[tuple[str, str, str], Series]] = {}
        self._others: dict[tuple[str, str, str, str, str], Series] = {}  # of messages that are not SenML
        self._next_id = 1

    # Series

    def add_series(
        self, series_id: int, key: SeriesKey, chunked: int, reach: Mapping[int, float], *, saved: bool
    ) -> Series:
        series = Series(series_id, key, chunked, reach, saved)
        self.series[series_id] = series
        self.channels.setdefault(key.channel, []).append(series)
        self._sources.setdefault(key[:4], {})[key[4:]] = series
        self._next_id = max(self._next_id, series_id + 1)
        return series

    def find(self, key: SeriesKey) -> Series | None:
        """The series of `key`; None where there are too many."""
        found = self._sources.get(key[:4], {}).get(key[4:])
        if found is not None or len(self.series) >= MAX_SERIES:
            return found
        return self.add_series(self._next_id, key, 0, {}, saved=False)

    def matching(self, query: Query) -> list[Series]:
        """The series that a query is about. From any thread."""
        wanted_format = "" if query.format == MESSAGES else query.format
        subtopic = dotted(query.subtopic)
        found = []
        for series in list(self.channels.get(query.channel, ())):
            key = series.key
            if (
                key.format == wanted_format
                and (subtopic is None or key.subtopic == subtopic)
                and (query.shown is None or key.subtopic in query.shown)
                and (query.publisher is None or key.publisher == query.publisher)
                and (query.protocol is None or key.protocol == query.protocol)
                and (query.name is None or wanted_format or key.name == query.name)
            ):
                found.append(series)
        return found

    def subtopics(self, channel: str) -> set[str]:
        """Those of which there are records."""
        return {series.key.subtopic for series in list(self.channels.get(channel, ()))}

    # Taking in

    @property
    def due(self) -> bool:
        """Enough has gathered for a compaction."""
        return self.records >= TAIL_RECORDS or self.messages >= TAIL_MESSAGES or self.size_bytes >= TAIL_BYTES

    @property
    def full(self) -> bool:
        """Compaction does not get on, and the tail has reached its bound."""
        return (
            self.records >= MAX_TAIL * TAIL_RECORDS
            or self.messages >= MAX_TAIL * TAIL_MESSAGES
            or self.size_bytes >= MAX_TAIL * TAIL_BYTES
        )

    def take(self, messages: Iterable[Message]) -> None:
        """Add committed messages, in the order of their numbers, each once."""
        for message in messages:
            seq = message.seq
            self.seq = seq
            self.messages += 1
            content_type = message.content_type
            if content_type != SENML_JSON and content_type != SENML_CBOR:
                self._take_other(message)
                continue
            try:
                records, stamped = senml.recall(
                    content_type, message.payload, senml.arrival_s(message.created_ns)
                )
            except SenmlError as error:
                self.undecodable += 1
                log.warning("message %d is not kept in the history: %s", seq, error)
                continue
            boot = self._boot(message) if stamped is not False else 0
            where = (message.channel, message.subtopic, message.publisher, message.protocol)
            known = self._sources.get(where)
            if known is None:
                known = self._sources.setdefault(where, {})
            skip = self.skip
            for index, record in enumerate(records):
                series = known.get(("", record.name, record.unit))
                if series is None:
                    series = self.find(SeriesKey(*where, "", record.name, record.unit))
                    if series is None:
                        self.refused += 1
                        continue
                if skip and seq <= skip.get(series.id, 0):
                    continue
                run = series.run
                values = run.values
                value = record.value
                if (
                    value is None
                    or record.sum is not None
                    or record.update_time is not None
                    or type(values) is list
                ):
                    self._append_item(run, _item(record))
                else:
                    values.append(value)
                run.times.append(record.time)
                if boot or run.boots is not None:
                    _append_boot(run, boot if stamped is True or (stamped and stamped[index]) else 0)
                run.seqs.append(seq)
                self.records += 1

    def _take_other(self, message: Message) -> None:
        content_type = message.content_type
        source = (message.channel, message.subtopic, message.publisher, message.protocol, content_type)
        series = self._others.get(source)
        if series is None:
            # Mainflux names the format after the last element of the subtopic.
            name = message.subtopic.rpartition(".")[2] or ("json" if content_type == JSON else "octets")
            series = self.find(SeriesKey(*source[:4], name, "", content_type))
            if series is None:
                self.refused += 1
                return
            self._others[source] = series
        if message.seq <= self.skip.get(series.id, 0):
            return
        payloads: Sequence[bytes] = (message.payload,)
        if content_type == JSON and message.payload.lstrip()[:1] == b"[":
            with contextlib.suppress(
                msgspec.MsgspecError, RecursionError
            ):  # no JSON after all: kept as it is
                payloads = [bytes(item) for item in _decode_list(message.payload)]
        boot = self._boot(message)
        run = series.run
        for payload in payloads:
            self._append_item(run, (message.created_ns, payload))
            run.times.append(senml.arrival_s(message.created_ns))
            if boot or run.boots is not None:
                _append_boot(run, boot)
            run.seqs.append(message.seq)
            self.records += 1

    def _append_item(self, run: Run, item: Item) -> None:
        values = run.values
        if not isinstance(values, list):
            run.sizes.extend([NUMBER_BYTES] * len(values))
            self.size_bytes += NUMBER_BYTES * len(values)
            values = run.values = list(values)
        size = _size(item)
        values.append(item)
        run.sizes.append(size)
        self.size_bytes += size

    def _boot(self, message: Message) -> int:
        """Whose clock gave this message its time, as a number; 0 where the time can be trusted or never will."""
        if not message.boot or message.time in TRUSTED:
            return 0
        boot = self.boots.get(message.boot)
        if boot is None:
            boot = self.boots[message.boot] = len(self.boots) + 1
        return boot

    # Giving to compaction

    def piece(self, series: Series, upto: int, limit: int) -> Piece | None:
        """The first records of `series`, about `limit` and whole messages, none beyond message `upto`."""
        run = series.run
        count = bisect_right(run.seqs, upto)
        if not count:
            return None
        if count > limit:
            count = bisect_right(run.seqs, run.seqs[limit - 1])
        boots = None if run.boots is None else run.boots[:count]
        return Piece(series, run.times[:count], run.values[:count], boots, run.seqs[:count])

    def drop(self, piece: Piece, added: int) -> None:
        """Forget what compaction has taken; `added` records more are in chunks now."""
        run = piece.series.run
        count = len(piece.seqs)
        rest = Run(run.chunked + added, reaching(run, count))
        rest.times = run.times[count:]
        rest.values = run.values[count:] if len(run.seqs) > count else array("d")
        if run.boots is not None and len(run.seqs) > count:
            rest.boots = run.boots[count:]
        rest.seqs = run.seqs[count:]
        if type(rest.values) is list:
            rest.sizes = run.sizes[count:]
        piece.series.run = rest
        self.records -= count
        self.size_bytes -= sum(run.sizes[:count])


def reaching(run: Run, count: int) -> dict[int, float]:
    """As `run.reach`, with the first `count` records of the tail as if they were in chunks."""
    reach = dict(run.reach)
    times, boots = run.times[:count], run.boots
    if boots is None:
        if times:
            reach[0] = max(reach.get(0, -math.inf), max(times))
        return reach
    for time, boot in zip(times, boots[:count], strict=True):
        if time > reach.get(boot, -math.inf):
            reach[boot] = time
    return reach


def _append_boot(run: Run, boot: int) -> None:
    if run.boots is None:
        run.boots = array("i", bytes(4 * (len(run.times) - 1)))
    run.boots.append(boot)


def _item(record: senml.Record) -> Item:
    value: Any = record.value
    if value is None:
        value = record.string_value
        if value is None:
            value = record.bool_value if record.bool_value is not None else record.data_value
    if record.sum is None and record.update_time is None:
        return value  # type: ignore[no-any-return]
    return [value, record.sum, record.update_time]


def _size(item: Any) -> int:
    """Bytes that count against TAIL_BYTES: about what the object takes in memory."""
    kind = type(item)
    if kind is str or kind is bytes:
        return 50 + len(item)
    if kind is tuple:  # of a message that is not SenML: its time and its payload
        return 120 + len(item[1])
    if kind is list:  # a value with its sum and update time
        return 120 + _size(item[0])
    return NUMBER_BYTES
