"""What is wrong with a module's wiring, in words: from what was seen on its wires to findings with a remedy.

In: the observations `radio.observe` made of one module. Out: findings, the first fault first. It touches no
hardware and never has the module send: an antenna may be missing while somebody is still soldering.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from radio.sx127x.registers import VERSIONS

SX1272_VERSION: Final = 0x22
RFM69_VERSION: Final = 0x24  # of the FSK-only SX1231 and RFM69, in their register 0x10
# A speed that just holds today fails on a warm day or with a longer cable: the recommended one is this much slower.
MARGIN: Final = 0.8
SPI_PINS: Final = {0: (9, 10, 11), 1: (19, 20, 21)}  # bus -> MISO, MOSI, SCK, on every Raspberry Pi
CHIP_MAX_HZ: Final = 10_000_000
SLOW_MODE_US: Final = 10_000  # the crystal starts within 250 us, the synthesiser locks within 60
CRYSTAL_LIMIT_PPM: Final = 300  # module crystals are within 20; LoRa at SF7 fails beyond


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Kind(StrEnum):
    """What a finding is about."""

    BUSY = "busy"
    SPI_DEVICE = "spi-device"
    LINES = "lines"
    SHORTED = "miso-mosi-shorted"
    CHIP_SELECT = "chip-select"
    POWER = "power"
    MISO = "miso"
    SWAPPED = "no-answer"
    NOISE = "noise"
    OTHER_CHIP = "other-chip"
    VERSION = "version"
    RESET = "reset"
    CANARY = "canary"
    SPEED = "speed"
    MODES = "modes"
    CRYSTAL = "crystal"
    DIO0 = "dio0"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, and what to do about it."""

    kind: Kind
    level: Level
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class SpeedTrial:
    """How a pattern written and read back held at one SPI clock."""

    hz: int
    rounds: int
    errors: int


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A channel activity detection, which only listens: its end sets a flag and raises DIO0."""

    flag: bool  # CadDone was set (False as well where the chip cannot be read)
    edge: bool  # DIO0 rose
    level: bool = False  # DIO0 is high while the flag is set
    took_us: float = 0.0  # from the write that starts it to the edge
    other_pins: tuple[int, ...] = ()  # pins of the header that rose instead, BCM numbers


@dataclass(frozen=True, slots=True)
class Observations:
    """What was seen of one module; None is "could not be looked at"."""

    name: str
    spi: tuple[int, int]
    spi_hz: int  # as the board has it
    dio0: int
    reset: int | None
    config_lines: tuple[str, ...] = ()  # what the board needs in config.txt
    # DIO0 pins of the board's other modules -> index
    neighbours: Mapping[int, int] = field(default_factory=dict)
    backend: str = ""
    busy: str = ""  # who holds the hardware
    library_problem: str = ""
    spi_problem: str = ""
    lines_problem: str = ""
    versions: tuple[int, ...] = ()  # the version register, read again and again at a slow clock
    reply: bytes = b""  # to reading eight registers from the version register on
    register_10: int = 0
    echoes: bool = False  # MISO shows what MOSI sends
    elsewhere: tuple[tuple[int, int], ...] = ()  # other SPI devices on which an SX127x answers
    reset_floats_high: bool | None = None  # the chip pulls its reset pin up
    reset_works: bool | None = None  # a reset took the chip back to FSK standby
    canary_held: bool | None = None  # a settings register kept what was written, at a slow clock
    lora_refused: bool = False
    speeds: tuple[SpeedTrial, ...] = ()
    modes_us: tuple[tuple[str, float], ...] = ()  # how long mode changes took to be seen
    crystal_ppm: float | None = None
    crystal_error_ppm: float = 0.0
    self_test: SelfTest | None = None

    @property
    def wires(self) -> tuple[str, str, str]:
        """MISO, MOSI and SCK with their pins on the Pi, where they are known."""
        pins = SPI_PINS.get(self.spi[0])
        if pins is None:
            return ("MISO", "MOSI", "SCK")
        return (f"MISO (GPIO {pins[0]})", f"MOSI (GPIO {pins[1]})", f"SCK (GPIO {pins[2]})")

    @property
    def device(self) -> str:
        """The device file."""
        return f"/dev/spidev{self.spi[0]}.{self.spi[1]}"


def judge(seen: Observations) -> list[Finding]:
    """Everything there is to say about a module, in the order one would mend it."""
    if seen.busy:
        remedy = "stop it, look again, and start it after: sudo systemctl stop fluxgate-radio"
        return [Finding(Kind.BUSY, Level.FAULT, f"the hardware is in use: {seen.busy}", remedy)]
    if seen.library_problem:
        remedy = "install the Raspberry Pi extra, fluxgate[pi]"
        return [Finding(Kind.SPI_DEVICE, Level.FAULT, seen.library_problem, remedy)]
    if seen.spi_problem:
        return [_no_device(seen)]
    findings = list(_lines(seen))
    if not any(version in VERSIONS for version in seen.versions):
        return [_no_chip(seen), *findings]
    if len(set(seen.versions)) > 1:
        return [_noise(seen), *findings]
    version = seen.versions[0]
    answers = f"{VERSIONS[version]} answers on {seen.device}, version 0x{version:02x}"
    findings.insert(0, Finding(Kind.VERSION, Level.OK, answers))
    for part in (_reset, _canary, _speed, _modes, _crystal, _dio0):
        findings += part(seen)
    return findings


def worst(findings: Sequence[Finding]) -> Level:
    """The level of the worst finding."""
    levels = [finding.level for finding in findings]
    return next((level for level in (Level.FAULT, Level.WARNING) if level in levels), Level.OK)


# --- a chip that does not answer ------------------------------------------------------------------------


def _no_device(seen: Observations) -> Finding:
    lines = " and ".join(seen.config_lines) or "dtparam=spi=on"
    return Finding(
        Kind.SPI_DEVICE,
        Level.FAULT,
        f"{seen.device} cannot be opened: {seen.spi_problem}",
        f"switch SPI on with {lines} in /boot/firmware/config.txt and restart; the user needs the group spi",
    )


def _no_chip(seen: Observations) -> Finding:
    """Nothing that was read is the version of a chip we know: which wire explains it?"""
    miso, mosi, _sck = seen.wires
    if seen.echoes:
        return Finding(
            Kind.SHORTED,
            Level.FAULT,
            "MISO shows exactly what is sent: MISO and MOSI are joined",
            f"look for a solder bridge or a jumper between {miso} and {mosi}",
        )
    if seen.elsewhere:
        found = " and ".join(f"/dev/spidev{bus}.{device}" for bus, device in seen.elsewhere)
        return Finding(
            Kind.CHIP_SELECT,
            Level.FAULT,
            f"no chip on {seen.device}, but one answers on {found}: NSS is on another chip select",
            f"move NSS to the chip select of {seen.device}, or give the board file spi = "
            f"{list(seen.elsewhere[0])}",
        )
    values = set(seen.versions)
    if values <= {0x00} or values <= {0xFF}:
        return _silence(seen, "zeros" if values <= {0x00} else "ones")
    if len(values) > 1:
        return _noise(seen)
    return _other_chip(seen)


def _silence(seen: Observations, bits: str) -> Finding:
    miso, mosi, sck = seen.wires
    if seen.self_test is not None and seen.self_test.edge:
        return Finding(
            Kind.MISO,
            Level.FAULT,
            f"the chip obeys, as its DIO0 shows, but all reads are {bits}: MISO is not connected",
            f"connect {miso}",
        )
    if seen.reset_floats_high is False:
        return Finding(
            Kind.POWER,
            Level.FAULT,
            f"all reads are {bits}, and the reset pin, which a chip with power pulls up, stays low: no power",
            "measure 3.3 V between VCC and GND at the module; never 5 V"
            + ("" if seen.reset is None else f"; then look at the wire to GPIO {seen.reset} (reset)"),
        )
    if seen.reset_floats_high:
        return Finding(
            Kind.SWAPPED,
            Level.FAULT,
            f"the chip has power (it pulls its reset pin up), but all reads are {bits}: "
            "MISO and MOSI swapped, or NSS or SCK not connected",
            f"swap {miso} and {mosi}; then follow NSS to the chip select of {seen.device}, and {sck}",
        )
    return Finding(
        Kind.POWER,
        Level.FAULT,
        f"all reads are {bits}: no power, NSS on another chip select, or MISO and MOSI swapped or not connected",
        f"measure 3.3 V at the module; then follow NSS, {miso}, {mosi} and {sck}",
    )


def _noise(seen: Observations) -> Finding:
    values = ", ".join(f"0x{value:02x}" for value in sorted(set(seen.versions))[:6])
    return Finding(
        Kind.NOISE,
        Level.FAULT,
        f"the version register reads differently each time ({values}): a wire of SPI or GND is loose",
        "press every connector home; shorten the wires; make sure that GND of module and Pi are joined",
    )


def _other_chip(seen: Observations) -> Finding:
    version = seen.versions[0]
    if version == SX1272_VERSION:
        what = "an SX1272 or SX1273, whose registers differ"
    elif seen.register_10 == RFM69_VERSION:
        what = "an SX1231 or RFM69, which has no LoRa modem"
    elif seen.reply and len(set(seen.reply)) == 1 and version >> 4 & 7 in (2, 3):
        what = "it answers every byte with its status, as an SX1261, SX1262 or SX1268 does"
    elif version == 0x42:
        what = "the address comes back a byte later: SPI mode or clock is wrong, or MISO follows MOSI"
    else:
        what = "not an SX1276, or SPI is disturbed"
    return Finding(
        Kind.OTHER_CHIP,
        Level.FAULT,
        f"another chip: the version register reads 0x{version:02x}, not 0x12: {what}",
        "use a module with an SX1276, SX1277, SX1278 or SX1279 (RFM95, RFM96, RFM98, Ra-01 and alike)",
    )


# --- a chip that answers ----------------------------------------------------------------------------------


def _lines(seen: Observations) -> Iterator[Finding]:
    if seen.lines_problem:
        yield Finding(
            Kind.LINES,
            Level.FAULT,
            f"the GPIO lines cannot be had: {seen.lines_problem}",
            "install gpiod (pip install 'gpiod>=2.2'); the user needs the group gpio",
        )
    elif seen.backend in ("gpiod", "lgpio"):
        yield Finding(Kind.LINES, Level.OK, f"edges through {seen.backend}, stamped by the kernel")
    elif seen.backend:
        yield Finding(
            Kind.LINES,
            Level.WARNING,
            f"lines through {seen.backend}, without the kernel's time: downlinks may miss their window",
            "install gpiod (pip install 'gpiod>=2.2')",
        )


def _reset(seen: Observations) -> Iterator[Finding]:
    if seen.reset is None:
        yield Finding(
            Kind.RESET, Level.WARNING, "no reset line: a chip that hangs needs the power switched off and on"
        )
    elif seen.reset_works:
        yield Finding(Kind.RESET, Level.OK, f"reset by GPIO {seen.reset} works")
    elif seen.reset_works is False:
        yield Finding(
            Kind.RESET,
            Level.FAULT,
            f"GPIO {seen.reset} does not reset the chip: its registers keep what was written",
            f"connect the module's RESET to GPIO {seen.reset}, or give the board file the pin it is on; "
            "leave `reset` out where it is on none",
        )


def _canary(seen: Observations) -> Iterator[Finding]:
    if seen.lora_refused:
        yield Finding(
            Kind.CANARY,
            Level.FAULT,
            "the chip does not change to LoRa mode: writes do not arrive whole",
            f"look at {seen.wires[1]} and {seen.wires[2]}; shorten the wires",
        )
    elif seen.canary_held is False:
        yield Finding(
            Kind.CANARY,
            Level.FAULT,
            "a settings register does not keep what is written: MOSI is disturbed, or the power is too weak",
            f"look at {seen.wires[1]}; put 10 uF beside the module's VCC",
        )


def recommended_hz(speeds: Sequence[SpeedTrial]) -> int | None:
    """The fastest clock tried with margin below the fastest that held; None where none held."""
    held = [trial.hz for trial in speeds if not trial.errors]
    if not held:
        return None
    with_margin = [hz for hz in held if hz <= MARGIN * max(held)]
    return max(with_margin, default=min(held))


def _speed(seen: Observations) -> Iterator[Finding]:
    if not seen.speeds:
        return
    good = recommended_hz(seen.speeds)
    if good is None:
        slowest = min(trial.hz for trial in seen.speeds)
        yield Finding(
            Kind.SPEED,
            Level.FAULT,
            f"SPI loses bits at every clock, even at {_mhz(slowest)}",
            "shorten the wires, join GND at both ends, keep SCK away from MISO",
        )
        return
    fastest = max(trial.hz for trial in seen.speeds if not trial.errors)
    advice = f"spi_hz = {good:_} in the board file, or shorter wires"
    if seen.spi_hz > fastest:
        yield Finding(
            Kind.SPEED,
            Level.FAULT,
            f"SPI loses bits at the board's {_mhz(seen.spi_hz)}; it holds up to {_mhz(fastest)}",
            advice,
        )
    elif seen.spi_hz > good and fastest < CHIP_MAX_HZ:
        text = f"SPI holds up to {_mhz(fastest)}: the board's {_mhz(seen.spi_hz)} is without margin"
        yield Finding(Kind.SPEED, Level.WARNING, text, advice)
    else:
        text = f"SPI holds up to {_mhz(fastest)}; recommended {_mhz(good)}, the board has {_mhz(seen.spi_hz)}"
        yield Finding(Kind.SPEED, Level.OK, text)


def _modes(seen: Observations) -> Iterator[Finding]:
    if not seen.modes_us:
        return
    times = ", ".join(f"{name} {took:.0f} us" for name, took in seen.modes_us)
    slow = [name for name, took in seen.modes_us if took > SLOW_MODE_US]
    if slow:
        yield Finding(
            Kind.MODES,
            Level.FAULT,
            f"mode changes are slow ({times}): the crystal or the supply does not come up",
            "measure 3.3 V while the module changes mode; try another module",
        )
    else:
        yield Finding(Kind.MODES, Level.OK, f"mode changes: {times}")


def _crystal(seen: Observations) -> Iterator[Finding]:
    if seen.crystal_ppm is None:
        return
    text = f"crystal {seen.crystal_ppm:+.0f} ppm from the Pi's (+-{seen.crystal_error_ppm:.0f})"
    if abs(seen.crystal_ppm) > CRYSTAL_LIMIT_PPM + seen.crystal_error_ppm:
        yield Finding(
            Kind.CRYSTAL,
            Level.FAULT,
            f"{text}: this is no 32 MHz crystal, and frequencies and times are wrong by as much",
            "try another module",
        )
    else:
        yield Finding(Kind.CRYSTAL, Level.OK, text)


def _dio0(seen: Observations) -> Iterator[Finding]:
    test = seen.self_test
    if test is None:
        return
    if not test.flag and not test.edge:
        yield Finding(
            Kind.DIO0,
            Level.FAULT,
            "channel activity detection does not end: the chip's synthesiser or crystal does not run",
            "measure 3.3 V at the module under load; try another module",
        )
    elif test.edge:
        yield Finding(
            Kind.DIO0, Level.OK, f"DIO0 reaches GPIO {seen.dio0}, {test.took_us:.0f} us after the order"
        )
    elif (other := next((pin for pin in test.other_pins if pin in seen.neighbours), None)) is not None:
        index = seen.neighbours[other]
        yield Finding(
            Kind.DIO0,
            Level.FAULT,
            f"the chip on {seen.device} raises GPIO {other}, which is DIO0 of module {index}: "
            f"the two modules' chip selects have changed places",
            f"swap the NSS wires of this module and module {index}, or `spi` of the two in the board file",
        )
    elif test.other_pins:
        pins = " and ".join(str(pin) for pin in test.other_pins)
        yield Finding(
            Kind.DIO0,
            Level.FAULT,
            f"DIO0 is not on GPIO {seen.dio0}: it is on GPIO {pins}",
            f"move the wire to GPIO {seen.dio0}, or give the board file dio0 = {test.other_pins[0]}",
        )
    elif test.level:
        yield Finding(
            Kind.DIO0,
            Level.FAULT,
            f"GPIO {seen.dio0} is high as it should be, but no edge was reported by {seen.backend}",
            "install gpiod (pip install 'gpiod>=2.2'), or set gpio = \"polling\" in [radio]",
        )
    else:
        yield Finding(
            Kind.DIO0,
            Level.FAULT,
            f"the chip raises DIO0, but GPIO {seen.dio0} stays low: DIO0 is not wired",
            f"connect the module's DIO0 to GPIO {seen.dio0}: without it no frame is stamped",
        )


def _mhz(hz: int) -> str:
    return f"{hz / 1e6:g} MHz"
