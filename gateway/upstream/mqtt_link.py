"""One connection to a broker, from CONNECT to its end, moved by the event loop.

paho encodes, decodes and keeps the TLS state; each link has a client of its own, so nothing that paho keeps
for redelivery outlives a connection: what is sent again is read from the log again. Only the connect itself,
which resolves names and shakes hands, runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from . import words
from .config import UpstreamMqttConfig
from .errors import SinkError, SinkOffline, SinkRefused
from .mqtt_properties import PackedProperties
from .tls import client_context

CONNECT_TIMEOUT_S = 10.0  # for each of: TCP, TLS
OPEN_TIMEOUT_S = 30.0  # for all of it: name, TCP, TLS, CONNACK
FIXED_BYTES = 5 + 2 + 2  # of a PUBLISH: header, topic length, packet id
# A broker that gathers small writes holds the second PUBACK back until the first is acknowledged by TCP, which
# waits 40 ms to do so. Linux forgets this setting by itself, so it is renewed with each read.
QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
READS_A_TURN = 8  # packets decoded before other tasks get their turn


class MqttLink:
    """Open once, publish, close. The loop calls `on_puback(packet id, reason code)` and `on_lost()`."""

    def __init__(
        self,
        config: UpstreamMqttConfig,
        client_id: str,
        *,
        on_puback: Callable[[int, int], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.receive_maximum = 0xFFFF  # MQTT 5.0, 3.2.2.3.3
        self.maximum_packet = 0xFFFFFFF  # bytes; MQTT 5.0, 3.2.2.3.6
        self.lost: SinkError | None = None
        self._config = config
        self._on_puback = on_puback
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._client = _new_client(config, client_id)
        self._admitted: asyncio.Future[None] = self._loop.create_future()
        self._reading = self._writing = -1  # descriptors the loop watches
        self._heard = self._loop.time()
        self._tick: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Connect and wait for CONNACK. Raises SinkError."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await _in_thread(self._connect, f"upstream-{self._config.name}")
                self._attach()
                await self._admitted
        except SinkError as error:
            self.close(error)
            raise
        except (OSError, ssl.SSLError) as error:
            today = datetime.datetime.now(datetime.UTC).date()
            found = words.of_connect_error(error, self._config.host, self._config.port, today)
            self.close(found)
            raise found from error

    def publish(self, topic: str, payload: bytes, properties: PackedProperties | None) -> int:
        """Queue one PUBLISH of QoS 1; the packet id. Raises ValueError where it can never be taken."""
        around = FIXED_BYTES + len(topic.encode()) + (len(properties.pack()) if properties else 0)
        if around + len(payload) > self.maximum_packet:
            raise ValueError("larger than the broker takes")
        info = self._client.publish(topic, payload, qos=1, properties=properties)
        self._watch()
        return info.mid

    def close(self, reason: SinkError | None = None) -> None:
        """End the connection, with a DISCONNECT where the socket still takes one."""
        self.end(reason or SinkOffline("closed"))
        sock = self._client.socket()
        if sock is not None:
            try:
                self._client.disconnect()
                self._client.loop_write()
            except (OSError, ValueError):
                pass
            self._unwatch()
            sock.close()

    # In the thread

    def _connect(self) -> None:
        config = self._config
        if config.tls:
            self._client.tls_set_context(_tls_context(config))
        self._client.connect(config.host, config.port, keepalive=config.keepalive_s)
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # On the loop

    def _attach(self) -> None:
        client = self._client
        client.on_connect = self._connack
        client.on_disconnect = self._disconnected
        client.on_publish = self._puback
        client.on_socket_close = lambda *_: self._unwatch()
        # set, so that paho leaves writing to the loop instead of doing it inside publish()
        client.on_socket_register_write = lambda *_: None
        self._heard = self._loop.time()
        if client.socket() is None:  # closed on us while CONNECT was written
            self.end(SinkRefused(_closed_early(self._config)))
            return
        self._watch()
        self._loop.call_soon(self._readable)  # TLS may hold bytes already, where the loop cannot see them
        self._keep_alive()

    def _watch(self) -> None:
        sock = self._client.socket()
        if sock is None:
            return
        if self._reading < 0:
            self._reading = sock.fileno()
            self._loop.add_reader(self._reading, self._readable)
        if self._client.want_write() and self._writing < 0:
            self._writing = sock.fileno()
            self._loop.add_writer(self._writing, self._writable)
        elif not self._client.want_write() and self._writing >= 0:
            self._loop.remove_writer(self._writing)
            self._writing = -1

    def _unwatch(self) -> None:
        if self._reading >= 0:
            self._loop.remove_reader(self._reading)
        if self._writing >= 0:
            self._loop.remove_writer(self._writing)
        self._reading = self._writing = -1

    def _readable(self) -> None:
        if self.lost is not None:
            return
        self._heard = self._loop.time()
        sock = self._client.socket()
        if isinstance(sock, socket.socket) and QUICK_ACK is not None:
            sock.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        for _ in range(READS_A_TURN):
            if not self._step(self._client.loop_read):
                return
            sock = self._client.socket()
            if not isinstance(sock, ssl.SSLSocket) or not sock.pending():
                break
        else:
            # decrypted bytes wait inside TLS, where the loop cannot see them
            self._loop.call_soon(self._readable)
        self._watch()

    def _writable(self) -> None:
        if self._step(self._client.loop_write):
            self._watch()

    def _step(self, action: Callable[[], MQTTErrorCode]) -> bool:
        """Let paho do one thing; False once the connection is over."""
        try:
            action()
        except Exception as error:  # top of a loop callback: a broker's bytes must not stop the gateway
            self.end(SinkOffline(f"the broker sent something that is not MQTT: {error}"))
        if self.lost is not None:
            self._unwatch()
        return self.lost is None

    def _keep_alive(self) -> None:
        """Ping when idle (paho), and give up once 1.5 times the keepalive brought nothing."""
        keepalive = self._config.keepalive_s
        if self._loop.time() - self._heard >= 1.5 * keepalive:
            self.end(SinkOffline("the broker stopped answering"))
        if self.lost is None and self._step(self._client.loop_misc):
            self._watch()
            self._tick = self._loop.call_later(keepalive / 8, self._keep_alive)

    def check(self) -> None:
        """Raises the SinkError that ended the connection, if it has ended."""
        if self.lost is not None:
            raise self.lost

    def end(self, reason: SinkError) -> None:
        """The connection is over, for this reason; safe inside a callback of paho, unlike `close`."""
        if self.lost is not None:
            return
        self.lost = reason
        if self._tick is not None:
            self._tick.cancel()
        if not self._admitted.done():
            self._admitted.set_exception(reason)
            self._admitted.exception()  # marked as seen: open() may have timed out
        self._on_lost()

    # Called by paho

    def _connack(
        self,
        client: Client,
        userdata: Any,
        flags: ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if code.is_failure:
            self.end(words.of_connack(code.value))
            return
        self.receive_maximum = getattr(properties, "ReceiveMaximum", self.receive_maximum)
        self.maximum_packet = getattr(properties, "MaximumPacketSize", self.maximum_packet)
        if getattr(properties, "MaximumQoS", 1) == 0:
            self.end(words.of_connack(0x9B))
        elif not self._admitted.done():
            self._admitted.set_result(None)

    def _puback(
        self, client: Client, userdata: Any, mid: int, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._on_puback(mid, code.value)

    def _disconnected(
        self,
        client: Client,
        userdata: Any,
        flags: DisconnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._unwatch()
        if flags.is_disconnect_packet_from_server and code.is_failure:
            self.end(words.of_connack(code.value))
        elif not self._admitted.done():
            self.end(SinkRefused(_closed_early(self._config)))
        else:
            self.end(SinkOffline("the connection was lost"))


class _TidySocket(ssl.SSLSocket):
    """Closes itself where the handshake fails; paho would leave that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _closed_early(config: UpstreamMqttConfig) -> str:
    if config.tls:
        return "the broker closed the connection at once: does it ask for a client certificate (`cert_file`)?"
    return "the broker closed the connection at once: does this port expect TLS, or another `protocol`?"


def _new_client(config: UpstreamMqttConfig, client_id: str) -> Client:
    version = MQTTProtocolVersion.MQTTv5 if config.protocol == "5" else MQTTProtocolVersion.MQTTv311
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=version, reconnect_on_failure=False)
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.max_inflight_messages = 0  # the sink bounds them
    if config.username:
        client.username_pw_set(config.username, config.password or None)
    return client


def _tls_context(config: UpstreamMqttConfig) -> ssl.SSLContext:
    """Raises SinkRefused: a file does not serve."""
    context = client_context(config.ca_file, config.cert_file, config.key_file)
    context.sslsocket_class = _TidySocket
    return context


async def _in_thread(action: Callable[[], None], name: str) -> None:
    """Run `action` in a thread that a stopping gateway need not wait for: a name can take half a minute."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failure: Exception | None = None
        try:
            action()
        except Exception as error:  # top of a thread: handed to whoever waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile; nobody waits any more
            loop.call_soon_threadsafe(settle, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    await done
