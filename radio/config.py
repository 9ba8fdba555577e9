"""What the radio process must be told: plain values, checked when made, wherever they come from."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from radio.boards import Board, ModuleWiring, get_board
from radio.errors import BoardError
from radio.lora import LoRaModulation
from radio.regions import Region, get_region
from radio.server_config import ServerConfig, check_servers
from radio.sx127x.registers import SYNC_WORD_LORAWAN

MAX_MODULES: Final = 8
GPIO_BACKENDS: Final = ("gpiod", "lgpio", "rpi-gpio", "polling")


class Role(StrEnum):
    """What a module is for."""

    RX = "rx"
    TX = "tx"
    RXTX = "rxtx"

    @property
    def receives(self) -> bool:
        """Whether the module listens."""
        return self is not Role.TX

    @property
    def transmits(self) -> bool:
        """Whether the module may be asked to send."""
        return self is not Role.RX


@dataclass(frozen=True, slots=True)
class ModuleConfig:
    """One SX127x: where it is, and the channel and spreading factor it listens to.

    Raises ValueError for a modulation no chip has, or a board or index that does not exist.
    """

    board: str = "dragino-hat"
    index: int = 0
    freq_hz: int = 868_100_000
    sf: int = 7
    bw_hz: int = 125_000
    role: Role = Role.RXTX  # its plain string is taken as well

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "role", Role(self.role))
        except ValueError:
            raise ValueError(f"role {self.role!r} is not one of rx, tx, rxtx") from None
        _ = self.modulation
        if self.sf == 6 and self.role.receives:
            raise ValueError("SF6 has no explicit header: a gateway cannot receive it")
        try:
            _ = self.wiring
        except BoardError as error:
            raise ValueError(str(error)) from None

    @property
    def modulation(self) -> LoRaModulation:
        """What the module listens to."""
        return LoRaModulation(self.sf, self.bw_hz)

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
        return f"{self.board}/{self.index}"


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
    stat_interval_s: float = 30.0
    keepalive_s: float = 5.0
    forward_crc_errors: bool = True  # as rxpk with stat -1
    sync_word: int = SYNC_WORD_LORAWAN
    gpio: str = "auto"  # one of GPIO_BACKENDS, or "auto": the first of them that works
    state_dir: Path | None = None  # what must survive a restart; None: nothing does
    control_socket: Path | None = None  # where the process can be asked (radio.control); None: nowhere
    _region: Region = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_region", get_region(self.region))
        if not 1 <= len(self.modules) <= MAX_MODULES:
            raise ValueError(f"{len(self.modules)} modules configured, 1 to {MAX_MODULES} can be")
        places = [(m.board, m.index) for m in self.modules]
        if len(set(places)) != len(places):
            raise ValueError("the same module of a board is configured twice")
        if len({m.wiring.spi for m in self.modules}) != len(self.modules):
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
        if not 1 <= self.stat_interval_s <= 3600:
            raise ValueError(f"stat_interval_s {self.stat_interval_s} is not 1 to 3600")
        if not 1 <= self.keepalive_s <= 60:
            raise ValueError(f"keepalive_s {self.keepalive_s} is not 1 to 60")
        if not 0 <= self.sync_word <= 0xFF:
            raise ValueError(f"sync_word {self.sync_word} is not one byte")
        if self.gpio not in ("auto", *GPIO_BACKENDS):
            raise ValueError(f"gpio {self.gpio!r} is not one of auto, {', '.join(GPIO_BACKENDS)}")

    @property
    def region_data(self) -> Region:
        """The region's parameters."""
        return self._region
