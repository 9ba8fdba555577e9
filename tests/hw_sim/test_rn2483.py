"""The simulated RN2483 by itself: its commands, its pace, its faults, and the same on a pty."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from hw_sim.air import Air
from hw_sim.errors import KernelError
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.pty import Pty
from hw_sim.rn2483 import Place, Rn2483Table, SimRn2483, build_rn2483
from radio.hardware.clock import MonotonicClock
from radio.hardware.uart import SerialDevice
from radio.lora import LoRaModulation
from radio.rn2483 import Rn2483
from radio.rn2483_owner import Rn2483Owner
from radio.rn2483_states import Tuning

MS = 1_000_000
S = 1_000_000_000


class Desk:
    """One or two modules at a table, and somebody who types."""

    def __init__(self, count: int = 1) -> None:
        self.kernel = Kernel(seed=3)
        self.air = Air(self.kernel, AirSettings(fading_db=0.0, decode_width_db=0.01))
        self.modules = [SimRn2483(self.kernel, f"module{i}") for i in range(count)]
        for i, module in enumerate(self.modules):
            self.air.add(module.chip, x_m=100.0 * i)
        self.run(100 * MS)
        for module in self.modules:
            module.wire.take()  # the banner

    def run(self, ns: int) -> None:
        self.kernel.run_until(self.kernel.now_ns + ns)

    def say(self, line: str, index: int = 0, wait_ns: int = 20 * MS) -> list[str]:
        """Type a line; what the module has said by the end of the wait."""
        wire = self.modules[index].wire
        wire.hear(line.encode() + b"\r\n")
        self.run(wait_ns)
        return wire.take().decode("latin-1").splitlines()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.kernel.close()


@pytest.fixture
def pair() -> Iterator[Desk]:
    made = Desk(2)
    yield made
    made.kernel.close()


# DS40001784G: 2.3 (sys), 2.4 (mac pause), 2.5 (radio).
@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("sys get ver", "RN2483 1.0.5 Oct 31 2018 15:06:52"),
        ("mac pause", "4294967245"),
        ("mac resume", "ok"),
        ("radio set freq 868100000", "ok"),
        ("radio set freq 433050000", "ok"),
        ("radio set freq 915000000", "invalid_param"),
        ("radio set sf sf7", "ok"),
        ("radio set sf sf6", "invalid_param"),
        ("radio set sf 7", "invalid_param"),
        ("radio set pwr 15", "ok"),
        ("radio set pwr 16", "invalid_param"),
        ("radio set bw 250", "ok"),
        ("radio set cr 4/8", "ok"),
        ("radio set wdt 0", "ok"),
        ("radio get wdt", "15000"),
        ("radio get sync", "34"),
        ("radio rx 0", "busy"),  # before mac pause
        ("radio tx 48656c6c6f", "busy"),
        ("radio tx 486", "invalid_param"),
        ("radio tx ", "invalid_param"),
        ("make coffee", "invalid_param"),
    ],
)
def test_each_command_has_its_answer(desk: Desk, line: str, answer: str) -> None:
    assert desk.say(line) == [answer]


def test_two_modules_exchange_a_frame_with_two_answers_each(pair: Desk) -> None:
    for index in (0, 1):
        pair.say("mac pause", index)
        pair.say("radio set sf sf7", index)
    assert pair.say("radio rx 0", 1) == ["ok"]
    assert pair.say("radio rx 0", 1) == ["busy"]
    assert pair.say("radio tx 48656c6c6f", 0, 200 * MS) == ["ok", "radio_tx_ok"]
    assert pair.modules[1].wire.take() == b"radio_rx  48656C6C6F\r\n"
    assert pair.say("radio get snr", 1) == ["12"]
    assert pair.say("radio rx 0", 1) == ["ok"]  # one frame a command
    assert pair.say("radio rxstop", 1) == ["ok"]
    assert pair.say("radio rxstop", 1) == ["ok"]


def test_the_watchdog_ends_a_reception(desk: Desk) -> None:
    desk.say("mac pause")
    desk.say("radio set wdt 500")
    assert desk.say("radio rx 0", wait_ns=400 * MS) == ["ok"]
    desk.run(200 * MS)
    assert desk.modules[0].wire.take() == b"radio_err\r\n"
    desk.say("radio set wdt 0")
    assert desk.say("radio rx 0", wait_ns=100 * S) == ["ok"]


def test_a_reception_with_a_window_ends_with_it(desk: Desk) -> None:
    desk.say("mac pause")
    assert desk.say("radio rx 8", wait_ns=2 * S) == ["ok", "radio_err"]


def test_bytes_take_their_time_on_the_wire(desk: Desk) -> None:
    wire = desk.modules[0].wire
    wire.hear(b"radio get wdt\r\n")  # 15 bytes, 2.60 ms, then 0.9 ms of thought, then 7 bytes, 1.22 ms
    desk.run(4_600_000)
    assert wire.take() == b""
    desk.run(800_000)
    assert wire.take() == b"15000\r\n"


def test_a_command_given_while_another_is_worked_on_is_lost(desk: Desk) -> None:
    wire = desk.modules[0].wire
    wire.hear(b"radio get wdt\r\n")
    wire.hear(b"z\r\n")
    desk.run(20 * MS)
    assert wire.take() == b"15000\r\n"
    assert desk.modules[0].counters["commands_lost"] == 1


def test_a_break_and_a_u_set_the_rate_and_are_no_command(desk: Desk) -> None:
    wire = desk.modules[0].wire
    wire.hear(b"half a comm")
    desk.run(10 * MS)
    wire.hear_break()
    wire.hear(b"\x55")
    assert desk.say("sys get ver")[0].startswith("RN2483")


def test_a_reset_forgets_settings_and_pause(desk: Desk) -> None:
    desk.say("mac pause")
    desk.say("radio set wdt 0")
    assert desk.say("sys reset", wait_ns=200 * MS)[0].startswith("RN2483 1.0.5")
    assert desk.say("radio get wdt") == ["15000"]
    assert desk.say("radio rx 0") == ["busy"]


def test_each_fault_does_what_it_says(desk: Desk) -> None:
    module = desk.modules[0]
    module.fail("lost_line")
    assert desk.say("radio get sf") == []
    module.fail("garbage")
    assert desk.say("radio get freq") != ["868100000"]
    assert desk.say("radio get freq") == ["868100000"]
    module.fail("hang")
    assert desk.say("radio get sf") == []
    module.fail("wake")
    assert desk.say("radio get sf") == ["sf12"]
    module.fail("noise", 100)
    desk.run(50 * MS)
    assert len(module.wire.take()) == 100
    module.fail("unplug")
    assert desk.say("radio get sf") == []
    with pytest.raises(KernelError, match="no fault 'coffee'"):
        module.fail("coffee")


def test_a_scenario_s_table_becomes_a_module_on_the_air() -> None:
    kernel = Kernel(seed=1)
    air = Air(kernel)
    made = build_rn2483([Rn2483Table(port="a"), Rn2483Table(port="b")], kernel, air, Place(group="mast"))
    assert list(made) == ["a", "b"]
    assert {"a", "b"} <= set(air.records.counters)
    kernel.close()


def test_through_a_pty_the_driver_brings_the_module_up() -> None:
    """Real time, pyserial and a device file: everything that virtual time leaves out."""
    kernel = Kernel(seed=1)
    module = SimRn2483(kernel, "module")
    pty = Pty(module.wire)
    stop, up = threading.Event(), threading.Event()
    core = Rn2483(Tuning(868_100_000, LoRaModulation(9, 125_000), iq_inverted=False, crc=True))
    clock = MonotonicClock()
    owner = Rn2483Owner("module", core, SerialDevice(pty.path, 57_600), clock, lambda _owner, _event: None)

    def watch() -> None:
        deadline = time.monotonic() + 20
        while owner.fault and time.monotonic() < deadline:
            stop.wait(0.02)
        up.set()
        kernel.stop()

    threads = [threading.Thread(target=owner.run, args=(stop,)), threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    kernel.run(pace=1)
    assert up.is_set()
    assert owner.fault == ""
    assert core.model == "RN2483 1.0.5"
    assert module.chip.listening is not None
    stop.set()
    clock.wake()
    for thread in threads:
        thread.join()
    kernel.close()
    pty.close()


def test_a_device_file_that_is_gone_is_an_os_error() -> None:
    device = SerialDevice("/dev/fluxgate-none", 57_600)
    with pytest.raises(OSError, match="fluxgate-none"):
        device.open()
    device.close()
    master, slave = os.openpty()
    device = SerialDevice(os.ttyname(slave), 57_600)
    device.open()
    assert device.read() == b""
    os.close(master)
    with pytest.raises(OSError):  # noqa: PT011 - the words are the system's
        device.read()
    device.close()
    os.close(slave)
