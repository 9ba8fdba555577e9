"""Simple nodes that are not LoRaWAN, as the API gives them."""

from __future__ import annotations

import msgspec


class SimpleNode(msgspec.Struct, frozen=True):
    id: str
    header: str = ""
    address: int = 0
    place: int = 0
    freq_hz: int | None = None
    name: str = ""
    codec: str = ""
    channel_id: str = ""
    last_seen: float | None = None  # Unix seconds
    rssi_dbm: int | None = None
    snr_db: float | None = None
    sf: int | None = None
    readings: int = 0


class SimpleStranger(msgspec.Struct, frozen=True):
    """A sender that is not registered."""

    freq_hz: int = 0
    first_bytes: str = ""  # hex: TO, FROM, ID, FLAGS of a RadioHead node
    last: float = 0.0
    rssi_dbm: int = 0
    snr_db: float = 0.0
    sf: int = 0
    size: int = 0
    count: int = 0


class SimpleNodes(msgspec.Struct, frozen=True):
    nodes: list[SimpleNode] = []
    heard: list[SimpleStranger] = []
