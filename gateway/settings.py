"""Every setting with its default, unit, bounds and meaning in one place; `gateway.config` reads and writes them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
TABLES = (
    "module",
    "server",
    "sub_band",
    "gateway",
    "upstream",
    "nats",
)  # settings that are sections of their own, and may be repeated


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections share: a misspelt setting is an error."""


class GatewaySection(Section, frozen=True, kw_only=True):
    """This gateway."""

    name: Annotated[str, Meta(max_length=64, description="shown in the pages and sent upstream")] = "fluxgate"
    eui: Annotated[
        str,
        Meta(
            pattern="^([0-9a-fA-F]{16})?$",
            description="gateway EUI-64, 16 hex digits; empty: from the network card",
        ),
    ] = ""
    data_dir: Annotated[str, Meta(description="databases and secrets live here")] = "/var/lib/fluxgate"
    runtime_dir: Annotated[str, Meta(description="claim code and status file, for local tools")] = (
        "/run/fluxgate"
    )
    region: Annotated[str, Meta(description="regional parameters: EU868, US915, ...")] = "EU868"
    region_profile: Annotated[
        str, Meta(description="whose values to take where sources disagree (docs/regions.md); empty: most")
    ] = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"


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


class HubSection(Section, frozen=True, kw_only=True):
    """The log and its readers."""

    commit_interval_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="unconfirmed uplinks gather this long before a commit; larger spares the card",
        ),
    ] = 1.0
    max_messages: Annotated[int, Meta(ge=1000, le=100_000_000, description="messages kept in the log")] = (
        5_000_000
    )
    max_bytes: Annotated[int, Meta(ge=16 << 20, description="of the log's file; the oldest messages go")] = (
        2 << 30
    )
    max_age_days: Annotated[
        float, Meta(ge=0, le=36500, description="messages older than this go; 0: never for their age")
    ] = 0.0
    min_free_bytes: Annotated[
        int, Meta(ge=0, description="room left on the disk: the oldest messages go before it is less")
    ] = 64 << 20
    events: Annotated[
        bool,
        Meta(description="tell of changes of things, channels, people and rights on the channel `events`"),
    ] = True
    history_max_bytes: Annotated[
        int, Meta(ge=16 << 20, description="of the history's file; the oldest records go")
    ] = 2 << 30
    history_max_age_days: Annotated[
        float, Meta(ge=0, le=36500, description="records older than this go; 0: never for their age")
    ] = 0.0


class TlsSection(Section, frozen=True, kw_only=True):
    """The certificate of the doors that have a tls_port."""

    cert_file: Annotated[
        str,
        Meta(description="PEM, with intermediate certificates; empty: the gateway's own authority makes one"),
    ] = ""
    key_file: Annotated[str, Meta(description="PEM")] = ""
    names: Annotated[
        tuple[str, ...],
        Meta(
            max_length=16,
            description="further private names and addresses for the certificate that the gateway makes itself",
        ),
    ] = ()
    client_ca_file: Annotated[
        str,
        Meta(
            description="PEM of an authority of yours whose certificates name things, besides the gateway's own "
            "(docs/certificates.md)"
        ),
    ] = ""
    client_cert_required: Annotated[bool, Meta(description="refuse clients without a certificate")] = False
    undated: Annotated[
        Literal["accept", "refuse"],
        Meta(
            description="client certificates while the gateway's clock is not set: their dates cannot be checked"
        ),
    ] = "accept"


class MqttSection(Section, frozen=True, kw_only=True):
    """The MQTT door, 3.1.1 and 5.0."""

    host: str = "127.0.0.1"
    port: Port = 1883
    tls_host: str = "0.0.0.0"
    tls_port: Annotated[int, Meta(ge=0, le=65535, description="usually 8883; 0: none")] = 0
    proxy_host: str = "127.0.0.1"
    proxy_port: Annotated[
        int,
        Meta(
            ge=0, le=65535, description="for http.trusted_proxies, which begin with a PROXY header; 0: none"
        ),
    ] = 0
    proxy_tls_port: Annotated[
        int, Meta(ge=0, le=65535, description="the same with TLS behind the PROXY header; 0: none")
    ] = 0


class HttpSection(Section, frozen=True, kw_only=True):
    """The HTTP door: REST API, publishing, reading, event streams, WebSocket, MQTT over WebSocket."""

    host: str = "127.0.0.1"
    port: Port = 8080
    tls_host: str = "0.0.0.0"
    tls_port: Annotated[int, Meta(ge=0, le=65535, description="usually 8443; 0: none")] = 0
    workshop_port: Annotated[
        int, Meta(ge=0, le=65535, description="second listener where clients of 2017 look for it; 0: none")
    ] = 7070
    publish_rate: Annotated[
        float, Meta(ge=0, le=100_000, description="messages a second of one thing; 0: no bound")
    ] = 0.0
    publish_burst: Annotated[int, Meta(ge=1, le=100_000, description="messages beyond that rate at once")] = (
        100
    )
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="reverse proxies whose word on callers counts, as addresses or networks (docs/proxy.md)",
        ),
    ] = ()
    forwarded_header: Annotated[
        Literal["x-forwarded-for", "forwarded"],
        Meta(description="what they write the caller's address into; forwarded is RFC 7239's"),
    ] = "x-forwarded-for"


class OAuthSection(Section, frozen=True, kw_only=True):
    """Where applications find this gateway (docs/oauth.md); these names stand in tokens, and are never a request's."""

    issuer: Annotated[
        str,
        Meta(
            description="address of the API, as https://gateway.example.org; empty: http://localhost and its port"
        ),
    ] = ""
    pages_url: Annotated[
        str,
        Meta(
            description="address of the pages; empty: the issuer's, without one http://localhost and their port"
        ),
    ] = ""


