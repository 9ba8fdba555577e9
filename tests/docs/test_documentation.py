"""The documents tell the truth: what they name exists, and what people type is documented.

Pages with tests of their own beside their package (hub, http, lorawan, mqtt) are read here as well, for what all share.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
import pytest
import typer.main

from gateway import __version__, config
from gateway.cli import app
from gateway.devices.fields import Given
from gateway.provisioning import layout
from gateway.settings import Config
from hub.http.publish import SEQ_HEADER
from hw_sim import scenario
from hw_sim.__main__ import app as simulator_app
from radio.boards import Board, board_names, get_board, parse_board

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
READABLE = {page.name: page.read_text() for page in PAGES}
EVERYTHING = "\n".join(READABLE.values())
SIMULATED = "fluxgate-sim-4"  # a board that nobody wires


class Shown(NamedTuple):
    """A piece of a page that is set as code: a fenced block or an inline span."""

    page: str
    language: str  # "" for a span
    text: str


def _shown() -> Iterator[Shown]:
    for page, text in READABLE.items():
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield Shown(page, language or "text", block)
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for span in re.findall(r"`([^`\n]+)`", prose):
            yield Shown(page, "", span)
        for alternative in re.findall(r"!\[([^\]]*)\]", prose):
            yield Shown(page, "", alternative)


@pytest.fixture(scope="module")
def api_table() -> ModuleType:
    """The tool that writes docs/requests.md."""
    spec = importlib.util.spec_from_file_location("api_table", ROOT / "tests" / "docs" / "api_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHOWN = list(_shown())
SPANS = [each for each in SHOWN if not each.language]


# -- the command

FLUXGATE = typer.main.get_command(app)  # click's tree, whichever click typer brings


def lines_with(word: str) -> list[tuple[str, str]]:
    """Page and what follows `word` up to the end of its command."""
    call = re.compile(rf"(?:^|[\s(]){word}((?: +[\w./=:\"*<>-]+)*)", re.MULTILINE)
    return [(page, rest.strip()) for page, _, text in SHOWN for rest in call.findall(text)]


def commands(group: Any, before: str = "") -> Iterator[str]:
    """Everything that can be typed, also a group that does something by itself."""
    for name, command in group.commands.items():
        is_group = hasattr(command, "commands")
        if not is_group or command.invoke_without_command:
            yield before + name
        if is_group:
            yield from commands(command, f"{before}{name} ")


def what_is_wrong(line: str, command: Any = FLUXGATE) -> str:
    """What of a documented call does not exist; "" where it is right."""
    for word in line.split():
        if word.startswith("-"):
            known = {option for parameter in command.params for option in parameter.opts}
            if word.partition("=")[0] not in known | {"--help"}:
                return f"{command.name} has no {word}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"no command {word}"
            command = command.commands[word]
    return ""


def test_every_command_and_option_named_exists() -> None:
    named = [(page, line) for page, line in lines_with("fluxgate") if line]
    assert len(named) > 10
    assert [(page, line, wrong) for page, line in named if (wrong := what_is_wrong(line))] == []


@pytest.mark.parametrize(
    "line", ["fly", "config fly", "demo --fly", "config show --fly", "radio boards --speed 3"]
)
def test_a_call_that_does_not_exist_would_be_noticed(line: str) -> None:
    assert what_is_wrong(line)


def test_every_command_is_documented() -> None:
    named = {line for _, line in lines_with("fluxgate")}
    assert [
        command
        for command in commands(FLUXGATE)
        if not any(line == command or line.startswith(command + " -") for line in named)
    ] == []


def test_every_command_of_the_simulator_named_exists_and_all_are_named() -> None:
    simulator: Any = typer.main.get_command(simulator_app)
    named = lines_with("python -m hw_sim")
    assert [(page, line, wrong) for page, line in named if (wrong := what_is_wrong(line, simulator))] == []
    assert {line.split()[0] for _, line in named} == set(simulator.commands)


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {(page, line.split()[0]) for page, line in lines_with("make") if line}
    assert {("README.md", "run"), ("README.md", "test")} <= named
    assert [each for each in named if each[1] not in targets] == []


def test_what_is_handed_to_the_demonstration_are_its_options() -> None:
    for arguments in re.findall(r'make run ARGS="([^"]*)"', EVERYTHING):
        assert what_is_wrong(f"demo {arguments}") == ""


# -- settings


def structure(kind: object) -> type[msgspec.Struct] | None:
    """The table behind a type: itself, or what a list or tuple of it holds."""
    for each in (kind, *get_args(kind), *(inner for part in get_args(kind) for inner in get_args(part))):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            return each
    return None


def keys(kind: type[msgspec.Struct], before: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted settings of a table, and whether each is a section."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name.startswith("_"):
            continue
        inner = structure(hint)
        yield before + name, inner is not None
        if inner is not None:
            yield from keys(inner, f"{before}{name}.")


SETTINGS = dict(keys(Config))
UNIT_SECTIONS = {"Unit", "Service", "Install"}


def is_python(name: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        if importlib.util.find_spec(name) is not None:
            return True
    except ModuleNotFoundError:
        pass
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return False


def test_every_setting_named_with_its_section_exists() -> None:
    sections = "|".join(name for name, section in SETTINGS.items() if section and "." not in name)
    named = [
        (page, text) for page, _, text in SPANS if re.fullmatch(rf"(?:{sections})(?:\.[a-z_0-9]+)+", text)
    ]
    assert ("architecture.md", "hub.commit_interval_s") in named
    assert [each for each in named if each[1] not in SETTINGS and not is_python(each[1])] == []


def test_every_section_named_exists() -> None:
    named = [
        (page, *found.groups())
        for page, _, text in SPANS
        if (found := re.fullmatch(r"\[\[?([a-z][\w.]*|[A-Z]\w+)\]\]?(?: ([a-z_]+))?", text))
    ]
    assert ("upstream.md", "hub", "max_messages") in named
    of_scenarios = dict(keys(scenario.ScenarioTable))
    for page, section, key in named:
        if section in UNIT_SECTIONS:
            continue
        known = of_scenarios if page == "scenarios.md" else SETTINGS
        assert known.get(section), f"{page}: [{section}]"
        assert key is None or f"{section}.{key}" in known, f"{page}: [{section}] {key}"


@pytest.mark.parametrize(
    "block", [each for each in SHOWN if each.language == "toml"], ids=lambda block: str(block.page)
)
def test_every_toml_example_is_accepted_by_what_reads_it(block: Shown) -> None:
    if "[[nodes]]" in block.text:
        scenario.parse(block.text)
    elif "dio0" in block.text:
        parse_board("example", block.text)
    elif block.page == "provision.md":
        layout.parse(block.text)
    else:
        config.parse(block.text)


# -- files, links, units


def slug(heading: str) -> str:
    """The anchor that a heading gets on code hosting sites."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_images_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        goal = (page.parent / name).resolve() if name else page
        if not goal.is_file():
            broken.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", goal.read_text(), re.MULTILINE)
            if anchor not in map(slug, headings):
                broken.append(target)
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", READABLE["README.md"]))
    assert linked >= set(READABLE) - {"README.md"}


