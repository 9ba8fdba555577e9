"""Independent clients judge the server: paho-mqtt and mosquitto's, also while the hub is killed."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.hub.mqtt.alone import Server
from tests.hub.mqtt.whole import PATIENCE_S, listening, run

HERE = Path(__file__).parent
both_versions = pytest.mark.parametrize(
    "version", [pytest.param(paho.MQTTv311, id="3.1.1"), pytest.param(paho.MQTTv5, id="5.0")]
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    server.start()
    yield server
    server.kill()


class Paho:
    """A paho client whose callbacks end in queues."""

    def __init__(
        self,
        server: Server,
        thing: str,
        client_id: str = "",
        *,
        clean: bool = True,
        version: int = paho.MQTTv311,
    ) -> None:
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.granted: queue.Queue[list[int]] = queue.Queue()
        self.connected: queue.Queue[tuple[int, bool]] = queue.Queue()
        self.published: queue.Queue[int] = queue.Queue()
        self.how: dict[str, Any] = {}
        if version == paho.MQTTv5:
            kept = Properties(PacketTypes.CONNECT)
            kept.SessionExpiryInterval = 0 if clean else 3600
            self.how = {"clean_start": clean, "properties": kept}
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if version == paho.MQTTv5 else clean,
            protocol=version,
        )
        self.client.username_pw_set(*server.facts[thing])
        self.client.on_connect = lambda _c, _u, flags, code, _p: self.connected.put(
            (code.value, flags.session_present)
        )
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.granted.put([c.value for c in codes])
        self.client.on_publish = lambda _c, _u, mid, _r, _p: self.published.put(mid)
        self.may_return = threading.Event()  # after a loss of the connection
        self.may_return.set()
        self.client.on_disconnect = lambda *_: self.may_return.wait(PATIENCE_S)
        self.port = server.facts["port"]

    def __enter__(self) -> Paho:
        self.client.connect("127.0.0.1", self.port, **self.how)
        self.client.loop_start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, topic: str, qos: int) -> list[int]:
        self.client.subscribe(topic, qos)
        return self.granted.get(timeout=PATIENCE_S)


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto_clients_exchange_messages_at_every_qos(server: Server, qos: str) -> None:
    with listening(*server.login("b"), "-t", f"{server.topic}/#", "-q", qos, "-C", "2") as lines:
        for text in ("one", "two"):
            done = run("mosquitto_pub", *server.login("a"), "-t", f"{server.topic}/x", "-m", text, "-q", qos)
            assert done.returncode == 0, done.stderr
        seen = list(lines)
    assert [line for line in seen if line in ("one", "two")] == ["one", "two"]
    assert sum(f"q{qos}, r0" in line and "received PUBLISH" in line for line in seen) == 2


def test_mosquitto_pub_is_told_why_it_may_not_come_in(server: Server) -> None:
    login = server.login("a")
    done = run("mosquitto_pub", *login[:-1], "a key nobody has, long", "-t", server.topic, "-m", "x")
    assert done.returncode == 4
    assert "bad user name or password" in (done.stderr + done.stdout)
    done = run("mosquitto_pub", *login[:4], "-t", server.topic, "-m", "x")
    assert done.returncode == 5
    done = run("mosquitto_sub", *server.login("a"), "-t", "channels/elsewhere/messages", "-C", "1")
    assert "All subscription requests were denied" in done.stderr
    done = run("mosquitto_pub", *login, "-t", server.topic, "-m", "x", "-V", "31")
    assert done.returncode == 1
    assert "unacceptable protocol version" in (done.stderr + done.stdout)


def test_retained_message_and_will_reach_mosquitto_sub(server: Server) -> None:
    topic = f"{server.topic}/state"
    done = run("mosquitto_pub", *server.login("a"), "-t", topic, "-m", "on", "-q", "1", "-r")
    assert done.returncode == 0
    done = run("mosquitto_sub", *server.login("b"), "-t", topic, "-C", "1", "-F", "%r %q %p", "-q", "1")
    assert done.stdout == "1 1 on\n"
    will = ["--will-topic", topic, "--will-payload", "off", "--will-qos", "1", "--will-retain"]
    with listening(*server.login("a"), "-t", server.topic, *will):
        pass
    with Paho(server, "b") as b:
        b.subscribe(topic, 1)
        while (message := b.messages.get(timeout=PATIENCE_S)).payload != b"off":
            assert message.payload == b"on"


@both_versions
def test_paho_exchanges_every_qos_and_sees_a_denied_subscription(server: Server, version: int) -> None:
    with Paho(server, "a", version=version) as a, Paho(server, "b", version=version) as b:
        assert b.connected.get(timeout=PATIENCE_S) == (0, False)
        assert b.subscribe(f"{server.topic}/+/temp", 2) == [2]
        denied = 0x87 if version == paho.MQTTv5 else 0x80
        assert b.subscribe("channels/elsewhere/messages", 1) == [denied]
        for qos in (0, 1, 2):
            a.client.publish(f"{server.topic}/r{qos}/temp", b"%d" % qos, qos).wait_for_publish(PATIENCE_S)
            message = b.messages.get(timeout=PATIENCE_S)
            assert (message.topic, message.payload, message.qos, message.retain) == (
                f"{server.topic}/r{qos}/temp",
                b"%d" % qos,
                qos,
                False,
            )


@both_versions
def test_qos_2_arrives_exactly_once_through_lost_connections(server: Server, version: int) -> None:
    with (
        Paho(server, "b", "keeper", clean=False, version=version) as b,
        Paho(server, "a", "sender", clean=False, version=version) as a,
    ):
        b.subscribe(server.topic, 2)
        a.connected.get(timeout=PATIENCE_S)
        for n in range(200):
            a.client.publish(server.topic, b"%d" % n, 2)
            if n % 50 == 25:
                for client in (a, b):
                    with contextlib.suppress(AttributeError, OSError):  # it is reconnecting already
                        client.client.socket().shutdown(2)
        got = [b.messages.get(timeout=PATIENCE_S).payload for _ in range(200)]
        for _ in range(200):
            a.published.get(timeout=PATIENCE_S)
        assert sorted(got, key=int) == [b"%d" % n for n in range(200)]
        assert b.messages.empty()


@both_versions
def test_kept_session_and_what_was_acknowledged_survive_kill_9_under_load(
    server: Server, version: int
) -> None:
    """Five times: publish at QoS 1, kill the hub in the middle, start it, and look for what was acknowledged."""
    with Paho(server, "b", "keeper", clean=False, version=version) as b:
        b.subscribe(server.topic, 1)
    acknowledged: set[bytes] = set()
    for round_ in range(5):
        acknowledged |= publish_until_killed(server, round_, version)
        server.start()
    assert len(acknowledged) > 5 * 50
    seen: set[bytes] = set()
    with Paho(server, "b", "keeper", clean=False, version=version) as b:
        assert b.connected.get(timeout=PATIENCE_S) == (0, True)
        with contextlib.suppress(queue.Empty):
            while not acknowledged <= seen:
                seen.add(b.messages.get(timeout=PATIENCE_S).payload)
    assert acknowledged - seen == set()


def publish_until_killed(server: Server, round_: int, version: int) -> set[bytes]:
    """Publish as fast as acknowledgements come; after 100 of them the hub is killed in mid-flight."""
    client = Paho(server, "a", version=version)
    sent: dict[int, bytes] = {}
    acknowledged: set[bytes] = set()
    enough, gone = threading.Event(), threading.Event()

    def on_publish(_c: Any, _u: Any, mid: int, _r: Any, _p: Any) -> None:
        acknowledged.add(sent[mid])
        if len(acknowledged) >= 100:
            enough.set()

    client.client.on_publish = on_publish
    client.client.on_disconnect = lambda *_: gone.set()
    client.client.max_inflight_messages_set(0)
    client.client.connect("127.0.0.1", client.port, **client.how)
    for n in range(2000):
        payload = b"%d/%d" % (round_, n)
        # Without the network thread running yet, so that `sent` knows each id before its answer comes.
        sent[client.client.publish(server.topic, payload, 1).mid] = payload
    client.client.loop_start()
    assert enough.wait(PATIENCE_S)
    server.kill()
    assert gone.wait(PATIENCE_S)
    client.client.loop_stop()
    return acknowledged


@both_versions
def test_sessions_survive_kill_9_with_qos_2_in_both_directions(server: Server, version: int) -> None:
    """Whatever is half done when the hub is killed is completed afterwards, once."""
    with (
        Paho(server, "b", "keeper", clean=False, version=version) as b,
        Paho(server, "a", "sender", clean=False, version=version) as a,
    ):
        b.subscribe(server.topic, 2)
        for n in range(150):
            a.client.publish(server.topic, b"%d" % n, 2)
        for _ in range(20):
            a.published.get(timeout=PATIENCE_S)
        # paho forgets over a second failed attempt to connect that it had sent PUBREL, and publishes anew
        a.may_return.clear()
        server.kill()
        server.start()
        a.may_return.set()
        for _ in range(130):
            a.published.get(timeout=PATIENCE_S)
        got = [b.messages.get(timeout=PATIENCE_S).payload for _ in range(150)]
        assert sorted(got, key=int) == [b"%d" % n for n in range(150)]
        assert b.messages.empty()


def test_shared_subscription_loses_nothing_acknowledged_through_kill_9(server: Server) -> None:
    """Two kept members of one group: what was acknowledged arrives at one of them, at least once."""
    group = f"$share/g/{server.topic}"
    for name in ("m1", "m2"):
        with Paho(server, "b", name, clean=False, version=paho.MQTTv5) as member:
            assert member.subscribe(group, 1) == [1]
    acknowledged: set[bytes] = set()
    taken: list[queue.Queue[paho.MQTTMessage]] = []
    for round_ in range(3):
        with Paho(server, "b", "m1", clean=False, version=paho.MQTTv5) as member:
            acknowledged |= publish_until_killed(server, round_, paho.MQTTv5)
            server.start()
        taken.append(member.messages)
    with (
        Paho(server, "b", "m1", clean=False, version=paho.MQTTv5) as one,
        Paho(server, "b", "m2", clean=False, version=paho.MQTTv5) as two,
    ):
        taken += [one.messages, two.messages]
        missing = set(acknowledged)
        deadline = time.monotonic() + PATIENCE_S
        while missing and time.monotonic() < deadline:
            for messages in taken:
                with contextlib.suppress(queue.Empty):
                    missing.discard(messages.get(timeout=0.001).payload)
    assert missing == set()
