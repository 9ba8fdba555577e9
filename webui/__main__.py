"""`python -m webui`: the pages as a process of their own, which knows the gateway by its address only."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from webui.config import WebuiConfig
from webui.main import run


def settings(arguments: Sequence[str] | None = None) -> WebuiConfig:
    """The configuration of a command line; exits with a usage message where it is wrong."""
    plain = WebuiConfig()
    parser = argparse.ArgumentParser(prog="python -m webui", description="The admin pages of a gateway.")
    parser.add_argument("--host", default=plain.host, help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=plain.port, help="port to listen on (%(default)s)")
    parser.add_argument("--api", default=plain.api_url, help="HTTP door of the gateway (%(default)s)")
    parser.add_argument("--trusted-host", action="append", default=[], help="serve this Host only; repeat")
    parser.add_argument(
        "--trusted-proxy", action="append", default=[], help="whose X-Forwarded-For counts; repeat"
    )
    parser.add_argument("--secure-cookies", action="store_true", help="the pages are reached over TLS only")
    given = parser.parse_args(arguments)
    return WebuiConfig(
        host=given.host,
        port=given.port,
        api_url=given.api,
        sessions_path=_sessions_path(),
        trusted_hosts=tuple(given.trusted_host),
        trusted_proxies=tuple(given.trusted_proxy),
        secure_cookies=given.secure_cookies,
        pages_key=os.environ.pop("FLUXGATE_PAGES_KEY", ""),
    )


def _sessions_path() -> str:
    """A file where systemd gave us a runtime directory (it survives our restart), else memory."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "")
    return str(Path(folder) / "sessions.db") if folder else WebuiConfig().sessions_path


if __name__ == "__main__":
    run(settings())
