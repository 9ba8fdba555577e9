"""The further network servers of the configuration, as the radio package wants them, and which of them may answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.settings import ServerSection
from radio.filters import Filter
from radio.server_config import ServerConfig
from radio.station.credentials import Credentials


def server_config(section: ServerSection) -> ServerConfig:
    """A further server's settings. Raises ValueError naming the server."""
    try:
        passes = Filter.of(
            net_ids=section.net_ids,
            dev_addrs=section.dev_addrs,
            join_euis=section.join_euis,
            dev_euis=section.dev_euis,
            proprietary=section.proprietary,
            crc_errors=section.crc_errors,
        )
    except ValueError as error:
        raise ValueError(f"server {section.name}: {error}") from None
    try:
        credentials = Credentials(section.ca_file, section.cert_file, section.key_file, section.token)
    except ValueError as error:
        raise ValueError(f"server {section.name}: {error}") from None
    return ServerConfig(
        section.name,
        section.kind,
        section.host,
        section.port,
        section.uri,
        section.downlinks,
        passes,
        credentials,
    )


def answering_elsewhere(sections: Sequence[ServerSection]) -> Callable[[int, int], list[str]]:
    """A function of JoinEUI and DevEUI: the servers that are sent its joins and may answer them. Raises ValueError."""
    servers = [server_config(each) for each in sections if each.downlinks]

    def names(join_eui: int, dev_eui: int) -> list[str]:
        return [each.name for each in servers if each.filter.takes_join(join_eui, dev_eui)]

    return names
