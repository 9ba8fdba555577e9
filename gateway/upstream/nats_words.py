"""What went wrong with a NATS server, said to a technician: connecting, logging in, JetStream's error codes."""

from __future__ import annotations

import datetime

from . import words
from .errors import SinkError, SinkHeld, SinkOffline, SinkRefused

# Error codes of the JetStream API (`err_code`), as servers since 2.3 send them
NO_STREAM = 10059
NAME_TAKEN = 10058  # by a stream with other settings
NO_CONSUMER = 10014
OTHER_STREAM = 10060  # the subject belongs to another stream than expected
TOO_LARGE = frozenset({10054, 10097})  # message, headers: larger than the stream takes
SERVER_FULL = frozenset({10023, 10028, 10047})  # resources, memory, storage of server or account
STORE_FAILED = 10077  # with a full stream, too: the description says which

_API_WORDS = {
    10039: "JetStream is not allowed for this account",
    10076: "JetStream is not switched on at the server",
    10008: "JetStream of the cluster is not available at the moment",
    10027: "the account may have no further stream",
    10065: "another stream takes these subjects already",
    10074: "the cluster has not as many servers as `replicas` asks for",
    10109: "the stream is sealed: it takes nothing more",
}
_PASSING = frozenset({10008})


def of_api(code: int, description: str, stream: str) -> SinkError:
    """An error reply of JetStream, to a publish or to a call of its API."""
    if code == NO_STREAM:
        return SinkHeld(missing_stream(stream))
    if code == NAME_TAKEN:
        return SinkHeld(f"the server has a stream {stream} with other settings")
    if code == OTHER_STREAM:
        return SinkHeld(f"these subjects belong to another stream than {stream}")
    if code in SERVER_FULL:
        return SinkHeld(f"the server's storage is used up ({description})")
    if code == STORE_FAILED and "maximum" in description:
        return SinkHeld(f"stream {stream} is full and keeps what it has: {description}")
    if code == STORE_FAILED:
        return SinkHeld(f"the server cannot store messages: {description}")
    if code in _PASSING:
        return SinkOffline(_API_WORDS[code])
    return SinkHeld(_API_WORDS.get(code, f"JetStream refuses: {description} ({code})"))


def missing_stream(stream: str) -> str:
    return (
        f"the server has no stream {stream} for these subjects: create it, or set `create_stream` "
        "and give this user the right to"
    )


def of_connect_error(error: BaseException, host: str, port: int, today: datetime.date) -> SinkError:
    """What an attempt to connect raised."""
    text = str(error).lower()
    if "authorization violation" in text:
        return SinkRefused("the server does not accept this user, password, token or key")
    if "expired" in text and "authentication" in text:
        return SinkRefused("the credentials have expired")
    if "maximum connections" in text or "maximum account" in text:
        return SinkOffline("the server takes no more connections at the moment")
    if isinstance(error, OSError):  # ssl's errors and timeouts are some, too
        return words.of_connect_error(error, host, port, today)
    if "expecting info" in text or "json parse" in text:
        return SinkRefused(
            f"{host} port {port} said nothing that a NATS server says: does it want TLS at once (`tls_first`)?"
        )
    return SinkOffline(f"no connection to {host} port {port}: {error}")
