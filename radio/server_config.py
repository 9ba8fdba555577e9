"""What the radio process is told of a network server beside the local gateway: plain values, checked when made."""

from dataclasses import dataclass, field
from typing import Final

from radio.filters import EVERYTHING, Filter
from radio.station.credentials import Credentials, check_uri

LOCAL: Final = "local"  # the name of the gateway of this machine
KINDS: Final = ("gwmp", "station")
MAX_SERVERS: Final = 8  # a thread each


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One further server. Raises ValueError naming the server and what does not fit."""

    name: str
    kind: str = "gwmp"  # "gwmp" by UDP to host and port; "station": LoRa Basics Station's LNS at `uri`
    host: str = ""
    port: int = 1700
    uri: str = ""
    downlinks: bool = False  # whether it may order any
    filter: Filter = field(default_factory=Filter)
    credentials: Credentials = field(default_factory=Credentials)  # of kind "station"

    @classmethod
    def local(cls, host: str, port: int) -> "ServerConfig":
        """The gateway of this machine: it is given everything and may order anything."""
        return cls(LOCAL, "gwmp", host, port, downlinks=True, filter=EVERYTHING)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a server needs a name")
        if self.kind not in KINDS:
            raise ValueError(f"server {self.name}: kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.kind == "gwmp" and not self.host:
            raise ValueError(f"server {self.name}: host is empty")
        if self.kind == "station" and not self.uri:
            raise ValueError(f"server {self.name}: uri is empty; it is where the LNS is found, wss://...")
        if self.kind == "station":
            try:
                check_uri(self.uri)
            except ValueError as error:
                raise ValueError(f"server {self.name}: {error}") from None
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"server {self.name}: port {self.port} is not 1 to 65535")


def check_servers(servers: tuple[ServerConfig, ...]) -> None:
    """Raises ValueError where they are too many or two share a name."""
    if len(servers) > MAX_SERVERS:
        raise ValueError(f"{len(servers)} servers configured, {MAX_SERVERS} are the most")
    names = [LOCAL, *(each.name for each in servers)]
    if len(set(names)) != len(names):
        raise ValueError(f"two servers have the same name ({LOCAL!r} is that of this gateway)")
