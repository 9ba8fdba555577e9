"""Which downlinks a gateway takes, which module sends them, and what it says when it does not."""

from dataclasses import dataclass, field

import pytest

from radio.concentrator import Concentrator, TxModule, TxResult, time_of
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.jit import MS, JitQueue, Transmission
from radio.lora import LoRaModulation
from radio.regions import get_region
from radio.sx127x.chip import Packet
from radio.sx127x.modem import Fault, NotSent, Received, Sent

NOW = 5_000_000 * MS
SF7 = LoRaModulation(7, 125_000)
SF12 = LoRaModulation(12, 125_000)


@dataclass
class Owner:
    """A transmitter with the real queue and no chip."""

    name: str
    queue: JitQueue = field(default_factory=JitQueue)
    taken: list[Transmission] = field(default_factory=list)

    def submit(self, tx: Transmission, now_ns: int) -> TxError:
        error = self.queue.offer(tx, now_ns)
        if error is TxError.NONE:
            self.taken.append(tx)
        return error

    def earliest_start(self, airtime_us: int, now_ns: int) -> int:
        return self.queue.earliest_start(airtime_us, now_ns)


@dataclass
class Rig:
    concentrator: Concentrator
    owners: list[Owner]
    frames: list[RxPacket]


def rig(
    *roles: str, region: str = "EU868", gain_dbi: float = 0.0, lead_us: int = 0, crc_errors: bool = True
) -> Rig:
    frames: list[RxPacket] = []
    concentrator = Concentrator(
        get_region(region),
        lambda rx, _end_ns: frames.append(rx),
        antenna_gain_dbi=gain_dbi,
        tx_lead_us=lead_us,
        utc_ns=lambda t_ns: t_ns + 1_000_000,
        forward_crc_errors=crc_errors,
    )
    owners = [Owner(f"{role}{i}") for i, role in enumerate(roles)]
    concentrator.use(
        [TxModule(o, r == "rxtx", True, 20) for o, r in zip(owners, roles, strict=True) if r != "rx"]
    )
    return Rig(concentrator, owners, frames)


