"""The key by which the gateway believes its own pages whom they ask for.

The pages are a process of their own, before which people's browsers stand; for pauses, sessions and the audit log the
gateway must know the browsers' addresses, and take nobody else's word for them. Both processes read the key from one
file: made by the installer where they are different users, else by whichever of the two starts first.
"""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from gateway.settings import Config

log = logging.getLogger("gateway")

ENVIRONMENT = "FLUXGATE_PAGES_KEY"  # how `fluxgate webui` hands it to the pages
KEY_FILE = "pages.key"
# install.sh makes it: the two processes are different users there
INSTALLED = Path("/etc/fluxgate/pages.key")
MIN_CHARACTERS = 32
MAX_CHARACTERS = 128


def pages_key(config: Config) -> str:
    """The key; "" where there is none that can be read, so that pages count as one visitor at their own address."""
    path = Path(config.webui.key_file) if config.webui.key_file else _usual_path(config)
    try:
        key = _read(path) or _make(path)
    except OSError as error:
        log.warning("%s: %s; everybody at the pages counts as one visitor", path, error.strerror or error)
        return ""
    if not (
        MIN_CHARACTERS <= len(key) <= MAX_CHARACTERS
        and key.isascii()
        and key.isprintable()
        and " " not in key
    ):
        log.error("%s holds no key: remove it, and start the gateway and its pages again", path)
        return ""
    return key


def _usual_path(config: Config) -> Path:
    """The installer's file where this user can see one, else a file in the data directory."""
    try:
        installed = INSTALLED.exists()
    except OSError:
        installed = False
    return INSTALLED if installed else Path(config.gateway.data_dir) / KEY_FILE


def _read(path: Path) -> str:
    """What the file holds, "" where there is none."""
    try:
        return path.read_text("ascii", errors="replace")[: 4 * MAX_CHARACTERS].strip()
    except FileNotFoundError:
        return ""


def _make(path: Path) -> str:
    """A new key in the file; the other process's, if that was faster."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        os.link(new, path)
    except FileExistsError:
        pass
    finally:
        new.unlink()
    return _read(path)
