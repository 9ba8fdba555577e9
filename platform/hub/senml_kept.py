"""What packs say, kept for a moment: who has read a pack, or made it, spares the history reading it again.

In: a payload with its records, from the check at a door or from who has just made the one of the others. Out: the same
to the history, once the message is committed. It is a memory and no more: what is not kept is decoded again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .senml import Record, Stamped, decode_stamped

RECORDS_KEPT = 49_152  # 6 to 15 MB while a flood lasts; then new ones are decoded again
# Not kept since there was room: then what is kept belongs to messages that were never stored
RECORDS_PASSED = 8 * RECORDS_KEPT


class Numbers(msgspec.Struct, frozen=True, gc=False):
    """Records that are nothing but numbers of the moment of arrival, as an uplink's are.

    Packs of one kind share the very same `names` and `units`: the history knows their series again by that.
    """

    names: tuple[str, ...]  # whole ones
    units: tuple[str, ...]
    values: tuple[float, ...]

    def records(self, time_s: float) -> list[Record]:
        """The same as records."""
        columns = zip(self.names, self.units, self.values, strict=True)
        return [Record(name, unit, time_s, value) for name, unit, value in columns]


Said = Sequence[Record] | Numbers
_Kept = tuple[bytes, str, float, Said, Stamped, int]

_kept: dict[int, _Kept] = {}  # by the payload's identity
_records = 0  # in `_kept`
_passed = 0  # not kept since it was full


def check(content_type: str, payload: bytes, now_s: float) -> None:
    """Raise SenmlError where `payload`, which arrived at `now_s` (UTC seconds), is no SenML pack."""
    records, stamped = decode_stamped(content_type, payload, now_s)
    keep(content_type, payload, now_s, records, stamped)


def keep(content_type: str, payload: bytes, now_s: float, said: Said, stamped: Stamped) -> None:
    """Keep what `payload` says, for `recall`.

    It has to be what decoding makes of it, names, times and types included.
    """
    global _records
    size = len(said.values if type(said) is Numbers else said)  # type: ignore[arg-type]
    if _records + size > RECORDS_KEPT:
        _pass(size)
        return
    key = id(payload)
    if key in _kept:
        _records -= _kept[key][5]
    _records += size
    _kept[key] = (payload, content_type, now_s, said, stamped, size)


def _pass(size: int) -> None:
    """There is no room. The oldest are asked for next, so they stay, unless nobody asks for them any more."""
    global _passed
    _passed += size
    if _passed > RECORDS_PASSED:
        forget()


def recall(content_type: str, payload: bytes, now_s: float) -> tuple[Said, Stamped]:
    """What a pack says that arrived at `now_s`, and which records took their time from that; it is kept no longer.

    Raises SenmlError.
    """
    global _records
    known = _kept.pop(id(payload), None)
    if known is not None:
        _records -= known[5]
        if known[0] is payload and known[1] == content_type and known[2] == now_s:
            return known[3], known[4]
    return decode_stamped(content_type, payload, now_s)


def forget() -> None:
    """Keep nothing of what was kept so far: nobody is going to ask for it."""
    global _records, _passed
    _kept.clear()
    _records = _passed = 0
