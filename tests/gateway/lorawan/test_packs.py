"""Packs written out say just what their records say, and what is kept for the history is what a decoder reads."""

import math
import random

import pytest
from msgspec.structs import replace

from gateway.copies import Heard
from gateway.lorawan import packs
from hub import senml, senml_kept
from hub.message import SENML_JSON, TimeQuality
from hub.senml import Record

BASE = "urn:dev:mac:70b3d57ed0000001:"
NOW = 1_763_878_000.123456


@pytest.fixture(autouse=True)
def nothing_kept():
    senml_kept.forget()
    yield
    senml_kept.forget()


def kept(payload, now_s=NOW):
    """What the history is given without decoding; None where it has to decode."""
    known = senml_kept._kept.get(id(payload))
    if known is None or known[2] != now_s:
        return None
    said = known[3]
    assert isinstance(said, senml_kept.Numbers)
    return said.records(now_s), known[4]


def decoded(payload, now_s=NOW):
    return senml.decode_stamped(SENML_JSON, payload, now_s)


@pytest.mark.parametrize("trusted", [True, False])
def test_numbers_of_the_moment_of_arrival_are_kept_as_they_are_decoded(trusted):
    rng = random.Random(7)
    units = ("", "Cel", "%RH", "m/s", "µg/m3", 'a"b')
    for _ in range(300):
        records = [
            Record(
                f"{BASE}value_{rng.randrange(9)}{rng.choice(('', ':x', '/y', '.z'))}",
                rng.choice(units),
                NOW,
                rng.choice((rng.uniform(-1e3, 1e3), float(rng.randrange(1000)), -0.0, 1e22, 5e-324, 1.7e308)),
            )
            for _ in range(rng.randrange(1, 9))
        ]
        payload = packs.values_pack(records, BASE, NOW, trusted=trusted)
        assert kept(payload) == decoded(payload) == (records, not trusted)
        assert (b'"bt"' in payload) == trusted


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(Record(BASE + "a", "", NOW, string_value="text"), id="text"),
        pytest.param(Record(BASE + "a", "", NOW, bool_value=True), id="boolean"),
        pytest.param(Record(BASE + "a", "", NOW, data_value=b"\xff\0"), id="bytes"),
        pytest.param(Record(BASE + "a", "", NOW, 1.5, sum=7.0), id="with a sum"),
        pytest.param(Record(BASE + "a", "", NOW, 1.5, update_time=7.0), id="with an update time"),
        pytest.param(Record(BASE + "a", "", NOW - 60, 1.5), id="of another time"),
        pytest.param(Record(BASE + "a", "", NOW, 1), id="a whole number"),  # type: ignore[arg-type]
        pytest.param(Record(BASE, "", NOW, 1.5), id="without a name of its own"),
        pytest.param(Record(BASE + "a b", "", NOW, 1.5), id="of a name that is none"),
        pytest.param(Record(BASE + 'a"', "", NOW, 1.5), id="of a name with a quote"),
        pytest.param(Record(BASE + "a", "u" * 65, NOW, 1.5), id="of a unit that is too long"),
    ],
)
def test_everything_else_is_left_to_the_general_writer_and_decoded_again(record):
    number = Record(BASE + "b", "Cel", NOW, 2.5)
    for records in ([record], [number, record], [record, number]):
        payload = packs.values_pack(records, BASE, NOW, trusted=True)
        assert payload == senml.encode_json(records, base_name=BASE)
        assert kept(payload) is None


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_is_not_written_as_one(value):
    records = [Record(BASE + "a", "", NOW, value)]
    payload = packs.values_pack(records, BASE, NOW, trusted=True)
    assert payload == senml.encode_json(records, base_name=BASE)
    assert kept(payload) is None


def test_the_names_that_are_remembered_are_bounded():
    for number in range(2 * packs.MAX_PIECES):
        packs.values_pack([Record(f"{BASE}n{number}", "", NOW, 1.5)], BASE, NOW, trusted=True)
        assert len(packs._pieces) <= packs.MAX_PIECES


def test_a_pack_of_very_many_records_is_not_kept():
    records = [Record(f"{BASE}n{number}", "", NOW, 1.5) for number in range(packs.MAX_KEPT + 1)]
    assert kept(packs.values_pack(records, BASE, NOW, trusted=True)) is None
    assert kept(packs.values_pack(records[1:], BASE, NOW, trusted=True)) is not None  # the control


@pytest.fixture
def uplink(network, node):
    network.add(node.config)
    network.join(node)
    return network.hear(node.uplink(b"\x03\x67\x01\x10"), sf=9, snr_db=-4.5)


@pytest.mark.parametrize("quality", [TimeQuality.NTP, TimeQuality.UNSET])
def test_how_a_frame_was_heard_is_kept_as_it_is_decoded(uplink, quality):
    heard = replace(uplink, at=replace(uplink.at, wall_ns=int(NOW * 1e9), quality=quality))
    trusted = quality is TimeQuality.NTP
    payload = packs.radio_pack(heard, NOW, trusted=trusted)
    assert kept(payload) == decoded(payload)
    assert len(decoded(payload)[0]) == packs.RADIO_RECORDS


def test_a_time_that_would_count_from_now_is_decoded_again(uplink):
    """A clock that is said to be right and stands in 1970: RFC 8428, 4.5.3 takes such a time for a relative one."""
    assert kept(packs.radio_pack(uplink, 1000.5, trusted=True), 1000.5) is None
    assert kept(packs.radio_pack(uplink, 1000.5, trusted=False), 1000.5) is not None


def test_what_several_gateways_heard_is_decoded_again(uplink):
    gateways = [Heard(uplink.rx, bytes([number] * 8)) for number in range(2)]
    payload = packs.radio_pack(uplink, NOW, trusted=True, gateways=gateways)
    assert kept(payload) is None
    assert len(decoded(payload)[0]) == packs.RADIO_RECORDS + 5
