"""Recordings of SPI and GPIO traffic: read and written, compared with the chip model, and played to a driver."""

import contextlib
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from hw_sim import registers as reg
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.platforms import lockstep
from hw_sim.scenario import load
from hw_sim.simulation import Simulation
from hw_sim.sx1276 import SX1276
from hw_sim.trace import Pin, TakenEdge, Trace, TraceError, Transfer, parse
from hw_sim.trace_recorder import KEPT, Recorder
from hw_sim.trace_replay import Player, TraceMismatch, compare
from radio.boards import get_board
from radio.lora import LoRaModulation
from radio.sx127x.chip import Chip
from radio.sx127x.registers import Mode, Settings

US, MS, S = 1_000, 1_000_000, 1_000_000_000

# A driver's first words to a chip and its answers, from the data sheet's reset values (RegVersion 0x12, RegOpMode 0x09,
# RegFrf 434 MHz, RegSyncWord 0x12), written by hand.
FIRST_WORDS = b"""\
spi-trace 1
module bench/0
# reset, then who are you
1000 set reset 0
201000 set reset 1
8000000 spi 4200 0012
8100000 spi 0100 0009
8200000 spi 06000000 006c8000

8300000 spi 8108 0009
8400000 spi 8188 0008
8500000 spi 0100 0080
8600000 spi 3900 0012
8700000 spi b934 0012
8800000 spi 3900 0034
8900000 get dio0 0
"""


@pytest.fixture(scope="module")
def recorded() -> list[Trace]:
    """Every module of a gateway with one radio, and of one with three receivers and a transmitter, at work."""
    traces = []
    for name, seconds in (("oneradio", 60), ("town", 30)):
        simulation = Simulation(load(name), record=True)
        simulation.start()
        simulation.run(seconds)
        simulation.close()
        traces += [trace for recorder in simulation.recorders for trace in recorder.traces]
    return traces


# -- the file ---------------------------------------------------------------------------------------------


def test_a_trace_is_read() -> None:
    trace = parse(FIRST_WORDS)
    assert trace.module == "bench/0"
    assert len(trace.records) == 12
    assert trace.records[0] == Pin(1000, "reset", False, driven=True)
    assert trace.records[4] == Transfer(8_200_000, b"\x06\0\0\0", b"\0\x6c\x80\0")
    assert trace.records[-1] == Pin(8_900_000, "dio0", False, driven=False)


def test_what_is_written_is_read_again(recorded: list[Trace]) -> None:
    for trace in recorded:
        assert parse(str(trace).encode()) == trace
    kinds = {type(record) for trace in recorded for record in trace.records}
    assert kinds == {Transfer, TakenEdge, Pin}


def test_a_read_names_its_registers_and_the_fifo_stays() -> None:
    assert list(Transfer(0, b"\x06\0\0", b"\0\x6c\x80").reads()) == [(6, 0x6C), (7, 0x80)]
    assert list(Transfer(0, b"\0\0\0", b"\0ab").reads()) == [(0, 0x61), (0, 0x62)]
    assert list(Transfer(0, b"\x86\0\0", b"\0\x6c\x80").reads()) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        pytest.param(b"spi-trace 1", b"spi-trace 2", 1, "begins with", id="another version"),
        pytest.param(b"module bench/0", b"bench", 2, "names the module", id="no module"),
        pytest.param(b"spi 4200 0012", b"spi 4200", 6, "not a record", id="no answer"),
        pytest.param(b"spi 4200 0012", b"spi 4200 001", 6, "pairs", id="half a byte"),
        pytest.param(b"spi 4200 0012", b"spi 4200 00", 6, "1 came in", id="too short an answer"),
        pytest.param(b"spi 4200 0012", b"spy 4200 0012", 6, "not a record", id="unknown word"),
        pytest.param(b"8100000", b"7100000", 7, "time goes back", id="backwards"),
        pytest.param(b"8100000", b"99999999999999999999", 7, "nanoseconds", id="too large a number"),
        pytest.param(b"reset 0", b"reset low", 4, "0 or 1", id="no level"),
        pytest.param(b"reset 0", b"RESET! 0", 4, "name of a line", id="no line"),
        pytest.param(b"# reset", b"\xff", 0, "not a trace", id="not ASCII"),
    ],
)
def test_damage_is_refused_with_its_line(old: bytes, new: bytes, line: int, problem: str) -> None:
    with pytest.raises(TraceError, match=problem) as caught:
        parse(FIRST_WORDS.replace(old, new, 1))
    assert caught.value.line == line


