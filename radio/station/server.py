"""The thread around a `radio.station.client.Client`: discovery, the connection, and the way back to it.

A second thread reads the connection, because a blocking read cannot be woken; it only puts messages where the first
one finds them.
"""

import contextlib
import logging
import random
import ssl
import threading
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from radio.gwmp import RxPacket
from radio.seam import Clock
from radio.station import codec
from radio.station.client import MAX_WAITING, SECOND_NS, Client
from radio.station.credentials import Credentials, check_uri
from radio.station.errors import StationError
from radio.station.messages import MAX_MESSAGE, Discovery

log = logging.getLogger(__name__)

DISCOVERY_PATH: Final = "/router-info"
OPEN_S: Final = 10.0  # for a connection and its handshakes, and for an answer to the discovery
CLOSE_S: Final = 2.0
PING_S: Final = 20.0  # between pings, and for their answer: a dead server is noticed within 40 s
LOOK_S: Final = 1.0  # longest sleep, where time is not the machine's
MAX_INBOX: Final = 256  # messages of a server that wait; one that sends faster is left
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 300.0
SPREAD: Final = 0.5  # a wait is this part of its length at least
STEADY_NS: Final = 60 * SECOND_NS  # a connection that lasted is no reason to wait long for the next


class StationServer:
    """A `radio.servers.Server` that speaks the LNS protocol."""

    def __init__(
        self,
        core: Client,
        eui: bytes,
        uri: str,
        credentials: Credentials,
        clock: Clock,
        *,
        rng: random.Random | None = None,
    ) -> None:
        """Raises ValueError for an address that is none."""
        self.core = core
        self.name = core.name
        self._eui = eui
        self._uri = check_uri(uri)
        self._credentials = credentials
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._changed = threading.Condition()
        self._frames: deque[tuple[RxPacket, int]] = deque()  # with when they came
        self._sent: deque[int] = deque(maxlen=MAX_WAITING)
        self._inbox: deque[tuple[str | bytes, int]] = deque()
        self._ended = True  # the connection, by whichever side
        self._woken = False
        self._waits = 0  # in a row
        self._trouble = ""  # of the last attempt, in words

    # From any thread

    def frame(self, rx: RxPacket) -> None:
        """Hand over a frame; the oldest waiting one gives way where too many wait."""
        heard_ns = self._clock.now_ns()
        with self._changed:
            if len(self._frames) >= MAX_WAITING:
                self._frames.popleft()
                self.core.counters["frames_dropped"] += 1
            self._frames.append((rx, heard_ns))
            self._changed.notify_all()

    def sent(self, tx_id: int) -> None:
        """Report that a downlink has left."""
        with self._changed:
            self._sent.append(tx_id)
            self._changed.notify_all()

    def wake(self) -> None:
        """Make the thread look around."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing is left open once `run` has ended."""

    def status(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "kind": "station",
            "host": self._uri,
            "trouble": "" if self.core.connected else self._trouble,
            **self.core.status(self._clock.now_ns()),
        }

    # The thread

    def run(self, stop: threading.Event) -> None:
        """Connect, and connect again, until `stop`; whoever sets it calls `wake` as well."""
        while not stop.is_set():
            begun_ns = self._clock.now_ns()
            try:
                self._session(stop, self._discover())
            except (OSError, WebSocketException, StationError) as error:  # TimeoutError is an OSError
                self._trouble = _words(error)
                self.core.counters["connections_failed"] += 1
                self.core.say(self._clock.now_ns(), "unreachable", "%s: %s", self._uri, self._trouble)
            if self._clock.now_ns() - begun_ns > STEADY_NS:
                self._waits = 0
            self._wait(stop)

    def _discover(self) -> str:
        """Ask where to connect. Raises StationError where the server says no."""
        with self._connect(self._uri + DISCOVERY_PATH) as socket:
            socket.send(codec.encode_discovery(Discovery(self._eui)))
            answer = codec.decode_discovery_answer(socket.recv(timeout=OPEN_S))
        if answer.error:
            raise StationError(f"it does not take this gateway: {answer.error}")
        try:
            check_uri(answer.uri)
        except ValueError as error:
            raise StationError(f"it sends us to an address that is none: {error}") from None
        if urlsplit(answer.uri).scheme != urlsplit(self._uri).scheme:
            raise StationError(f"it sends us from {self._uri} to {answer.uri[:100]}: with TLS or without?")
        return answer.uri

    def _connect(self, uri: str) -> ClientConnection:
        return connect(
            uri,
            ssl=self._credentials.context() if uri.startswith("wss:") else None,
            additional_headers=self._credentials.headers(),
            compression=None,
            proxy=None,
            open_timeout=OPEN_S,
            close_timeout=CLOSE_S,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            max_size=MAX_MESSAGE,
            logger=log,
        )

    def _session(self, stop: threading.Event, uri: str) -> None:
        """One connection, from its begin to its end; raises what ended it."""
        with self._connect(uri) as socket:
            self.core.counters["connections"] += 1
            with self._changed:
                self._inbox.clear()
                self._ended = False
            name = f"server {self.name} reader"
            reader = threading.Thread(target=self._read, args=(socket,), name=name, daemon=True)
            reader.start()
            try:
                self._send(socket, self.core.on_open(self._clock.now_ns()))
                while not stop.is_set() and not self._ended:
                    self._turn(socket)
                    self._sleep(stop)
            finally:
                self.core.on_close(self._clock.now_ns())
                socket.close()
                reader.join(OPEN_S)
        if not stop.is_set():
            reason = f", {socket.close_reason}" if socket.close_reason else ""
            raise StationError(f"the connection has ended (code {socket.close_code}{reason})")

    def _read(self, socket: ClientConnection) -> None:
        """Runs in a thread of its own, until the connection ends."""
        with contextlib.suppress(WebSocketException, OSError):
            for text in socket:
                now_ns = self._clock.now_ns()
                with self._changed:
                    if len(self._inbox) >= MAX_INBOX:
                        self.core.counters["messages_too_many"] += 1
                        break
                    self._inbox.append((text, now_ns))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _turn(self, socket: ClientConnection) -> None:
        with self._changed:
            frames, self._frames = self._frames, deque()
            inbox, self._inbox = self._inbox, deque()
            sent = [self._sent.popleft() for _ in range(len(self._sent))]
            self._woken = False
        for text, heard_ns in inbox:
            self._send(socket, self.core.on_message(text, heard_ns))
        for rx, heard_ns in frames:
            self.core.on_frame(rx, heard_ns)
        for tx_id in sent:
            self._send(socket, self.core.on_sent(tx_id))
        self._send(socket, self.core.on_time(self._clock.now_ns()))

    def _send(self, socket: ClientConnection, texts: list[str]) -> None:
        for text in texts:
            socket.send(text)

    def _sleep(self, stop: threading.Event) -> None:
        """Until something comes, or is due."""
        due_ns = self.core.next_deadline()
        wait_s = LOOK_S if due_ns is None else min(max(0, due_ns - self._clock.now_ns()) / SECOND_NS, LOOK_S)
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._woken or self._ended or self._frames or self._inbox or self._sent or stop.is_set()
                ),
                wait_s,
            )

    def _wait(self, stop: threading.Event) -> None:
        """Before the next attempt: longer each time, and not in step with the neighbours."""
        longest_s = min(FIRST_WAIT_S * 2**self._waits, LONGEST_WAIT_S)
        self._waits = min(self._waits + 1, 10)
        with self._changed:
            self._changed.wait_for(stop.is_set, longest_s * self._rng.uniform(SPREAD, 1))


def _words(error: Exception) -> str:
    """What has gone wrong, and how to mend it."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        hint = "; is the token or certificate right?" if status in (401, 403) else ""
        return f"it answers with HTTP status {status}{hint}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; see ca_file"
    return str(error) or type(error).__name__
