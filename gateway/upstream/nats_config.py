"""Settings of one NATS JetStream server or cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

DEFAULT_PORT = 4222
_SERVER = re.compile(r"(?:(?:nats|tls)://)?(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(\d{1,5}))?", re.ASCII)
_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
_TOKENS = re.compile(r"[\w-]{1,64}(\.[\w-]{1,64}){0,7}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NatsServers:
    """How to reach a cluster and log in. Raises ValueError where a setting can never work."""

    servers: tuple[str, ...]  # host, host:port; each attempt goes on to the next
    tls: bool = True
    tls_first: bool = False  # the server wants TLS before it says anything
    ca_file: str = ""  # PEM; "": the system's authorities
    cert_file: str = ""  # client certificate, PEM; needs `key_file`
    key_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    nkey_file: str = ""  # a user's seed, SU...
    creds_file: str = ""  # a user's JWT and seed
    domain: str = ""  # JetStream domain, behind a leaf node
    keepalive_s: int = 30  # 5..3600; a silent connection is given up after 1.5 times that

    def __post_init__(self) -> None:
        if not self.servers:
            raise ValueError("servers names at least one host")
        self.addresses()
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together")
        if not self.tls and (self.ca_file or self.cert_file or self.tls_first):
            raise ValueError("ca_file, cert_file and tls_first need tls = true")
        if self.password and not self.username:
            raise ValueError("password needs username")
        ways = (self.username, self.token, self.nkey_file, self.creds_file)
        if sum(map(bool, ways)) > 1:
            raise ValueError("log in with one of username, token, nkey_file, creds_file")
        if self.domain and not _NAME.fullmatch(self.domain):
            raise ValueError("domain has 1 to 64 letters, digits, - or _")
        if not 5 <= self.keepalive_s <= 3600:
            raise ValueError("keepalive_s is 5 to 3600")

    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each server."""
        found = []
        for server in self.servers:
            match = _SERVER.fullmatch(server)
            port = int(match.group(2) or DEFAULT_PORT) if match else 0
            if match is None or not 0 < port <= 0xFFFF:
                raise ValueError(f"no server: {server!r} (host or host:port)")
            found.append((match.group(1).strip("[]"), port))
        return found


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """The stream as it is made where it is missing; an existing one is never changed."""

    stream: str = "channels"
    create_stream: bool = True
    max_age_s: int = 7 * 86_400  # 0: no bound
    max_bytes: int = 10 << 30  # 0: no bound; the oldest go first
    replicas: int = 1  # 1, 3 or 5; of a cluster 3
    duplicate_window_s: int = 7200  # a message sent again within it is stored once

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.stream):
            raise ValueError("stream has 1 to 64 letters, digits, - or _")
        if self.replicas not in (1, 3, 5):
            raise ValueError("replicas is 1, 3 or 5")
        if self.max_age_s < 0 or self.max_bytes < 0:
            raise ValueError("max_age_s and max_bytes are 0 or more")
        if self.duplicate_window_s < 1:
            raise ValueError("duplicate_window_s is 1 or more")
        if self.max_age_s and self.duplicate_window_s > self.max_age_s:
            raise ValueError("duplicate_window_s is at most max_age_s")


@dataclass(frozen=True, slots=True)
class NatsSinkConfig:
    """Where and how to deliver. Raises ValueError where a setting can never work."""

    name: str  # names the cursor: a new name starts over
    cluster: NatsServers
    stream: StreamSettings = StreamSettings()
    subject: str = "channels"  # what stands before .<channel>[.<subtopic>]
    inflight: int = 500  # 1..10_000, messages sent and not yet acknowledged
    # How long a subject without rights holds the queue before it is passed over
    refusal_hold_s: float = 3600.0

    def __post_init__(self) -> None:
        if not _TOKENS.fullmatch(self.subject):
            raise ValueError("subject is words of letters, digits, - or _, joined by dots")
        if not 1 <= self.inflight <= 10_000:
            raise ValueError("inflight is 1 to 10000")
        if self.refusal_hold_s < 0:
            raise ValueError("refusal_hold_s is 0 or more")