def test_every_file_named_exists() -> None:
    places = "radio|platform|gateway|webui|hw_sim|systemd|tests|docs"
    named = [
        (page, path)
        for page, language, text in SHOWN
        if language in {"", "sh", "console"}
        for path in re.findall(rf"(?:^|[\s`])((?:{places})/[\w./*-]*[\w*]/?)", text)
    ]
    assert len(named) > 20
    assert [(page, path) for page, path in named if not list(ROOT.glob(path.rstrip("/")))] == []


def test_the_way_of_a_frame_goes_through_files_that_exist() -> None:
    rows = re.findall(r"^\| \d+ \| (.+?) \|", READABLE["architecture.md"], re.MULTILINE)
    assert len(rows) == 9
    for row in rows:
        for path in re.findall(r"`([^`]+)`", row):
            assert (ROOT / path).exists(), path


def test_every_systemd_unit_named_exists_and_every_unit_is_named() -> None:
    units = {path.name for path in (ROOT / "systemd").iterdir() if path.suffix in {".service", ".target"}}
    stems = {name.removesuffix(".service") for name in units}
    named = {
        word
        for _, _, text in SHOWN
        for word in re.findall(r"(?<![\w/.])fluxgate(?:-[a-z]+(?:\.service)?|\.target)(?![\w-])", text)
    }
    assert [word for word in named if word not in units | stems | {SEQ_HEADER.decode()}] == []
    assert {name.removesuffix(".service") for name in units} - {
        word.removesuffix(".service") for word in named
    } == set()


