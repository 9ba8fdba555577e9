"""Settings of the hub: its store and its doors."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.base import Port, Section

PublishBurst = Annotated[int, Meta(ge=1, le=100_000, description="messages beyond that rate at once")]


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
    publish_rate: Annotated[
        float,
        Meta(
            ge=0, le=100_000, description="messages a second of one thing, read later beyond it; 0: no bound"
        ),
    ] = 0.0
    publish_burst: PublishBurst = 100


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
    publish_burst: PublishBurst = 100
    stranger_rate: Annotated[
        float,
        Meta(
            ge=0,
            le=100_000,
            description="answers a second to an address that shows no valid credential, later beyond it; 0: no bound",
        ),
    ] = 10.0
    stranger_burst: Annotated[int, Meta(ge=1, le=100_000, description="answers beyond that rate at once")] = (
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
