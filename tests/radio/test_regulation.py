"""What the law of the place refuses at run time, with which word of the protocol, and until when."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from radio.concentrator import Concentrator, TxModule, TxResult
from radio.gwmp import TxError, TxPacket
from radio.jit import MS, JitQueue, JitTiming, Transmission
from radio.ledger import Airtime, Moment
from radio.lora import LoRaModulation, airtime_us
from radio.regions import Region, SubBand, get_region
from radio.state import StateFolder
from radio.sx127x.modem import NotSent

NOW = 5_000_000 * MS
SF7, SF10, SF12 = (LoRaModulation(sf, 125_000) for sf in (7, 10, 12))
UHF = ((137_000_000, 525_000_000),)


@dataclass
class Owner:
    """A transmitter with the real queue and no chip."""

    name: str
    timing: JitTiming = field(default_factory=JitTiming)
    taken: list[Transmission] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = JitQueue(timing=self.timing)

    def submit(self, tx: Transmission, now_ns: int) -> TxError:
        error = self.queue.offer(tx, now_ns)
        if error is TxError.NONE:
            self.taken.append(tx)
        return error

    def earliest_start(self, airtime_us: int, now_ns: int) -> int:
        return self.queue.earliest_start(airtime_us, now_ns)


def module(owner: Owner, *, receives: bool = False, max_power_dbm: int = 20, **able: Any) -> TxModule:
    return TxModule(owner, receives, True, max_power_dbm, **able)


def gateway(region: Region | str = "EU868", *modules: TxModule, **rest: Any) -> Concentrator:
    where = get_region(region) if isinstance(region, str) else region
    concentrator = Concentrator(where, lambda _rx, _end_ns: None, seed=1, **rest)
    concentrator.use(modules or [module(Owner("m0"))])
    return concentrator


def order(
    after_ms: int | None = 1000,
    freq_hz: int = 868_100_000,
    mod: LoRaModulation = SF7,
    powe_dbm: int = 14,
    size: int = 20,
    ipol: bool = True,
    tmms: int | None = None,
) -> TxPacket:
    tmst = None if after_ms is None or tmms is not None else (NOW // 1000 + after_ms * 1000) % 2**32
    imme = tmst is None and tmms is None
    return TxPacket(tmst, imme, freq_hz, 0, powe_dbm, mod, ipol, bytes(size), True, tmms=tmms)


def refused(concentrator: Concentrator, wish: TxPacket) -> TxResult:
    result = concentrator.transmit(wish, NOW)
    assert result.error is not TxError.NONE
    return result


# --- where ------------------------------------------------------------------------------------------


def test_a_refusal_names_what_is_open() -> None:
    result = refused(gateway(), order(freq_hz=868_650_000))
    assert result.error is TxError.TX_FREQ
    assert "868.65 MHz with 125 kHz is not open to gateways in EU868: 863-865 MHz, " in result.reason
    fixed = refused(gateway("US915"), order(freq_hz=923_400_000, mod=LoRaModulation(10, 500_000)))
    assert "is no downlink channel of US915; the nearest is 923.3 MHz" in fixed.reason


def test_the_band_of_869_525_allows_27_dbm_and_more() -> None:
    strong = module(Owner("m0"), max_power_dbm=20)
    concentrator = gateway("EU868", strong, antenna_gain_dbi=6.0)
    high = concentrator.transmit(order(freq_hz=869_525_000, powe_dbm=29), NOW)
    assert (high.error, high.power_dbm) == (TxError.NONE, 26), "20 dBm and 6 dBi are all there is"
    assert refused(concentrator, order(freq_hz=869_525_000, powe_dbm=30)).error is TxError.TX_POWER
    assert refused(concentrator, order(powe_dbm=29)).error is TxError.TX_POWER


# --- how strong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain_dbi", "loss_db", "power_dbm", "used_dbm"),
    [
        pytest.param(0, 0, 14, None, id="plain"),
        pytest.param(3, 0, 11, None, id="antenna"),
        pytest.param(3, 1, 12, None, id="antenna behind a cable"),
        pytest.param(0, 3, 17, None, id="a cable takes what the module adds"),
        pytest.param(2.15, 0.5, 12, None, id="down to whole dB"),
        pytest.param(-10, 5, 20, 5, id="all it has"),
        pytest.param(13.5, 0, 2, 16, id="as little as it can, which is lawful"),
    ],
)
def test_power_at_the_connector_follows_antenna_and_cable(
    gain_dbi: float, loss_db: float, power_dbm: int, used_dbm: int | None
) -> None:
    owner = Owner("m0")
    concentrator = gateway("EU868", module(owner), antenna_gain_dbi=gain_dbi, cable_loss_db=loss_db)
    result = concentrator.transmit(order(powe_dbm=14), NOW)
    assert (owner.taken[0].power_dbm, result.power_dbm) == (power_dbm, used_dbm)
    eirp_dbm = owner.taken[0].power_dbm + gain_dbi - loss_db
    assert eirp_dbm <= 16.15


def test_a_module_that_cannot_go_low_enough_sends_nothing() -> None:
    owner = Owner("m0")
    concentrator = gateway("EU868", module(owner), antenna_gain_dbi=15)
    result = refused(concentrator, order(powe_dbm=10))
    assert result.error is TxError.TX_POWER
    assert "weakest 2 dBm make 17 dBm EIRP with this antenna; 16.15 dBm is the limit" in result.reason
    assert owner.taken == []
    low = Owner("low")
    weak = gateway("EU868", module(owner), module(low, min_power_dbm=-3), antenna_gain_dbi=15)
    assert weak.transmit(order(powe_dbm=14), NOW).error is TxError.NONE
    assert low.taken[0].power_dbm == -1


# --- how long and how often -------------------------------------------------------------------------


def test_the_dwell_limit_is_kept_where_it_is_asked_for() -> None:
    long = order(freq_hz=923_200_000, mod=SF10, size=60)
    assert airtime_us(SF10, 60, crc=False) > 400_000
    free = gateway("AS923-1")
    assert free.transmit(long, NOW).error is TxError.NONE
    strict = gateway("AS923-1", limit_dwell=True)
    result = refused(strict, long)
    assert result.error is TxError.TX_FREQ
    assert "400 ms is the longest here" in result.reason
    assert strict.status(NOW)["regulation"]["dwell_us"] == 400_000
    assert strict.transmit(order(freq_hz=923_200_000, mod=SF10, size=20), NOW).error is TxError.NONE


def test_a_frame_longer_than_an_hours_budget_is_never_allowed() -> None:
    narrow = get_region("EU868").with_sub_bands((SubBand(868_000_000, 868_600_000, 0.0005, 14.0),))
    result = refused(gateway(narrow), order(mod=SF12, size=51))
    assert (result.over_duty, result.allowed_from_ns) == (True, None)
    assert "never: it is longer than an hour's budget" in result.reason


def test_the_status_says_when_frames_of_some_lengths_would_be_allowed() -> None:
    narrow = get_region("EU868").with_sub_bands((SubBand(868_000_000, 868_600_000, 0.0005, 14.0),))  # 1.8 s
    concentrator = gateway(narrow)
    assert concentrator.transmit(order(mod=SF12, size=20), NOW).error is TxError.NONE  # 1.3 s
    (band,) = concentrator.status(NOW)["duty_cycle"]
    assert band["budget_us"] == 1_800_000
    assert 1_100_000 < band["used_us"] < 1_400_000
    assert band["allowed_in_ms"]["100"] == 0
    assert 3_600_000 < band["allowed_in_ms"]["1500"] < 3_604_000
    assert band["allowed_in_ms"]["3000"] is None
    assert (band["duty"], band["max_eirp_dbm"]) == (0.0005, 14.0)


def test_refusals_are_counted_by_rule_and_the_last_ones_kept(caplog: pytest.LogCaptureFixture) -> None:
    concentrator = gateway()
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            refused(concentrator, order(freq_hz=868_650_000))
        refused(concentrator, order(powe_dbm=20))
        refused(concentrator, order(after_ms=1))
    status = concentrator.status(NOW)["regulation"]
    assert status["refused"] == {"frequency": 20, "power": 1, "too_late": 1}
    assert len(status["last_refusals"]) == 16
    last = status["last_refusals"][-1]
    assert (last["error"], last["allowed_in_ms"], last["at_ns"]) == ("TOO_LATE", 10, NOW)
    words = "downlink refused: TOO_LATE, 9 ms late: start in 1000 us on module m0, which would take it from 10 ms on"
    assert words in caplog.text


def test_a_ledger_that_is_behind_asks_for_a_second() -> None:
    class Slow(StateFolder):
        def write(self, name: str, value: dict[str, Any]) -> bool:
            return True  # as if it reached the disk, and never again

    region = get_region("EU868")
    airtime = Airtime(region.sub_bands, Slow(None), lambda: Moment(NOW, "boot"))
    airtime._ledger.contents(Moment(NOW, "boot"))
    airtime._ledger.written()
    concentrator = gateway("EU868", airtime=airtime)
    long = order(mod=SF12, size=100)  # 4.6 s, and 3 s are written ahead
    result = refused(concentrator, long)
    assert (result.error, result.allowed_from_ns) == (TxError.COLLISION_PACKET, NOW + 1000 * MS)
    assert "wait for the airtime ledger" in result.reason
    airtime._ledger.contents(Moment(NOW, "boot"))
    airtime._ledger.written()
    assert concentrator.transmit(long, NOW).error is TxError.NONE


# --- which module -----------------------------------------------------------------------------------


def test_a_busy_module_makes_room_for_the_next() -> None:
    first, second = Owner("first"), Owner("second")
    concentrator = gateway("EU868", module(first), module(second, receives=True))
    results = [concentrator.transmit(order(), NOW) for _ in range(3)]
    assert [result.error for result in results] == [TxError.NONE, TxError.NONE, TxError.COLLISION_PACKET]
    assert (len(first.taken), len(second.taken)) == (1, 1)
    end_ns = max(first.taken[0].end_ns, second.taken[0].end_ns)
    assert results[2].allowed_from_ns is not None
    assert NOW < results[2].allowed_from_ns <= end_ns + 10 * MS, "it says when a module has room"


def test_a_module_without_exact_times_sends_what_the_others_have_no_room_for() -> None:
    slow = Owner("serial", timing=JitTiming(arm_ns=250 * MS, wake_ns=10 * MS))
    quick = Owner("quick")
    concentrator = gateway(
        "EU868", module(slow, timed=False, min_power_dbm=-3, max_power_dbm=15), module(quick, receives=True)
    )
    assert concentrator.transmit(order(after_ms=100), NOW).error is TxError.NONE
    assert (len(slow.taken), len(quick.taken)) == (0, 1)
    assert concentrator.transmit(order(after_ms=100), NOW).error in (
        TxError.COLLISION_PACKET,
        TxError.TOO_LATE,
    )
    for _ in range(2):
        assert concentrator.transmit(order(after_ms=1000), NOW).error is TxError.NONE
    assert (len(slow.taken), len(quick.taken)) == (1, 2)


def test_among_equals_the_one_that_starts_on_time_is_asked_first_and_then_the_stronger() -> None:
    owners = [Owner(name) for name in ("weak", "serial", "strong")]
    modules = [
        module(owners[0], max_power_dbm=14),
        module(owners[1], timed=False, min_power_dbm=-3, max_power_dbm=20),
        module(owners[2], max_power_dbm=20),
    ]
    concentrator = gateway("EU868", *modules)
    taken = []
    for _ in range(3):
        assert concentrator.transmit(order(), NOW).error is TxError.NONE
        taken.append(next(owner.name for owner in owners if owner.taken and owner.name not in taken))
    assert taken == ["strong", "weak", "serial"]


@pytest.mark.parametrize(
    ("able", "region", "wish", "words"),
    [
        pytest.param({"bands_hz": UHF}, "EU868", order(), "does not tune to 868.1 MHz", id="another band"),
        pytest.param({"inverts_iq": False}, "EU868", order(), "cannot invert IQ", id="no inverted IQ"),
        pytest.param(
            {"senses": False}, "KR920", order(freq_hz=922_100_000, powe_dbm=10),
            "cannot listen before it talks, as KR920 asks", id="cannot listen",
        ),
    ],
)  # fmt: skip
def test_a_module_that_cannot_is_passed_over(
    able: dict[str, Any], region: str, wish: TxPacket, words: str
) -> None:
    unable, able_owner = Owner("unable"), Owner("able")
    alone = refused(gateway(region, module(unable, **able)), wish)
    assert alone.error is TxError.TX_FREQ
    assert words in alone.reason
    both = gateway(region, module(unable, **able), module(able_owner, receives=True))
    assert both.transmit(wish, NOW).error is TxError.NONE
    assert (len(unable.taken), len(able_owner.taken)) == (0, 1)


def test_what_every_module_refuses_for_now_is_said_rather_than_what_one_never_can() -> None:
    full = Owner("full")
    concentrator = gateway("EU868", module(full), module(Owner("uhf"), receives=True, bands_hz=UHF))
    assert concentrator.transmit(order(), NOW).error is TxError.NONE
    result = refused(concentrator, order())
    assert result.error is TxError.COLLISION_PACKET
    assert "on module full" in result.reason


def test_an_order_too_far_ahead_says_when_to_come_back() -> None:
    result = refused(gateway(), order(after_ms=600_000))
    assert result.error is TxError.TOO_EARLY
    assert result.allowed_from_ns == NOW + 600_000 * MS - 512_000 * MS
    assert "which would take it in 88 s" in result.reason


# --- by GPS time ------------------------------------------------------------------------------------


def test_a_gps_time_needs_a_clock_that_knows_it() -> None:
    wish = order(tmms=1_300_000_000_000)
    assert refused(gateway(), wish).error is TxError.GPS_UNLOCKED
    lost = gateway(mono_of_gps_ms=lambda _ms: None)
    assert refused(lost, wish).error is TxError.GPS_UNLOCKED
    assert lost.status(NOW)["regulation"]["refused"] == {"gps": 1}


def test_an_order_by_gps_time_starts_then() -> None:
    owner = Owner("m0")
    concentrator = gateway(
        "EU868", module(owner), mono_of_gps_ms=lambda ms: NOW + (ms - 1000) * MS, tx_lead_us=400
    )
    result = concentrator.transmit(order(tmms=3000), NOW)
    assert (result.error, result.start_ns) == (TxError.NONE, NOW + 2000 * MS - 400_000)
    assert refused(concentrator, order(tmms=0)).error is TxError.TOO_LATE


def beacon(tmms: int) -> TxPacket:
    sf9 = LoRaModulation(9, 125_000)
    return TxPacket(
        None, False, 869_525_000, 0, 27, sf9, False, bytes(17), True, preamble=10, tmms=tmms, nhdr=True
    )


def test_a_beacon_starts_a_millisecond_and_a_half_after_its_second_and_no_lead_before() -> None:
    owner = Owner("m0")
    concentrator = gateway("EU868", module(owner), mono_of_gps_ms=lambda ms: NOW + ms * MS, tx_lead_us=400)
    result = concentrator.transmit(beacon(2001), NOW)
    assert (result.error, result.start_ns) == (TxError.NONE, NOW + 2001 * MS + 500_000)
    (tx,) = owner.taken
    assert (tx.implicit_header, tx.iq_inverted, tx.crc, tx.preamble) == (True, False, False, 10)
    assert tx.airtime_us == 152_576


@pytest.mark.parametrize("unfit", [{"omits_header": False}, {"timed": False}])
def test_a_module_that_cannot_send_beacons_is_passed_over(unfit: dict[str, bool]) -> None:
    one, other = Owner("m0"), Owner("m1")
    both = gateway(
        "EU868", module(one, **unfit), module(other, receives=True), mono_of_gps_ms=lambda ms: NOW + ms * MS
    )
    assert both.transmit(beacon(2001), NOW).error is TxError.NONE
    assert (one.taken, len(other.taken)) == ([], 1)
    alone = gateway("EU868", module(Owner("m2"), **unfit), mono_of_gps_ms=lambda ms: NOW + ms * MS)
    assert "cannot send beacons" in refused(alone, beacon(2001)).reason


# --- listening --------------------------------------------------------------------------------------


def test_transmissions_carry_what_the_region_asks_to_listen_for() -> None:
    owner = Owner("m0")
    korea = gateway("KR920", module(owner))
    assert korea.transmit(order(freq_hz=922_100_000, powe_dbm=10), NOW).error is TxError.NONE
    assert owner.taken[0].lbt == get_region("KR920").lbt
    europe = Owner("m1")
    assert gateway("EU868", module(europe)).transmit(order(), NOW).error is TxError.NONE
    assert europe.taken[0].lbt is None


def test_a_busy_channel_ends_an_order_with_a_time_and_puts_off_one_without() -> None:
    owner = Owner("m0")
    korea = gateway("KR920", module(owner))
    korea.transmit(order(freq_hz=922_100_000, powe_dbm=10), NOW)
    korea.on_event(0, NotSent(owner.taken[0], "channel busy", busy=True))
    assert korea.counters["tx_not_sent"] == 1
    assert not any(band["used_us"] for band in korea.status(NOW)["duty_cycle"])
    owner.queue.pop(owner.taken[0].start_ns)
    owner.queue.finished()
    korea.transmit(order(None, freq_hz=922_100_000, powe_dbm=10), NOW)
    korea.on_event(0, NotSent(owner.taken[1], "channel busy", busy=True))
    again = owner.taken[2]
    assert again.id == owner.taken[1].id
    assert owner.taken[1].start_ns + 20 * MS <= again.start_ns <= owner.taken[1].start_ns + 200 * MS
    lbt = korea.status(NOW)["regulation"]["lbt"]
    assert lbt == {"threshold_dbm": -65, "listen_us": 6000, "busy": 2, "deferred": 1}


def test_a_deferred_order_is_booked_once() -> None:
    japan = get_region("AS923-1-JP")
    owner = Owner("m0")
    concentrator = gateway(japan, module(owner))
    concentrator.transmit(order(None, freq_hz=923_200_000), NOW)
    length_us = owner.taken[0].airtime_us
    for tries in range(1, 4):
        owner.queue.pop(owner.taken[-1].start_ns)
        owner.queue.finished()
        concentrator.on_event(0, NotSent(owner.taken[-1], "channel busy", busy=True))
        assert len(owner.taken) == tries + 1
        (band,) = concentrator.status(NOW)["duty_cycle"]
        assert band["used_us"] == length_us