# -- boards


def boards() -> dict[str, Board]:
    return {name: get_board(name) for name in board_names() if name != SIMULATED}


def pin(number: int | None) -> str:
    return "" if number is None else str(number)


def test_the_wiring_table_of_the_readme_is_that_of_the_board_files() -> None:
    expected = [
        f"| `{name}` | {index} | `/dev/spidev{wiring.spi[0]}.{wiring.spi[1]}` "
        f"| {pin(wiring.dio0)} | {pin(wiring.dio1)} | {pin(wiring.reset)} |".replace("|  |", "| |").replace(
            "|  |", "| |"
        )
        for name, board in boards().items()
        for index, wiring in enumerate(board.modules)
    ]
    assert re.findall(r"^\| `[\w-]+` \| \d+ \| `/dev/.*$", READABLE["README.md"], re.MULTILINE) == expected


def test_the_wiring_table_for_installers_is_that_of_the_board_files() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \| (\d) \| [^|]+\| ([^|]*) \| ?([^|]*) \| ([^|]*) \| `dt",
        READABLE["install.md"],
        re.MULTILINE,
    )
    assert sorted(row[0] for row in rows) == sorted(boards())
    for name, count, dio0, dio1, reset in rows:
        modules = get_board(name).modules
        assert int(count) == len(modules)
        assert dio0 == " and ".join(pin(wiring.dio0) for wiring in modules)
        assert dio1.strip() == pin(modules[0].dio1)
        assert reset == (pin(modules[0].reset) or "none")


def test_the_boards_of_the_radio_page_are_all_there_are() -> None:
    named = re.findall(r"^\| `([\w-]+)` \| (\d) \|", READABLE["radio.md"], re.MULTILINE)
    assert sorted(named) == sorted((name, str(len(get_board(name).modules))) for name in board_names())


# -- the gateway's part of the REST API


def test_the_page_of_all_requests_is_that_of_the_route_table(api_table: ModuleType) -> None:
    assert READABLE["requests.md"] == api_table.page(), "write it anew: python tests/docs/api_table.py"


def test_every_request_says_what_it_does(api_table: ModuleType) -> None:
    silent = [
        line for line in api_table.page().splitlines() if re.search(r"\| (GET|POST|PUT|PATCH|DELETE) /", line)
    ]
    assert silent == []


def test_the_requests_that_pages_name_exist(api_table: ModuleType) -> None:
    served = {(row.method, row.path) for row in [*api_table.ENDPOINTS, *api_table.gateway_rows()]}
    named = re.findall(r"^\| `(GET|POST|PUT|PATCH|DELETE) (/[^\s`?]*)", EVERYTHING, re.MULTILINE)
    assert [each for each in named if each not in served] == []


def test_the_fields_of_a_new_device_are_documented() -> None:
    named = set(re.findall(r"^\| `(\w+)`", READABLE["devices.md"], re.MULTILINE))
    assert set(Given.__struct_fields__) - named == set()


# -- the changelog


def test_the_changelog_has_the_version_that_runs() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[(?:Unreleased\] )?{re.escape(__version__)}", text, re.MULTILINE)
