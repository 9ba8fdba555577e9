"""The Station listener as the settings ask for it."""

from __future__ import annotations

import ssl as tls
from collections.abc import Callable, Sequence

from gateway.errors import StartFailed
from gateway.link import Receiver
from gateway.lorawan.clock import Instant
from gateway.settings import Config, StationSection
from gateway.station.cups import Cups, trust_of
from gateway.station.door import StationDoor
from gateway.station.lns import Lns
from gateway.station.plan import router_config
from gateway.station.registry import KnownGateway, Registry
from hub.tls import TlsError, server_context
from radio.regions import Region
from radio.station.credentials import is_loopback
from radio.station.errors import StationError
from radio.station.eui import parse_eui


def station_door(
    config: Config, region: Region, receiver: Receiver, clock: Callable[[], Instant]
) -> StationDoor | None:
    """The listener, not yet started; None where none is wanted. Raises StartFailed."""
    if not config.station.port:
        return None
    section = config.station
    context = _context(config)
    try:
        registry = Registry(
            KnownGateway(bytes.fromhex(each.eui), each.name, each.token, each.token_before)
            for each in section.gateway
        )
        plan = router_config(
            region,
            channels_hz=section.channels_hz,
            uplink_channels=config.lorawan.uplink_channels,
            cflist_hz=config.lorawan.cflist_hz,
            max_eirp_dbm=config.lorawan.max_eirp_dbm,
            net_ids=section.net_ids,
            join_euis=_ranges(section.join_euis),
        )
        trust = trust_of(section.trust_file) if section.trust_file else b""
        cups = Cups(trust, section.cups_uri, section.uri)
    except (ValueError, StationError) as error:
        raise StartFailed(f"[station]: {error}") from error
    if not len(registry):
        raise StartFailed(
            "[station] has a port and no gateway that may connect: add a [[station.gateway]] with its eui"
        )
    return StationDoor(
        Lns(receiver, region, plan),
        registry,
        cups,
        clock,
        host=section.host,
        port=section.port,
        ssl=context,
        uri=section.uri,
    )


def _context(config: Config) -> tls.SSLContext | None:
    """TLS with the section's certificate, else the doors' one. None only for loopback. Raises StartFailed."""
    section = config.station
    if not section.tls:
        if not is_loopback(section.host):
            raise StartFailed(
                f"[station] without tls would show every frame to whoever listens at {section.host}: "
                'set host = "127.0.0.1", or tls = true'
            )
        return None
    cert_file, key_file = _pair(section) or (config.tls.cert_file, config.tls.key_file)
    if not cert_file:
        raise StartFailed(
            "[station] needs a certificate: set its cert_file and key_file, or tls.cert_file and tls.key_file"
        )
    authority = section.client_ca_file or config.tls.client_ca_file
    try:
        return server_context(cert_file, key_file, client_ca_file=authority)
    except TlsError as error:
        raise StartFailed(f"[station]: {error}") from error


def _pair(section: StationSection) -> tuple[str, str] | None:
    return (section.cert_file, section.key_file) if section.cert_file else None


def _ranges(texts: Sequence[str]) -> list[tuple[int, int]]:
    """JoinEUIs as written in the settings: one, or two with a dash between. Raises StationError, ValueError."""
    ranges = []
    for text in texts:
        low, _, high = text.partition("-")
        bounds = [int.from_bytes(parse_eui(end.strip()), "big") for end in (low, high or low)]
        # Basics Station ends its list at a range that begins with 0.
        if not 0 < bounds[0] <= bounds[1]:
            raise ValueError(f"join_euis: {text!r} is no range of JoinEUIs above 0")
        ranges.append((bounds[0], bounds[1]))
    return ranges
