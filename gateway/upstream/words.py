"""What went wrong with a broker, said to a technician: connect errors, certificates, MQTT reason codes."""

from __future__ import annotations

import datetime
import errno
import socket
import ssl

from .errors import SinkError, SinkHeld, SinkOffline, SinkRefused

# X509_V_ERR_* of OpenSSL
NOT_YET_VALID = 9
EXPIRED = 10
UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21, 27})
WRONG_NAME = frozenset({62, 64})

# MQTT 5.0, 3.2.2.2; paho gives the 3.1.1 return codes as these too
CONNACK_WORDS = {
    0x84: "the broker does not speak this MQTT version: try the other `protocol`",
    0x85: "the broker does not accept the client id",
    0x86: "wrong user name or password",
    0x87: "wrong user name or password, or the broker does not admit this user",
    0x8A: "the broker has banned this client",
    0x8C: "the broker wants another way to log in",
    0x95: "the broker allows no messages of this size",
    0x97: "the broker says that the quota is used up",
    0x9B: "the broker offers no QoS 1",
    0x9C: "the broker has moved: ask for its new address",
    0x9D: "the broker has moved: ask for its new address",
}
BUSY_WORDS = {
    0x88: "the broker is not available at the moment",
    0x89: "the broker is busy",
    0x8B: "the broker is shutting down",
    0x8D: "the broker heard nothing from this gateway for too long",
    0x8E: "another client uses the same client id",
    0x93: "the broker wants fewer messages at a time: lower `inflight`",
    0x98: "the broker was told to close this connection",
    0x9F: "the broker wants fewer connections a minute",
}
DELIVERY_WORDS = {
    0x87: "the broker does not let this user publish to {topic}",
    0x97: "the broker takes no more: its quota is used up",
}
# MQTT 5.0, 3.4.2.1: reasons that lie in the message itself; sending it again cannot help
NEVER_ACCEPTED = frozenset({0x90, 0x99})
# Reasons that lie in the topic or in what the broker makes of it: can be mended, or last for ever
OF_THE_TOPIC = frozenset({0x80, 0x83, 0x87})


def of_connack(code: int) -> SinkError:
    """Reason code of a CONNACK or of a DISCONNECT by the broker."""
    if code in BUSY_WORDS:
        return SinkOffline(BUSY_WORDS[code])
    return SinkRefused(CONNACK_WORDS.get(code, f"the broker refuses this gateway (reason {code:#04x})"))


def of_puback(code: int, topic: str) -> SinkError:
    words = DELIVERY_WORDS.get(code, "the broker does not take messages (reason {code:#04x})")
    return SinkHeld(words.format(topic=topic, code=code))


def of_connect_error(error: Exception, host: str, port: int, today: datetime.date) -> SinkError:
    """What an attempt to connect raised; `today` is shown where the clock may be to blame."""
    match error:
        case ssl.SSLCertVerificationError():
            return SinkRefused(_certificate_words(error, host, today))
        case ssl.SSLError():
            return SinkRefused(_tls_words(error, host, port))
        case socket.gaierror():
            return SinkOffline(f"host not found: {host}")
        case ConnectionRefusedError():
            return SinkOffline(f"nothing answers at {host} port {port}")
        # Only a handshake can be cut off or left unanswered here: MQTT itself starts after the connect.
        case ConnectionResetError():
            return SinkRefused(f"{host} port {port} broke the TLS handshake off: does it expect TLS?")
        case TimeoutError() if "handshake" in str(error):
            return SinkRefused(f"{host} port {port} answers no TLS handshake: does it expect TLS?")
        case TimeoutError():
            return SinkOffline(f"no answer from {host} port {port}")
        case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH | errno.ENETDOWN):
            return SinkOffline(f"no way to {host}: is this gateway on the network?")
    return SinkOffline(f"no connection to {host} port {port}: {error}")


def _certificate_words(error: ssl.SSLCertVerificationError, host: str, today: datetime.date) -> str:
    code = error.verify_code
    if code == NOT_YET_VALID:
        return f"clock wrong? The broker's certificate is not valid yet, and today is {today} here"
    if code == EXPIRED:
        return f"the broker's certificate has expired, or the clock is wrong: today is {today} here"
    if code in WRONG_NAME:
        return f"the broker's certificate is for another name than {host}"
    if code in UNKNOWN_ISSUER:
        return "certificate not trusted: no known authority has signed the broker's certificate (`ca_file`)"
    return f"certificate not trusted: {error.verify_message}"


def _tls_words(error: ssl.SSLError, host: str, port: int) -> str:
    reason = error.reason or ""
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return "the broker asks for a client certificate (`cert_file`, `key_file`)"
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return "the broker does not accept the client certificate (`cert_file`)"
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"):
        return f"{host} port {port} does not speak TLS"
    return f"no TLS connection to {host} port {port}: {reason or error}"
