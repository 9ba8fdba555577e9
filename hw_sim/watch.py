"""The air in a terminal as it happens: a lane for each channel and spreading factor, the modules, the last frames."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hw_sim.records import Fate
from hw_sim.timeline import Kind, Module, Seen, Timeline

SECOND_NS: Final = 1_000_000_000
LAST: Final = 12
STYLES: Final = {
    Fate.RECEIVED: "bright_blue",
    Fate.CRC_ERROR: "yellow",
    Fate.COLLIDED: "red",
    Fate.JAMMED: "magenta",
    Fate.BELOW_SENSITIVITY: "bright_black",
    Fate.DEAF: "dark_orange",
    Fate.NOT_MATCHED: "dark_orange",
    Fate.TRUNCATED: "bright_black",
}
DOWNLINK: Final = "green"
FOREIGN: Final = "purple"
WORDS: Final = {
    Fate.RECEIVED: "received",
    Fate.CRC_ERROR: "heard damaged",
    Fate.COLLIDED: "collided",
    Fate.JAMMED: "lost in noise",
    Fate.BELOW_SENSITIVITY: "below sensitivity",
    Fate.DEAF: "deaf",
    Fate.NOT_MATCHED: "listens elsewhere",
    Fate.TRUNCATED: "cut off",
}
LEGEND: Final = (
    ("█", STYLES[Fate.RECEIVED], "received"),
    ("█", STYLES[Fate.COLLIDED], "collided"),
    ("█", STYLES[Fate.CRC_ERROR], "damaged"),
    ("█", STYLES[Fate.JAMMED], "in noise"),
    ("█", STYLES[Fate.BELOW_SENSITIVITY], "too weak"),
    ("█", STYLES[Fate.DEAF], "deaf"),
    ("█", DOWNLINK, "downlink"),
    ("█", FOREIGN, "foreign"),
    ("[", DOWNLINK, "receive window"),
    ("░", "magenta", "noise"),
)


class Watch:
    """A view of a timeline. `render` shows the last `seconds` up to now."""

    def __init__(self, timeline: Timeline, seconds: float = 20.0) -> None:
        self._timeline = timeline
        self._seconds = seconds
        self._last: deque[Seen] = deque(maxlen=LAST)
        timeline.watch(self._last.append)

    def render(self, width: int) -> Group:
        """The whole screen, for a terminal of so many columns."""
        now_ns = self._timeline.world.kernel.now_ns
        title = f"{self._timeline.world.scenario.title}, {now_ns / SECOND_NS:.1f} s"
        return Group(
            Panel(self._lanes(now_ns, max(20, width - 18)), title=title, border_style="blue"),
            self._modules(),
            self._frames(),
        )

    def _lanes(self, now_ns: int, columns: int) -> Text:
        timeline, text = self._timeline, Text(no_wrap=True)
        from_ns = now_ns - round(self._seconds * SECOND_NS)
        frames = [seen for seen in timeline.frames if seen.record.end_ns > from_ns]
        windows = [span for span in timeline.spans(timeline.devices) if span.end_ns > from_ns]
        lanes = {(seen.channel_hz, seen.sf) for seen in frames}
        lanes |= {(module.freq_hz, module.sf) for module in timeline.modules if module.role != "tx"}
        lanes |= {(timeline.channel(span.freq_hz), span.modulation.sf) for span in windows}
        for freq_hz, sf in sorted(lanes, reverse=True):
            cells: list[tuple[str, str]] = [("·", "bright_black")] * columns

            def paint(start_ns: int, end_ns: int, glyph: str, style: str, row: list[tuple[str, str]]) -> None:
                first = max(0, (start_ns - from_ns) * columns // (now_ns - from_ns))
                last = min(columns - 1, (end_ns - from_ns) * columns // (now_ns - from_ns))
                row[first : last + 1] = [(glyph, style)] * max(0, last + 1 - first)

            for burst in timeline.noise:
                near = abs(burst.freq_hz - freq_hz) <= (burst.bw_hz + 125_000) / 2
                if near and burst.end_ns > from_ns and burst.start_ns < now_ns:
                    paint(burst.start_ns, burst.end_ns, "░", "magenta", cells)
            for span in windows:
                if (timeline.channel(span.freq_hz), span.modulation.sf) == (freq_hz, sf):
                    paint(span.start_ns, span.start_ns, "[", DOWNLINK, cells)
            for seen in frames:
                if (seen.channel_hz, seen.sf) == (freq_hz, sf):
                    paint(seen.record.start_ns, seen.record.end_ns, "█", style_of(seen), cells)
            text.append(f"{freq_hz / 1e6:8.3f} SF{sf:<3}", "bold")
            for glyph, style in cells:
                text.append(glyph, style)
            text.append("\n")
        ago = f"{-self._seconds:g} s"
        text.append(f"{'':14}{ago}{'now':>{columns - len(ago)}}\n", "dim")
        for glyph, style, words in LEGEND:
            text.append(f"{glyph} ", style)
            text.append(f"{words}  ", "dim")
        return text

    def _modules(self) -> Table:
        table = Table(expand=True, show_edge=False)
        for heading in ("module", "listens to", "now", *(WORDS[fate] for fate in _COUNTED)):
            table.add_column(heading, no_wrap=True)
        air = self._timeline.world.air
        listening, sending = {span.receiver for span in air.listening_spans()}, air.sending()
        for module in self._timeline.modules:
            fates = air.records.fates_of(module.name)
            ears = "-" if module.role == "tx" else f"{module.freq_hz / 1e6:g} MHz SF{module.sf}"
            now = _state(module, module.name in listening, module.name in sending)
            counts = ("" if module.role == "tx" else str(fates[fate]) for fate in _COUNTED)
            table.add_row(module.name, ears, now, *counts)
        return table

    def _frames(self) -> Table:
        table = Table(expand=True, show_edge=False, show_header=False)
        for seen in reversed(self._last):
            table.add_row(*cells(seen, self._timeline), style=style_of(seen))
        return table


_COUNTED: Final = (
    Fate.RECEIVED,
    Fate.CRC_ERROR,
    Fate.COLLIDED,
    Fate.JAMMED,
    Fate.BELOW_SENSITIVITY,
    Fate.DEAF,
)


def _state(module: Module, listens: bool, sends: bool) -> Text:
    """What a module does at this instant."""
    if sends:
        return Text("sending", "bold " + DOWNLINK)
    if listens:
        return Text("listening", DOWNLINK)
    return Text("idle", "bright_black") if module.role == "tx" else Text("deaf", STYLES[Fate.DEAF])


def style_of(seen: Seen) -> str:
    """The colour of a frame."""
    if seen.kind is Kind.DOWNLINK:
        return DOWNLINK if seen.fate is Fate.RECEIVED else f"{DOWNLINK} dim"
    return FOREIGN if seen.kind is Kind.FOREIGN else STYLES[seen.fate]


def cells(seen: Seen, timeline: Timeline) -> tuple[str, ...]:
    """A frame in words: when, who, what, where, how long, and what became of it."""
    record = seen.record
    return (
        f"{record.start_ns / SECOND_NS:10.3f} s",
        record.sender,
        seen.kind,
        f"{seen.channel_hz / 1e6:.3f} MHz SF{seen.sf}",
        f"{len(record.payload)} bytes, {record.airtime_ns / 1e6:.0f} ms",
        _views(seen, timeline),
    )


def _views(seen: Seen, timeline: Timeline) -> str:
    """What each module, or the device it was for, made of it."""
    if seen.kind is Kind.DOWNLINK:
        got = [n for n, each in seen.record.receptions.items() if each.fate is Fate.RECEIVED]
        return f"to {got[0]}" if got and got[0] in timeline.devices else "nobody got it"
    fitting = [
        module.name
        for module in timeline.modules
        if (module.freq_hz, module.sf) == (seen.channel_hz, seen.sf) and module.role != "tx"
    ]
    return ", ".join(_view(seen, name) for name in fitting) or "no module listens there"


def _view(seen: Seen, module: str) -> str:
    reception = seen.record.receptions.get(module)
    fate = WORDS[seen.record.fate(module)]
    return f"{module} {fate}" + (f" {reception.rssi_dbm:.0f} dBm" if reception is not None else "")


def line(seen: Seen, timeline: Timeline) -> str:
    """A frame as a line, for where there is no terminal."""
    return "  ".join(_padded(cells(seen, timeline)))


def _padded(words: Iterable[str]) -> Iterable[str]:
    widths = (12, 18, 12, 17, 18, 0)
    return (word.ljust(width) for word, width in zip(words, widths, strict=True))
