"""The picture of the air and its view in a terminal: everything is shown, in its place and colour, within its frame."""

import io
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gateway.cli import app
from hw_sim.errors import SimError
from hw_sim.kernel import Kernel
from hw_sim.picture import LEFT, RIGHT, WIDTH, _short, draw
from hw_sim.picture_style import LEGEND, STYLE, class_of
from hw_sim.records import Fate
from hw_sim.scenario import load, parse
from hw_sim.simulation import Simulation
from hw_sim.svg import Svg
from hw_sim.timeline import Kind, Timeline
from hw_sim.watch import Watch, line
from hw_sim.watching import watch
from hw_sim.world import build

S = 1_000_000_000
NS = {"svg": "http://www.w3.org/2000/svg"}


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    """The scenario `mix`, up to the stretch that the documents show."""
    simulation = Simulation(load("mix"))
    timeline = Timeline(simulation.world)
    simulation.start()
    simulation.run(238)
    simulation.close()
    return timeline


@pytest.fixture(scope="module")
def picture(timeline: Timeline) -> ET.Element:
    return ET.fromstring(draw(timeline, 222, 238))


def tips(picture: ET.Element, cls: str) -> list[str]:
    """What shapes of a class say under the pointer."""
    shapes = picture.findall("svg:rect", NS)
    titles = (shape.find("svg:title", NS) for shape in shapes if shape.get("class") == cls)
    return [title.text or "" for title in titles if title is not None]


def test_every_frame_is_drawn_in_the_colour_of_its_fate(timeline: Timeline, picture: ET.Element) -> None:
    frames = [f for f in timeline.frames if f.record.end_ns > 222 * S and f.record.start_ns < 238 * S]
    assert len(frames) > 25
    for cls in {class_of(seen) for seen in frames}:
        assert len(tips(picture, f"frame {cls}")) == sum(class_of(seen) == cls for seen in frames)


def test_every_receive_window_and_burst_of_noise_is_drawn(timeline: Timeline, picture: ET.Element) -> None:
    windows = [
        span for span in timeline.spans(timeline.devices) if span.end_ns > 222 * S and span.start_ns < 238 * S
    ]
    assert len(tips(picture, "window")) == len(windows) > 20
    assert {tip.split(":")[0] for tip in tips(picture, "noise")} == {"welder"}


def test_a_frame_is_where_its_time_says(timeline: Timeline, picture: ET.Element) -> None:
    seen = next(f for f in timeline.frames if f.record.start_ns > 225 * S and f.sf == 10)
    tip = f"{seen.record.start_ns / S:.3f} s"
    shape = next(
        shape
        for shape in picture.findall("svg:rect", NS)
        if (title := shape.find("svg:title", NS)) is not None and tip in (title.text or "")
    )
    scale = (WIDTH - LEFT - RIGHT) / (16 * S)
    assert float(shape.get("x", "")) == pytest.approx(
        LEFT + (seen.record.start_ns - 222 * S) * scale, abs=0.1
    )
    assert float(shape.get("width", "")) == pytest.approx(seen.record.airtime_ns * scale, abs=0.1)


def test_nothing_leaves_the_picture(picture: ET.Element) -> None:
    height = float(picture.get("height", ""))
    for shape in picture.findall("svg:rect", NS):
        x, y, w, h = (float(shape.get(side, "")) for side in ("x", "y", "width", "height"))
        assert x >= 0
        assert x + w <= WIDTH + 0.1
        assert y >= 0
        assert y + h <= height + 0.1


def test_every_class_has_a_style_and_light_and_dark_have_the_same_colours(picture: ET.Element) -> None:
    used = {word for shape in picture.iter() for word in (shape.get("class") or "").split()}
    used |= {word for cls, _, _ in LEGEND for word in cls.split()}
    assert [word for word in used if f".{word}{{" not in STYLE] == []
    light, dark = STYLE.split("@media (prefers-color-scheme:dark)")
    assert set(re.findall(r"(--[a-z]+):#", light)) == set(re.findall(r"(--[a-z]+):#", dark.split("}}")[0]))


def test_rows_are_in_the_order_of_frequencies_and_never_overlap(picture: ET.Element) -> None:
    lanes = [shape for shape in picture.findall("svg:rect", NS) if shape.get("class") == "lane"]
    edges = [(float(lane.get("y", "")), float(lane.get("height", ""))) for lane in lanes]
    assert all(below[0] >= above[0] + above[1] for above, below in pairwise(edges))
    names = [text.text for text in picture.findall("svg:text", NS) if (text.text or "").endswith(" MHz")]
    assert names == ["869.525 MHz", "868.5 MHz", "868.3 MHz", "868.1 MHz"]


