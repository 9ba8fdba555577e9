"""An MQTT client that counts what it receives, each message once, wherever it is attached."""

from __future__ import annotations

import threading
import uuid

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

MAX_IDENTITIES = 2_000_000  # of messages remembered, so that a repetition is counted once


class Observer:
    """Subscribes with QoS 1 and counts distinct messages; runs in the client library's own thread."""

    def __init__(
        self,
        filters: list[str],
        username: str = "",
        password: str = "",
        protocol: MQTTProtocolVersion = MQTTv5,
    ) -> None:
        self.repeated = 0
        self.refusal = ""
        self._filters = filters
        self._seen: set[object] = set()
        self._lock = threading.Lock()
        self._subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=f"observer-{uuid.uuid4().hex[:12]}", protocol=protocol
        )
        if username:
            self._client.username_pw_set(username, password)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._message

    @property
    def delivered(self) -> int:
        """Distinct messages so far."""
        return len(self._seen)

    def start(self, host: str, port: int, timeout_s: float = 10.0) -> None:
        """Connect and subscribe. Raises ConnectionError with the broker's reason."""
        try:
            self._client.connect(host, port, keepalive=30)
        except OSError as error:
            raise ConnectionError(f"no MQTT broker at {host}:{port}: {error}") from error
        self._client.loop_start()
        if not self._subscribed.wait(timeout_s) or self.refusal:
            self._client.loop_stop()
            raise ConnectionError(self.refusal or f"no answer from the MQTT broker at {host}:{port}")

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1, not waiting for the acknowledgement."""
        self._client.publish(topic, payload, qos=1)

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(
        self,
        client: Client,
        _: object,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.refusal = f"the broker refuses the connection: {reason}"
            self._subscribed.set()
        else:
            client.subscribe([(topic_filter, 1) for topic_filter in self._filters])

    def _on_subscribe(
        self, client: Client, _: object, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.refusal = f"the broker refuses a subscription: {refused[0]}"
        self._subscribed.set()

    def _message(self, client: Client, _: object, message: MQTTMessage) -> None:
        user = dict(getattr(message.properties, "UserProperty", None) or ())
        identity: object
        if "gateway" in user and "seq" in user:
            identity = (user["gateway"], user["seq"])
        else:
            identity = (message.topic, message.payload)
        with self._lock:
            if identity in self._seen:
                self.repeated += 1
            elif len(self._seen) < MAX_IDENTITIES:
                self._seen.add(identity)
