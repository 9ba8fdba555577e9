"""MAC state and steering as the API gives them."""

from __future__ import annotations

import msgspec


class Setting(msgspec.Struct, frozen=True):
    """One thing that MAC commands settle, in words."""

    name: str
    title: str = ""
    wanted: str = ""
    reported: str = ""
    state: str = "agreed"  # agreed, asked, waiting, resting, unknown
    words: str = ""


class Channel(msgspec.Struct, frozen=True):
    index: int
    freq_hz: int
    enabled: bool = False
    wanted: bool = False
    heard_drs: list[int] = []
    rx1_freq_hz: int | None = None


class Decision(msgspec.Struct, frozen=True):
    """What ADR has concluded once. `time` is in Unix seconds."""

    time: float
    data_rate: int
    best_snr_db: float
    margin_db: float
    loss: float
    words: str = ""


class Adr(msgspec.Struct, frozen=True):
    active: bool = False
    why_not: str = ""
    data_rate: int | None = None
    tx_power: int = 0
    nb_trans: int = 1
    allowed_drs: list[int] = []
    weakest_power: int = 0
    history_snr_db: list[float] = []
    history_full: int = 0
    margin_db: float = 0.0
    decisions: list[Decision] = []


class Heard(msgspec.Struct, frozen=True):
    recent: float | None = None
    frames: int = 0
    overall: float | None = None
    heard: int = 0
    missed: int = 0
    expected: float = 1.0
    words: str = ""


class Trace(msgspec.Struct, frozen=True):
    time: float
    way: str  # up, down
    name: str
    words: str = ""
    outcome: str = ""


class Mac(msgspec.Struct, frozen=True):
    """Of one device."""

    dev_eui: str = ""
    version: str = ""
    session: bool = False  # False: it has not joined yet
    settings: list[Setting] = []
    channels: list[Channel] = []
    orders: dict[str, int] = {}
    adr: Adr | None = None
    heard: Heard | None = None
    trace: list[Trace] = []
    device_class: str = "A"


class Done(msgspec.Struct, frozen=True):
    words: str = ""


class HeardChannel(msgspec.Struct, frozen=True):
    index: int
    freq_hz: int
    drs: list[int] = []
    default: bool = True


class Sentence(msgspec.Struct, frozen=True):
    words: str
    serious: bool = False


class HeardDevice(msgspec.Struct, frozen=True):
    dev_eui: str
    name: str = ""
    heard_share: float | None = None
    expected_share: float = 1.0
    words: str = ""


class Steering(msgspec.Struct, frozen=True):
    mode: str = "off"
    narrow: bool = False
    region: str = ""
    channels: list[HeardChannel] = []
    keep_alive_uplinks: int = 0
    sentences: list[Sentence] = []
    devices: list[HeardDevice] = []
