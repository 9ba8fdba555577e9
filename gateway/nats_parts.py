"""A `[[nats]]` section as parts: the relay that sends to the cluster, the source that brings from it."""

from __future__ import annotations

from gateway.nats_source import NatsSource, NatsSourceConfig
from gateway.settings import NatsSection
from gateway.upstream.nats import NatsSink
from gateway.upstream.nats_config import NatsServers, NatsSinkConfig, StreamSettings
from gateway.upstream.relay import Relay
from hub.hub import Hub


def nats_relay(section: NatsSection, hub: Hub, gateway: str) -> Relay | None:
    """None where nothing is to be sent. Raises ValueError where a setting can never work."""
    if not section.send:
        return None
    config = NatsSinkConfig(
        section.name,
        _servers(section),
        StreamSettings(
            stream=section.stream,
            create_stream=section.create_stream,
            max_age_s=section.max_age_s,
            max_bytes=section.max_bytes,
            replicas=section.replicas,
            duplicate_window_s=section.duplicate_window_s,
        ),
        subject=section.subject,
        inflight=section.inflight,
        refusal_hold_s=section.refusal_hold_s,
    )
    return Relay(hub.log, NatsSink(config, gateway), hold_s=section.refusal_hold_s)


def nats_source(section: NatsSection, hub: Hub, gateway: str) -> NatsSource | None:
    """None where nothing is to be brought. Raises ValueError where a setting can never work."""
    if not section.receive:
        return None
    config = NatsSourceConfig(
        section.name,
        _servers(section),
        stream=section.stream,
        subject=section.subject,
        channels=section.channels,
        thing=section.thing,
        backlog=section.backlog,
    )
    return NatsSource(hub, config, gateway)


def _servers(section: NatsSection) -> NatsServers:
    return NatsServers(**{name: getattr(section, name) for name in NatsServers.__dataclass_fields__})
