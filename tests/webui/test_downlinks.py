"""The pages of a device's downlinks and of multicast groups, against a small gateway."""

from __future__ import annotations

import random
import time

import pytest

from tests.webui.double import HOSTILE, GatewayDouble, Visitor
from webui import downlink_words as dlw
from webui.downlinks import Queue, Receipt, Waiting

EUI = "a84041ffff1c3d5e"
KEY = "00112233445566778899aabbccddeeff"


@pytest.fixture
def known(visitor: Visitor, double: GatewayDouble) -> GatewayDouble:
    double.add_device(EUI, "Cold room 2", last_seen=time.time())
    double.queue |= {
        "queue": [
            {
                "id": "o-2",
                "state": "awaiting_ack",
                "fport": 10,
                "payload": "01ff",
                "confirmed": True,
                "priority": 9,
                "attempts": 2,
                "queued": time.time(),
                "expires": time.time() + 60,
            },
            {"id": "o-3", "fport": 3, "payload": "", "why": HOSTILE, "queued": time.time()},
        ],
        "receipts": [
            {
                "id": "o-1",
                "state": "sent",
                "time": time.time(),
                "window": "RX2",
                "fcnt": 7,
                "gateway": "02f10f6a7e000001",
                "attempt": 1,
            },
            {"id": "o-0", "state": "failed", "reason": "never acknowledged, sent 8 times", "time": 0.0},
        ],
    }
    visitor.sign_in()
    return double


def test_the_queue_stands_beside_what_became_of_earlier_orders(
    visitor: Visitor, known: GatewayDouble
) -> None:
    visitor.get(f"/devices/{EUI}/downlinks")
    for text in (
        "Port 10, 2",
        "sent, waits for its acknowledgement, tried 2 times",
        "priority 9",
        "<code>01ff</code>",
        "Sent in its second window (RX2) by 02f10f6a7e000001",
        "counter 7",
        "Never acknowledged, sent 8 times.",
        "a class A device listens only then",
        'aria-current="page">Downlinks',
    ):
        assert text in visitor.page, text
    assert "<script>alert" not in visitor.page
    assert visitor.get(f"/devices/{EUI}/downlinks/state").status_code == 200


def test_an_order_is_bytes_with_priority_and_time_or_values_for_the_codec(
    visitor: Visitor, known: GatewayDouble
) -> None:
    path = f"/devices/{EUI}/downlinks"
    visitor.get(path)
    bytes_form = {"fport": "10", "payload": "01 FF", "priority": "5", "ttl": "2", "unit": "60"}
    assert visitor.post(f"{path}/new", bytes_form | {"confirmed": "yes"}).status_code == 303
    visitor.get(path)
    assert "Queued." in visitor.page
    assert visitor.post(f"{path}/new", {"values": '{"digital_output_1": 1}'}).status_code == 303
    visitor.get(path)
    assert visitor.post(f"{path}/new", {"fport": "2", "values": '[{"n": "x", "v": 1}]'}).status_code == 303
    first = {"fport": 10, "payload": "01ff", "confirmed": True, "priority": 5, "ttl_s": 120}
    assert known.downlinks == [
        {"dev_eui": EUI, **first},
        {"dev_eui": EUI, "confirmed": False, "data": {"digital_output_1": 1}},
        {"dev_eui": EUI, "confirmed": False, "fport": 2, "records": [{"n": "x", "v": 1}]},
    ]


@pytest.mark.parametrize(
    ("posted", "field"),
    [
        pytest.param({"payload": "01"}, "fport", id="bytes without a port"),
        pytest.param({"fport": "224", "payload": "01"}, "fport", id="port"),
        pytest.param({"fport": "1", "payload": "0"}, "payload", id="half a byte"),
        pytest.param({"fport": "1", "payload": "00" * 243}, "payload", id="too long"),
        pytest.param({"fport": "1", "payload": "00", "values": "{}"}, "values", id="both"),
        pytest.param({"values": "on"}, "values", id="no JSON"),
        pytest.param({"values": "[1]"}, "values", id="no object"),
        pytest.param({"values": "[" * 3000}, "values", id="deep"),
        pytest.param({"values": "{" + " " * 5000 + "}"}, "values", id="long"),
        pytest.param({"fport": "1", "priority": "high"}, "priority", id="priority"),
        pytest.param({"fport": "1", "ttl": "-1"}, "ttl", id="time"),
    ],
)
def test_what_cannot_be_read_is_said_at_its_field(
    visitor: Visitor, known: GatewayDouble, posted: dict[str, str], field: str
) -> None:
    visitor.get(f"/devices/{EUI}/downlinks")
    assert visitor.post(f"/devices/{EUI}/downlinks/new", posted).status_code == 422
    assert f'id="{field}-error"' in visitor.page
    assert known.downlinks == []


def test_what_the_gateway_refuses_is_told_in_its_words(visitor: Visitor, known: GatewayDouble) -> None:
    visitor.get(f"/devices/{EUI}/downlinks")
    assert (
        visitor.post(f"/devices/{EUI}/downlinks/new", {"fport": "1", "payload": "00" * 60}).status_code == 422
    )
    assert "At most 51 bytes at this data rate." in visitor.page


def test_orders_are_taken_back_one_or_all(visitor: Visitor, known: GatewayDouble) -> None:
    path = f"/devices/{EUI}/downlinks"
    for posted in ({"id": "o-2"}, {}, {"id": "../../../users"}):
        visitor.get(path)
        assert visitor.post(f"{path}/cancel", posted).status_code == 303
    assert known.taken_back == ["o-2", "", ""]


