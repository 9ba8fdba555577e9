"""Boards are data: every file loads, and a wrong one says what is wrong with it."""

import random
from importlib.resources import files
from pathlib import Path

import pytest

from radio.boards import board_names, get_board, parse_board
from radio.errors import BoardError

GOOD = "[[module]]\nspi = [0, 0]\ndio0 = 25\n"


@pytest.mark.parametrize("name", board_names())
def test_every_board_file_loads(name: str) -> None:
    board = get_board(name)
    assert board.description
    assert board.modules


@pytest.mark.parametrize(
    ("name", "index", "spi", "dio0", "reset"),
    [
        ("dragino-hat", 0, (0, 0), 4, 17),
        ("adafruit-bonnet", 0, (0, 1), 22, 25),
        ("uputronics-dual", 0, (0, 0), 25, None),
        ("uputronics-dual", 1, (0, 1), 16, None),
    ],
)
def test_wiring_is_the_makers(
    name: str, index: int, spi: tuple[int, int], dio0: int, reset: int | None
) -> None:
    wiring = get_board(name).module(index)
    assert (wiring.spi, wiring.dio0, wiring.reset, wiring.pa_boost) == (spi, dio0, reset, True)


def test_four_modules_share_spi0_and_the_auxiliary_spi1() -> None:
    board = get_board("quad-spi")
    assert [module.spi for module in board.modules] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert "dtoverlay=spi1-2cs" in board.config_lines
    spi1_pins = set(range(16, 22))
    assert not spi1_pins & {pin for module in board.modules for pin in (module.dio0, module.reset)}


def test_a_board_that_says_nothing_needs_spi_switched_on() -> None:
    assert parse_board("b", GOOD).config_lines == ("dtparam=spi=on",)


def test_the_gpio_controllers_of_every_pi_are_known_by_label() -> None:
    labels = parse_board("b", GOOD).gpio_chip_labels
    assert labels == ("pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1")  # Pi 3 and Zero, Pi 4, Pi 5


def test_a_damaged_board_file_raises_one_error_or_makes_a_board() -> None:
    dice = random.Random(5)
    texts = [files("radio").joinpath(f"data/boards/{name}.toml").read_text("utf-8") for name in board_names()]
    refused = 0
    for _ in range(5000):
        text = list(dice.choice(texts))
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(text))
            text[at] = dice.choice(["", chr(dice.randrange(128)), "0", "-", "[", '"', text[at] * 2, "9" * 30])
        try:
            board = parse_board("b", "".join(text))
        except BoardError:
            refused += 1
            continue
        assert board.modules
        assert all(0 <= module.dio0 <= 511 for module in board.modules)
    assert 500 < refused < 5000


def test_the_simulated_board_has_four_modules() -> None:
    board = get_board("fluxgate-sim-4")
    assert len(board.modules) == 4
    assert all(module.reset is not None for module in board.modules)


def test_a_board_of_ones_own_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'description = "mine"\nspi_hz = 1_000_000\n' + GOOD + "pa_boost = false\nmax_power_dbm = 10\n"
    )
    board = get_board(str(path))
    assert (board.name, board.spi_hz, board.module(0).max_power_dbm) == ("mine", 1_000_000, 10)
    with pytest.raises(BoardError, match="cannot be read"):
        get_board(str(tmp_path / "missing.toml"))


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(BoardError, match="dragino-hat"):
        get_board("nonesuch")
    with pytest.raises(BoardError, match=r"1 module\(s\)"):
        get_board("dragino-hat").module(1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "at least one"),
        ("module = 1", "at least one"),
        ("= 1", "board b"),
        (GOOD + "dio9 = 1", "unknown key 'dio9'"),
        ('colour = "red"\n' + GOOD, "unknown key 'colour'"),
        ("[[module]]\ndio0 = 25", "spi must be"),
        ("[[module]]\nspi = [0]\ndio0 = 25", "spi must be"),
        ("[[module]]\nspi = [0, 0]", "dio0 must be"),
        ("[[module]]\nspi = [0, 0]\ndio0 = true", "dio0 must be"),
        (GOOD + "pa_boost = 1", "pa_boost must be"),
        (GOOD + "pa_boost = false\nmax_power_dbm = 20", "max_power_dbm must be -4 to 14"),
        ("spi_hz = 20_000_000\n" + GOOD, "spi_hz must be"),
        ("gpio_chip_labels = 1\n" + GOOD, "list of strings"),
        ("config_txt = [1]\n" + GOOD, "config_txt must be a list of strings"),
        (GOOD + "reset = 25", "used twice"),
        (GOOD + GOOD, "used twice"),
    ],
)
def test_a_wrong_board_file_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(BoardError, match=problem):
        parse_board("b", text)
