"""How late a chip raises RxDone and how long it needs to start sending, as measured here or as others found. Pure.

In: samples of frames that went from one module to another, both ends stamped by the kernel. Out: a table by
spreading factor and bandwidth, with what was thrown away and why. The measuring itself is `radio.calibrate`.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from radio.lora import LoRaModulation, rx_done_latency_ns
from radio.state import StateFolder
from radio.sx127x.modem import START_LATENCY_NS

log = logging.getLogger(__name__)

NAME: Final = "calibration"  # of the state file
VERSION: Final = 1
US: Final = 1_000
MAX_ROWS: Final = 64  # more than there are modulations
FEWEST: Final = 3  # samples of a direction that make a value
# Edges of two lines, stamped by the same kernel: 2 to 10 us late each, 100 us under load.
SPREAD_NS: Final = 150 * US
DIRECTIONS_NS: Final = 200 * US  # how much two chips of a kind may differ
EARLIEST_NS: Final = -100 * US  # RxDone before the end of the frame is a stamp gone wrong
START_NS: Final = (0, 400 * US)  # 175 us from standby, 40 us with the synthesiser locked


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame that was heard."""

    sender: str
    receiver: str
    modulation: LoRaModulation
    latency_ns: int  # RxDone of the receiver minus TxDone of the sender
    start_ns: int  # from the write of RegOpMode reaching the sender to its first symbol


@dataclass(frozen=True, slots=True)
class Latency:
    """What was found for one modulation."""

    sf: int
    bw_hz: int
    latency_ns: int
    spread_ns: int  # median distance from the median
    frames: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """A table in use: measured values where there are some, scaled or common ones elsewhere."""

    measured: Mapping[tuple[int, int], Latency] = field(default_factory=dict)
    start_latency_ns: int = START_LATENCY_NS
    start_measured: bool = False
    modules: tuple[str, ...] = ()
    utc_s: int | None = None  # when, where there was a wall clock
    rejected: tuple[str, ...] = ()  # what was measured and not believed

    def rx_done_latency_ns(self, sf: int, bw_hz: int) -> int:
        """Time from the end of a frame to the RxDone edge.

        What was measured; at another bandwidth of the same spreading factor, scaled as the symbol is; else the
        common table.
        """
        exact = self.measured.get((sf, bw_hz))
        if exact is not None:
            return exact.latency_ns
        known = [each for (each_sf, _), each in self.measured.items() if each_sf == sf]
        if not known or rx_done_latency_ns(sf, bw_hz) == 0:
            return rx_done_latency_ns(sf, bw_hz)
        nearest = min(known, key=lambda each: abs(each.bw_hz - bw_hz))
        here = LoRaModulation(sf, bw_hz).symbol_ns
        return nearest.latency_ns * here // LoRaModulation(sf, nearest.bw_hz).symbol_ns

    def status(self) -> dict[str, Any]:
        """Plain values: where the figures in use come from."""
        return {
            "source": "measured" if self.measured else "table",
            "modules": list(self.modules),
            "utc_s": self.utc_s,
            "start_latency_us": self.start_latency_ns / US,
            "start_measured": self.start_measured,
            "table": [
                {
                    "datr": LoRaModulation(sf, bw_hz).datr,
                    "latency_us": each.latency_ns / US,
                    "default_us": rx_done_latency_ns(sf, bw_hz) / US,
                    "spread_us": each.spread_ns / US,
                    "frames": each.frames,
                }
                for (sf, bw_hz), each in sorted(self.measured.items())
            ],
            "rejected": list(self.rejected),
        }


