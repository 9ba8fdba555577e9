"""Topics and filters, in the forms of Mainflux 0.13 and of 2017."""

from __future__ import annotations

import random

import pytest

from hub.errors import TopicError
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON
from hub.router import Router
from hub.topics import (
    MAX_ELEMENTS,
    MAX_SUBTOPIC,
    Address,
    Filter,
    format_topic,
    parse_filter,
    parse_subtopic,
    parse_topic,
    subtopic_fits,
)

ID = "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c001"


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        (f"channels/{ID}/messages", Address(ID, "")),
        (f"/channels/{ID}/messages", Address(ID, "")),
        (f"channels/{ID}/messages/", Address(ID, "")),
        (f"channels/{ID}/messages/a/b", Address(ID, "a.b")),
        (f"channels/{ID}/messages//a//b/", Address(ID, "a.b")),
        (f"channels/{ID}/messages/a.b/c", Address(ID, "a.b.c")),
        (f"mainflux/channels/{ID}/messages/senml-json", Address(ID, "", SENML_JSON)),
        (f"mainflux/channels/{ID}", Address(ID, "")),
        (f"channels/{ID}/messages/senml-cbor", Address(ID, "", SENML_CBOR)),
        (f"channels/{ID}/messages/a/octet-stream", Address(ID, "a", OCTET_STREAM)),
        (f"channels/{ID}/messages/octet-stream/a", Address(ID, "octet-stream.a")),
        (f"channels/{ID}/messages/ct/application_senml-json", Address(ID, "", SENML_JSON)),
        (f"/channels/{ID}/messages/a/b/ct/application_senml-cbor", Address(ID, "a.b", SENML_CBOR)),
        (f"channels/{ID}/messages/a/ct/application_json", Address(ID, "a", JSON)),
        (f"channels/{ID}/messages/ct/application_octet-stream", Address(ID, "", OCTET_STREAM)),
        (f"channels/{ID}/messages/ct/scan", Address(ID, "ct.scan")),
        (f"channels/{ID}/messages/ct", Address(ID, "ct")),
        (f"channels/{ID}/messages/application_json", Address(ID, "application_json")),
        ("channels/7/messages", Address("7", "")),
    ],
)
def test_topics_are_read(topic: str, address: Address) -> None:
    assert parse_topic(topic) == address


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "/",
        "channels",
        f"channels/{ID}",
        f"mainflux/channels/{ID}/msg",
        "mainflux/channels",
        f"channels/{ID}/msg",
        f"things/{ID}/messages",
        "channels//messages",
        "channels/+/messages",
        "channels/a b/messages",
        f"channels/{'a' * 65}/messages",
        f"channels/{ID}/messages/+",
        f"channels/{ID}/messages/#",
        f"channels/{ID}/messages/*",
        f"channels/{ID}/messages/a>",
        f"channels/{ID}/messages/a\0b",
        f"channels/{ID}/messages/a\nb",
        f"channels/{ID}/messages/{'a' * (MAX_SUBTOPIC + 1)}",
        f"channels/{ID}/messages/" + "/".join("a" * (MAX_ELEMENTS + 1)),
        "$SYS/broker/uptime",
    ],
)
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(TopicError):
        parse_topic(topic)


def test_a_formatted_topic_reads_back() -> None:
    for address in (Address(ID, ""), Address(ID, "a.b"), Address(ID, "a", SENML_CBOR)):
        assert parse_topic(format_topic(*address)) == address
    assert parse_subtopic("") == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("#", Filter("+", "#")),
        ("channels/#", Filter("+", "#")),
        ("+/+/messages/#", Filter("+", "#")),
        (f"channels/{ID}/#", Filter(ID, "#")),
        (f"channels/{ID}/messages", Filter(ID, "")),
        (f"channels/{ID}/messages/#", Filter(ID, "#")),
        (f"channels/{ID}/messages/a/+/c", Filter(ID, "a.+.c")),
        (f"mainflux/channels/{ID}/messages/senml-json", Filter(ID, "", SENML_JSON)),
        ("channels/+/messages/a/#", Filter("+", "a.#")),
    ],
)
def test_filters_are_read(text: str, wanted: Filter) -> None:
    assert parse_filter(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "a/#",
        f"channels/{ID}",
        f"channels/{ID}/messages/#/a",
        f"channels/{ID}/messages/a+",
        f"channels/{ID}/messages/a#",
        f"channels/{ID}/messages/a.+",
        "channels/a+/messages",
        f"channels/{ID}/messages/" + "/".join("+" * (MAX_ELEMENTS + 1)),
        f"channels/{ID}/messages/" + "a" * 2000,
    ],
)
def test_other_filters_are_refused(text: str) -> None:
    with pytest.raises(TopicError):
        parse_filter(text)