@pytest.mark.parametrize(("first", "last"), [(10, 10), (10, 5)])
def test_a_picture_of_no_time_is_refused(timeline: Timeline, first: float, last: float) -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        draw(timeline, first, last)


@pytest.mark.parametrize(("first", "last"), [(0, 0.02), (100, 101.5), (0, 238), (0, 90_000)])
def test_any_stretch_can_be_drawn(timeline: Timeline, first: float, last: float) -> None:
    drawn = ET.fromstring(draw(timeline, first, last))
    labels = [text for text in drawn.findall("svg:text", NS) if (text.text or "").endswith((" s", " h"))]
    assert 1 <= len(labels) <= 16


def test_a_silent_air_is_drawn_as_well() -> None:
    scenario = parse("[gateway]\n[[gateway.module]]\n[[nodes]]\nappears_s = 100")
    drawn = draw(Timeline(build(scenario, Kernel(0))), 0, 10, "<silence> & peace")
    assert "&lt;silence&gt; &amp; peace" in drawn
    assert ET.fromstring(drawn) is not None


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("fluxgate-sim-4/3", "module 3"),
        ("barn/dragino-hat/0", "barn 0"),
        ("observatory-hill/dragino-hat/0", "observato… 0"),
        ("sim-rn2483-0", "sim-rn2483-0"),
    ],
)
def test_a_modules_name_fits_the_margin(name: str, short: str) -> None:
    assert _short(name) == short
    assert len(short) <= 12


def test_words_cannot_break_out_of_the_drawing() -> None:
    svg = Svg(10, 10, "", '"><script>')
    svg.rect(0, 0, 1, 1, "x", tip='</title><script>alert("1")</script>')
    svg.text(0, 0, "<b>", "x")
    root = ET.fromstring(str(svg))
    assert [element.tag.rpartition("}")[2] for element in root.iter()].count("script") == 0


def test_kinds_of_frames_are_told_apart(timeline: Timeline) -> None:
    kinds = {seen.kind for seen in timeline.frames}
    assert kinds == {Kind.UPLINK, Kind.JOIN, Kind.DOWNLINK, Kind.FOREIGN}
    for seen in timeline.frames:
        if seen.kind is Kind.FOREIGN:
            assert seen.record.sender == "neighbour"
        if seen.kind is Kind.DOWNLINK and seen.fate is Fate.RECEIVED:
            assert any(
                each.fate is Fate.RECEIVED and name in timeline.devices
                for name, each in seen.record.receptions.items()
            )


def test_the_terminal_shows_lanes_modules_and_the_last_frames(timeline: Timeline) -> None:
    view = Watch(timeline)
    for seen in list(timeline.frames)[-3:]:
        view._last.append(seen)
    console = Console(file=io.StringIO(), width=140, record=True)
    console.print(view.render(140))
    text = console.export_text()
    assert "868.100 SF7" in text
    assert "█" in text
    assert re.search(r"fluxgate-sim-4/3 +│ - +│ (idle|sending)", text)
    assert timeline.frames[-1].record.sender in text


def test_a_line_tells_what_each_module_made_of_a_frame(timeline: Timeline) -> None:
    seen = next(
        f for f in timeline.frames if f.kind is Kind.UPLINK and f.fate is Fate.RECEIVED and f.sf == 10
    )
    assert re.search(r"uplink +868\.500 MHz SF10 .*fluxgate-sim-4/2 received -\d+ dBm", line(seen, timeline))


def test_the_command_prints_frames_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "air.svg"
    arguments = ["sim", "air", "oneradio", "--seconds", "40", "--speed", "0", "--picture", str(picture)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "join-request  868.100 MHz SF7" in result.output
    assert ET.parse(picture).getroot().tag.endswith("svg")


def test_in_a_terminal_the_view_is_live() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160, height=40)
    assert watch("oneradio", 5, speed=100.0, console=console) == ""
    assert "listening" in screen.getvalue()


def test_a_picture_that_would_begin_after_the_end_is_refused() -> None:
    with pytest.raises(SimError, match="begin at 50 s"):
        watch("oneradio", 10, draw_from_s=50)


def test_a_picture_into_no_folder_is_refused_before_the_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["sim", "air", "oneradio", "--picture", str(tmp_path / "no" / "air.svg")]
    )
    assert result.exit_code == 1
    assert "there is no folder" in result.output


def test_the_picture_of_the_documents_is_what_the_command_draws(timeline: Timeline) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "img" / "air.svg"
    assert ET.fromstring(page.read_text()).get("width") == str(WIDTH)
    assert "Three spreading factors" in page.read_text()