def order(
    tmst: int | None = (NOW // 1000 + 1_000_000) % 2**32,
    freq_hz: int = 868_100_000,
    mod: LoRaModulation = SF7,
    powe_dbm: int = 14,
    data: bytes = bytes(12),
    imme: bool = False,
    preamble: int | None = None,
) -> TxPacket:
    return TxPacket(tmst, imme, freq_hz, 0, powe_dbm, mod, True, data, True, preamble)


def test_an_order_becomes_a_transmission() -> None:
    bench = rig("rxtx")
    result = bench.concentrator.transmit(order(), NOW)
    assert (result.error, result.power_dbm, result.reason) == (TxError.NONE, None, "")
    (tx,) = bench.owners[0].taken
    assert tx.start_ns == result.start_ns == NOW + 1000 * MS
    assert (tx.power_dbm, tx.iq_inverted, tx.crc, tx.preamble) == (14, True, False, 8)


def test_lead_starts_the_frame_early() -> None:
    bench = rig("rxtx", lead_us=400)
    assert bench.concentrator.transmit(order(), NOW).start_ns == NOW + 1000 * MS - 400_000


def test_antenna_gain_is_taken_off_the_power_at_the_connector() -> None:
    bench = rig("rxtx", gain_dbi=2.15)
    assert bench.concentrator.transmit(order(), NOW).power_dbm is None
    assert bench.owners[0].taken[0].power_dbm == 11


def test_what_the_module_cannot_radiate_is_reduced_and_said() -> None:
    bench = rig("rxtx")
    result = bench.concentrator.transmit(order(freq_hz=869_525_000, mod=SF12, powe_dbm=27), NOW)
    assert (result.error, result.power_dbm) == (TxError.NONE, 20)


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        pytest.param(order(tmst=None), TxError.GPS_UNLOCKED, id="by GPS time"),
        pytest.param(order(freq_hz=868_650_000), TxError.TX_FREQ, id="between sub-bands"),
        pytest.param(order(freq_hz=923_300_000), TxError.TX_FREQ, id="another continent"),
        pytest.param(order(freq_hz=868_590_000), TxError.TX_FREQ, id="bandwidth leaves the sub-band"),
        pytest.param(order(data=b""), TxError.TX_FREQ, id="nothing to send"),
        pytest.param(order(powe_dbm=17), TxError.TX_POWER, id="17 dBm where 16.15 is allowed"),
        pytest.param(order(tmst=NOW // 1000 % 2**32), TxError.TOO_LATE, id="now"),
        pytest.param(order(tmst=(NOW // 1000 - 200_000) % 2**32), TxError.TOO_LATE, id="200 ms ago"),
        pytest.param(order(tmst=(NOW // 1000 + 600_000_000) % 2**32), TxError.TOO_EARLY, id="in ten minutes"),
    ],
)
def test_refusals_have_the_protocols_names(wish: TxPacket, error: TxError) -> None:
    bench = rig("rxtx")
    assert bench.concentrator.transmit(wish, NOW).error is error
    assert bench.concentrator.counters[f"tx_refused_{error.lower()}"] == 1
    assert bench.owners[0].taken == []


def test_overlapping_orders_collide() -> None:
    bench = rig("rxtx")
    assert bench.concentrator.transmit(order(), NOW).error is TxError.NONE
    assert bench.concentrator.transmit(order(), NOW).error is TxError.COLLISION_PACKET


def test_us915_sends_on_its_downlink_channels() -> None:
    bench = rig("rxtx", region="US915")
    sf10 = LoRaModulation(10, 500_000)
    assert (
        bench.concentrator.transmit(order(freq_hz=923_300_000, mod=sf10, powe_dbm=20), NOW).error
        is TxError.NONE
    )
    assert bench.concentrator.transmit(order(freq_hz=923_400_000, mod=sf10), NOW).error is TxError.TX_FREQ
    assert bench.concentrator.transmit(order(freq_hz=868_100_000), NOW).error is TxError.TX_FREQ
    strong = order(freq_hz=923_900_000, mod=sf10, powe_dbm=29)
    assert bench.concentrator.transmit(strong, NOW).error is TxError.TX_POWER


def test_the_module_that_does_not_receive_sends_first() -> None:
    bench = rig("rxtx", "rx", "tx")
    for _ in range(2):
        assert bench.concentrator.transmit(order(), NOW).error is TxError.NONE
    assert [len(owner.taken) for owner in bench.owners] == [1, 0, 1]
    assert bench.owners[2].taken[0].id < bench.owners[0].taken[0].id


def test_a_gateway_that_cannot_send_says_so() -> None:
    result = rig("rx").concentrator.transmit(order(), NOW)
    assert (result.error, result.reason) == (TxError.COLLISION_PACKET, "no module of this gateway sends")


def use_up(bench: Rig, now_ns: int) -> tuple[TxResult, int]:
    """Send SF12 in the 1 % sub-band until it is refused."""
    for i in range(1000):
        at_ns = now_ns + i * 3000 * MS
        bench.owners[0].queue = JitQueue()
        result = bench.concentrator.transmit(
            order(tmst=(at_ns // 1000 + 1_000_000) % 2**32, mod=SF12, data=bytes(51)), at_ns
        )
        if result.error is not TxError.NONE:
            return result, at_ns
    raise AssertionError("duty cycle never ended")


def test_duty_cycle_refuses_and_says_when_it_would_allow() -> None:
    bench = rig("rxtx")
    result, at_ns = use_up(bench, NOW)
    assert (result.error, result.over_duty) == (TxError.COLLISION_PACKET, True)
    assert "duty cycle 1.0%" in result.reason
    assert bench.concentrator.counters["tx_refused_duty_cycle"] == 1
    assert result.allowed_from_ns is not None
    assert NOW + 3600_000 * MS < result.allowed_from_ns < NOW + 3610_000 * MS
    elsewhere = order(tmst=(at_ns // 1000 + 1_000_000) % 2**32, freq_hz=869_525_000, mod=SF12)
    assert bench.concentrator.transmit(elsewhere, at_ns).error is TxError.NONE


def test_a_frame_that_never_left_does_not_count() -> None:
    bench = rig("rxtx")
    bench.concentrator.transmit(order(mod=SF12), NOW)
    used = {band["min_hz"]: band["used_us"] for band in bench.concentrator.status(NOW)["duty_cycle"]}
    assert used[868_000_000] == bench.owners[0].taken[0].airtime_us
    bench.concentrator.on_event(0, NotSent(bench.owners[0].taken[0], "late"))
    assert not any(band["used_us"] for band in bench.concentrator.status(NOW)["duty_cycle"])
    assert bench.concentrator.counters["tx_not_sent"] == 1


def test_a_frame_that_may_have_left_counts() -> None:
    bench = rig("rxtx")
    bench.concentrator.transmit(order(mod=SF12), NOW)
    bench.concentrator.on_event(0, NotSent(bench.owners[0].taken[0], "no TxDone in time", maybe_aired=True))
    assert any(band["used_us"] for band in bench.concentrator.status(NOW)["duty_cycle"])


def test_an_immediate_order_takes_the_first_gap() -> None:
    bench = rig("rxtx")
    first = bench.concentrator.transmit(order(tmst=None, imme=True), NOW)
    second = bench.concentrator.transmit(order(tmst=None, imme=True), NOW)
    assert first.start_ns == NOW + 10 * MS
    assert second.start_ns is not None
    assert second.start_ns > bench.owners[0].taken[0].end_ns


def test_short_preambles_are_lengthened_to_what_the_chip_can() -> None:
    bench = rig("rxtx")
    bench.concentrator.transmit(order(preamble=4), NOW)
    assert bench.owners[0].taken[0].preamble == 6


def received(*, crc_present: bool = True, crc_ok: bool = True, coarse: bool = False) -> Received:
    packet = Packet(b"frame", crc_present, crc_ok, -80, 7.25, -1200, 1)
    return Received(packet, (2**32 + 5) * 1000 + 999, coarse, 868_300_000, SF7)


@pytest.mark.parametrize(
    ("crc_present", "crc_ok", "stat"), [(True, True, 1), (True, False, -1), (False, True, 0)]
)
def test_a_frame_becomes_an_rxpk(crc_present: bool, crc_ok: bool, stat: int) -> None:
    bench = rig("rxtx")
    bench.concentrator.on_event(3, received(crc_present=crc_present, crc_ok=crc_ok))
    (rx,) = bench.frames
    assert (rx.tmst, rx.chan, rx.stat, rx.freq_hz, rx.modulation) == (5, 3, stat, 868_300_000, SF7)
    assert (rx.rssi_dbm, rx.lsnr_db, rx.foff_hz, rx.data) == (-80, 7.25, -1200, b"frame")
    assert rx.time_ns == (2**32 + 5) * 1000 + 999 + 1_000_000


def test_damaged_frames_may_be_kept_back_and_are_counted() -> None:
    bench = rig("rxtx", crc_errors=False)
    bench.concentrator.on_event(0, received(crc_ok=False))
    bench.concentrator.on_event(0, received(coarse=True))
    bench.concentrator.on_event(0, Fault("gone"))
    assert len(bench.frames) == 1
    counters = bench.concentrator.counters
    assert (counters["rx_frames"], counters["rx_crc_bad"], counters["rx_coarse"], counters["module_faults"]) == (
        2, 1, 1, 1,
    )  # fmt: skip


def test_sent_frames_are_counted_and_stay_in_the_books() -> None:
    bench = rig("tx")
    bench.concentrator.transmit(order(), NOW)
    (tx,) = bench.owners[0].taken
    bench.concentrator.on_event(0, Sent(tx, tx.start_ns, False))
    assert bench.concentrator.counters["tx_sent"] == 1
    assert sum(band["used_us"] for band in bench.concentrator.status(NOW)["duty_cycle"]) == tx.airtime_us


@pytest.mark.parametrize("near_us", [0, 10, 2**31, 2**32 - 10, 2**32, 2**32 + 7, 5 * 2**32 + 123])
@pytest.mark.parametrize("ahead_us", [-200_000, 0, 1, 1_000_000, 2**31 - 1])
def test_counter_times_are_found_across_the_wrap(near_us: int, ahead_us: int) -> None:
    tmst = (near_us + ahead_us) % 2**32
    assert time_of(tmst, near_us * 1000 + 500) == (near_us + ahead_us) * 1000
