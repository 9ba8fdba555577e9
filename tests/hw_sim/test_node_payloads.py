from random import Random

import pytest

from gateway.codecs import get_codec
from hw_sim import payloads
from hw_sim.payloads import Signals, encode


@pytest.mark.parametrize(
    ("encoded", "published"),
    [
        # The examples of the Cayenne LPP documentation.
        pytest.param(
            payloads.temperature(3, 27.2) + payloads.temperature(5, 25.5), "03670110056700ff", id="two"
        ),
        pytest.param(payloads.temperature(1, -4.1), "0167ffd7", id="below zero"),
        pytest.param(payloads.gps(1, 42.3519, -87.9094, 10), "018806765ff2960a0003e8", id="position"),
    ],
)
def test_payloads_are_those_of_the_documentation(encoded: bytes, published: str) -> None:
    assert encoded.hex() == published


def test_the_gateways_codec_reads_what_devices_measure() -> None:
    signals = Signals(Random(1), 52.52, 13.405)
    for hour in range(48):
        now = signals.sample(3600 * hour)
        payload = encode(now, ("temperature", "humidity", "gps", "digital"), 51)
        values = {record.name: record.value for record in get_codec("cayenne").decode(1, payload, 0.0, "")}
        assert values["temperature_1"] == pytest.approx(now.temperature_c, abs=0.051)
        assert values["humidity_2"] == pytest.approx(now.humidity_percent, abs=0.26)
        assert values["gps_3_lat"] == pytest.approx(52.52, abs=0.001)
        assert values["digital_input_4"] in (0, 1)


def test_a_day_has_a_cool_morning_and_a_warm_afternoon() -> None:
    signals = Signals(Random(2), 0, 0)
    by_hour = [signals.sample(3600 * hour).temperature_c for hour in range(24)]
    assert 1 <= by_hour.index(min(by_hour)) <= 6
    assert 12 <= by_hour.index(max(by_hour)) <= 19


def test_what_does_not_fit_is_left_out() -> None:
    now = Signals(Random(1), 0, 0).sample(0)
    assert len(encode(now, ("temperature", "gps", "digital"), 11)) == 4 + 3
