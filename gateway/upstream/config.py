"""Settings of one upstream MQTT broker."""

from __future__ import annotations

import string
from dataclasses import dataclass, field

DEFAULT_TOPIC = "channels/{channel}/messages/{subtopic}"
TOPIC_FIELDS = frozenset({"channel", "subtopic", "publisher", "protocol", "gateway"})


@dataclass(frozen=True, slots=True)
class UpstreamMqttConfig:
    """Where and how to deliver. Raises ValueError where a setting can never work."""

    name: str  # names the cursor: a new name starts over
    host: str
    port: int = 8883
    tls: bool = True
    ca_file: str = ""  # PEM; "": the system's authorities
    cert_file: str = ""  # client certificate, PEM; needs `key_file`
    key_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    client_id: str = ""  # "": fluxgate-<gateway EUI>
    protocol: str = "5"  # "5" or "3.1.1"
    topic: str = DEFAULT_TOPIC
    prefix: str = ""  # put before every topic, as it is
    corrections: str = "gateways/{gateway}/corrections"  # topic of time corrections; "": none are sent
    gaps: str = "gateways/{gateway}/gaps"  # topic that says which messages are gone; "": it is not said
    qos: int = 1
    inflight: int = 100  # 1..65535, messages sent and not yet acknowledged
    keepalive_s: int = 30  # 5..65535
    refusal_hold_s: float = 3600.0  # how long a topic without rights holds the queue before it is passed over

    def __post_init__(self) -> None:
        if self.protocol not in ("5", "3.1.1"):
            raise ValueError(f"protocol is 5 or 3.1.1, not {self.protocol}")
        if self.qos != 1:
            raise ValueError("qos is 1: nothing else says that a message arrived")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file and cert_file need tls = true")
        if not 1 <= self.inflight <= 0xFFFF:
            raise ValueError("inflight is 1 to 65535")
        if not 5 <= self.keepalive_s <= 0xFFFF:
            raise ValueError("keepalive_s is 5 to 65535")
        if self.refusal_hold_s < 0:
            raise ValueError("refusal_hold_s is 0 or more")
        if any(character in self.prefix + self.topic + self.corrections + self.gaps for character in "+#\0"):
            raise ValueError("a topic to publish to has no wildcards")
        _check_fields("topic", self.topic, TOPIC_FIELDS)
        _check_fields("corrections", self.corrections, frozenset({"gateway"}))
        _check_fields("gaps", self.gaps, frozenset({"gateway"}))


def _check_fields(setting: str, template: str, known: frozenset[str]) -> None:
    unknown = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None} - known
    if unknown:
        raise ValueError(f"{setting} knows no {{{min(unknown)}}}; it knows {', '.join(sorted(known))}")
