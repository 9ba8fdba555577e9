"""How fast this machine is where downlinks depend on it: SPI, the way of an edge, and waking at a given time.

Measuring takes a clock, a bus and lines; summing up and judging are pure. Nothing is transmitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from radio.observe import ProbeBus, Registers, detect
from radio.seam import Clock, Lines
from radio.sx127x import registers as r
from radio.sx127x.registers import Mode

US: Final = 1_000
PERCENTILES: Final = (50, 90, 99)
SLEEP_NS: Final = 2_000_000  # how far ahead each wake-up is
LONG_READ: Final = 254  # and the address: a transfer of 255 bytes


class Verdict(StrEnum):
    """What a machine is good for."""

    GOOD = "good"
    USABLE = "usable"
    UNFIT = "not fit for class A at SF7"


class What(StrEnum):
    """What was measured."""

    SHORT = "SPI, 2 bytes"
    LONG = "SPI, 255 bytes"
    EDGE = "edge to wake-up"
    WAKE = "wake-up late by"


# The 99th percentile, in us, up to which a machine is good or usable, and why.
LIMITS: Final[dict[What, tuple[int, int, str]]] = {
    # The write that starts a downlink is one of these; half of its spread is an error of the start.
    What.SHORT: (100, 400, "starts a downlink"),
    # Loading one takes about two of these and has 5 ms.
    What.LONG: (1_500, 2_000, "loads a downlink"),
    # Stamped by the kernel, so it only has to be short against the 46 ms between two frames.
    What.EDGE: (2_000, 20_000, "fetches a frame"),
    # A device at SF7 forgives 1 ms and the lead of 0.4 ms; the driver gives up at 0.5 ms.
    What.WAKE: (100, 500, "starts a downlink"),
}


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of the table; times in us."""

    what: What
    count: int
    percentiles: tuple[float, ...]  # of PERCENTILES
    highest: float
    verdict: Verdict


def summarise(what: What, samples_ns: Sequence[int]) -> Summary:
    """Percentiles and a verdict. Raises ValueError without samples."""
    if not samples_ns:
        raise ValueError(f"{what}: nothing was measured")
    ordered = sorted(samples_ns)
    points = tuple(ordered[min(len(ordered) - 1, len(ordered) * p // 100)] / US for p in PERCENTILES)
    good_us, usable_us, _why = LIMITS[what]
    verdict = (
        Verdict.GOOD
        if points[-1] <= good_us
        else Verdict.USABLE
        if points[-1] <= usable_us
        else Verdict.UNFIT
    )
    return Summary(what, len(ordered), points, ordered[-1] / US, verdict)


def overall(rows: Sequence[Summary]) -> Verdict:
    """The worst verdict of all."""
    order = list(Verdict)
    return max((row.verdict for row in rows), key=order.index, default=Verdict.UNFIT)


def table(title: str, rows: Sequence[Summary]) -> list[str]:
    """The rows as lines of text."""
    head = f"{title:<28}{'p50':>10}{'p90':>10}{'p99':>10}{'highest':>11}  judgement"
    lines = [head]
    for row in rows:
        points = "".join(f"{point:>10.1f}" for point in (*row.percentiles, row.highest))
        lines.append(f"  {row.what:<26}{points[:30]}{points[30:]:>11}  {row.verdict} ({LIMITS[row.what][2]})")
    return lines


# --- measuring --------------------------------------------------------------------------------------------


def wake_ups(clock: Clock, rounds: int) -> list[int]:
    """How late, in ns, sleeping and then spinning ends, as a downlink waits for its moment."""
    late = []
    for _ in range(rounds):
        target_ns = clock.now_ns() + SLEEP_NS
        clock.sleep_until(target_ns)
        late.append(clock.now_ns() - target_ns)
    return late


def transfers(clock: Clock, bus: ProbeBus, length: int, rounds: int) -> list[int]:
    """How long, in ns, reads of one register (`length` 1) or of the FIFO take; the chip is in LoRa standby."""
    data = bytes((r.REG_VERSION if length == 1 else r.REG_FIFO,)) + bytes(length)
    took = []
    for _ in range(rounds):
        started_ns = clock.now_ns()
        bus.xfer(data)
        took.append(clock.now_ns() - started_ns)
    return took


def edges(clock: Clock, bus: ProbeBus, lines: Lines, rounds: int) -> list[int]:
    """From the kernel's stamp of an edge to the program that waits for it, ns; empty without such stamps.

    The edges are the chip's own, at the end of channel activity detections.
    """
    chip = Registers(bus)
    took = []
    for _ in range(rounds):
        edge, _started_ns = detect(chip, lines, clock)
        if edge is None or edge.coarse:
            break
        took.append(clock.now_ns() - edge.t_ns)
    return took


def measure(
    clock: Clock, bus: ProbeBus | None, lines: Lines | None, freq_hz: int, rounds: int
) -> list[Summary]:
    """Every row that can be had on this machine: without a bus or without lines fewer."""
    rows = [summarise(What.WAKE, wake_ups(clock, rounds))]
    if bus is None:
        return rows
    chip = Registers(bus)
    if not chip.start_lora(freq_hz):
        return rows
    rows.append(summarise(What.SHORT, transfers(clock, bus, 1, rounds)))
    rows.append(summarise(What.LONG, transfers(clock, bus, LONG_READ, rounds)))
    if lines is not None:
        samples = edges(clock, bus, lines, rounds)
        if samples:
            rows.append(summarise(What.EDGE, samples))
    chip.mode(Mode.SLEEP)
    return rows
