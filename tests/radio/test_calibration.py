"""What samples of delays are worth: medians, limits, and a table that is kept over restarts."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radio.calibration import (
    NAME,
    Calibration,
    Latency,
    Sample,
    evaluate,
    from_state,
    kept_in,
    to_state,
)
from radio.lora import LoRaModulation, rx_done_latency_ns
from radio.state import StateFolder
from radio.sx127x.modem import START_LATENCY_NS

US = 1_000
SF9 = LoRaModulation(9, 125_000)


def samples(
    *latencies_us: float, mod: LoRaModulation = SF9, sender: str = "a", start_us: int = 45
) -> list[Sample]:
    receiver = "b" if sender == "a" else "a"
    return [Sample(sender, receiver, mod, round(us * US), start_us * US) for us in latencies_us]


BOTH_WAYS = samples(3300, 3301, 3302) + samples(3310, 3311, 3312, sender="b")
FOUND = evaluate(BOTH_WAYS, utc_s=1_700_000_000)


def test_the_median_of_both_directions_is_the_value() -> None:
    assert FOUND.measured == {(9, 125_000): Latency(9, 125_000, 3_306_000, 5_000, 6)}
    assert (FOUND.start_latency_ns, FOUND.start_measured) == (45 * US, True)
    assert FOUND.modules == ("a", "b")
    assert FOUND.rejected == ()


def test_two_stamps_that_went_wrong_do_not_move_it() -> None:
    wild = samples(3300, 3301, 3302, 3303, 90_000) + samples(3300, 3301, 3302, 3303, -90_000, sender="b")
    assert abs(evaluate(wild).rx_done_latency_ns(9, 125_000) - 3302 * US) <= US


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        pytest.param(samples(3300, 3301), "only 2 frames of a", id="too few"),
        pytest.param(samples(3300, 3300, 3300) + samples(3300, sender="b"), "only 1 frames of b", id="one way"),
        pytest.param(samples(-900, -900, -900), "no delay of a chip", id="before the end"),
        pytest.param(samples(20_000, 20_000, 20_000), "no delay of a chip", id="far too late"),
        pytest.param(samples(3000, 3500, 4000, 4500, 2500), "is the machine busy", id="spread"),
        pytest.param(
            samples(3300, 3300, 3300) + samples(3900, 3900, 3900, sender="b"), "two directions differ by 600 us",
            id="directions",
        ),
    ],
)  # fmt: skip
def test_what_is_not_believed_is_left_out_with_the_reason(group: list[Sample], reason: str) -> None:
    found = evaluate(group)
    assert found.measured == {}
    assert reason in found.rejected[0]
    assert found.rx_done_latency_ns(9, 125_000) == rx_done_latency_ns(9, 125_000)
    assert found.start_latency_ns == START_LATENCY_NS


def test_a_start_that_no_chip_has_is_not_believed() -> None:
    found = evaluate(samples(3300, 3300, 3300, start_us=5000))
    assert (9, 125_000) in found.measured
    assert (found.start_latency_ns, found.start_measured) == (START_LATENCY_NS, False)
    assert "start of a transmission" in found.rejected[0]


def test_nothing_measured_is_the_common_table() -> None:
    for sf in range(6, 13):
        assert Calibration().rx_done_latency_ns(sf, 125_000) == rx_done_latency_ns(sf, 125_000)


def test_other_bandwidths_of_a_measured_spreading_factor_scale_with_the_symbol() -> None:
    assert FOUND.rx_done_latency_ns(9, 250_000) == 3_306_000 // 2
    assert FOUND.rx_done_latency_ns(9, 500_000) == 3_306_000 // 4
    assert FOUND.rx_done_latency_ns(10, 125_000) == rx_done_latency_ns(10, 125_000)


def test_the_status_names_source_and_values() -> None:
    status = FOUND.status()
    assert status["source"] == "measured"
    assert status["table"] == [
        {"datr": "SF9BW125", "latency_us": 3306.0, "default_us": 3265.0, "spread_us": 5.0, "frames": 6}
    ]
    assert Calibration().status()["source"] == "table"
    json.dumps(status)


def test_it_is_kept_over_a_restart(tmp_path: Path) -> None:
    StateFolder(tmp_path).write(NAME, to_state(FOUND))
    assert kept_in(StateFolder(tmp_path)) == FOUND
    assert kept_in(StateFolder(None)) == Calibration()


def test_one_of_another_version_is_not_used_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = StateFolder(tmp_path)
    folder.write(NAME, to_state(FOUND) | {"version": 99})
    assert kept_in(folder) == Calibration()
    assert "fluxgate radio calibrate" in caplog.text


def damaged(state: dict[str, Any], dice: random.Random) -> Any:
    """The state with one place, at any depth, changed for nonsense or gone."""
    nonsense = [None, -1, 10**30, 0.5, True, "x", [], {}, [[]], [[9, 125_000, 10**9, 0, 3]], "table"]
    state = copy.deepcopy(state)
    at: Any = state
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = dice.choice(keys)
        deeper = at[key]
        if isinstance(deeper, dict | list) and deeper and dice.random() < 0.7:
            at = deeper
            continue
        if dice.random() < 0.3:
            del at[key]
        else:
            at[key] = dice.choice(nonsense)
        return state


def test_a_damaged_state_raises_one_error_or_is_plausible() -> None:
    dice = random.Random(4)
    state = to_state(replace(FOUND, rejected=("SF12BW125: only 2 frames",)))
    refused = 0
    for _ in range(5000):
        try:
            found = from_state(damaged(state, dice))
        except ValueError:
            refused += 1
            continue
        for sf, bw_hz in found.measured:
            LoRaModulation(sf, bw_hz)
            assert -US * 100 <= found.rx_done_latency_ns(sf, bw_hz) < 10**8
        assert 0 <= found.start_latency_ns <= 400 * US
    assert refused > 1000