def test_damaged_topics_let_only_topic_errors_out() -> None:
    rng = random.Random(13)
    letters = "channels/messages/+#*>.$\0\n/aé-_" + ID
    for _ in range(5000):
        text = f"channels/{ID}/messages/a/b"
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(letters) + text[at + rng.randint(0, 3) :]
        for parse in (parse_topic, parse_filter):
            try:
                parsed = parse(text)
            except TopicError:
                continue
            assert len(parsed.subtopic) <= MAX_SUBTOPIC + 128


# The router


def slow_match(wanted: Filter, channel: str, subtopic: str) -> bool:
    """MQTT 5.0, 4.7, element by element; the reference the trie is held against."""
    pattern = [wanted.channel, *(wanted.subtopic.split(".") if wanted.subtopic else [])]
    elements = [channel, *(subtopic.split(".") if subtopic else [])]
    for index, part in enumerate(pattern):
        if part == "#":
            return len(elements) >= index
        if index >= len(elements) or part not in ("+", elements[index]):
            return False
    return len(pattern) == len(elements)


def test_router_agrees_with_the_plain_rule() -> None:
    rng = random.Random(47)
    router: Router[int] = Router()
    filters: dict[int, Filter] = {}
    for number in range(4000):
        if filters and rng.random() < 0.4:
            gone = rng.choice(list(filters))
            assert router.remove(filters.pop(gone), gone)
        else:
            parts = [rng.choice("ab+") for _ in range(rng.randint(0, 3))] + ["#"] * rng.randint(0, 1)
            filters[number] = Filter(rng.choice("xy+"), ".".join(parts))
            assert router.add(filters[number], number)
        channel = rng.choice("xyz")
        subtopic = ".".join(rng.choice("abc") for _ in range(rng.randint(0, 3)))
        expected = {n for n, wanted in filters.items() if slow_match(wanted, channel, subtopic)}
        assert set(router.match(channel, subtopic)) == expected
        assert len(router) == len(filters)
    for number, wanted in filters.items():
        router.remove(wanted, number)
    assert len(router) == 0
    assert not router._root.children  # branches left empty are forgotten


def test_router_counts_a_subscription_once_and_knows_what_it_does_not_hold() -> None:
    router: Router[str] = Router()
    wanted = Filter("x", "a")
    assert router.add(wanted, "me")
    assert not router.add(wanted, "me")
    assert not router.remove(Filter("x", "b"), "me")
    assert not router.remove(wanted, "you")
    assert not router.remove(Filter("x", ""), "me")
    assert router.match("x", "a") == ("me",)


def test_overlapping_filters_name_a_subscriber_once() -> None:
    router: Router[str] = Router()
    for wanted in (Filter("x", "#"), Filter("+", "a"), Filter("x", "+")):
        router.add(wanted, "me")
    assert router.match("x", "a") == ("me",)


def test_a_filter_with_a_content_type_takes_only_that() -> None:
    router: Router[str] = Router()
    router.add(Filter("x", "", SENML_JSON), "json")
    router.add(Filter("x", ""), "all")
    assert set(router.match("x", "", SENML_JSON)) == {"json", "all"}
    assert set(router.match("x", "", OCTET_STREAM)) == {"all"}


def test_remembered_matches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.router.MAX_CACHED", 10)
    router: Router[str] = Router()
    for number in range(100):
        router.match("x", str(number))
    assert len(router._matches) <= 10


@pytest.mark.parametrize(
    ("pattern", "fits", "fails"),
    [
        pytest.param("#", ["", "a", "a.b"], [], id="everything"),
        pytest.param("", [""], ["a"], id="no subtopic"),
        pytest.param("a", ["a"], ["", "a.b", "b"], id="one"),
        pytest.param("a.b", ["a.b"], ["a", "a.b.c", "b.a"], id="one below"),
        pytest.param("a.#", ["a", "a.b", "a.b.c"], ["", "b", "ab"], id="all below"),
        pytest.param("+", ["a", "b"], ["", "a.b"], id="any"),
        pytest.param("a.+", ["a.b"], ["a", "a.b.c", "b.b"], id="any below"),
        pytest.param("+.b", ["a.b", "c.b"], ["b", "a.b.c", "a.c"], id="below any"),
        pytest.param("+.b.#", ["a.b", "x.b.c"], ["a", "a.c", "b"], id="all below any"),
        pytest.param("+.+.#", ["a.b", "a.b.c.d"], ["a", ""], id="two and more"),
    ],
)
def test_filters_fit_subtopics_as_in_mqtt(pattern: str, fits: list[str], fails: list[str]) -> None:
    assert all(subtopic_fits(pattern, each) for each in fits)
    assert not any(subtopic_fits(pattern, each) for each in fails)
