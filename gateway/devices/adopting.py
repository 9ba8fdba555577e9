"""A device that is heard and not registered: what is known of it, and whether a key fits what it has sent. Pure."""

from __future__ import annotations

from collections.abc import Callable

from gateway.diagnosis.heard import Heard
from gateway.lorawan.errors import FrameError
from gateway.lorawan.frames import JoinRequest, parse, verify_join
from gateway.lorawan.types import AES128Key, DevEUI

LOOKED_THROUGH = 512  # as many as are remembered
_SECOND_NS = 10**9


class KeyDoesNotFit(Exception):
    """The frame that was heard was not made with this key; the words say what may be wrong."""


def heard_request(unknown: Callable[[int], list[Heard]], dev_eui: DevEUI) -> tuple[Heard, JoinRequest] | None:
    """The last join-request of a device that is not registered; None: none was heard."""
    for heard in unknown(LOOKED_THROUGH):
        if heard.dev_eui == str(dev_eui):
            try:
                frame = parse(heard.frame)
            except FrameError:
                return None
            return (heard, frame) if isinstance(frame, JoinRequest) else None
    return None


def check_key(
    request: JoinRequest, key: AES128Key, other: AES128Key | None, name: str, heard_ns: int, now_ns: int
) -> None:
    """`key` is the one a join-request is signed with: AppKey, or in 1.1 NwkKey; `other` is the second root key.

    Raises KeyDoesNotFit.
    """
    if verify_join(key, request):
        return
    ago = f"the join-request heard {max(0, (now_ns - heard_ns) // _SECOND_NS)} s ago"
    if other is not None and verify_join(other, request):
        raise KeyDoesNotFit(f"AppKey and NwkKey are exchanged: {ago} was made with the other one")
    if verify_join(AES128Key(key.value[::-1]), request):
        raise KeyDoesNotFit(f"this {name} has its bytes reversed: read the other way round it fits {ago}")
    raise KeyDoesNotFit(
        f"this {name} does not fit {ago}: compare it with the label, or with the maker's list"
    )