def evaluate(samples: Sequence[Sample], utc_s: int | None = None) -> Calibration:
    """The table that these samples make, by medians; a value that is not believed is left out, with the reason."""
    by_modulation: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        by_modulation.setdefault((sample.modulation.sf, sample.modulation.bw_hz), []).append(sample)
    measured: dict[tuple[int, int], Latency] = {}
    rejected: list[str] = []
    good: list[Sample] = []
    for key, group in sorted(by_modulation.items()):
        problem = _not_believed(group)
        if problem:
            rejected.append(f"{group[0].modulation.datr}: {problem}")
            continue
        latencies = [sample.latency_ns for sample in group]
        measured[key] = Latency(*key, round(median(latencies)), _spread(latencies), len(group))
        good += group
    starts = [sample.start_ns for sample in good]
    start_ns = round(median(starts)) if starts else START_LATENCY_NS
    believed = bool(starts) and START_NS[0] <= start_ns <= START_NS[1] and _spread(starts) <= SPREAD_NS
    if starts and not believed:
        rejected.append(f"start of a transmission: {start_ns / US:.0f} us +-{_spread(starts) / US:.0f} us")
    return Calibration(
        measured,
        start_ns if believed else START_LATENCY_NS,
        believed,
        tuple(sorted({name for sample in good for name in (sample.sender, sample.receiver)})),
        utc_s,
        tuple(rejected),
    )


def _not_believed(group: Sequence[Sample]) -> str:
    """Why a group of one modulation makes no value; empty where it does."""
    latest_ns = 2 * group[0].modulation.symbol_ns + 500 * US
    directions: dict[str, list[int]] = {}
    for sample in group:
        directions.setdefault(sample.sender, []).append(sample.latency_ns)
    middles = []
    for sender, latencies in directions.items():
        middle = round(median(latencies))
        middles.append(middle)
        if len(latencies) < FEWEST:
            return f"only {len(latencies)} frames of {sender} were heard, {FEWEST} are needed"
        if not EARLIEST_NS <= middle <= latest_ns:
            return f"{middle / US:.0f} us is no delay of a chip, which lies between 0 and {latest_ns / US:.0f} us"
        if _spread(latencies) > SPREAD_NS:
            return f"the delays differ by +-{_spread(latencies) / US:.0f} us: is the machine busy?"
    if max(middles) - min(middles) > DIRECTIONS_NS:
        return f"the two directions differ by {(max(middles) - min(middles)) / US:.0f} us"
    return ""


def _spread(values: Sequence[int]) -> int:
    middle = median(values)
    return round(median(abs(value - middle) for value in values))


# --- over a restart -------------------------------------------------------------------------------------


def to_state(calibration: Calibration) -> dict[str, Any]:
    """Plain values for `StateFolder`."""
    return {
        "version": VERSION,
        "utc_s": calibration.utc_s,
        "modules": list(calibration.modules),
        "start_latency_ns": calibration.start_latency_ns if calibration.start_measured else None,
        "rejected": list(calibration.rejected),
        "table": [
            [each.sf, each.bw_hz, each.latency_ns, each.spread_ns, each.frames]
            for each in calibration.measured.values()
        ],
    }


def from_state(state: Mapping[str, Any] | None) -> Calibration:
    """What `to_state` made. Raises ValueError for anything else; None is nothing measured yet."""
    if state is None:
        return Calibration()
    try:
        if state["version"] != VERSION:
            raise ValueError(f"version {state['version']!r}")
        rows = [Latency(*(_whole(value) for value in row)) for row in state["table"][:MAX_ROWS]]
        start = state["start_latency_ns"]
        return Calibration(
            _table(rows),
            START_LATENCY_NS if start is None else _within(_whole(start), START_NS),
            start is not None,
            tuple(str(name) for name in state["modules"]),
            None if state["utc_s"] is None else _whole(state["utc_s"]),
            tuple(str(reason) for reason in state["rejected"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no calibration: {error!r}") from error


def kept_in(folder: StateFolder) -> Calibration:
    """The calibration of an earlier run, or the common table where there is none that can be read."""
    try:
        return from_state(folder.read(NAME))
    except ValueError as error:
        log.error(
            "the kept calibration is not used (%s): measure again with `fluxgate radio calibrate`", error
        )
        return Calibration()


def _table(rows: Iterable[Latency]) -> dict[tuple[int, int], Latency]:
    table = {}
    for row in rows:
        symbol_ns = LoRaModulation(row.sf, row.bw_hz).symbol_ns
        _within(row.latency_ns, (EARLIEST_NS, 2 * symbol_ns + 500 * US))
        table[row.sf, row.bw_hz] = row
    return table


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return value


def _within(value: int, limits: tuple[int, int]) -> int:
    if not limits[0] <= value <= limits[1]:
        raise ValueError(f"{value} ns is not within {limits}")
    return value
