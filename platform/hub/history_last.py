"""The last message of a topic, however long ago: which one it was, and what is kept of it.

Last is what was committed last, whatever times its records name. The history knows of each series the number of the
message that its last record came with. The log has that message as it was published, or has let it go: then it is put
together here from its records. Called in the history's thread for queries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from . import senml
from .history_export import senml_records
from .history_model import Query
from .history_query import HistoryReader, record_of
from .history_view import NO_MESSAGE, Seen
from .message import SENML_CBOR, SENML_JSON, Message
from .timekeeping import Correction
from .topics import Filter, subtopic_fits

_NOTHING: frozenset[str] = frozenset()  # no series of a query's own: any format is looked for here


def last_seq(reader: HistoryReader, wanted: Filter, query: Query, corrections: Sequence[Correction]) -> int:
    """The number of the last message of `wanted`, of one channel; NO_MESSAGE where there is none."""
    seen = _matching(reader, wanted)
    with reader.look(replace(query, shown=_NOTHING), corrections) as view:
        return max(map(view.last_seq, seen), default=NO_MESSAGE)


def last_kept(
    reader: HistoryReader, wanted: Filter, query: Query, corrections: Sequence[Correction]
) -> Message | None:
    """The last message of `wanted` from its records, SenML in the form that `wanted` names or else as JSON.

    Of records in chunks each series gives those of its newest time. None where nothing of it can be shown.
    """
    seen = _matching(reader, wanted)
    with reader.look(replace(query, shown=_NOTHING), corrections) as view:
        numbers = [view.last_seq(one) for one in seen]
        seq = max(numbers, default=NO_MESSAGE)
        if seq == NO_MESSAGE:
            return None
        found = [
            (one.series.key, view.brought(one, seq))
            for one, number in zip(seen, numbers, strict=True)
            if number == seq
        ]
    # One message is of one source; but all that came from an earlier version's file stands under one number.
    key, items = max(found, key=lambda part: max((time for time, _ in part[1]), default=-math.inf))
    if not items:  # the chunk is damaged
        return None
    created_s = max(time for time, _ in items)
    if key.format:
        payloads = [cast(tuple[int, bytes], item)[1] for _, item in items]
        content_type = key.unit
        payload = payloads[0] if len(payloads) == 1 else b"[" + b",".join(payloads) + b"]"
    else:
        records = [
            record_of(one, time, item) for one, some in found if one[:5] == key[:5] for time, item in some
        ]
        pack = [
            senml.PackRecord(**fields) for fields in senml_records(sorted(records, key=lambda one: one.time))
        ]
        if not pack:  # of a clock that was never set: SenML has no such time
            return None
        content_type = wanted.content_type or SENML_JSON
        encode = senml.encode_pack_cbor if content_type == SENML_CBOR else senml.encode_pack_json
        payload = encode(pack)
    return Message(
        key.channel,
        key.subtopic,
        key.publisher,
        key.protocol,
        content_type,
        payload,
        round(created_s * 1e6) * 1000,
        seq,
    )


def _matching(reader: HistoryReader, wanted: Filter) -> list[Seen]:
    """The tails of all series of `wanted`, looked at before the file is."""
    senml_only = wanted.content_type in (SENML_JSON, SENML_CBOR)
    return [
        Seen.of(series)
        for series in list(reader.tail.channels.get(wanted.channel, ()))
        if subtopic_fits(wanted.subtopic, series.key.subtopic)
        and (
            wanted.content_type is None
            or (not series.key.format if senml_only else series.key.unit == wanted.content_type)
        )
    ]
