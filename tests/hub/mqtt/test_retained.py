"""Retained messages against the plain reading of the matching rules (4.7.1), found without going through them all."""

from __future__ import annotations

import random

from hub.message import OCTET_STREAM, SENML_JSON, Message
from hub.mqtt.retained import Retained
from hub.topics import Filter


def a_message(subtopic: str, content_type: str = OCTET_STREAM) -> Message:
    return Message("c", subtopic, "p", "mqtt", content_type, b"x", 1)


def plainly(pattern: list[str], elements: list[str]) -> bool:
    """4.7.1, read as it is written."""
    if pattern[:1] == ["#"]:
        return True
    if not pattern or not elements:
        return pattern == elements
    return pattern[0] in ("+", elements[0]) and plainly(pattern[1:], elements[1:])


def elements_of(text: str) -> list[str]:
    return text.split(".") if text else []


def test_matching_agrees_with_the_rules_for_every_kind_of_filter() -> None:
    rng = random.Random(5)
    retained = Retained(10_000, 1 << 20)
    names = {".".join(rng.choices("abc", k=rng.randint(0, 4))) for _ in range(200)}
    for name in names:
        retained.keep(a_message(name, SENML_JSON if "a" in name else OCTET_STREAM))
    for _ in range(2000):
        pattern = rng.choices("abc+", k=rng.randint(0, 4)) + (["#"] if rng.random() < 0.4 else [])
        content_type = rng.choice([None, None, SENML_JSON])
        found = [m.subtopic for m in retained.matching(Filter("c", ".".join(pattern), content_type))]
        assert found == sorted(
            name
            for name in names
            if plainly(pattern, elements_of(name)) and (content_type is None or "a" in name)
        )
    assert retained.matching(Filter("d", "#")) == []


def test_an_exact_filter_looks_at_one_message_however_many_there_are() -> None:
    retained = Retained(100_000, 1 << 30)
    for n in range(20_000):
        retained.keep(a_message(f"room.{n}"))
    held = retained._channels["c"]

    class Counting(dict[str, Message]):
        looked = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            Counting.looked += 1
            return super().__iter__()

    retained._channels["c"] = Counting(held)
    assert [m.subtopic for m in retained.matching(Filter("c", "room.17"))] == ["room.17"]
    assert Counting.looked == 0
    assert len(retained.matching(Filter("c", "room.+"))) == 20_000
    assert Counting.looked == 1
