"""A picture of the air: time to the right, channels above each other, what became of each frame in its colour.

Each channel has a row for each spreading factor; frames carry the slope of their chirps, up for devices, down for the
gateway. Below are the gateway's modules: when each listened, sent, and was deaf.
"""

import math
from collections.abc import Iterator
from typing import Final

from hw_sim.picture_style import DEFINITIONS, LEGEND, STYLE, class_of
from hw_sim.records import ListeningSpan, NoiseBurst
from hw_sim.svg import Svg
from hw_sim.timeline import Kind, Module, Seen, Timeline

WIDTH: Final = 1200
LEFT: Final = 168  # for labels
RIGHT: Final = 16
TOP: Final = 62
ROW: Final = 22
FRAME: Final = 16  # of a row's height
GAP: Final = 12  # between channels
STRIP: Final = 14  # a module's row
MIN_WIDTH: Final = 2.0  # a frame is never thinner
COLUMNS: Final = 7  # of the legend
LABEL: Final = 12  # letters of a module's name
LETTER: Final = 6.0  # of a frame's label, about
SECOND_NS: Final = 1_000_000_000
_STEPS_S: Final = (
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    1800,
    3600,
    10_800,
    21_600,
)


def draw(timeline: Timeline, from_s: float, to_s: float, title: str = "") -> str:
    """The SVG of a stretch of time. Raises ValueError where it has no length."""
    if to_s <= from_s:
        raise ValueError("the picture ends before it begins")
    return str(_Picture(timeline, from_s, to_s, title).draw())


