"""Cayenne LPP downlinks: every type written and read back; what cannot be written is refused.

Bytes: of pycayennelpp 2.4.0 (here, and of random values in cayenne_vectors.json); the values named after
ElectronicCats/CayenneLPP are those of its LppMessageTest.cpp, with the bytes its table of sizes gives.
"""

import json
import random
from pathlib import Path

import pytest

from gateway.codecs import CodecError, get_codec
from gateway.codecs.cayenne import MAX_PAYLOAD
from hub.senml import Record

TIME = 1_760_000_000.5
BASE = "urn:dev:mac:70b3d57ed0000001:"
cayenne = get_codec("cayenne")


def decode(payload):
    return {
        r.name.removeprefix(BASE): r.bool_value if r.value is None else r.value
        for r in cayenne.decode(1, payload, TIME, BASE)
    }


VECTORS = [
    # pycayennelpp
    pytest.param("03 67 0110 05 67 00ff", {"temperature_3": 27.2, "temperature_5": 25.5}, id="temperature"),
    pytest.param("06 71 04d2 fb2e 0000", {"accelerometer_6": [12.10141, -12.10141, 0.0]}, id="accelerometer"),
    pytest.param("01 88 06765f f2960a 0003e8", {"gps_1": {"lat": 42.3519, "lon": -87.9094, "alt": 10.0}}, id="gps"),
    pytest.param("00 00 00 01 01 ff", {"digital_input_0": 0, "digital_output_1": 255}, id="digital"),
    pytest.param("00 02 0539 01 02 fac7", {"analog_input_0": 13.37, "analog_input_1": -13.37}, id="analog"),
    pytest.param("00 68 4b", {"humidity_0": 37.5}, id="humidity"),
    pytest.param("00 73 2774", {"pressure_0": 101000}, id="barometer"),
    pytest.param("00 7a 00138b 01 7a ffec75", {"load_0": 5.003, "load_1": -5.003}, id="load"),
    pytest.param("00 86 000a 0000 fff6", {"gyrometer_0": [0.1, 0, -0.1]}, id="gyrometer"),
    pytest.param("00 85 5fd0a3a8", {"time_0": 0x5FD0A3A8}, id="unix time"),
    # ElectronicCats/CayenneLPP
    pytest.param("00 79 0004 01 87 08090a", {"altitude_0": 4, "colour_1": [8, 9, 10]}, id="altitude, colour"),
    pytest.param("01 7d 000b 01 75 2ee0", {"concentration_1": 11, "current_1": 12.0}, id="concentration, current"),
    pytest.param("02 84 000f 02 82 00003e80", {"direction_2": 15, "distance_2": 16.0}, id="direction, distance"),
    pytest.param("03 83 00004268 04 76 00000012", {"energy_3": 17.0, "frequency_4": 18}, id="energy, frequency"),
    pytest.param("05 64 00000013 06 65 001a 07 8e 01",
                 {"generic_5": 19, "illuminance_6": 26, "switch_7": True}, id="generic, illuminance, switch"),
    pytest.param("08 78 1c 08 80 001d 0c 74 0d48",
                 {"percentage_8": 0.28, "power_8": 29, "voltage_12": 34.0}, id="others"),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "values"), VECTORS)
def test_values_are_written_as_others_write_them(wire, values):
    payload = bytes.fromhex(wire)
    assert cayenne.encode(None, values) == (1, payload)
    read = decode(payload)
    assert cayenne.encode(7, read) == (7, payload)
    records = cayenne.decode(1, payload, TIME, BASE)
    assert cayenne.encode(None, records)[1] == payload


