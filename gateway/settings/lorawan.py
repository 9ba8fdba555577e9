"""Settings of the network server, and of concentrators elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.base import Port, Section


class LorawanSection(Section, frozen=True, kw_only=True):
    """The LoRaWAN network and join server."""

    host: Annotated[
        str, Meta(description="address the GWMP server listens on; GWMP has no security: keep to loopback")
    ] = "127.0.0.1"
    port: Port = 1700
    gateways: Annotated[
        tuple[Annotated[str, Meta(pattern="^[0-9a-fA-F]{16}$")], ...],
        Meta(max_length=64, description="EUIs of the only forwarders that are listened to; empty: any"),
    ] = ()
    merge_window_ms: Annotated[
        int,
        Meta(
            ge=0, le=500, description="wait for copies of other gateways, where there are several; 0: never"
        ),
    ] = 100
    net_id: Annotated[int, Meta(ge=0, le=0xFFFFFF, description="0 and 1 are for private networks")] = 0
    rx1_delay_s: Annotated[int, Meta(ge=1, le=15)] = 1
    adr: Annotated[bool, Meta(description="steer data rate and power of devices that ask for it")] = True
    adr_margin_db: Annotated[float, Meta(ge=0, le=30, description="installation margin")] = 10.0
    adr_max_dr: Annotated[
        int | None,
        Meta(
            description="fastest data rate the radios hear; unset: from [[radio.module]], else the region's",
            examples=[5],
        ),
    ] = None
    rx2_dr: Annotated[int | None, Meta(description="data rate of RX2; unset: the region's", examples=[0])] = (
        None
    )
    max_eirp_dbm: Annotated[
        float | None, Meta(description="of downlinks; unset: the region's", examples=[16])
    ] = None
    cflist_hz: Annotated[
        tuple[int, ...], Meta(max_length=5, description="further uplink channels given at a join")
    ] = ()
    uplink_channels: Annotated[
        tuple[int, ...],
        Meta(
            description="indices of the only channels the radios hear; empty: from [[radio.module]], or all"
        ),
    ] = ()
    steer: Annotated[
        Literal["auto", "off"],
        Meta(
            description="auto: bring devices to what the modules hear; off: where others hear all (docs/mac.md)"
        ),
    ] = "auto"
    rx1_dr_offset: Annotated[int, Meta(ge=0, le=7)] = 0
    rx2_freq_hz: Annotated[
        int | None,
        Meta(description="frequency of RX2; unset: the region's", examples=[869_525_000]),
    ] = None
    max_duty: Annotated[
        int,
        Meta(ge=0, le=15, description="devices may send 1/2**n of the time; 0: as their region lets them"),
    ] = 0
    adr_ack: Annotated[
        tuple[int, int] | None,
        Meta(
            description="LoRaWAN 1.1: a device asks for an answer after 2**n uplinks, slows down 2**m later",
            examples=[(6, 5)],
        ),
    ] = None
    rejoin: Annotated[
        tuple[int, int] | None,
        Meta(
            description="LoRaWAN 1.1: a device rejoins each 2**(n+10) s or 2**(m+4) uplinks; unset: as it likes",
            examples=[(10, 3)],
        ),
    ] = None
    max_downlinks: Annotated[
        int, Meta(ge=1, le=256, description="downlinks that may wait for one device")
    ] = 16
    status_interval_s: Annotated[
        int, Meta(ge=0, description="between questions for battery and margin; 0: never")
    ] = 86400
    class_b: Annotated[
        bool, Meta(description="downlinks in ping slots and the beacon for them: needs GNSS time to 1 ms")
    ] = False
    beacon: Annotated[
        bool, Meta(description="with class_b: order the beacon; false: gateways send it by themselves")
    ] = True
    beacon_gateways: Annotated[
        tuple[Annotated[str, Meta(pattern="^[0-9a-fA-F]{16}$")], ...],
        Meta(max_length=64, description="EUIs that are to send the beacon; empty: this machine's radio"),
    ] = ()
    beacon_hz: Annotated[
        int | None, Meta(description="of the beacon; unset: the region's", examples=[869_525_000])
    ] = None
    beacon_share: Annotated[
        float,
        Meta(
            gt=0, le=1, description="of its beacons that each gateway sends; below 1 where several are heard"
        ),
    ] = 1.0


class StationGatewaySection(Section, frozen=True, kw_only=True):
    """One concentrator with LoRa Basics Station. It shows `token`, or a certificate whose common name is its EUI."""

    eui: Annotated[str, Meta(pattern="^[0-9a-fA-F]{16}$", description="EUI-64, 16 hex digits")]
    name: Annotated[str, Meta(max_length=64, description="shown in the pages")] = ""
    token: Annotated[
        str,
        Meta(
            description="16 characters or more; `openssl rand -base64 32` makes one; empty: certificate only"
        ),
    ] = ""
    token_before: Annotated[
        str, Meta(description="still accepted, while the gateway fetches a new `token` from the CUPS")
    ] = ""


class StationSection(Section, frozen=True, kw_only=True):
    """Concentrators that connect with LoRa Basics Station: LNS and CUPS on one port, over TLS."""

    host: Annotated[str, Meta(description="address to listen on; without TLS only loopback")] = "0.0.0.0"
    port: Annotated[int, Meta(ge=0, le=65535, description="usually 8887; 0: none")] = 0
    tls: Annotated[bool, Meta(description="false: a Basics Station on this machine, over loopback")] = True
    cert_file: Annotated[str, Meta(description="PEM; empty: that of [tls]")] = ""
    key_file: Annotated[str, Meta(description="PEM; empty: that of [tls]")] = ""
    client_ca_file: Annotated[
        str, Meta(description="PEM of the authority of the gateways' certificates; empty: that of [tls]")
    ] = ""
    uri: Annotated[
        str,
        Meta(description="wss://host:port that gateways reach this by; empty: what they have asked for"),
    ] = ""
    cups_uri: Annotated[
        str, Meta(description="https://host:port that the CUPS tells gateways; empty: they keep theirs")
    ] = ""
    trust_file: Annotated[
        str,
        Meta(
            description="PEM of the certificate gateways trust; with it the CUPS hands out tokens that changed"
        ),
    ] = ""
    channels_hz: Annotated[
        tuple[int, ...],
        Meta(max_length=8, description="125 kHz channels to hear; empty: from the region and [lorawan]"),
    ] = ()
    net_ids: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=0xFFFFFF)], ...],
        Meta(max_length=16, description="gateways send data frames of these networks only; empty: all"),
    ] = ()
    join_euis: Annotated[
        tuple[str, ...],
        Meta(max_length=10, description="gateways send joins with these only, 16 hex digits or a range a-b"),
    ] = ()
    gateway: tuple[StationGatewaySection, ...] = ()