def test_no_damage_raises_anything_else(recorded: list[Trace]) -> None:
    rng = random.Random(9)
    sources = [FIRST_WORDS, str(recorded[0]).encode()[:3000]]
    for number in range(4000):
        damaged = bytearray(sources[number % 2])
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(damaged))
            if rng.random() < 0.5:
                damaged[at] = rng.choice(b"0123456789abcdef spi\n\xff#-")
            else:
                del damaged[at : at + rng.randint(1, 40)]
        with contextlib.suppress(TraceError):
            compare(parse(bytes(damaged)))


# -- against the model ------------------------------------------------------------------------------------


def test_the_model_answers_a_hand_written_trace_as_the_data_sheet_says() -> None:
    report = compare(parse(FIRST_WORDS))
    assert report.differences == []
    assert (report.transfers, report.compared) == (9, 11)


@pytest.mark.parametrize(
    ("old", "new", "register"),
    [
        pytest.param(b"4200 0012", b"4200 0022", reg.VERSION, id="another chip"),
        pytest.param(b"0100 0080", b"0100 0008", reg.OP_MODE, id="LoRa refused"),
        pytest.param(b"b934 0012", b"b934 0034", reg.SYNC_WORD, id="under a written byte"),
    ],
)
def test_each_byte_that_differs_is_found(old: bytes, new: bytes, register: int) -> None:
    report = compare(parse(FIRST_WORDS.replace(old, new)))
    assert [(each.register, each.chip != each.model) for each in report.differences] == [(register, True)]


def test_the_model_answers_its_own_recordings_byte_for_byte(recorded: list[Trace]) -> None:
    for trace in recorded:
        report = compare(trace)
        assert report.differences == []
        assert report.compared > 2000
    assert sum(compare(trace).frames for trace in recorded) > 25


