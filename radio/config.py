"""What the radio process must be told: plain values, checked when made, wherever they come from."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from radio.boards import Board, ModuleWiring, get_board
from radio.errors import BoardError
from radio.gnss.config import RATES, GnssConfig
from radio.lora import LoRaModulation
from radio.plan import PlannedModule, doubts, problems, weakest_dbm
from radio.regions import Region, SubBand, get_region
from radio.rn2483 import DEFAULT_BAUD
from radio.rn2483_states import BANDS_HZ, POWER_DBM, carries
from radio.roles import Role as Role
from radio.roles import default_roles
from radio.server_config import ServerConfig, check_servers
from radio.sx127x.registers import FREQUENCY_RANGE_HZ, SYNC_WORD_LORAWAN, SYNC_WORD_PRIVATE
from radio.sx127x.sweep import MAX_SFS

MAX_MODULES: Final = 8
MODULE_KINDS: Final = ("sx127x", "rn2483")
SYNC_WORDS: Final = {"lorawan": SYNC_WORD_LORAWAN, "private": SYNC_WORD_PRIVATE}
GPIO_BACKENDS: Final = ("gpiod", "lgpio", "rpi-gpio", "polling")


@dataclass(frozen=True, slots=True)
class ModuleConfig:
    """One SX127x or RN2483: where it is, and the channel and spreading factor it listens to.

    An SX127x is on a board, at an index; an RN2483 behind a serial port. Raises ValueError for a modulation no such
    module has, or a board or index that does not exist.
    """

    board: str = "dragino-hat"
    index: int = 0
    freq_hz: int = 868_100_000
    sf: int = 7
    bw_hz: int = 125_000
    role: Role = Role.AUTO  # its plain string is taken as well; RadioConfig decides what AUTO is
    sweep_sfs: tuple[int, ...] = ()  # two or three spreading factors by turns, in place of `sf`
    kind: str = "sx127x"  # or "rn2483"
    port: str = ""  # device file of an RN2483
    baud: int = DEFAULT_BAUD
    sync_word: str = "lorawan"  # or "private": it hears simple nodes that are not LoRaWAN's

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "role", Role(self.role))
        except ValueError:
            raise ValueError(f"role {self.role!r} is not one of auto, rx, tx, rxtx") from None
        _ = self.modulation
        if self.sf == 6 and self.role.receives:
            raise ValueError("SF6 has no explicit header: a gateway cannot receive it")
        if self.sweep_sfs:
            self._check_sweep()
        if self.sync_word not in SYNC_WORDS:
            raise ValueError(f"sync_word {self.sync_word!r} is not one of {', '.join(SYNC_WORDS)}")
        if self.kind not in MODULE_KINDS:
            raise ValueError(f"kind {self.kind!r} is not one of {', '.join(MODULE_KINDS)}")
        if self.kind == "rn2483":
            self._check_rn2483()
            return
        try:
            _ = self.wiring
        except BoardError as error:
            raise ValueError(str(error)) from None

    def _check_rn2483(self) -> None:
        if not self.port:
            raise ValueError('an RN2483 needs its serial port, e.g. port = "/dev/ttyUSB0"')
        if self.baud not in RATES:
            raise ValueError(f"baud {self.baud} is not one of {', '.join(map(str, RATES))}")
        if self.sweep_sfs:
            raise ValueError("an RN2483 listens on one spreading factor: sweep_sfs is for an SX127x")
        if not carries(self.freq_hz, self.modulation):
            bands = " and ".join(f"{low / 1e6:g}-{high / 1e6:g} MHz" for low, high in BANDS_HZ)
            raise ValueError(f"an RN2483 works at {bands}, SF7 to SF12, 125 to 500 kHz")

    def _check_sweep(self) -> None:
        sfs = self.sweep_sfs
        if not self.role.receives:
            raise ValueError("sweep_sfs is for modules that receive: role rx or rxtx")
        if not 2 <= len(set(sfs)) == len(sfs) <= MAX_SFS:
            raise ValueError(
                f"sweep_sfs {list(sfs)} is not 2 or {MAX_SFS} different spreading factors; for one, set sf"
            )
        if not all(7 <= sf <= 12 for sf in sfs):
            raise ValueError(f"sweep_sfs {list(sfs)}: spreading factors are 7 to 12")

    @property
    def modulation(self) -> LoRaModulation:
        """What the module listens to; of a sweep, the fastest."""
        return LoRaModulation(min(self.sweep_sfs, default=self.sf), self.bw_hz)

    @property
    def private(self) -> bool:
        """Whether it hears other nodes than LoRaWAN's."""
        return self.sync_word == "private"

    @property
    def planned(self) -> PlannedModule:
        """What the region's rules want to know of it."""
        sfs = self.sweep_sfs or (self.sf,)
        serial = self.kind == "rn2483"
        return PlannedModule(
            name=self.name,
            receives=self.role.receives,
            transmits=self.role.transmits,
            freq_hz=self.freq_hz,
            modulations=tuple(LoRaModulation(sf, self.bw_hz) for sf in sfs),
            weakest_dbm=POWER_DBM[0] if serial else weakest_dbm(self.wiring.pa_boost),
            bands_hz=BANDS_HZ if serial else (FREQUENCY_RANGE_HZ,),
            senses=not serial,
            private=self.private,
        )

    @property
    def board_data(self) -> Board:
        """The board's description."""
        return get_board(self.board)

    @property
    def wiring(self) -> ModuleWiring:
        """The module's pins."""
        return self.board_data.module(self.index)

    @property
    def name(self) -> str:
        """What logs and counters call the module."""
        return f"rn2483:{Path(self.port).name}" if self.kind == "rn2483" else f"{self.board}/{self.index}"


