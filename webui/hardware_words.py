"""Modules, time on air and the band in the words of a technician. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from webui.hardware import Capabilities, Histogram, RadioModule, Realtime, ScanPoint, Span, Sweep
from webui.words import count, counted, frequency, signed, spreading

BACKENDS = {
    "gpiod": "Edges are stamped by the kernel (gpiod): downlinks start to the microsecond.",
    "lgpio": "Edges are stamped by lgpio: good for downlinks, a little less exact than gpiod.",
    "rpi-gpio": "Edges have no time stamp (RPi.GPIO): devices may miss downlinks. Install gpiod.",
    "polling": "No edges, the chip is asked again and again: devices may miss downlinks. Install gpiod.",
    "serial": "Over a serial line: times of frames and starts of downlinks are good to some milliseconds.",
    "sim": "Simulated hardware.",
}
USES = {"rx": "listens", "tx": "sends only", "rxtx": "listens and sends"}
LOUD_DB = 10.0  # above the others: somebody transmits there
LONG_SLACK_MS = 10

# The picture of a band, in its own units.
WIDTH, HEIGHT, LEFT, TOP, FLOOR = 640, 220, 64, 10, 196
RANGE_DBM = (-130.0, -50.0)


@dataclass(frozen=True, slots=True)
class State:
    level: str  # ok, warn, bad
    word: str


@dataclass(frozen=True, slots=True)
class Line:
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    width: float
    y: float
    peak_y: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    bars: list[Bar]
    lines: list[Line]
    first: str
    last: str
    left: int = LEFT
    width: int = WIDTH
    height: int = HEIGHT
    floor: int = FLOOR


def module_state(module: RadioModule) -> State:
    if module.fault or module.state == "down":
        return State("bad", "down")
    level = "warn" if module.degraded else "ok"
    if module.state in {"armed", "sending"}:
        return State(level, "sending")
    if module.scanning:
        return State(level, "scanning the band")
    return State(level, "ready" if module.role == "tx" else "listening")


def module_use(module: RadioModule) -> str:
    """What it is set to, in a sentence."""
    use = USES.get(module.role, module.role)
    sought = spreading(module.datr)
    if module.sweep is not None and len(module.sweep.sfs) > 1:
        sought = " and ".join(f"SF{sf}" for sf in module.sweep.sfs[:6]) + " in turn"
    where = "" if module.role == "tx" else f" on {frequency(module.freq_hz)}, {sought}"
    what = "RN2483 modem: " if module.kind == "rn2483" else ""
    text = f"{what}{use}{where}"
    return f"{text[:1].upper()}{text[1:]}."


def backend(name: str) -> str:
    return BACKENDS.get(name, f"Edges come by {name}.")


def fault_kind(kind: str) -> str:
    return kind.replace("_", " ").replace("-", " ").capitalize()


def lacks_priority(module: RadioModule, realtime: Realtime) -> bool:
    """A chip whose thread has to wait for others; said only where the system was asked for better."""
    return bool(realtime.advice) and not (module.realtime or realtime.priority or module.kind == "rn2483")


def recovery(span: Span) -> str:
    """How long a fault lasted."""
    return f"After a fault it worked again within {micro(round(span.worst * 1000))} at most."


def sweep(found: Sweep) -> list[tuple[str, str]]:
    """How many of the detections became frames, by spreading factor."""
    lines = []
    for sf, counts in list(found.per_sf.items())[:6]:
        if counts.hit_rate is None:
            text = "nothing detected yet"
        else:
            text = f"{counts.hit_rate:.0%} of {counted(counts.detections, 'detection')} became frames"
        lines.append((f"SF{sf}", text))
    return lines


def capabilities(able: Capabilities) -> str:
    """What a serial module cannot do as a chip does."""
    marks = []
    if able.timestamps == "coarse":
        marks.append("their times are coarse")
    if not able.frequency_error:
        marks.append("their frequency error is not told")
    if not able.crc_told:
        marks.append("damaged ones are counted, not shown")
    said = [f"Of frames: {', '.join(marks)}."] if marks else []
    if able.min_lead_us:
        said.append(f"A downlink must be ordered {micro(able.min_lead_us)} ahead.")
    if able.deaf:
        said.append(f"Deaf {able.deaf}.")
    return " ".join(said)


def start_precision(histogram: Histogram) -> str:
    within = histogram.within(0.99)
    worst = "" if histogram.worst is None else f", the worst by {micro(histogram.worst)}"
    number = counted(histogram.count, "downlink")
    return f"99 % of {number} started within {micro(within or 0)} of their moment{worst}."


def slack(histogram: Histogram) -> str:
    least = histogram.min or 0
    short = " That is short: the network server is slow or far away." if least < LONG_SLACK_MS * 1000 else ""
    return f"Orders come at least {micro(least)} before their moment.{short}"


def micro(value_us: int) -> str:
    """Microseconds in the unit that people read."""
    size = abs(value_us)
    if size < 1000:
        return f"{count(size)}\u00a0µs"
    if size < 1_000_000:
        return f"{size / 1000:.3g}\u00a0ms"
    return f"{size / 1e6:.3g}\u00a0s"


def band_sentence(points: list[ScanPoint]) -> str:
    """What a technician should take from a scan."""
    if not points:
        return "Nothing was measured."
    usual = median(point.rssi_dbm for point in points)
    loud = [point for point in points if point.rssi_dbm > usual + LOUD_DB]
    text = f"The band lies at {signed(usual, 0)}\u00a0dBm."
    if not loud:
        return f"{text} No step is much louder than the others."
    names = ", ".join(f"{point.freq_hz / 1e6:g}" for point in loud[:6])
    more = f" and {len(loud) - 6} more" if len(loud) > 6 else ""
    return f"{text} Much louder: {names}{more}\u00a0MHz."


def band_chart(points: list[ScanPoint]) -> Chart | None:
    if not points:
        return None
    step = (WIDTH - LEFT) / len(points)
    bars = [
        Bar(
            round(LEFT + step * at, 1),
            max(1.0, round(step - 1, 1)),
            _height(point.rssi_dbm),
            _height(max(point.peak_dbm, point.rssi_dbm)),
            f"{frequency(point.freq_hz)}: {signed(point.rssi_dbm, 0)} dBm, "
            f"at most {signed(point.peak_dbm, 0)} dBm",
        )
        for at, point in enumerate(points)
    ]
    lines = [Line(_height(level), f"{signed(level, 0)} dBm") for level in (-120.0, -100.0, -80.0, -60.0)]
    return Chart(bars, lines, frequency(points[0].freq_hz), frequency(points[-1].freq_hz))


def _height(level_dbm: float) -> float:
    low, high = RANGE_DBM
    share = (min(max(level_dbm, low), high) - low) / (high - low)
    return round(FLOOR - share * (FLOOR - TOP), 1)
