"""A scan of the band in a module's pauses: what it finds, and that no frame is lost to it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from hw_sim.records import Fate
from radio.config import ModuleConfig, RadioConfig, Role
from radio.errors import RadioError
from radio.gwmp import TxError, TxPacket
from radio.jit import MS, Transmission
from radio.lora import LoRaModulation, airtime_us
from radio.service import Radio
from radio.sx127x import roaming
from radio.sx127x.modem import Fault, Received, Sent
from radio.sx127x.registers import Settings
from radio.sx127x.scan import MAX_POINTS, ScanJob, Scanner, ScanPlan, scan_arguments

if TYPE_CHECKING:
    from tests.radio.conftest import Bench, Carrier

SECOND = 1000 * MS
FREQ_HZ = 868_100_000
BOARD = "fluxgate-sim-4"
BAND = ScanPlan(867_000_000, 869_000_000, 200_000, 5)


def settings(sf: int = 7, freq_hz: int = FREQ_HZ) -> Settings:
    return Settings(freq_hz, LoRaModulation(sf, 125_000))


def post(bench: Bench, plan: ScanPlan, at_ns: int = SECOND) -> ScanJob:
    job = ScanJob(plan)
    bench.at(at_ns, lambda: bench.owner.post_scan(job))
    return job


def busy_channel(bench: Bench, sf: int, until_ns: int) -> None:
    """Frames at every phase of a scan, with pauses that let it go on."""
    rng = random.Random(sf)
    mod = LoRaModulation(sf, 125_000)
    t_ns, n = SECOND, 0
    while t_ns < until_ns:
        bench.device_sends(t_ns, settings(sf), n.to_bytes(2, "big") + bytes(11))
        t_ns += airtime_us(mod, 13) * 1000 + rng.randrange(5, 90) * MS * (1 << sf - 7)
        n += 1


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ((869_000_000, 868_000_000), "upwards"),
        ((100_000_000, 868_000_000), "137 to 1020 MHz"),
        ((867_000_000, 868_000_000, 10), "less than 1000"),
        ((867_000_000, 868_000_000, 1000), f"more than {MAX_POINTS}"),
        ((867_000_000, 868_000_000, 200_000, 0), "dwell 0 ms"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_in_words(plan: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ScanPlan(*plan)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"start_hz": 868_000_000}, "takes start_hz and stop_hz"),
        ({"start_hz": 868_000_000, "stop_hz": 869_000_000, "speed": 1}, "may take"),
        ({"start_hz": 868_000_000, "stop_hz": "869"}, "stop_hz is not a whole number"),
        ({"start_hz": 868_000_000, "stop_hz": True}, "stop_hz is not a whole number"),
    ],
)
def test_a_request_that_is_none_is_refused_in_words(args: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        scan_arguments(args)
    assert scan_arguments({"start_hz": 1, "stop_hz": 2, "module": None}) == {"start_hz": 1, "stop_hz": 2}


@pytest.mark.parametrize("receives", [True, False], ids=["a receiver", "a module that only sends"])
def test_a_scan_shows_who_is_on_the_air_and_where_it_is_quiet(
    bench_for: Callable[..., Bench], receives: bool
) -> None:
    bench = bench_for(settings() if receives else None)
    job = post(bench, BAND)
    bench.device_sends(SECOND - 100 * MS, settings(12, 868_800_000), bytes(200))  # on the air for seconds
    bench.run_until(4 * SECOND)
    result = job.result("module")
    assert job.done.is_set()
    assert result["complete"]
    points = {point["freq_hz"]: point for point in result["points"]}
    assert list(points) == list(BAND.points)
    assert points[868_800_000]["rssi_dbm"] > points[868_000_000]["rssi_dbm"] + 8
    for freq_hz, point in points.items():
        if abs(freq_hz - 868_800_000) >= 400_000:
            assert point["rssi_dbm"] <= point["peak_dbm"] < -105
    assert bench.state == ("LISTENING" if receives else "RESTING")
    assert bench.of(Fault) == []


@pytest.mark.parametrize("sf", [7, 9])
def test_no_frame_is_lost_to_scans(bench_for: Callable[..., Bench], sf: int) -> None:
    heard, sent, spared = scanned_under_load(bench_for, sf)
    assert heard == sent
    assert spared > 0


def test_a_scan_that_leaves_without_a_look_loses_frames(
    bench_for: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: its traffic does find a careless scanner."""

    class Careless(Scanner):
        def _frame_comes(self, status: bytes) -> bool:
            return False

    monkeypatch.setattr(roaming, "Scanner", Careless)
    heard, sent, _spared = scanned_under_load(bench_for, 7)
    assert heard < sent - 3


def scanned_under_load(bench_for: Callable[..., Bench], sf: int) -> tuple[int, int, int]:
    """(frames heard, frames sent, frames that made a scan wait) while one scan follows another."""
    bench = bench_for(settings(sf))
    until_ns = (5 if sf == 7 else 12) * SECOND
    busy_channel(bench, sf, until_ns)
    jobs = [ScanJob(BAND) for _ in range(60)]
    waiting = iter(jobs)

    def keep_posting() -> None:
        if bench.kernel.now_ns < until_ns:
            if bench.owner.modem.scanner is None:
                bench.owner.post_scan(next(waiting))
            bench.at(bench.kernel.now_ns + 20 * MS, keep_posting)

    bench.at(SECOND - 200 * MS, keep_posting)
    bench.run_until(until_ns + 2 * SECOND)
    assert jobs[1].done.is_set()
    received = [frame for frame in bench.frames if frame.fate("gateway") is Fate.RECEIVED]
    assert len(bench.of(Received)) == len(received)
    return len(received), len(bench.frames), sum(job.frames_spared for job in jobs)


