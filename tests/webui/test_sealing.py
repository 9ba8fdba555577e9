"""A passphrase between two forms: for one visitor, for some minutes, and for this process only."""

from __future__ import annotations

import base64
import random

import pytest

from webui.sealing import LIFE_S, MAX_SEALED, Sealer


@pytest.mark.parametrize("text", ["", "four or five words", "\u00fc\U0001f600", "\ud800", "x" * 256])
def test_what_is_sealed_comes_back_for_the_same_visitor_in_time(text: str) -> None:
    sealer = Sealer()
    sealed = sealer.seal(text, "visitor", 100.0)
    assert sealer.unseal(sealed, "visitor", 100.0 + LIFE_S) == text
    assert sealer.unseal(sealed, "visitor", 101.0 + LIFE_S) == ""
    assert sealer.unseal(sealed, "another", 100.0) == ""
    assert Sealer().unseal(sealed, "visitor", 100.0) == ""
    assert len(text) < 8 or text.encode("utf-8", "surrogatepass") not in base64.urlsafe_b64decode(sealed)


def test_nothing_else_is_ever_opened() -> None:
    sealer, chosen = Sealer(), random.Random(6)
    good = sealer.seal("four or five words", "visitor", 0.0)
    wire = base64.urlsafe_b64decode(good)
    for _ in range(2000):
        damaged = bytearray(wire)
        damaged[chosen.randrange(len(wire))] ^= 1 << chosen.randrange(8)
        cut = damaged[: chosen.randrange(1, len(wire))]
        for each in (damaged, cut, bytes(cut) + wire):
            assert sealer.unseal(base64.urlsafe_b64encode(each).decode(), "visitor", 0.0) == ""
    for text in ("", "A", "AAAA", "=" * 40, "\u00e9" * 40, "A" * (MAX_SEALED + 4), good[:-4], good + "AAAA"):
        assert sealer.unseal(text, "visitor", 0.0) == ""
