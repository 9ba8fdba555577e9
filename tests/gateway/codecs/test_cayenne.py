"""Cayenne LPP: the examples of its documentation, every type, every cut, random bytes."""

import math
import random

import pytest

from gateway.codecs import CodecError, get_codec

TIME = 1_760_000_000.5
BASE = "urn:dev:mac:70b3d57ed0000001:"


def decode(payload: str):
    records = get_codec("cayenne").decode(1, bytes.fromhex(payload), TIME, BASE)
    assert all(record.name.startswith(BASE) and record.time == TIME for record in records)
    return [
        (r.name.removeprefix(BASE), r.unit, r.bool_value if r.value is None else r.value) for r in records
    ]


# The three examples of the public documentation (accelerations converted from g to m/s2)
DOCUMENTED = [
    pytest.param(
        "03670110056700ff",
        [("temperature_3", "Cel", 27.2), ("temperature_5", "Cel", 25.5)],
        id="two temperatures",
    ),
    pytest.param(
        "0167ffd7067104d2fb2e0000",
        [
            ("temperature_1", "Cel", -4.1),
            ("accelerometer_6_x", "m/s2", 12.10141),
            ("accelerometer_6_y", "m/s2", -12.10141),
            ("accelerometer_6_z", "m/s2", 0.0),
        ],
        id="temperature and acceleration",
    ),
    pytest.param(
        "018806765ff2960a0003e8",
        [("gps_1_lat", "lat", 42.3519), ("gps_1_lon", "lon", -87.9094), ("gps_1_alt", "m", 10.0)],
        id="GPS",
    ),
]

# One of each type, worked out from the table of sizes and resolutions
TYPES = [
    ("000001", [("digital_input_0", "/", 1)]),
    ("010100", [("digital_output_1", "/", 0)]),
    ("0202ff9c", [("analog_input_2", "", -1.0)]),
    ("03030159", [("analog_output_3", "", 3.45)]),
    ("0464ffffffff", [("generic_4", "", 4294967295)]),
    ("0565ffff", [("illuminance_5", "lx", 65535)]),
    ("066601", [("presence_6", "", True)]),
    ("066600", [("presence_6", "", False)]),
    ("0768c9", [("humidity_7", "%RH", 100.5)]),
    ("087327a6", [("pressure_8", "Pa", 101500)]),
    ("09740149", [("voltage_9", "V", 3.29)]),
    ("0a7503e9", [("current_10", "A", 1.001)]),
    ("0b7633be0a08", [("frequency_11", "Hz", 868_092_424)]),
    ("0c7832", [("percentage_12", "/", 0.5)]),
    ("0d79fffb", [("altitude_13", "m", -5)]),
    ("0e7d01f4", [("concentration_14", "ppm", 500)]),
    ("0f8007d0", [("power_15", "W", 2000)]),
    ("1082000004d2", [("distance_16", "m", 1.234)]),
    ("11830000303a", [("energy_17", "kWh", 12.346)]),
    ("1284010e", [("direction_18", "deg", 270)]),
    ("138568e77800", [("time_19", "s", 0x68E77800)]),
    ("14860064ff9c0000", [("gyrometer_20_x", "", 1.0), ("gyrometer_20_y", "", -1.0), ("gyrometer_20_z", "", 0.0)]),
    ("1587ff8000", [("colour_21_red", "", 255), ("colour_21_green", "", 128), ("colour_21_blue", "", 0)]),
    ("168e01", [("switch_22", "", True)]),
    ("ff670000", [("temperature_255", "Cel", 0.0)]),
    ("01678000", [("temperature_1", "Cel", -3276.8)]),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "expected"), DOCUMENTED)
def test_documented_examples(payload, expected):
    assert decode(payload) == expected


@pytest.mark.parametrize(("payload", "expected"), TYPES)
def test_every_type(payload, expected):
    assert decode(payload) == expected


def test_a_payload_of_all_types_is_read_to_its_end():
    whole = "".join(payload for payload, _ in TYPES)
    assert decode(whole) == [value for _, values in TYPES for value in values]


@pytest.mark.parametrize("payload", [row[0] for row in TYPES])
def test_every_cut_is_noticed(payload):
    wire = bytes.fromhex(payload)
    for end in range(len(wire)):
        with pytest.raises(CodecError, match=r"cut short|no type|empty"):
            get_codec("cayenne").decode(1, wire[:end], TIME, BASE)


def test_an_unknown_type_is_named():
    with pytest.raises(CodecError, match="type 241 of channel 3"):
        decode("0167000103f100")


def test_random_bytes_raise_nothing_but_codec_error():
    rng = random.Random(4)
    kinds = [int(payload[2:4], 16) for payload, _ in TYPES]
    read = 0
    for _ in range(20_000):
        wire = bytearray(rng.randbytes(rng.randrange(30)))
        if len(wire) > 1 and rng.random() < 0.8:
            wire[1] = rng.choice(kinds)
        try:
            records = get_codec("cayenne").decode(1, bytes(wire), TIME, BASE)
        except CodecError:
            continue
        read += 1
        assert records
        assert all(math.isfinite(record.value or 0) for record in records)
    assert read > 500
