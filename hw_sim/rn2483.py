"""An RN2483: a modem behind a UART (Microchip DS40001784G), its SX1276 on the same air as all others.

What a gateway needs of it: `sys get ver|vdd|hweui`, `sys reset`, `sys sleep`, `mac pause|resume`, and the whole `radio`
layer. One command at a time: what comes while another is being worked on is lost, and counted. `fail` breaks it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hw_sim.air import Air
from hw_sim.errors import KernelError
from hw_sim.kernel import Event, Kernel
from hw_sim.node_radio import DirectBus
from hw_sim.sx1276 import SX1276
from hw_sim.uart import Wire
from radio.config import ModuleConfig, Role
from radio.lora import LoRaModulation
from radio.rn2483_lines import MAX_PAYLOAD
from radio.rn2483_states import BANDS_HZ
from radio.sx127x.chip import Chip
from radio.sx127x.registers import Dio0, Irq, Mode, Power, Settings

MS: Final = 1_000_000
US: Final = 1_000
BAUD: Final = 57_600
BANNER: Final = "{model} {version} Oct 31 2018 15:06:52"
BOOT_NS: Final = 60 * MS
PARSE_NS: Final = 900 * US  # from the last bit of a command to the first of its answer; assumed
PARSE_DIGITS_NS: Final = 12 * US  # more of it for each byte of a payload
REPORT_NS: Final = 300 * US  # from an interrupt of the SX1276 inside to the first bit of the second answer
PAUSE_MS: Final = 4294967245
MAX_LINE: Final = 600

_DEFAULTS: Final = {
    "mod": "lora",
    "freq": "868100000",
    "pwr": "1",
    "sf": "sf12",
    "bw": "125",
    "cr": "4/5",
    "crc": "on",
    "iqi": "off",
    "prlen": "8",
    "sync": "34",
    "wdt": "15000",
}
_WORDS: Final = {
    "mod": ("lora", "fsk"),
    "sf": tuple(f"sf{sf}" for sf in range(7, 13)),
    "bw": ("125", "250", "500"),
    "cr": ("4/5", "4/6", "4/7", "4/8"),
    "crc": ("on", "off"),
    "iqi": ("on", "off"),
}
_PAYLOAD: Final = re.compile(rf"([0-9A-Fa-f]{{2}}){{1,{MAX_PAYLOAD}}}", re.ASCII)
_RANGES: Final = {"pwr": (-3, 15), "prlen": (0, 65_535), "wdt": (0, 4_294_967_295)}


class Rn2483Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[gateway.rn2483]]` of a scenario: one modem, on the gateway's mast, and what its module shall listen to."""

    port: Annotated[str, Meta(description="its name, as the radio's setting `port`")] = "sim-rn2483-0"
    freq_hz: int = 868_100_000
    sf: Annotated[int, Meta(ge=7, le=12)] = 9
    bw_hz: Literal[125000, 250000, 500000] = 125000
    role: Literal["rx", "tx", "rxtx"] = "rxtx"
    version: str = "1.0.5"
    crystal_ppm: Annotated[float, Meta(ge=-100, le=100)] = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an antenna stands, and with which others it shares a mast."""

    x_m: float = 0.0
    y_m: float = 0.0
    antenna_gain_dbi: float = 0.0
    group: str | None = None


class SimRn2483:
    """One module: `chip` belongs on the air, `wire` to its host."""

    def __init__(
        self,
        kernel: Kernel,
        name: str,
        *,
        version: str = "1.0.5",
        baud: int = BAUD,
        crystal_ppm: float = 0.0,
        parse_ns: int = PARSE_NS,
    ) -> None:
        self.kernel = kernel
        self.name = name
        self.chip = SX1276(kernel, name, crystal_ppm=crystal_ppm, rfo_wired=True)
        self.wire = Wire(kernel, baud)
        self.wire.on_bytes = self._on_bytes
        self.wire.on_break = self._on_break
        self.counters: Counter[str] = Counter()
        self.hung = False  # does nothing, says nothing
        self._version = version
        self._parse_ns = parse_ns
        self._rng = kernel.rng(f"rn2483/{name}")
        self._driver = Chip(DirectBus(self.chip))
        self._lose_lines = 0
        self._garble_lines = 0
        self.chip.on_dio = self._on_dio
        self._clear()
        kernel.after(BOOT_NS, lambda: self._booted(self._life, banner=True))

    # -- faults ------------------------------------------------------------------------------------

    def fail(self, kind: str, count: int = 1) -> None:
        """Break it, now: `garbage` (the next `count` lines are damaged), `noise` (`count` bytes nobody sent),
        `lost_line` (the next `count` lines are not sent), `reset` (with its banner), `silent_reset` (without), `hang`,
        `wake` (the end of a hang), `unplug` and `plug` (the adapter). Raises KernelError.
        """
        actions: dict[str, Callable[[], None]] = {
            "garbage": lambda: setattr(self, "_garble_lines", count),
            "lost_line": lambda: setattr(self, "_lose_lines", count),
            "noise": lambda: self._noise(count),
            "reset": lambda: self.reset(banner=True),
            "silent_reset": lambda: self.reset(banner=False),
            "hang": lambda: setattr(self, "hung", True),
            "wake": lambda: setattr(self, "hung", False),
            "unplug": lambda: self.wire.plug(into=False),
            "plug": lambda: self.wire.plug(into=True),
        }
        action = actions.get(kind)
        if action is None:
            raise KernelError(f"an RN2483 has no fault {kind!r}; it has {', '.join(actions)}")
        self.counters[f"fault_{kind}"] += 1
        action()

    def reset(self, *, banner: bool) -> None:
        """A reset or a loss of power: settings, pause and whatever it did are gone."""
        self.chip.power_cycle()
        self._driver = Chip(DirectBus(self.chip))
        self._clear()
        life = self._life
        self.kernel.after(BOOT_NS, lambda: self._booted(life, banner=banner))

    def _clear(self) -> None:
        self._life = getattr(self, "_life", 0) + 1  # events of an earlier life do nothing
        self._set = dict(_DEFAULTS)
        self._paused = False
        self._booting = True
        self._measuring = False  # a break came: the next byte only shows its rate
        self._busy = False  # with a command
        self._radio = ""  # "rx", "tx" or idle
        self._line = bytearray()
        self._watchdog: Event | None = None
        self._snr_db, self._rssi_dbm = -128, -128

    def _booted(self, life: int, *, banner: bool) -> None:
        if life != self._life:
            return
        self._booting = False
        self._driver.start()
        self._driver.set_mode(Mode.SLEEP)
        if banner:
            self._say(self._banner)

    def _noise(self, count: int) -> None:
        self.wire.say(self._rng.randbytes(count))

    # -- the wire ----------------------------------------------------------------------------------

    @property
    def _banner(self) -> str:
        return BANNER.format(model="RN2483", version=self._version)

    def _say(self, text: str) -> None:
        if self.hung:
            return
        if self._lose_lines:
            self._lose_lines -= 1
            self.counters["lines_lost"] += 1
            return
        data = bytearray(text.encode() + b"\r\n")
        if self._garble_lines:
            self._garble_lines -= 1
            self.counters["lines_garbled"] += 1
            for _ in range(2):
                data[self._rng.randrange(len(data) - 2)] ^= 1 << self._rng.randrange(8)
        self.wire.say(bytes(data))

    def _on_break(self) -> None:
        self._measuring = True
        self._line.clear()

    def _on_bytes(self, data: bytes) -> None:
        if self._booting or self.hung:
            return
        for byte in data:
            if self._measuring:
                self._measuring = False  # 0x55
            elif byte == 0x0A:
                self._command(bytes(self._line).rstrip(b"\r"))
                self._line.clear()
            elif len(self._line) < MAX_LINE:
                self._line.append(byte)

    def _command(self, line: bytes) -> None:
        if self._busy:
            self.counters["commands_lost"] += 1
            return
        self._busy = True
        digits = len(line) // 2 if line.startswith(b"radio tx ") else 0
        life = self._life

        def act() -> None:
            if life == self._life:
                self._busy = False
                self._execute(line)

        self.kernel.after(self._parse_ns + digits * PARSE_DIGITS_NS, act)

    def _execute(self, line: bytes) -> None:
        self.counters["commands"] += 1
        text = line.decode("ascii", "replace")
        match text.split(" "):
            case ["sys", "get", "ver"]:
                self._say(self._banner)
            case ["sys", "get", "vdd"]:
                self._say("3300")
            case ["sys", "get", "hweui"]:
                self._say("0004A30B001A2B3C")
            case ["sys", "reset"]:
                self.reset(banner=True)
            case ["sys", "sleep", ms] if ms.isdigit() and 100 <= int(ms) <= 4_294_967_296:
                self.kernel.after(int(ms) * MS, lambda: self._say("ok"))
            case ["mac", "pause"]:
                self._paused = True
                self._say(str(PAUSE_MS))
            case ["mac", "resume"]:
                self._paused = False
                self._say("ok")
            case ["radio", "set", key, value]:
                self._say(self._set_parameter(key, value))
            case ["radio", "get", "snr"]:
                self._say(str(self._snr_db))
            case ["radio", "get", "rssi"] if self._version >= "1.0.5":
                self._say(str(self._rssi_dbm))
            case ["radio", "get", key] if key in self._set:
                self._say(self._set[key])
            case ["radio", "rx", window] if window.isdigit() and int(window) <= 65_535:
                self._receive(int(window))
            case ["radio", "rxstop"]:
                if self._radio == "rx":
                    self._end_radio()
                self._say("ok")
            case ["radio", "tx", digits] if _PAYLOAD.fullmatch(digits):
                self._transmit(bytes.fromhex(digits))
            case _:
                self.counters["commands_invalid"] += 1
                self._say("invalid_param")

    def _set_parameter(self, key: str, value: str) -> str:
        good = False
        if key in _WORDS:
            good = value in _WORDS[key]
        elif key == "freq":
            good = value.isdigit() and any(low <= int(value) <= high for low, high in BANDS_HZ)
        elif key == "sync":
            good = re.fullmatch(r"[0-9a-fA-F]{1,2}", value) is not None
        elif key in _RANGES and re.fullmatch(r"-?\d{1,10}", value):
            good = _RANGES[key][0] <= int(value) <= _RANGES[key][1]
        if not good:
            return "invalid_param"
        if self._radio:
            return "busy"
        self._set[key] = value
        return "ok"

    # -- the radio ---------------------------------------------------------------------------------

    def _settings(self) -> Settings:
        held = self._set
        return Settings(
            int(held["freq"]),
            LoRaModulation(int(held["sf"][2:]), int(held["bw"]) * 1000, int(held["cr"][2:]) - 4),
            iq_inverted=held["iqi"] == "on",
            crc=held["crc"] == "on",
            sync_word=int(held["sync"], 16),
            preamble=max(6, int(held["prlen"])),
        )

    def _free(self) -> bool:
        if not self._paused or self._radio:
            self._say("busy")
            return False
        return True

    def _receive(self, window: int) -> None:
        if not self._free():
            return
        self._say("ok")
        self._radio = "rx"
        driver = self._driver
        driver.set_mode(Mode.STDBY)
        driver.configure_receive(self._settings())
        driver.map_dio0(Dio0.RX_DONE)
        driver.clear_flags(Irq(0xFF))
        driver.command(Mode.RXCONT)
        mod = self._settings().modulation
        if window:  # as a time-out of so many symbols; a frame under way then is cut, unlike the real thing
            self.kernel.after(window * mod.symbol_ns, lambda life=self._life: self._time_out(life, "rx"))  # type: ignore[misc]
        self._start_watchdog()

    def _transmit(self, payload: bytes) -> None:
        if not self._free():
            return
        self._say("ok")
        self._radio = "tx"
        driver = self._driver
        driver.set_mode(Mode.STDBY)
        driver.configure_transmit(self._settings(), Power(max(2, int(self._set["pwr"]))), payload)
        driver.map_dio0(Dio0.TX_DONE)
        driver.clear_flags(Irq(0xFF))
        driver.command(Mode.TX)
        self._start_watchdog()

    def _start_watchdog(self) -> None:
        if wdt_ms := int(self._set["wdt"]):
            life, what = self._life, self._radio
            self._watchdog = self.kernel.after(wdt_ms * MS, lambda: self._time_out(life, what))

    def _time_out(self, life: int, what: str) -> None:
        if life == self._life and self._radio == what:
            self._end_radio()
            self._say("radio_err")

    def _end_radio(self) -> None:
        self._radio = ""
        self.kernel.cancel(self._watchdog)
        self._driver.set_mode(Mode.STDBY)

    def _on_dio(self, line: str, level: bool, _t_ns: int) -> None:
        if line == "dio0" and level and self._radio:
            life, what = self._life, self._radio
            self.kernel.after(REPORT_NS, lambda: self._done(life, what))

    def _done(self, life: int, what: str) -> None:
        if life != self._life or self._radio != what:
            return
        if what == "tx":
            self._driver.clear_flags(Irq(0xFF))
            self._end_radio()
            self._say("radio_tx_ok")
            return
        packet, _flags = self._driver.read_packet()
        self._end_radio()
        if packet is None or (packet.crc_present and not packet.crc_ok) or not packet.payload:
            self._say("radio_err")
            return
        self._snr_db, self._rssi_dbm = int(packet.snr_db), packet.rssi_dbm
        self._say(f"radio_rx  {packet.payload.hex().upper()}")


def module_of(table: Rn2483Table) -> ModuleConfig:
    """The radio's settings for it. Raises ValueError where no RN2483 can do that."""
    return ModuleConfig(
        kind="rn2483",
        port=table.port,
        freq_hz=table.freq_hz,
        sf=table.sf,
        bw_hz=table.bw_hz,
        role=Role(table.role),
    )


def build_rn2483(tables: list[Rn2483Table], kernel: Kernel, air: Air, place: Place) -> dict[str, SimRn2483]:
    """The modems of a scenario, by port, powered on and on the air."""
    return {table.port: modem for table, modem in _build(tables, kernel, air, place)}


def _build(
    tables: list[Rn2483Table], kernel: Kernel, air: Air, place: Place
) -> Iterator[tuple[Rn2483Table, SimRn2483]]:
    for table in tables:
        modem = SimRn2483(kernel, table.port, version=table.version, crystal_ppm=table.crystal_ppm)
        where: dict[str, Any] = {"antenna_gain_dbi": place.antenna_gain_dbi, "group": place.group}
        air.add(modem.chip, place.x_m, place.y_m, **where)
        yield table, modem