def test_a_rule_of_the_chip_that_is_broken_shows(
    recorded: list[Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a model whose FIFO pointer does not start where the driver says."""
    healthy = SX1276._write

    def broken(self: SX1276, address: int, value: int) -> int:
        return healthy(self, address, value ^ 1 if address == reg.FIFO_ADDR_PTR else value)

    monkeypatch.setattr(SX1276, "_write", broken)
    report = compare(recorded[0])
    assert report.registers[reg.FIFO] > 100


def test_frames_are_put_into_the_model_from_what_the_driver_read(recorded: list[Trace]) -> None:
    """Without the air, the model hears what the chip heard: pointers, lengths and payloads fit."""
    for trace in recorded:
        edges = [e for e in trace.records if isinstance(e, TakenEdge) and e.line == "dio0"]
        reads = [r for r in trace.records if isinstance(r, Transfer) and r.mosi[0] == reg.FIFO]
        report = compare(trace)
        assert report.frames <= len(edges)
        if report.frames:
            assert len(reads) >= report.frames


def single_receptions() -> Trace:
    """A driver that uses RXSINGLE and CAD: a frame, a window without one, a preamble, and silence."""
    kernel = Kernel(3)
    air = Air(kernel, AirSettings(fading_db=0.0))
    chip, sender = SX1276(kernel, "rx"), SX1276(kernel, "tx")
    air.add(chip)
    air.add(sender, 2.0)  # nothing but RFO, which is not wired
    board = get_board("dragino-hat")
    host = LocalHost(kernel, Board.wired(kernel, board, [chip]))
    recorder = Recorder(lockstep(host))
    bus = recorder.platform.bus(board, board.modules[0])
    modulation = LoRaModulation(7, 125_000)

    def send() -> None:
        wave = Chip(_Direct(sender))
        wave.start()
        wave.configure_receive(Settings(868_100_000, modulation))
        sender.spi(bytes((0x80 | reg.PAYLOAD_LENGTH, 5)))
        sender.spi(bytes((0x80 | reg.OP_MODE, 0x83)))

    def driver() -> None:
        host.delay(10 * MS)
        driven = Chip(bus)
        driven.start()
        driven.configure_receive(Settings(868_100_000, modulation, symbol_timeout=20))
        for mode, at_ns in (
            (Mode.RXSINGLE, 5 * MS),
            (Mode.RXSINGLE, None),
            (Mode.CAD, -3 * MS),
            (Mode.CAD, None),
        ):
            if at_ns is not None:
                kernel.inject(lambda: kernel.after(5 * MS, send))
            host.delay(10 * MS if mode is Mode.CAD else 1 * MS)
            driven.command(mode)
            host.delay(100 * MS)
            driven.read_packet()
            driven.clear_flags(driven.flags())

    kernel.spawn(driver, "driver")
    kernel.run_until(S)
    kernel.close()
    return recorder.traces[0]


class _Direct:
    def __init__(self, chip: SX1276) -> None:
        self.xfer = chip.spi


def test_single_receptions_and_channel_activity_are_replayed() -> None:
    trace = single_receptions()
    flags = [
        value
        for r in trace.records
        if isinstance(r, Transfer)
        for a, value in r.reads()
        if a == reg.IRQ_FLAGS
    ]
    for flag in (reg.RX_DONE, reg.RX_TIMEOUT, reg.CAD_DONE):
        assert any(value & flag for value in flags)
    report = compare(trace)
    assert report.differences == []
    assert report.frames == 1


# -- recording and playing -------------------------------------------------------------------------------


def test_a_driver_plays_against_its_own_recording() -> None:
    trace = single_receptions()
    player = Player(trace)
    chip = Chip(player)
    chip.start()
    chip.configure_receive(Settings(868_100_000, LoRaModulation(7, 125_000), symbol_timeout=20))
    chip.command(Mode.RXSINGLE)
    packet, _ = chip.read_packet()
    assert packet is not None
    assert len(packet.payload) == 5
    assert not player.finished


def test_a_driver_that_does_something_else_is_told_what() -> None:
    chip = Chip(Player(single_receptions()))
    chip.start()
    with pytest.raises(TraceMismatch, match="record"):
        chip.configure_receive(Settings(868_300_000, LoRaModulation(7, 125_000), symbol_timeout=20))


def test_a_player_gives_edges_levels_and_time_as_recorded() -> None:
    player = Player(parse(FIRST_WORDS + b"9000000 edge dio0 1 7 8999000\n9100000 spi 1200 0040\n"))
    player.set("reset", False)
    player.set("reset", True)
    for record in parse(FIRST_WORDS).records[2:-1]:
        assert isinstance(record, Transfer)
        assert player.xfer(record.mosi) == record.miso
    assert player.get("dio0") is False
    assert [(edge.line, edge.t_ns, edge.seqno) for edge in player.read_edges()] == [("dio0", 8_999_000, 7)]
    assert player.now_ns() == 9_000_000
    assert player.xfer(b"\x12\0") == b"\0\x40"
    assert player.finished
    with pytest.raises(TraceMismatch, match="nothing more"):
        player.xfer(b"\x12\0")
    with pytest.raises(TraceMismatch):
        Player(parse(FIRST_WORDS)).set("reset", True)


def test_recording_disturbs_nothing() -> None:
    counts = []
    for record in (False, True):
        simulation = Simulation(load("oneradio"), record=record)
        simulation.start()
        simulation.run(60)
        counts.append({name: value for name, value in simulation.counts().items() if name != "late_us"})
        simulation.close()
    assert counts[0] == counts[1]


def test_a_recording_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT == 200_000
    monkeypatch.setattr("hw_sim.trace_recorder.KEPT", 50)
    simulation = Simulation(load("oneradio"), record=True)
    simulation.start()
    simulation.run(5)
    simulation.close()
    (recorder,) = simulation.recorders
    assert recorder.full == ["dragino-hat/0"]
    assert len(recorder.traces[0].records) == 50


def test_the_commands_record_and_replay(tmp_path: Path) -> None:
    arguments = ["sim", "run", "oneradio", "--seconds", "20", "--trace", str(tmp_path)]
    CliRunner().invoke(app, arguments)
    path = tmp_path / "dragino-hat-0.trace"
    result = CliRunner().invoke(app, ["sim", "replay", str(path)])
    assert (result.exit_code, result.output.endswith(" 0 differ\n")) == (0, True)
    path.write_text(path.read_text().replace("spi 4200 0012", "spi 4200 0022"))
    result = CliRunner().invoke(app, ["sim", "replay", str(path)])
    assert result.exit_code == 1
    assert "register 0x42 of the chip read 0x22, of the model 0x12" in result.output
    path.write_text("nonsense")
    result = CliRunner().invoke(app, ["sim", "replay", str(path)])
    assert "begins with" in result.output


def test_recording_real_modules_needs_some(tmp_path: Path) -> None:
    config = tmp_path / "fluxgate.toml"
    config.write_text("")
    result = CliRunner().invoke(app, ["sim", "record", str(tmp_path), "--config", str(config)])
    assert result.exit_code == 1
    assert "no radio module is configured" in result.output
