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

from . import senml, senml_kept
from .errors import SenmlError
from .history_chunks import Item, Values
from .history_model import MESSAGES, Query, SeriesKey, dotted
from .message import JSON, SENML_CBOR, SENML_JSON, Message
from .timekeeping import TRUSTED

log = logging.getLogger("hub.history")

MAX_SERIES = 100_000  # kept in memory at about 700 bytes each; the records of further series are not kept
TAIL_RECORDS: Final = 262_144  # that start a compaction; 28 bytes each
TAIL_MESSAGES: Final = 49_152  # so that a start reads them back in half a second
TAIL_BYTES: Final = 16 << 20  # of text, data and messages
ITEM_BYTES: Final = 120  # of a tuple or list with two numbers in it
GATHER: Final = 8  # rows of one source that go into arrays together
MAX_GATHERING = 2_048  # sources with such rows: to put those of all into arrays takes 15 to 25 ms
MAX_TAIL = 2  # times these: then nothing more is taken until compaction gets on

Row = tuple[int, float, int, tuple[float, ...]]  # of one message: its number, time, clock and values

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Run:
    """The tail of one series, in the order of arrival."""

    __slots__ = ("boots", "chunked", "reach", "seqs", "times", "values")

    def __init__(self, chunked: int, reach: Mapping[int, float]) -> None:
        self.chunked = chunked  # records of the series that are in chunks
        # No chunk has a later time than this, by the clock that gave it; replaced as a whole
        self.reach = reach
        self.times = array("d")
        self.values: Values = array("d")
        # Whose clock gave each time, 0 where the time is right; None: all are right.
        self.boots: array[int] | None = None
        self.seqs = array("q")  # appended to last: its length is what may be read


