"""How a radio and an LNS know each other: whom to trust, and what to show."""

import ipaddress
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

SCHEMES: Final = ("wss", "ws")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files are PEM. Raises ValueError for what does not belong together."""

    ca_file: str = ""  # empty: the system's authorities
    cert_file: str = ""
    key_file: str = ""
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("a client certificate needs both cert_file and key_file")
        if not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("the token has characters that no HTTP header can carry")

    def context(self) -> ssl.SSLContext:
        """For one connection: the files are read each time, because they are renewed while we run.

        Raises OSError (of which ssl.SSLError is one) naming what cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            raise OSError(f"ca_file {self.ca_file} cannot be used: {error}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Python 3.13 began to refuse certificates without the identifiers that private authorities often leave
        # out: what works must not depend on the Python that runs.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.cert_file:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except OSError as error:
                raise OSError(f"cert_file {self.cert_file} and its key cannot be used: {error}") from None
        return context

    def headers(self) -> dict[str, str]:
        """What a request shows; a token that comes without a scheme is a bearer's."""
        if not self.token:
            return {}
        return {"Authorization": self.token if " " in self.token else f"Bearer {self.token}"}


def check_uri(uri: str) -> str:
    """An LNS's address without path, such as wss://host:8887. Raises ValueError.

    Without TLS only a server on this machine: a token, and every frame, would be open to all on the way.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise ValueError(f"{uri!r} is no address of the form wss://host:port") from None
    if parts.scheme not in SCHEMES or not parts.hostname or parts.username or parts.password:
        raise ValueError(f"{uri!r} is no address of the form wss://host:port")
    if parts.scheme == "ws" and not is_loopback(parts.hostname):
        raise ValueError(f"{uri!r} is without TLS: use wss://")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
