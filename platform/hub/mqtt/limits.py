"""The bounds of the MQTT door, and the counters that show where one was reached.

Every buffer, map and wait of the door is bounded here; `docs/mqtt.md` lists the same table for integrators.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one door. What happens at each is said beside it, with the counter that rises."""

    connect_timeout_s: float = 10.0  # from accept to CONNECT; closed: connect_timeouts
    connect_bytes: int = 8 << 10  # a CONNECT, will included; closed: malformed
    # Connections still without CONNECT, some KB each; closed: refused_connections
    unauthenticated: int = 1024
    unauthenticated_per_address: int = 512  # of them, from one address (/64 in IPv6) other than the own host
    connections: int = 1000  # CONNACK 3 or 0x97: refused_connections
    connections_per_thing: int = 32  # the same; also of one user
    max_keepalive_s: int = 0  # MQTT 5 clients that ask for more, or for none, are told this one; 0: no bound
    packet_bytes: int = 264 << 10  # after CONNECT: the largest payload and its topic; closed: malformed
    subscriptions: int = 100  # per session; SUBACK 0x80 or 0x97: refused_subscriptions
    shared_groups: int = 256  # share name and filter; SUBACK 0x80 or 0x97: refused_subscriptions
    sessions: int = 2000  # kept sessions and their wills; CONNACK 3 or 0x97: refused_sessions
    sessions_per_thing: int = 16  # the same
    session_expiry_s: int = 0xFFFF_FFFF  # longest session expiry interval; the largest number: never
    in_flight: int = 256  # QoS 1 and 2 towards one client; the rest waits in the log
    receiving: int = 1000  # QoS 2 ids one client holds open, receive maximum of MQTT 5; closed: malformed
    topic_aliases: int = 64  # per connection and direction; closed (0x94): malformed
    # Towards one client; QoS 0 dropped: dropped_qos0; QoS 1 and 2 wait in the log
    buffered_bytes: int = 1 << 20
    buffered_total_bytes: int = 64 << 20  # towards all clients; each gets its share, the same happens
    uncommitted_bytes: int = 16 << 20  # published and not yet in the log; reading pauses: paused_reads
    uncommitted_messages: int = 50_000  # the same, for small messages
    publish_rate: float = 0.0  # messages a second of one thing; reading pauses: paced_reads; 0 does not limit
    publish_burst: int = 100  # messages beyond that rate at once
    retained_messages: int = 10_000  # delivered, not retained: refused_retained
    retained_bytes: int = 16 << 20  # the same, payloads with their properties


COUNTERS: tuple[str, ...] = (
    "connections_accepted",
    "connections_now",
    "sessions_now",
    "sessions_expired",
    "connect_timeouts",
    "refused_connections",
    "refused_announcements",
    "refused_credentials",
    "refused_sessions",
    "refused_subscriptions",
    "refused_publishes",
    "refused_contents",
    "refused_retained",
    "refused_properties",
    "malformed",
    "keepalive_timeouts",
    "takeovers",
    "revoked",
    "wills",
    "wills_waiting",
    "wills_lost",
    "received_qos0",
    "received_qos1",
    "received_qos2",
    "sent_qos0",
    "sent_qos1",
    "sent_qos2",
    "resent",
    "dropped_qos0",
    "dropped_too_large",
    "expired",
    "lost_to_retention",
    "paused_reads",
    "paced_reads",
    "log_failures",
    "bytes_received",
    "bytes_sent",
)
