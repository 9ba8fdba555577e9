"""Listen before talk: the verdict by itself, and a module that acts on it in the simulated air."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hw_sim.sx1276 import SX1276
from radio.config import ModuleConfig, RadioConfig
from radio.gwmp import TxError, TxPacket
from radio.jit import ARM_NS, JitTiming
from radio.lbt import BACKOFF_MS, MAX_DEFERRALS, SAMPLE_NS, Lbt, Listening, backoff_ns
from radio.lora import LoRaModulation, airtime_us
from radio.regions import get_region
from radio.service import Radio
from radio.sx127x.registers import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.radio.conftest import Carrier, Device

MS = 1_000_000
KOREA = Lbt(-65, 6 * MS)
SF7, SF12 = LoRaModulation(7, 125_000), LoRaModulation(12, 125_000)


def listened(level: Callable[[float], int], until_ms: float = 11.0, step_ns: int = SAMPLE_NS) -> Listening:
    """A listening that began at 0, with the channel's level (dBm) by ms."""
    listening = Listening(KOREA, 0)
    for t_ns in range(step_ns, round(until_ms * MS) + 1, step_ns):
        listening.sample(level(t_ns / MS), t_ns)
    return listening


def test_a_quiet_channel_is_clear() -> None:
    listening = listened(lambda _ms: -100)
    assert listening.clear(11 * MS)
    assert listening.verdict(11 * MS) == ""
    assert listening.peak_dbm == -100


def test_the_threshold_itself_is_busy() -> None:
    assert listened(lambda _ms: -65).verdict(11 * MS) == "channel busy: -65 dBm, the limit is -65 dBm"
    assert listened(lambda _ms: -66).clear(11 * MS)


def test_all_of_the_time_asked_must_be_quiet() -> None:
    assert not listened(lambda ms: -50 if 5 <= ms < 6 else -100).clear(11 * MS)
    assert listened(lambda ms: -50 if 3 <= ms < 4 else -100).clear(11 * MS), "6 ms of quiet are left"
    assert not listened(lambda ms: -50 if ms >= 10.9 else -100).clear(11 * MS)


def test_what_a_receiver_shows_before_it_has_settled_counts_for_nothing() -> None:
    assert listened(lambda ms: -30 if ms < 1 else -100).verdict(11 * MS) == ""
    assert not listened(lambda _ms: -100, until_ms=6.5).clear(round(6.5 * MS))


def test_a_hole_in_the_listening_is_no_listening() -> None:
    listening = listened(lambda _ms: -100, until_ms=7)
    listening.sample(-100, round(10.5 * MS))  # the thread was away for 3.5 ms
    assert listening.verdict(11 * MS) == "the processor was too busy to listen for 6 ms"
    assert not listened(lambda _ms: -100).clear(14 * MS), "and so is one that ended long ago"


def test_later_tries_come_at_random_and_come_to_an_end() -> None:
    source = random.Random(3)
    waits = {backoff_ns(n % MAX_DEFERRALS, source) for n in range(200)}
    assert len(waits) > 50
    assert all(wait is not None and BACKOFF_MS[0] * MS <= wait <= BACKOFF_MS[1] * MS for wait in waits)
    assert backoff_ns(MAX_DEFERRALS, source) is None


def test_a_module_that_listens_first_takes_its_leave_earlier() -> None:
    assert JitTiming.listening(None) == JitTiming()
    assert JitTiming.listening(KOREA).arm_ns == ARM_NS + KOREA.lead_ns
    assert KOREA.lead_ns > KOREA.listen_ns


# --- in the air -------------------------------------------------------------------------------------


def beside(carrier: Carrier, name: str, x_m: float) -> Device:
    """A device so near that it is heard at -45 dBm."""
    chip = SX1276(carrier.kernel, name)
    carrier.air.add(chip, x_m=x_m)
    return replace(carrier.device(f"{name}, far away"), radio=chip)


