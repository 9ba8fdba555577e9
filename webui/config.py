"""What the admin pages need to know to start: where to listen and where the gateway's REST API is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WebuiConfig:
    """Settings of the `fluxgate webui` process.

    `trusted_hosts` names the Host headers that are served ("gateway.local", ".example.org" with subdomains);
    empty serves any, which a gateway that has no fixed name yet needs. `secure_cookies` is for pages reached
    over TLS only: browsers then refuse the session cookie on plain HTTP.
    """

    host: str = "127.0.0.1"
    port: int = 8000  # 0: the system picks one
    api_url: str = "http://127.0.0.1:8080"
    sessions_path: str = ":memory:"  # a file in the runtime directory keeps people signed in over a restart
    trusted_hosts: tuple[str, ...] = field(default=())
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-For and -Proto count
    secure_cookies: bool = False
    session_idle_s: int = 12 * 3600
    session_max_s: int = 30 * 86_400
    api_timeout_s: float = 5.0
    pages_key: str = field(default="", repr=False)  # by which the gateway believes us whom we ask for
    page_threads: int = 4  # pages being rendered at the same time; live streams need none