class CoapSection(Section, frozen=True, kw_only=True):
    """The CoAP door (UDP)."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 5683


class WebuiSection(Section, frozen=True, kw_only=True):
    """The admin pages (`fluxgate webui`)."""

    host: str = "127.0.0.1"
    port: Port = 8000
    api_url: Annotated[str, Meta(description="HTTP door of the gateway; empty: from [http]")] = ""
    trusted_hosts: Annotated[
        tuple[str, ...],
        Meta(description="names the pages answer to; empty: any. Guards against DNS rebinding"),
    ] = ()
    secure_cookies: Annotated[bool, Meta(description="the pages are reached over TLS only")] = False
    key_file: Annotated[
        str,
        Meta(
            description="the pages' key, so that the gateway believes them whom they ask for;"
            " empty: /etc/fluxgate/pages.key where it exists, else pages.key in data_dir"
        ),
    ] = ""


class PeopleSection(Section, frozen=True, kw_only=True):
    """Accounts of people."""

    second_factor_for: Annotated[
        tuple[Literal["technician", "admin"], ...],
        Meta(description="roles that only look until signing in takes a code of an authenticator app"),
    ] = ()


class UpstreamSection(Section, frozen=True, kw_only=True):
    """One MQTT broker that receives every message, also those of an outage. Repeat the section for more."""

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,31}$", description="names the cursor: keep it")]
    host: str
    port: Port = 8883
    tls: bool = True
    ca_file: Annotated[str, Meta(description="PEM; empty: the system's authorities")] = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password: str = ""
    client_id: Annotated[str, Meta(max_length=128, description="empty: fluxgate-<gateway EUI>")] = ""
    protocol: Literal["3.1.1", "5"] = "5"
    topic: Annotated[str, Meta(description="{channel} and {subtopic} are filled in")] = (
        "channels/{channel}/messages/{subtopic}"
    )
    prefix: Annotated[str, Meta(description="put before every topic")] = ""
    inflight: Annotated[int, Meta(ge=1, le=1000, description="messages sent and not yet acknowledged")] = 100
    keepalive_s: Annotated[int, Meta(ge=5, le=65535)] = 30
    corrections: Annotated[
        str, Meta(description="topic of time corrections; {gateway} is filled in; empty: none")
    ] = "gateways/{gateway}/corrections"
    refusal_hold_s: Annotated[
        float, Meta(ge=0, description="what is refused for want of rights waits this long")
    ] = 3600.0


class NatsSection(Section, frozen=True, kw_only=True):
    """One NATS JetStream cluster that messages go to, and come from. Repeat the section for more."""

    name: Annotated[
        str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,31}$", description="names cursor and consumer: keep it")
    ]
    servers: Annotated[tuple[str, ...], Meta(min_length=1, description="host or host:port, port 4222")]
    tls: bool = True
    tls_first: Annotated[bool, Meta(description="the server wants TLS before it says anything")] = False
    ca_file: Annotated[str, Meta(description="PEM; empty: the system's authorities")] = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password: str = ""
    token: str = ""
    nkey_file: Annotated[str, Meta(description="seed of a user, SU...")] = ""
    creds_file: Annotated[str, Meta(description="JWT and seed of a user")] = ""
    domain: Annotated[str, Meta(description="JetStream domain, behind a leaf node")] = ""
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30
    stream: str = "channels"
    subject: Annotated[str, Meta(description="what stands before .<channel>[.<subtopic>]")] = "channels"
    create_stream: Annotated[bool, Meta(description="make the stream where it is missing")] = True
    max_age_s: Annotated[int, Meta(ge=0, description="of a stream that is made; 0: no bound")] = 604_800
    max_bytes: Annotated[int, Meta(ge=0, description="of a stream that is made; 0: no bound")] = 10 << 30
    replicas: Annotated[Literal[1, 3, 5], Meta(description="of a stream that is made")] = 1
    duplicate_window_s: Annotated[
        int, Meta(ge=1, description="a message sent again within it is stored once")
    ] = 7200
    send: Annotated[bool, Meta(description="messages of this gateway go to the stream")] = True
    inflight: Annotated[int, Meta(ge=1, le=10_000, description="messages sent and not yet acknowledged")] = (
        500
    )
    refusal_hold_s: Annotated[
        float, Meta(ge=0, description="what is refused for want of rights waits this long")
    ] = 3600.0
    receive: Annotated[bool, Meta(description="messages of the stream come to this gateway")] = False
    channels: Annotated[
        tuple[str, ...], Meta(max_length=100, description="to receive; empty: all that exist here")
    ] = ()
    thing: Annotated[str, Meta(description="receive as this thing; empty: as the gateway")] = ""
    backlog: Annotated[bool, Meta(description="begin with what the stream holds already")] = True


class Config(Section, frozen=True, kw_only=True):
    """Everything; the embedded defaults need no file."""

    gateway: GatewaySection = GatewaySection()
    radio: RadioSection = RadioSection()
    gnss: GnssSection = GnssSection()
    lorawan: LorawanSection = LorawanSection()
    station: StationSection = StationSection()
    hub: HubSection = HubSection()
    tls: TlsSection = TlsSection()
    mqtt: MqttSection = MqttSection()
    http: HttpSection = HttpSection()
    coap: CoapSection = CoapSection()
    oauth: OAuthSection = OAuthSection()
    webui: WebuiSection = WebuiSection()
    people: PeopleSection = PeopleSection()
    upstream: tuple[UpstreamSection, ...] = ()
    nats: tuple[NatsSection, ...] = ()