class Korea:
    """A gateway with one module where one must listen first, and a neighbour whom it hears at -45 dBm."""

    def __init__(self, carrier: Carrier, region: str = "KR920") -> None:
        self.carrier = carrier
        self.channel = get_region(region).uplink_channels()[0]
        module = ModuleConfig("fluxgate-sim-4", 0, self.channel)
        config = RadioConfig(modules=(module,), gateway_eui=bytes(8), region=region, tx_lead_us=0)
        self.radio = Radio(config, carrier.platform, lambda _rx, _end_ns: None)
        self.neighbour = beside(carrier, "neighbour", 1.0)
        carrier.start(self.radio)
        carrier.run_until(100 * MS)

    def talks(self, from_ms: int, channel: int | None = None) -> None:
        """For 1.3 s, at SF12."""
        self.neighbour.sends(from_ms * MS, Settings(channel or self.channel, SF12), bytes(20))

    def order(self, start_ms: int | None) -> TxError:
        """A downlink at its time, or (None) as soon as may be."""
        tmst = None if start_ms is None else start_ms * 1000
        order = TxPacket(tmst, tmst is None, self.channel, 0, 10, SF7, True, bytes(20), True)
        return self.radio.transmit(order, self.carrier.kernel.now_ns).error

    def after(self, until_ms: int) -> list[float]:
        """When downlinks had left by then, in ms; the radio has been stopped."""
        self.carrier.run_until(until_ms * MS)
        self.status = self.radio.status(self.carrier.kernel.now_ns)
        self.carrier.stop(self.radio)
        return [frame.start_ns / MS for frame in self.carrier.frames if "neighbour" not in frame.sender]

    @property
    def lbt(self) -> dict[str, int]:
        counts: dict[str, int] = self.status["regulation"]["lbt"]
        return counts


@pytest.mark.parametrize("region", ["KR920", "AS923-1-JP"])
def test_a_downlink_leaves_at_its_moment_where_the_channel_is_free(carrier: Carrier, region: str) -> None:
    korea = Korea(carrier, region)
    assert korea.order(1000) is TxError.NONE
    (start_ms,) = korea.after(1200)
    assert start_ms == pytest.approx(1000, abs=0.02)
    assert (korea.lbt["busy"], korea.lbt["threshold_dbm"]) == (0, {"KR920": -65, "AS923-1-JP": -80}[region])
    assert korea.status["modules"][0]["state"] == "listening"


def test_a_busy_channel_is_left_alone(carrier: Carrier, caplog: pytest.LogCaptureFixture) -> None:
    korea = Korea(carrier)
    korea.talks(500)
    assert korea.order(1000) is TxError.NONE
    assert korea.after(3000) == []
    assert korea.lbt["busy"] == 1
    assert korea.status["modules"][0]["busy"] == 1
    assert korea.status["counters"]["tx_not_sent"] == 1
    assert korea.status["modules"][0]["fault"] == ""
    assert "channel busy: -4" in caplog.text
    assert all(band["used_us"] == 0 for band in korea.status["duty_cycle"])


def test_without_the_rule_it_would_have_talked_over_the_neighbour(carrier: Carrier) -> None:
    """The same air in a region that asks nothing."""
    asia = Korea(carrier, "AS923-1")
    asia.talks(500)
    assert asia.order(1000) is TxError.NONE
    assert len(asia.after(3000)) == 1


def test_a_neighbour_on_another_channel_disturbs_nobody(carrier: Carrier) -> None:
    korea = Korea(carrier)
    korea.talks(500, 922_500_000)
    assert korea.order(1000) is TxError.NONE
    assert len(korea.after(3000)) == 1


def test_a_frame_that_ends_in_time_leaves_the_channel_free(carrier: Carrier) -> None:
    korea = Korea(carrier)
    korea.talks(500)
    end_ms = 500 + airtime_us(SF12, 20) // 1000
    assert korea.order(end_ms + 14) is TxError.NONE
    assert len(korea.after(3000)) == 1
    assert korea.lbt["busy"] == 0


def test_an_order_without_a_time_waits_for_the_channel(carrier: Carrier) -> None:
    korea = Korea(carrier)
    korea.talks(500)
    carrier.run_until(1750 * MS)
    assert korea.order(None) is TxError.NONE
    (start_ms,) = korea.after(4000)
    (neighbour,) = (frame for frame in carrier.frames if frame.sender == "neighbour")
    assert start_ms > neighbour.end_ns / MS
    assert korea.lbt["deferred"] >= 1
    assert "tx_not_sent" not in korea.status["counters"]
    assert korea.status["counters"]["tx_sent"] == 1


def test_an_order_without_a_time_is_given_up_where_nobody_stops_talking(carrier: Carrier) -> None:
    korea = Korea(carrier)
    for n in range(4):
        neighbour = beside(carrier, f"neighbour {n}", 1.0 + n)
        neighbour.sends((200 + n * 1000) * MS, Settings(korea.channel, SF12), bytes(20))
    carrier.run_until(300 * MS)
    assert korea.order(None) is TxError.NONE
    assert korea.after(4000) == []
    assert korea.lbt["deferred"] == MAX_DEFERRALS
    assert korea.status["counters"]["tx_not_sent"] == 1


def test_a_module_that_listens_first_takes_its_orders_earlier(carrier: Carrier) -> None:
    korea = Korea(carrier)
    assert korea.order(100 + 15) is TxError.TOO_LATE
    assert korea.order(100 + 26) is TxError.NONE
    assert len(korea.after(400)) == 1