class _Picture:
    """One drawing: first where everything goes, then everything."""

    def __init__(self, timeline: Timeline, from_s: float, to_s: float, title: str) -> None:
        self._timeline = timeline
        self._from_ns, self._to_ns = round(from_s * SECOND_NS), round(to_s * SECOND_NS)
        self._title = title or timeline.world.scenario.title or "The air"
        self._frames = [
            seen
            for seen in timeline.frames
            if seen.record.end_ns > self._from_ns and seen.record.start_ns < self._to_ns
        ]
        self._windows = [span for span in timeline.spans(timeline.devices) if self._shows(span)]
        self._noise = [burst for burst in timeline.noise if self._shows(burst)]
        self._rows, self._channels, y = self._lay_out()
        self._air_bottom = y
        self._mast = {name: site.chips.keys() for site in timeline.world.sites for name in site.names}
        self._strips: dict[str, float] = {}
        y += 26
        for module in timeline.modules:
            self._strips[module.name] = y
            y += STRIP + 6
        self._bottom = y
        self._height = y + 24 + 26 * math.ceil(len(LEGEND) / COLUMNS) + 10
        self._svg = Svg(WIDTH, self._height, STYLE, f"The air: {self._title}")

    def _shows(self, what: ListeningSpan | NoiseBurst) -> bool:
        return what.end_ns > self._from_ns and what.start_ns < self._to_ns

    def _lay_out(self) -> tuple[dict[tuple[int, int], float], dict[int, tuple[float, float]], float]:
        """Where each (channel, spreading factor) has its row, each channel its top and bottom, and the end."""
        channel = self._timeline.channel
        used = {(seen.channel_hz, seen.sf) for seen in self._frames}
        used |= {(channel(span.freq_hz), span.modulation.sf) for span in self._windows}
        used |= {(module.freq_hz, module.sf) for module in self._timeline.modules if module.role != "tx"}
        rows: dict[tuple[int, int], float] = {}
        channels: dict[int, tuple[float, float]] = {}
        y = float(TOP)
        for freq_hz in sorted({freq_hz for freq_hz, _ in used}, reverse=True):
            top = y
            for sf in sorted((sf for hz, sf in used if hz == freq_hz), reverse=True):
                rows[freq_hz, sf] = y
                y += ROW
            channels[freq_hz] = top, y
            y += GAP
        return rows, channels, y - GAP

    def draw(self) -> Svg:
        """Everything, from the background to the legend."""
        svg = self._svg
        svg.define(DEFINITIONS)
        svg.define(
            f'<clipPath id="plot"><rect x="{LEFT}" y="0" width="{WIDTH - LEFT - RIGHT}" height="{self._height}"/>'
            "</clipPath>"
        )
        svg.rect(0, 0, WIDTH, self._height, "page", rx=8)
        self._head()
        self._lanes()
        self._axis()
        for burst in self._noise:
            self._draw_noise(burst)
        for span in self._windows:
            self._draw_window(span)
        for seen in sorted(self._frames, key=lambda each: each.fate != "received", reverse=False):
            self._draw_frame(seen)
        for module in self._timeline.modules:
            self._draw_module(module)
        self._legend()
        return svg

    # -- time ------------------------------------------------------------------------------------------

    def _x(self, t_ns: float) -> float:
        share = (t_ns - self._from_ns) / (self._to_ns - self._from_ns)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(share, 0.0), 1.0)

    def _box(self, start_ns: int, end_ns: int) -> tuple[float, float]:
        """Left and width, cut to the picture."""
        left, right = self._x(start_ns), self._x(end_ns)
        return left, max(right - left, MIN_WIDTH)

    def _ticks(self) -> Iterator[tuple[float, str]]:
        length_s = (self._to_ns - self._from_ns) / SECOND_NS
        step_s = next((step for step in _STEPS_S if length_s / step <= 14), 86_400)
        number = math.ceil(self._from_ns / SECOND_NS / step_s)
        while number * step_s * SECOND_NS <= self._to_ns:
            t_s = number * step_s
            hours = f"{int(t_s // 3600)}:{int(t_s // 60 % 60):02d} h"
            label = hours if step_s >= 60 else f"{t_s:g} s"
            yield t_s * SECOND_NS, label
            number += 1

    # -- the parts ---------------------------------------------------------------------------------------

    def _head(self) -> None:
        ours = [seen for seen in self._frames if seen.kind in (Kind.UPLINK, Kind.JOIN)]
        received = sum(seen.fate == "received" for seen in ours)
        downlinks = sum(seen.kind is Kind.DOWNLINK for seen in self._frames)
        self._svg.text(LEFT, 26, self._title, "title")
        words = f"{len(ours)} frames of devices, {received} received; {downlinks} downlinks"
        span = f"{self._from_ns / SECOND_NS:g} to {self._to_ns / SECOND_NS:g} s"
        self._svg.text(LEFT, 45, f"{span}: {words}", "note")

    def _lanes(self) -> None:
        svg, width = self._svg, WIDTH - LEFT - RIGHT
        for freq_hz, (top, bottom) in self._channels.items():
            svg.rect(LEFT, top, width, bottom - top, "lane", rx=4)
            svg.text(14, (top + bottom) / 2 + 4, f"{freq_hz / 1e6:.3f}".rstrip("0") + " MHz", "label strong")
        for (freq_hz, sf), y in self._rows.items():
            svg.text(LEFT - 8, y + ROW / 2 + 4, f"SF{sf}", "label end")
            if y > self._channels[freq_hz][0]:
                svg.line(LEFT, y, LEFT + width, y, "rule")

    def _axis(self) -> None:
        svg = self._svg
        for t_ns, label in self._ticks():
            x = self._x(t_ns)
            svg.line(x, TOP, x, self._bottom - 4, "grid")
            svg.text(x, self._bottom + 12, label, "label middle")

    def _draw_noise(self, burst: NoiseBurst) -> None:
        left, width = self._box(burst.start_ns, burst.end_ns)
        for freq_hz, (top, bottom) in self._channels.items():
            if abs(freq_hz - burst.freq_hz) <= (burst.bw_hz + 125_000) / 2:
                tip = f"{burst.source}: noise, {burst.bw_hz / 1e3:g} kHz wide"
                self._svg.rect(left, top, width, bottom - top, "noise", tip=tip)

    def _draw_window(self, span: ListeningSpan) -> None:
        key = (self._timeline.channel(span.freq_hz), span.modulation.sf)
        left, width = self._box(span.start_ns, span.end_ns)
        y = self._rows[key] + (ROW - FRAME) / 2
        duration_ms = (span.end_ns - span.start_ns) / 1e6
        tip = f"{span.receiver}: receive window, {duration_ms:.1f} ms"
        self._svg.rect(left, y - 2, width, FRAME + 4, "window", rx=2, tip=tip)

    def _draw_frame(self, seen: Seen) -> None:
        record, svg = seen.record, self._svg
        left, width = self._box(record.start_ns, record.end_ns)
        y = self._rows[seen.channel_hz, seen.sf] + (ROW - FRAME) / 2
        tip = (
            f"{record.sender}: {seen.kind}, {len(record.payload)} bytes, SF{seen.sf}, "
            f"{record.start_ns / SECOND_NS:.3f} s, {record.airtime_ns / 1e6:.1f} ms: "
            f"{seen.fate.replace('_', ' ')}"
        )
        cls = class_of(seen)
        svg.rect(left, y, width, FRAME, f"frame {cls}", rx=min(3.0, width / 2), tip=tip)
        if width >= 10:
            slope = "down" if record.iq_inverted else "up"
            svg.rect(left, y, width, FRAME, f"chirp-{slope}", rx=3)
        label = record.sender if seen.kind is not Kind.DOWNLINK else "to " + _addressee(seen, self._timeline)
        if width >= LETTER * len(label) + 8:
            svg.text(left + width / 2, y + 12, label, f"inside {cls}")

    def _draw_module(self, module: Module) -> None:
        svg, y = self._svg, self._strips[module.name]
        svg.text(14, y + 11, _short(module.name), "label")
        does = "sends" if module.role == "tx" else f"{module.freq_hz / 1e6:g} SF{module.sf}"
        svg.text(LEFT - 8, y + 11, does, "label end")
        svg.rect(LEFT, y, WIDTH - LEFT - RIGHT, STRIP, "strip", rx=3)
        for span in self._timeline.spans((module.name,)):
            if self._shows(span):
                left, width = self._box(span.start_ns, span.end_ns)
                svg.rect(left, y, width, STRIP, "listening")
        mates = self._mast[module.name]
        for seen in self._frames:
            left, width = self._box(seen.record.start_ns, seen.record.end_ns)
            if seen.record.sender == module.name:
                svg.rect(left, y, width, STRIP, "frame downlink")
            elif seen.record.sender in mates:
                svg.rect(left, y, width, STRIP, "blocked")
            elif (reception := seen.record.receptions.get(module.name)) is not None:
                mark = {"received": "received", "crc_error": "damaged"}.get(reception.fate)
                if mark and seen.kind is not Kind.DOWNLINK:
                    svg.rect(left, y + 3, width, STRIP - 6, f"frame {mark}", rx=1)

    def _legend(self) -> None:
        svg, y = self._svg, self._bottom + 30
        step = (WIDTH - LEFT - RIGHT) / COLUMNS
        for number, (cls, slope, words) in enumerate(LEGEND):
            x = LEFT + step * (number % COLUMNS)
            row = y + 26 * (number // COLUMNS)
            svg.rect(x, row, 26, 14, cls, rx=3)
            if slope:
                svg.rect(x, row, 26, 14, f"chirp-{slope}", rx=3)
            svg.text(x + 33, row + 11.5, words, "label")


def _short(name: str) -> str:
    """A module in as many letters as the margin has room for: gateway and number, or the end of a modem's port."""
    board, _, number = name.rpartition("/")
    if not board:
        return name if len(name) <= LABEL else "…" + name[1 - LABEL :]
    gateway = board.rpartition("/")[0] or "module"
    room = LABEL - len(number) - 1
    return f"{gateway if len(gateway) <= room else gateway[: room - 1] + '…'} {number}"


def _addressee(seen: Seen, timeline: Timeline) -> str:
    """The device that got a downlink, where one did."""
    for name, reception in seen.record.receptions.items():
        if name in timeline.devices and reception.fate == "received":
            return name
    return "nobody"