@dataclass(frozen=True, slots=True)
class RadioConfig:
    """The whole radio process. Raises ValueError naming the setting that does not fit."""

    modules: tuple[ModuleConfig, ...]
    gateway_eui: bytes
    region: str = "EU868"
    server_host: str = "127.0.0.1"
    server_port: int = 1700
    servers: tuple[ServerConfig, ...] = ()  # beside the local gateway
    tx_lead_us: int = 400  # how early on purpose: devices forgive early by milliseconds, late hardly at all
    antenna_gain_dbi: float = 0.0
    cable_loss_db: float = 0.0  # between a module's connector and the antenna, for all modules
    sub_bands: tuple[SubBand, ...] = ()  # national limits in place of the region's, as band edges
    limit_dwell: bool = False  # frames keep to the region's dwell limit
    any_channel: bool = False  # for measurements: modules may listen where no device of the region sends
    stat_interval_s: float = 30.0
    keepalive_s: float = 5.0
    forward_crc_errors: bool = True  # as rxpk with stat -1
    sync_word: int = SYNC_WORD_LORAWAN  # of the modules that are not private
    gpio: str = "auto"  # one of GPIO_BACKENDS, or "auto": the first of them that works
    state_dir: Path | None = None  # what must survive a restart; None: nothing does
    control_socket: Path | None = None  # where the process can be asked (radio.control); None: nowhere
    gnss: GnssConfig | None = None  # a receiver, or a place; None: neither
    _region: Region = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        region = get_region(self.region)
        object.__setattr__(
            self, "_region", region.with_sub_bands(self.sub_bands) if self.sub_bands else region
        )
        if not 1 <= len(self.modules) <= MAX_MODULES:
            raise ValueError(f"{len(self.modules)} modules configured, 1 to {MAX_MODULES} can be")
        object.__setattr__(self, "modules", with_roles(self.modules))
        serial = [m.port for m in self.modules if m.kind == "rn2483"]
        if self.gnss is not None and self.gnss.port:
            serial.append(self.gnss.port)
        if len(set(serial)) != len(serial):
            raise ValueError("the same serial port is configured twice")
        on_spi = [m for m in self.modules if m.kind == "sx127x"]
        places = [(m.board, m.index) for m in on_spi]
        if len(set(places)) != len(places):
            raise ValueError("the same module of a board is configured twice")
        if len({m.wiring.spi for m in on_spi}) != len(on_spi):
            raise ValueError("two modules share an SPI device: these boards cannot be used together")
        if len(self.gateway_eui) != 8:
            raise ValueError(f"gateway_eui has {len(self.gateway_eui)} bytes, not 8")
        if not self.server_host:
            raise ValueError("server_host is empty")
        if not 1 <= self.server_port <= 65_535:
            raise ValueError(f"server_port {self.server_port} is not 1 to 65535")
        check_servers(self.servers)
        if not -500 <= self.tx_lead_us <= 3000:
            raise ValueError(f"tx_lead_us {self.tx_lead_us} is not -500 to 3000: no device forgives more")
        if not -10 <= self.antenna_gain_dbi <= 20:
            raise ValueError(f"antenna_gain_dbi {self.antenna_gain_dbi} is not -10 to 20")
        if not 0 <= self.cable_loss_db <= 60:
            raise ValueError(f"cable_loss_db {self.cable_loss_db} is not 0 to 60")
        if not 1 <= self.stat_interval_s <= 3600:
            raise ValueError(f"stat_interval_s {self.stat_interval_s} is not 1 to 3600")
        if not 1 <= self.keepalive_s <= 60:
            raise ValueError(f"keepalive_s {self.keepalive_s} is not 1 to 60")
        if not 0 <= self.sync_word <= 0xFF:
            raise ValueError(f"sync_word {self.sync_word} is not one byte")
        if self.gpio not in ("auto", *GPIO_BACKENDS):
            raise ValueError(f"gpio {self.gpio!r} is not one of auto, {', '.join(GPIO_BACKENDS)}")
        planned = [module.planned for module in self.modules]
        gain = self.antenna_gain_dbi, self.cable_loss_db
        for problem in problems(self._region, planned, *gain, any_channel=self.any_channel):
            raise ValueError(problem)

    def sync_word_of(self, module: ModuleConfig) -> int:
        """What a module listens for."""
        return SYNC_WORDS[module.sync_word] if module.private else self.sync_word

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is lawful and may not be what was meant, for a technician."""
        planned = [module.planned for module in self.modules]
        return tuple(doubts(self._region, planned, limit_dwell=self.limit_dwell))

    @property
    def region_data(self) -> Region:
        """The region's parameters."""
        return self._region


def with_roles(modules: tuple[ModuleConfig, ...]) -> tuple[ModuleConfig, ...]:
    """The modules with every AUTO replaced by what suits the others (`radio.roles.default_roles`)."""
    roles = default_roles(
        [module.role for module in modules],
        [(module.freq_hz, module.modulation) for module in modules],
        [bool(module.sweep_sfs) or module.kind == "rn2483" for module in modules],
        [module.private for module in modules],
    )
    return tuple(replace(module, role=role) for module, role in zip(modules, roles, strict=True))
