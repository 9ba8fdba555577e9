"""What one HTTP door bears: every bound of the listener and its streams, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one door; the defaults suit a gateway on a Pi that serves one site."""

    connections: int = 1024  # about 20 KB each
    connections_per_address: int = 512  # one address cannot take all of them; the own host is not counted
    head_bytes: int = 32 * KIB  # request line and headers; the parser itself knows no bound
    request_s: float = 20.0  # for a request to arrive whole: 256 KiB at 13 KB/s
    idle_s: float = 75.0  # keep-alive between requests; a node that reports every minute keeps its connection
    frame_bytes: int = 512 * KIB  # of a WebSocket message: 256 KiB of payload as base64 in an envelope
    publish_rate: float = 0.0  # messages a second of one thing, over a minute; 0 does not limit
    publish_burst: int = 100  # messages beyond that rate at once
    # Answers a second to one address (/64 in IPv6) that shows no valid credential; 0 does not limit
    stranger_rate: float = 10.0
    stranger_burst: int = 100  # of them beyond that rate at once; the next ones wait (hub.http.strangers)
