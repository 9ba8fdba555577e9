"""One client that takes what it can get: the memory of the gateway stays bounded, and others are served meanwhile."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import V4, V5
from tests.hub.mqtt.whole import Whole, run, whole_server

ROOM_MB = 48  # what any of these may cost; the tail of the log, kept in memory, is in it
ROOM_LARGE_MB = 192  # with messages of 250 KB: some hundred are under way to the disk and to the history
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_server(tmp_path_factory.mktemp("whole")) as server:
        yield server


class Greedy:
    """Connections of one client; what the server says is read only where `drain` is called."""

    def __init__(self, server: Whole, held: contextlib.ExitStack) -> None:
        self.server = server
        self.topic = server.topic
        self._held = held

    def dial(self) -> socket.socket:
        return self._held.enter_context(
            socket.create_connection(("127.0.0.1", self.server.port()), timeout=PATIENCE_S)
        )

    def connected(self, version: int = V5, client_id: str = "greedy", thing: str = "a") -> socket.socket:
        user, password = self.server.key(thing)
        connection = self.dial()
        connection.sendall(wire.connect(version, client_id, user=user, password=password))
        assert connection.recv(4096)[0] == wire.CONNACK << 4
        return connection

    def send(self, connection: socket.socket, data: bytes) -> None:
        """As much as the server takes before it has had enough."""
        connection.settimeout(0.5)
        with contextlib.suppress(OSError):
            connection.sendall(data)

    def drain(self, connection: socket.socket) -> None:
        """Read until nothing more comes."""
        connection.settimeout(0.2)
        with contextlib.suppress(OSError):
            while connection.recv(1 << 16):
                pass


def half_open(greedy: Greedy) -> None:
    for _ in range(1500):
        greedy.dial()


def slow_connects(greedy: Greedy) -> None:
    for _ in range(300):
        greedy.send(greedy.dial(), b"\x10\xff\x3f\x00\x04MQ")


def huge_lengths(greedy: Greedy) -> None:
    for n in range(30):
        greedy.send(greedy.connected(client_id=f"h{n}"), b"\x30\xff\xff\xff\x7f" + bytes(100_000))


def many_subscriptions(greedy: Greedy) -> None:
    connection = greedy.connected()
    for start in range(0, 15_000, 1000):
        filters = [(f"{greedy.topic}/s{n}/+/#", 1) for n in range(start, start + 1000)]
        greedy.send(connection, wire.subscribe(V5, 1, filters))
        greedy.drain(connection)


def many_topics(greedy: Greedy) -> None:
    connection = greedy.connected()
    for start in range(0, 20_000, 500):
        wires = [
            wire.publish(V5, f"{greedy.topic}/t/{n}/x", b"x", retain=True) for n in range(start, start + 500)
        ]
        greedy.send(connection, b"".join(wires))


def many_user_properties(greedy: Greedy) -> None:
    props = [("user_property", ("k" * 10, "v" * 10))] * 9_000
    for n in range(10):
        connection = greedy.connected(client_id=f"u{n}")
        greedy.send(connection, wire.publish(V5, greedy.topic, b"x", 1, 1, props=props))


def aliases_of_long_topics(greedy: Greedy) -> None:
    for n in range(20):
        connection = greedy.connected(client_id=f"l{n}")
        for alias in range(1, 200):
            topic = f"{greedy.topic}/{'x' * 900}{alias}"
            greedy.send(connection, wire.publish(V5, topic, b"", props=[("topic_alias", alias)]))


def unanswered_pubrecs(greedy: Greedy) -> None:
    for version in (V4, V5):
        connection = greedy.connected(version, client_id=f"p{version}")
        wires = [wire.publish(version, greedy.topic, b"x" * 100, 2, n % 65_535 + 1) for n in range(20_000)]
        greedy.send(connection, b"".join(wires))


def never_reading(greedy: Greedy) -> None:
    """Subscribes to what it publishes, a hundred megabytes of it, and reads nothing."""
    connection = greedy.connected()
    greedy.send(connection, wire.subscribe(V5, 1, [(greedy.topic + "/#", 0)]))
    for _ in range(400):
        greedy.send(connection, wire.publish(V5, greedy.topic, bytes(250_000)))


def reconnecting(greedy: Greedy) -> None:
    """A new client id each time, each with a session that is to last for ever."""
    user, password = greedy.server.key("a")
    props = [("session_expiry_interval", 0xFFFFFFFF)]
    for n in range(500):
        with socket.create_connection(("127.0.0.1", greedy.server.port()), timeout=PATIENCE_S) as connection:
            hello = wire.connect(V5, f"r{n}", user=user, password=password, clean=False, props=props)
            connection.sendall(hello)
            connection.recv(100)


GREED: list[Callable[[Greedy], None]] = [
    half_open,
    slow_connects,
    huge_lengths,
    many_subscriptions,
    many_topics,
    many_user_properties,
    aliases_of_long_topics,
    unanswered_pubrecs,
    never_reading,
    reconnecting,
]


def rss_mb(server: Whole) -> float:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


@pytest.mark.parametrize("take", GREED, ids=lambda take: take.__name__)
def test_greed_is_bounded_and_others_are_served(server: Whole, take: Callable[[Greedy], None]) -> None:
    before = rss_mb(server)
    with contextlib.ExitStack() as held:
        take(Greedy(server, held))
        during = rss_mb(server)
        secure = [*server.login("b", "tls"), "--cafile", str(server.authority.cert), "-V", "mqttv5"]
        publish = ["mosquitto_pub", *secure, "-t", f"{server.topic}/other", "-m", "served", "-q", "1", "-r"]
        done = run(*publish)
        if take in (half_open, slow_connects):
            # Who has no CONNECT yet waits with the others of its kind: there is a bound, and a timeout of seconds.
            held.close()
            for _ in range(20):
                if done.returncode == 0:
                    break
                done = run(*publish)
        assert done.returncode == 0, done.stderr
        found = run("mosquitto_sub", *secure, "-t", f"{server.topic}/other", "-C", "1", "-W", "20")
        assert found.stdout == "served\n"
    assert during - before < (ROOM_LARGE_MB if take is never_reading else ROOM_MB)