class Source:
    """Series that come in messages of one origin, and rows of numbers that are not in them yet.

    An array for each of times, values and numbers of each series is a lot to touch for a message that brings one
    record of each. So rows gather, and go into the arrays a few at once.
    """

    __slots__ = ("columns", "names", "rows", "series", "units")

    def __init__(self) -> None:
        self.series: dict[tuple[str, str, str], Series] = {}  # by format, name and unit
        self.rows: list[Row] = []  # up to GATHER, all later than what is in the series
        # Of a row: the series of each value, and what they are called.
        self.columns: Sequence[Series] = ()
        self.names: tuple[str, ...] = ()
        self.units: tuple[str, ...] = ()


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
        self.chunked = 0  # records of all series that are in chunks
        self.messages = 0  # since the last compaction
        self.size_bytes = 0  # of values that are not numbers
        self.undecodable = 0  # messages whose SenML did not decode
        self.refused = 0  # records of series beyond MAX_SERIES
        self.skip: Mapping[int, int] = {}  # series to the message up to which chunks hold it already
        self._published: dict[tuple[str, str], list[Series]] = {}  # by channel and publisher
        self._sources: dict[
            tuple[str, str, str, str], Source
        ] = {}  # by channel, subtopic, publisher, protocol
        self._gathering: dict[Source, None] = {}  # those that may have rows
        self._others: dict[tuple[str, str, str, str, str], Series] = {}  # of messages that are not SenML
        self._next_id = 1

    # Series

    def add_series(
        self, series_id: int, key: SeriesKey, chunked: int, reach: Mapping[int, float], *, saved: bool
    ) -> Series:
        series = Series(series_id, key, chunked, reach, saved)
        self.chunked += chunked
        self.series[series_id] = series
        self.channels.setdefault(key.channel, []).append(series)
        self._published.setdefault((key.channel, key.publisher), []).append(series)
        self._source(key[:4]).series[key[4:]] = series
        self._next_id = max(self._next_id, series_id + 1)
        return series

    def find(self, key: SeriesKey) -> Series | None:
        """The series of `key`; None where there are too many."""
        found = self._source(key[:4]).series.get(key[4:])
        if found is not None or len(self.series) >= MAX_SERIES:
            return found
        return self.add_series(self._next_id, key, 0, {}, saved=False)

    def matching(self, query: Query) -> list[Series]:
        """The series that a query is about. From any thread."""
        wanted_format = "" if query.format == MESSAGES else query.format
        subtopic = dotted(query.subtopic)
        found = []
        some = (
            self.channels.get(query.channel, ())
            if query.publisher is None
            else self._published.get((query.channel, query.publisher), ())
        )
        for series in list(some):
            key = series.key
            if (
                key.format == wanted_format
                and (subtopic is None or key.subtopic == subtopic)
                and (query.shown is None or key.subtopic in query.shown)
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
        sources = self._sources
        for message in messages:
            seq = self.seq = message.seq
            self.messages += 1
            content_type = message.content_type
            if content_type != SENML_JSON and content_type != SENML_CBOR:
                self._take_other(message)
                continue
            time_s = senml.arrival_s(message.created_ns)
            try:
                said, stamped = senml_kept.recall(content_type, message.payload, time_s)
            except SenmlError as error:
                self.undecodable += 1
                log.warning("message %d is not kept in the history: %s", seq, error)
                continue
            boot = 0 if stamped is False or message.time in TRUSTED else self._boot(message)
            where = (message.channel, message.subtopic, message.publisher, message.protocol)
            source = sources.get(where) or self._source(where)
            if type(said) is not senml_kept.Numbers:
                self._take_records(where, source, said, seq, boot, stamped)  # type: ignore[arg-type]
            elif self.skip or said.names != source.names or said.units != source.units:
                self._take_records(where, source, said.records(time_s), seq, boot, stamped)
                self._know_again(source, said)
            else:
                rows = source.rows
                if not rows and source not in self._gathering:
                    if len(self._gathering) >= MAX_GATHERING:
                        _spread(self._gathering.popitem()[0])
                    self._gathering[source] = None
                rows.append((seq, time_s, boot, said.values))
                self.records += len(said.values)
                if len(rows) >= GATHER:
                    _spread(source)

    def spread(self) -> None:
        """Put all that has gathered into the series, for who is going to look at them."""
        for source in self._gathering:
            _spread(source)
        self._gathering.clear()

    def _source(self, where: tuple[str, str, str, str]) -> Source:
        return self._sources.setdefault(where, Source())

    @staticmethod
    def _know_again(source: Source, numbers: senml_kept.Numbers) -> None:
        """Let the next `numbers` of the same names gather, if each of them is a series of its own."""
        named = zip(numbers.names, numbers.units, strict=True)
        columns = [source.series.get(("", name, unit)) for name, unit in named]
        known = [series for series in columns if series is not None]
        if len(set(known)) == len(columns):  # not where there are too many series, or one thing is said twice
            source.columns, source.names, source.units = known, numbers.names, numbers.units

    def _take_records(
        self,
        where: tuple[str, str, str, str],
        source: Source,
        records: Sequence[senml.Record],
        seq: int,
        boot: int,
        stamped: senml.Stamped,
    ) -> None:
        known, skip = source.series, self.skip
        self.records += len(records)
        if source.rows:
            _spread(source)
        for index, record in enumerate(records):
            series = known.get(("", record.name, record.unit))
            if series is None:
                series = self.find(SeriesKey(*where, "", record.name, record.unit))
                if series is None:
                    self.refused += 1
                    self.records -= 1
                    continue
            if skip and seq <= skip.get(series.id, 0):
                self.records -= 1
                continue
            run = series.run
            value = record.value
            if value is None or record.sum is not None or record.update_time is not None:
                self._append_item(run, _item(record))
            else:
                run.values.append(value)
            run.times.append(record.time)
            if boot or run.boots is not None:
                _append_boot(run, boot if stamped is True or (stamped and stamped[index]) else 0)
            run.seqs.append(seq)

    def _take_other(self, message: Message) -> None:
        content_type, payload, seq = message.content_type, message.payload, message.seq
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
        if self.skip and seq <= self.skip.get(series.id, 0):
            return
        payloads: tuple[bytes, ...] = (payload,)
        if content_type == JSON and payload[:1] != b"{" and payload.lstrip()[:1] == b"[":
            # Where it is no JSON after all it is kept as it is.
            with contextlib.suppress(msgspec.MsgspecError, RecursionError):
                payloads = tuple(map(bytes, _decode_list(payload)))
        boot = 0 if message.time in TRUSTED else self._boot(message)
        created_ns = message.created_ns
        time_s = senml.arrival_s(created_ns)
        run = series.run
        values = run.values
        if type(values) is not list:
            values = run.values = list(values)
        for payload in payloads:
            values.append((created_ns, payload))
            self.size_bytes += ITEM_BYTES + len(payload)
            run.times.append(time_s)
            if boot or run.boots is not None:
                _append_boot(run, boot)
            run.seqs.append(seq)
            self.records += 1

    def _append_item(self, run: Run, item: Item) -> None:
        values = run.values
        if type(values) is not list:
            values = run.values = list(values)
        values.append(item)
        self.size_bytes += _size(item)

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
        piece.series.run = rest
        self.records -= count
        self.chunked += added
        if isinstance(run.values, list):
            self.size_bytes -= sum(map(_size, run.values[:count]))

    def count_chunked(self, series: Series, more: int) -> None:
        """Chunks of `series` hold so many records more, or fewer."""
        series.run.chunked += more
        self.chunked += more


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


def _spread(source: Source) -> None:
    """Put the rows of a source into its series."""
    if not source.rows:
        return
    seqs, times, boots, rows = zip(*source.rows, strict=True)
    wrong = any(boots)
    for series, values in zip(source.columns, zip(*rows, strict=True), strict=True):
        run = series.run
        run.values.extend(values)
        run.times.extend(times)
        if wrong or run.boots is not None:
            if run.boots is None:
                run.boots = array("i", bytes(4 * len(run.seqs)))
            run.boots.extend(boots)
        run.seqs.extend(seqs)
    source.rows.clear()


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
    """Bytes that count against TAIL_BYTES: about what text, data or a message takes in memory."""
    kind = type(item)
    if kind is tuple:  # of a message that is not SenML: its time and its payload
        return ITEM_BYTES + len(item[1])
    if kind is str or kind is bytes:
        return 50 + len(item)
    if kind is list:  # a value with its sum and update time
        return ITEM_BYTES + _size(item[0])
    return 0