def test_a_downlink_comes_first_and_the_scan_ends_after_it(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(settings(12))  # long visits: an order comes in the middle of one
    job = post(bench, ScanPlan(867_000_000, 867_800_000, 200_000, 60))
    txs = [
        Transmission(n, (2 + n) * SECOND + n * 7 * MS, FREQ_HZ, LoRaModulation(7, 125_000), 14, True, False, 8, b"x")
        for n in range(3)
    ]  # fmt: skip
    for tx in txs:
        bench.at(tx.start_ns - 15 * MS, lambda tx=tx: bench.owner.submit(tx, bench.kernel.now_ns))
    bench.run_until(8 * SECOND)
    sent = bench.of(Sent)
    assert [abs(event.start_ns - event.tx.start_ns) <= 20_000 for event in sent] == [True] * 3
    assert job.result("module")["complete"]


def test_a_scan_goes_on_beside_a_sweep(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(settings(7), sweep_sfs=(7, 8))
    job = post(bench, BAND)
    bench.run_until(4 * SECOND)
    assert job.result("module")["complete"]
    for n in range(24):
        bench.device_sends(4 * SECOND + n * 151 * MS + n * 211_000, settings(7), bytes(13))
    bench.run_until(9 * SECOND)
    assert bench.of(Received)
    assert bench.of(Fault) == []


def test_a_module_that_fails_meanwhile_says_so_instead_of_keeping_anyone_waiting(
    bench_for: Callable[..., Bench],
) -> None:
    bench = bench_for(settings())
    job = post(bench, ScanPlan(863_000_000, 870_000_000, 100_000, 50))
    bench.chip.strict = False
    bench.at(SECOND + 300 * MS, bench.chip.power_cycle)
    bench.run_until(5 * SECOND)
    assert job.done.is_set()
    assert "failed meanwhile" in job.failure
    assert not job.result("module")["complete"]
    again = post(bench, BAND, 5 * SECOND)
    bench.run_until(9 * SECOND)
    assert again.result("module")["complete"]


def test_nobody_waits_for_a_radio_that_has_been_stopped(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(settings())
    jobs = [ScanJob(ScanPlan(863_000_000, 870_000_000, 100_000, 50)) for _ in range(2)]
    bench.at(SECOND, lambda: [bench.owner.post_scan(job) for job in jobs])
    bench.run_until(SECOND + 300 * MS)
    bench.stop.set()
    bench.run_until(2 * SECOND)
    assert [job.failure for job in jobs] == ["the radio is being stopped"] * 2
    assert all(job.done.is_set() for job in jobs)


def test_only_a_few_scans_may_wait(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(settings())
    jobs = [ScanJob(BAND) for _ in range(3)]
    assert [bench.owner.post_scan(job) for job in jobs] == [True, True, False]
    bench.owner.cancel_scan(jobs[1])
    assert bench.owner.post_scan(jobs[2])


def radio_on(carrier: Carrier, *modules: ModuleConfig) -> Radio:
    return Radio(
        RadioConfig(modules=modules, gateway_eui=bytes(8)), carrier.platform, lambda _rx, _end_ns: None
    )


def ask(carrier: Carrier, radio: Radio, *args: int, module: int | None = None) -> dict[str, Any]:
    """`Radio.scan` from a thread of no module, while virtual time goes on."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(radio.scan, *args, module=module)
        for _ in range(600):
            if asked.done():
                break
            carrier.run_until(carrier.kernel.now_ns + 100 * MS)
        return asked.result(timeout=10)


def test_the_module_that_only_sends_is_the_one_that_scans(carrier: Carrier) -> None:
    radio = radio_on(carrier, ModuleConfig(BOARD, 0), ModuleConfig(BOARD, 1, role=Role.TX))
    carrier.start(radio)
    carrier.run_until(SECOND)
    result = ask(carrier, radio, 867_000_000, 868_000_000, 500_000, 5)
    assert result["module"] == f"{BOARD}/1"
    assert [point["freq_hz"] for point in result["points"]] == [867_000_000, 867_500_000, 868_000_000]
    assert json.loads(json.dumps(result)) == result
    assert ask(carrier, radio, 867_000_000, 867_000_000, module=0)["module"] == f"{BOARD}/0"
    with pytest.raises(RadioError, match=r"no SX127x module 7.*one of \[0, 1\]"):
        radio.scan(867_000_000, 868_000_000, module=7)
    carrier.stop(radio)


def test_the_status_tells_of_timing_and_sweep_as_plain_json(carrier: Carrier) -> None:
    radio = radio_on(carrier, ModuleConfig(BOARD, 0, sweep_sfs=(7, 8)), ModuleConfig(BOARD, 1, role=Role.TX))
    carrier.start(radio)
    carrier.run_until(SECOND)
    order = TxPacket(2_000_000, False, 868_100_000, 0, 14, LoRaModulation(9, 125_000), True, b"x", True)
    assert radio.transmit(order, SECOND).error is TxError.NONE
    carrier.run_until(3 * SECOND)
    status = radio.status(3 * SECOND)
    carrier.stop(radio)
    assert json.loads(json.dumps(status)) == status
    swept, sending = status["modules"]
    assert swept["sweep"]["sfs"] == [7, 8]
    assert swept["sweep"]["per_sf"]["7"]["looks"] > 100
    assert (swept["realtime"], swept["scanning"]) == (False, False)
    assert "sweep" not in sending
    assert sending["slack_us"]["count"] == sending["armed_us"]["count"] == 1
    assert abs(sending["start_error_us"]["sum"]) <= 20
    assert 999_000 <= sending["slack_us"]["sum"] <= 1_000_000
    assert 0 < sending["armed_us"]["min"] < 5000
    assert status["realtime"] == {"priority": False, "memory_locked": False, "advice": []}
