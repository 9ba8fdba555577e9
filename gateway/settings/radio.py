"""Settings of modules, of the law of the place, and of network servers that are given frames."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.base import Port, Section


class ModuleSection(Section, frozen=True, kw_only=True):
    """One SX127x module, or an RN2483 behind a serial port. It hears one channel at one spreading factor at a time."""

    kind: Annotated[
        Literal["sx127x", "rn2483"], Meta(description="rn2483: a serial modem, second choice for downlinks")
    ] = "sx127x"
    port: Annotated[str, Meta(description="device file of an rn2483, e.g. /dev/ttyUSB0")] = ""
    baud: Annotated[int, Meta(ge=4800, le=460_800, description="of an rn2483's port")] = 57_600
    board: Annotated[str, Meta(description="a board of `fluxgate radio boards`, e.g. dragino-hat")] = (
        "dragino-hat"
    )
    index: Annotated[int, Meta(ge=0, le=7, description="which module of that board")] = 0
    freq_hz: Annotated[int, Meta(ge=137_000_000, le=1_020_000_000)] = 868_100_000
    sf: Annotated[int, Meta(ge=6, le=12, description="spreading factor")] = 7
    bw_hz: Literal[125000, 250000, 500000] = 125000
    role: Annotated[
        Literal["auto", "rx", "tx", "rxtx"],
        Meta(description="auto: a lone module does both; of several, the last sends and the others listen"),
    ] = "auto"
    sweep_sfs: Annotated[
        tuple[int, ...],
        Meta(
            max_length=3,
            description="listen on two or three spreading factors by turns, in place of sf; hears a part of the frames",
            examples=[(7, 8)],
        ),
    ] = ()
    sync_word: Annotated[
        Literal["lorawan", "private"],
        Meta(description="private: it hears simple nodes that are not LoRaWAN's (docs/rawlora.md)"),
    ] = "lorawan"


class ServerSection(Section, frozen=True, kw_only=True):
    """A further network server that is given frames off the air. Repeat the section for more."""

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,31}$", description="names it in status and log")]
    kind: Annotated[
        Literal["gwmp", "station"], Meta(description="gwmp: UDP to host and port; station: LNS at uri")
    ] = "gwmp"
    host: str = ""
    port: Port = 1700
    uri: Annotated[str, Meta(description="of kind station, e.g. wss://eu1.cloud.thethings.network:8887")] = ""
    token: Annotated[str, Meta(description="of kind station: what this gateway shows, an API key")] = ""
    ca_file: Annotated[str, Meta(description="of kind station, PEM; empty: the system's authorities")] = ""
    cert_file: Annotated[str, Meta(description="of kind station, PEM: shown instead of a token")] = ""
    key_file: str = ""
    downlinks: Annotated[
        bool,
        Meta(description="it may send; only for networks whose devices this gateway does not know itself"),
    ] = False
    net_ids: Annotated[
        tuple[str, ...] | None,
        Meta(description="send data of these networks only; unset: of all", examples=[("000013",)]),
    ] = None
    dev_addrs: Annotated[
        tuple[str, ...] | None,
        Meta(description="and data of these DevAddrs, as prefix or range", examples=[("26000000/7",)]),
    ] = None
    join_euis: Annotated[
        tuple[str, ...] | None,
        Meta(
            description='send joins with these JoinEUIs only; ["*"]: all, []: none',
            examples=[("70b3d57ed0000000/36",)],
        ),
    ] = None
    dev_euis: Annotated[
        tuple[str, ...] | None,
        Meta(description="and of these devices only", examples=[("!0004a30b001c0530",)]),
    ] = None
    proprietary: Annotated[bool, Meta(description="send frames that are not LoRaWAN's, too")] = False
    crc_errors: Annotated[bool, Meta(description="send damaged frames, too")] = False


class SubBandSection(Section, frozen=True, kw_only=True):
    """National limits for what a gateway sends. One or more sections replace all of the region's sub-bands."""

    min_hz: Annotated[int, Meta(ge=137_000_000, le=1_020_000_000)]
    max_hz: Annotated[int, Meta(ge=137_000_000, le=1_020_000_000)]
    duty: Annotated[
        float, Meta(gt=0, le=1, description="share of an hour on air, 0.01 for 1 %; 1: no limit")
    ] = 1.0
    max_eirp_dbm: Annotated[float, Meta(ge=-30, le=40)]


class GnssSection(Section, frozen=True, kw_only=True):
    """Time and place: a GNSS receiver on a serial port, or a place that is known. Part of the radio process."""

    port: Annotated[str, Meta(description="device file of the receiver, e.g. /dev/ttyAMA0; empty: none")] = ""
    baud: Annotated[int, Meta(ge=4800, le=460_800)] = 9600
    pps_line: Annotated[
        int | None,
        Meta(description="BCM number of the receiver's pulse; unset: none", examples=[18]),
    ] = None
    privacy_digits: Annotated[
        int | None,
        Meta(description="decimals of a place that are told: 2 is about 1 km", examples=[2]),
    ] = None
    latitude: Annotated[float | None, Meta(description="without a receiver, degrees", examples=[52.52])] = (
        None
    )
    longitude: Annotated[float | None, Meta(description="without a receiver, degrees", examples=[13.405])] = (
        None
    )
    altitude_m: Annotated[int | None, Meta(description="without a receiver", examples=[34])] = None
    leap_seconds: Annotated[
        int | None,
        Meta(description="GPS time minus UTC; unset: from the system or the receiver", examples=[18]),
    ] = None


class RadioSection(Section, frozen=True, kw_only=True):
    """The radio process (`fluxgate radio`)."""

    server_host: Annotated[str, Meta(description="GWMP server the frames go to")] = "127.0.0.1"
    server_port: Port = 1700
    tx_lead_us: Annotated[int, Meta(ge=-500, le=3000, description="start downlinks this much early, us")] = (
        400
    )
    antenna_gain_dbi: Annotated[float, Meta(ge=-10, le=20)] = 0.0
    cable_loss_db: Annotated[float, Meta(ge=0, le=60, description="between module and antenna")] = 0.0
    limit_dwell: Annotated[
        bool, Meta(description="no downlink longer than 400 ms, where the country asks for it (AS923)")
    ] = False
    stat_interval_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    gpio: Annotated[
        Literal["auto", "gpiod", "lgpio", "rpi-gpio", "polling"],
        Meta(description="how edges of the modules are had; auto: the best way this machine offers"),
    ] = "auto"
    state_dir: Annotated[
        str,
        Meta(description="folder for time on air and calibration, kept over restarts; empty: memory only"),
    ] = "/var/lib/fluxgate-radio"
    control_socket: Annotated[
        str,
        Meta(
            description="where the pages and `fluxgate radio` commands ask the radio process; empty: nowhere"
        ),
    ] = "/run/fluxgate-radio/radio.sock"
    module: tuple[ModuleSection, ...] = ()
    sub_band: tuple[SubBandSection, ...] = ()
    server: tuple[ServerSection, ...] = ()
