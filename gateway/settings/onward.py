"""Settings of where messages go on to."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.base import Port, Section


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
    gaps: Annotated[
        str,
        Meta(description="topic that says which messages retention took; {gateway} as above; empty: none"),
    ] = "gateways/{gateway}/gaps"
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