# Of each type: its name, suffixes, and what turns its number into one of our unit
NAMES = {
    0: ("digital_input", [""], 1), 1: ("digital_output", [""], 1), 2: ("analog_input", [""], 1),
    3: ("analog_output", [""], 1), 100: ("generic", [""], 1), 101: ("illuminance", [""], 1),
    102: ("presence", [""], 1), 103: ("temperature", [""], 1), 104: ("humidity", [""], 1),
    113: ("accelerometer", ["_x", "_y", "_z"], 9.80665), 115: ("pressure", [""], 100), 116: ("voltage", [""], 1),
    117: ("current", [""], 1), 118: ("frequency", [""], 1), 120: ("percentage", [""], 0.01), 121: ("altitude", [""], 1),
    122: ("load", [""], 1), 125: ("concentration", [""], 1), 128: ("power", [""], 1), 130: ("distance", [""], 1),
    131: ("energy", [""], 1), 132: ("direction", [""], 1), 133: ("time", [""], 1),
    134: ("gyrometer", ["_x", "_y", "_z"], 1), 135: ("colour", ["_red", "_green", "_blue"], 1),
    136: ("gps", ["_lat", "_lon", "_alt"], 1), 142: ("switch", [""], 1),
}  # fmt: skip
OF_ANOTHER = json.loads(Path(__file__).with_name("cayenne_vectors.json").read_text())["rows"]


def test_random_values_of_every_type_are_read_as_another_implementation_reads_them():
    met = set()
    for wire, values in OF_ANOTHER:
        expected = {}
        for channel, kind, numbers in values:
            met.add(kind)
            name, suffixes, factor = NAMES[kind]
            for suffix, number in zip(suffixes, numbers, strict=True):
                flag = kind in (102, 142)
                expected[f"{name}_{channel}{suffix}"] = (
                    bool(number) if flag else pytest.approx(number * factor, abs=1e-5)
                )
        assert decode(bytes.fromhex(wire)) == expected
    assert met == set(NAMES)


# The header is that of ElectronicCats/CayenneLPP: size with itself, factor, first point; a step is two nibbles
def test_a_polyline_is_read_step_by_step():
    wire = bytes.fromhex("05f00a010762a201c14c21f8")
    read = decode(wire)
    assert read["polyline_5_0_lat"] == 48.4002
    assert read["polyline_5_0_lon"] == 11.5020
    assert (read["polyline_5_1_lat"], read["polyline_5_1_lon"]) == (48.4003, 11.5022)
    assert (read["polyline_5_2_lat"], read["polyline_5_2_lon"]) == (48.3995, 11.5021)


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        ("05f0", "cut short"),
        ("05f00a010762a201c14c", "cut short"),
        ("05f007010762a201c14c", "length of 7"),
        ("05f008000762a201c14c", "precision"),
        ("05f008e00762a201c14c", "precision"),
    ],
)
def test_a_damaged_polyline_is_refused(wire, words):
    with pytest.raises(CodecError, match=words):
        decode(bytes.fromhex(wire))


def test_polylines_are_written_with_the_finest_precision_that_holds_their_steps():
    rng = random.Random(3)
    for _ in range(300):
        reach = 10 ** rng.uniform(-3.5, 0.5)
        point = [rng.uniform(-80, 80), rng.uniform(-170, 170)]
        points = [list(point)]
        for _ in range(rng.randrange(20)):
            point = [max(-90, min(90, point[0] + rng.uniform(-reach, reach))),
                     max(-180, min(180, point[1] + rng.uniform(-reach, reach)))]  # fmt: skip
            points.append(list(point))
        _, payload = cayenne.encode(None, {"polyline_9": points})
        factor = (
            payload[3]
            if payload[3] < 200
            else {234: 200, 235: 500, 236: 1000, 237: 2000, 238: 5000, 239: 10000}[payload[3]]
        )
        read = decode(payload)
        for index, (lat, lon) in enumerate(points):
            got = read[f"polyline_9_{index}_lat"], read[f"polyline_9_{index}_lon"]
            assert got == pytest.approx((lat, lon), rel=0, abs=factor / 20_000 + 1e-9)


KINDS = {
    0: 1, 1: 1, 2: 2, 3: 2, 4: 2, 100: 4, 101: 2, 102: 1, 103: 2, 104: 1, 113: 6, 115: 2, 116: 2, 117: 2, 118: 4,
    120: 1, 121: 2, 122: 3, 125: 2, 128: 2, 130: 4, 131: 4, 132: 2, 133: 4, 134: 6, 135: 3, 136: 9, 142: 1,
}  # fmt: skip