def test_words_for_every_state_and_class() -> None:
    for state in ("queued", "in_flight", "awaiting_ack"):
        assert dlw.standing(Waiting("x", state)) != state
    assert dlw.standing(Waiting("x", "queued", attempts=1)) == "waits, tried once"
    for state in ("queued", "sent", "acknowledged", "failed"):
        assert dlw.fate(Receipt("x", state)) != state
    assert len({dlw.when_it_leaves(Queue(each)) for each in "ABC"}) == 3
    assert dlw.fate(Receipt("x", "sent", window="RXC")) == "Sent at once (class C)"


# Groups


def test_a_group_is_set_up_and_its_key_is_shown_once(visitor: Visitor, known: GatewayDouble) -> None:
    visitor.get("/groups")
    assert "None yet." in visitor.page
    posted = {
        "name": "lamps",
        "mc_addr": "01 02 03 04",
        "mc_key": KEY,
        "gateways": "02F10F6A7E000001 02f10f6a7e000002",
    }
    assert (
        visitor.post("/groups", posted | {"freq": "869.525", "dr": "3", "fcnt_down": "9"}).status_code == 201
    )
    assert "k-1" in visitor.page
    assert known.group_calls == [
        (
            "POST",
            {
                "name": "lamps",
                "mc_addr": "01020304",
                "mc_key": KEY,
                "freq_hz": 869_525_000,
                "dr": 3,
                "gateways": ["02f10f6a7e000001", "02f10f6a7e000002"],
                "fcnt_down": 9,
            },
        )
    ]
    visitor.get("/groups")
    assert "01020304" in visitor.page
    visitor.get("/groups/lamps")
    assert "k-1" not in visitor.page


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"name": "la.mps"}, "name", id="name"),
        pytest.param({"mc_addr": "1"}, "mc_addr", id="address"),
        pytest.param({"mc_key": "zz"}, "mc_key", id="key"),
        pytest.param({"mc_key": "", "nwk_s_key": KEY}, "app_s_key", id="one of two keys"),
        pytest.param({"gateways": "x"}, "gateways", id="gateway"),
        pytest.param({"freq": "high"}, "freq", id="frequency"),
        pytest.param({"dr": "16"}, "dr", id="data rate"),
    ],
)
def test_a_group_that_cannot_be_read_is_not_set_up_and_keys_do_not_come_back(
    visitor: Visitor, known: GatewayDouble, changes: dict[str, str], field: str
) -> None:
    visitor.get("/groups")
    posted = {"name": "lamps", "mc_addr": "01020304", "mc_key": KEY} | changes
    assert visitor.post("/groups", posted).status_code == 422
    assert f'id="{field}-error"' in visitor.page
    assert KEY not in visitor.page
    assert known.groups == {}


def test_a_group_is_sent_to_given_members_and_removed(visitor: Visitor, known: GatewayDouble) -> None:
    known.groups["lamps"] = {
        "name": "lamps",
        "mc_addr": "01020304",
        "members": [EUI],
        "sends_through": ["02f10f6a7e000001"],
        "queue": [
            {"id": "g-1", "fport": 3, "payload": "00", "sent": 1, "gateways_left": ["x"], "why": HOSTILE}
        ],
        "receipts": [{"id": "g-0", "state": "sent", "window": "RXC", "time": time.time()}],
    }
    visitor.get("/groups/lamps")
    for text in ("sent by 1", "1 left", "Sent at once (class C)", "02f10f6a7e000001"):
        assert text in visitor.page, text
    assert "<script>alert" not in visitor.page
    for path, posted, status in (
        ("downlinks", {"fport": "15", "payload": "0102", "ttl": "1"}, 303),
        ("downlinks", {"payload": "0102"}, 422),
        ("cancel", {"id": "g-1"}, 303),
        ("members", {"dev_eui": EUI}, 303),
        ("members", {"dev_eui": EUI, "do": "leave"}, 303),
        ("members", {"dev_eui": "1122334455667788"}, 422),
        ("members", {"dev_eui": "1"}, 422),
        ("remove", {}, 303),
    ):
        visitor.get("/groups/lamps")
        assert visitor.post(f"/groups/lamps/{path}", posted).status_code == status, (path, posted)
    assert known.group_calls == [
        ("order", {"fport": 15, "payload": "0102", "ttl_s": 3600}),
        ("PUT", EUI),
        ("DELETE", EUI),
    ]
    assert (known.taken_back, known.groups) == (["g-1"], {})


def test_only_a_name_goes_into_an_address(visitor: Visitor, known: GatewayDouble) -> None:
    for name in ("la.mps", "%2e%2e", "a b"):
        assert visitor.get(f"/groups/{name}").status_code == 404


def test_damaged_forms_never_break_the_reading() -> None:
    rng = random.Random(9)
    names = [
        "fport",
        "payload",
        "values",
        "priority",
        "ttl",
        "unit",
        "confirmed",
        "name",
        "mc_addr",
        "freq",
        "dr",
    ]
    letters = '0123456789abcdef{}[]":, \x00é\u0661'
    for _ in range(3000):
        posted = {name: "".join(rng.choices(letters, k=rng.randrange(12))) for name in rng.sample(names, 5)}
        dlw.read_order(posted)
        dlw.read_group(posted)