def test_whatever_is_read_can_be_written_back():
    rng = random.Random(5)
    for _ in range(4_000):
        kinds = rng.sample(sorted(KINDS), rng.randrange(1, 6))
        payload = b""
        for kind in kinds:
            value = rng.randbytes(KINDS[kind])
            if kind in (102, 142):
                value = bytes([rng.randrange(2)])
            payload += bytes([rng.randrange(256), kind]) + value
        assert cayenne.encode(None, decode(payload))[1] == payload


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "no value"),
        ({"led": 1}, "'led' is not a name of Cayenne LPP"),
        ({"temperature_256": 1}, "not a name"),
        ({"temperature_1_x": 1}, "without anything after its channel"),
        ({"temperature_1": "warm"}, "not a number"),
        ({"temperature_1": None}, "not a number"),
        ({"temperature_1": float("nan")}, "not a number"),
        ({"temperature_1": 5000}, "out of range"),
        ({"humidity_1": -1}, "out of range"),
        ({"gps_1": [1, 2]}, "needs lat, lon, alt"),
        ({"gps_1_lat": 1, "gps_1_lon": 2}, "needs lat, lon, alt"),
        ({"gps_1": [1000, 0, 0]}, "out of range"),
        ({"gps_1": {"lat": 1, "lon": 2, "height": 3}}, "needs lat, lon, alt"),
        ({"polyline_1": 5}, "list of"),
        ({"polyline_1": []}, "list of"),
        ({"polyline_1": [[1, 2, 3]]}, "list of"),
        ({"polyline_1": [[91, 0]]}, "list of"),
        ({"polyline_1": [[0, 0]] * 300}, "more than"),
        ({"polyline_1": [[0, 0], [80, 0]]}, "too far apart"),
        ({f"generic_{n}": n for n in range(50)}, f"more than any frame carries .{MAX_PAYLOAD}"),
        ([Record("a:temperature_1", value=1.0), Record("b:temperature_1", value=2.0)], "named twice"),
        ([Record("temperature_1", string_value="x")], "not a number"),
    ],
)
def test_what_cannot_be_written_is_refused_in_words(value, words):
    with pytest.raises(CodecError, match=words):
        cayenne.encode(None, value)


@pytest.mark.parametrize("fport", [0, 224, -1, 1000])
def test_ports_that_are_not_for_applications_are_refused(fport):
    for name, value in (("cayenne", {"switch_1": True}), ("raw", {"hex": "00"}), ("senml", {"a": 1})):
        with pytest.raises(CodecError, match="port"):
            get_codec(name).encode(fport, value)


def test_random_values_raise_nothing_but_codec_error():
    rng = random.Random(8)
    names = [
        "temperature_1",
        "gps_2",
        "gps_2_lat",
        "polyline_3",
        "switch_4",
        "load_5",
        "x",
        "colour_6",
        "colour_6_red",
    ]
    values = [
        1,
        -1.5,
        True,
        None,
        "x",
        [],
        [1, 2, 3],
        {},
        {"lat": 1, "lon": 1, "alt": 1},
        1e300,
        [[1, 2]],
        [[None, 1]],
    ]
    written = 0
    for _ in range(5_000):
        try:
            _, payload = cayenne.encode(
                None, {rng.choice(names): rng.choice(values) for _ in range(rng.randrange(4))}
            )
        except CodecError:
            continue
        written += 1
        assert decode(payload)
    assert written > 150


def test_bytes_and_senml_are_written_too():
    assert get_codec("raw").encode(5, {"hex": "0a 1f"}) == (5, b"\x0a\x1f")
    assert get_codec("raw").encode(None, [Record("x", data_value=b"\x01")]) == (1, b"\x01")
    for bad in ({"hex": "0"}, {"text": "a"}, {"hex": 5}, [Record("x", value=1.0)], []):
        with pytest.raises(CodecError, match="takes"):
            get_codec("raw").encode(None, bad)
    senml = get_codec("senml")
    _, payload = senml.encode(None, {"led": True, "level": 5, "mode": "eco"})
    assert payload[0] == 0x83, "CBOR, three records"
    read = senml.decode(1, payload, TIME, BASE)
    assert [(r.name.removeprefix(BASE), r.value, r.bool_value, r.string_value) for r in read] == [
        ("led", None, True, None),
        ("level", 5, None, None),
        ("mode", None, None, "eco"),
    ]
    assert senml.encode(None, [Record("led", bool_value=True)])[1][0] == 0x81
    for bad in ({}, [], {"a b": 1}, {"a": None}, {"a": [1]}):
        with pytest.raises(CodecError):
            senml.encode(None, bad)
