"""paho-mqtt and aiomqtt against the hub in a process of its own: both versions, all QoS, kills and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import ssl
from collections.abc import Iterator
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.hub.mqtt.whole import PATIENCE_S, Whole, whole_server

V4, V5 = paho.MQTTv311, paho.MQTTv5
_names = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_server(tmp_path_factory.mktemp("whole")) as server:
        yield server


@pytest.fixture
def topic(server: Whole) -> str:
    return f"{server.topic}/p{next(_names)}"


@pytest.fixture(params=[pytest.param(V4, id="3.1.1"), pytest.param(V5, id="5.0")])
def version(request: pytest.FixtureRequest) -> int:
    level: int = request.param
    return level


def properties(packet: int, **values: Any) -> Properties:
    found = Properties(packet)
    for name, value in values.items():
        setattr(found, name, value)
    return found


class Paho:
    """A paho client whose callbacks end in queues."""

    def __init__(
        self,
        server: Whole,
        thing: str,
        client_id: str = "",
        *,
        version: int = V5,
        kept: bool = False,
        way: str = "tcp",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.granted: queue.Queue[list[int]] = queue.Queue()
        self.connected: queue.Queue[tuple[int, bool]] = queue.Queue()
        self.published: queue.Queue[tuple[int, int]] = queue.Queue()
        self.ended: queue.Queue[int] = queue.Queue()
        self.version, self.kept = version, kept
        clean = {"clean_session": not kept} if version == V4 else {}
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            transport="websockets" if way == "ws" else "tcp",
            **clean,  # type: ignore[arg-type]
        )
        if way == "ws":
            self.client.ws_set_options("/mqtt")
        if tls is not None:
            self.client.tls_set_context(tls)
        if thing != "certified":
            self.client.username_pw_set(*server.key(thing))
        self.client.on_connect = lambda _c, _u, flags, code, _p: self.connected.put(
            (code.value, flags.session_present)
        )
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.granted.put([c.value for c in codes])
        self.client.on_publish = lambda _c, _u, mid, code, _p: self.published.put((mid, code.value))
        self.client.on_disconnect = lambda _c, _u, _f, code, _p: self.ended.put(code.value)
        self.port = server.port(way)

    def __enter__(self) -> Paho:
        more: dict[str, Any] = {}
        if self.version == V5:
            expiry = properties(PacketTypes.CONNECT, SessionExpiryInterval=3600) if self.kept else None
            more = {"clean_start": not self.kept, "properties": expiry}
        self.client.connect("127.0.0.1", self.port, **more)
        self.client.loop_start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, topic: str, qos: int = 1, **more: Any) -> list[int]:
        self.client.subscribe(topic, qos, **more) if more else self.client.subscribe(topic, qos)
        return self.granted.get(timeout=PATIENCE_S)

    def publish(self, topic: str, payload: bytes, qos: int = 1, **more: Any) -> int:
        """Waits for the end of the exchange; the reason code."""
        mid = self.client.publish(topic, payload, qos, **more).mid
        done, code = self.published.get(timeout=PATIENCE_S)
        assert done == mid
        return code

    def next(self) -> paho.MQTTMessage:
        return self.messages.get(timeout=PATIENCE_S)


def told(client: Paho, topic: str) -> list[bytes]:
    """The payloads that come before a message of its own, which ends the wait."""
    with contextlib.suppress(queue.Empty):
        while True:
            client.published.get_nowait()
    client.subscribe(topic + "/end", 1)
    client.publish(topic + "/end", b"end")
    seen = []
    while (message := client.next()).payload != b"end":
        seen.append(message.payload)
    return seen


@pytest.mark.parametrize("way", ["tcp", "ws"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_of_every_qos(server: Whole, topic: str, version: int, qos: int, way: str) -> None:
    with (
        Paho(server, "a", version=version, way=way) as a,
        Paho(server, "b", version=V5 if version == V4 else V4, way=way) as b,
    ):
        assert b.subscribe(topic + "/+", 2) == [2]
        for size in (0, 1, 1000, 200_000):
            a.publish(f"{topic}/{size}", bytes(size), qos)
            message = b.next()
            assert (message.topic, len(message.payload), message.qos, message.retain) == (
                f"{topic}/{size}",
                size,
                qos,
                False,
            )


def test_retained_messages_and_the_will(server: Whole, topic: str, version: int) -> None:
    with Paho(server, "a", version=version) as a:
        a.publish(topic, b"on", retain=True)
    with Paho(server, "b", version=version) as b:
        b.subscribe(topic)
        message = b.next()
        assert (message.payload, message.retain) == (b"on", True)
        lost = Paho(server, "a", version=version)
        lost.client.will_set(topic, b"off", 1, retain=True)
        with lost:
            lost.connected.get(timeout=PATIENCE_S)
            socket = lost.client.socket()
            lost.client.on_disconnect = lambda client, *_: client.loop_stop()
            lost.client.reconnect_delay_set(60, 60)
            socket.shutdown(2)
            message = b.next()
            assert (message.payload, message.retain) == (b"off", False)
    with Paho(server, "b", version=version) as late:
        late.subscribe(topic)
        assert late.next().payload == b"off"


def test_a_session_survives_the_death_of_the_gateway(server: Whole, topic: str, version: int) -> None:
    name = f"keeper-{version}"
    with Paho(server, "b", name, version=version, kept=True) as b:
        b.subscribe(topic, 2)
    with Paho(server, "a", version=version) as a:
        for n in range(50):
            a.publish(topic, b"%d" % n, 1 + n % 2)
        server.kill()
        server.start()
        assert a.connected.get(timeout=PATIENCE_S)[0] == 0
        assert a.connected.get(timeout=PATIENCE_S)[0] == 0  # it has come back by itself
        for n in range(50, 60):
            a.publish(topic, b"%d" % n, 1 + n % 2)
    with Paho(server, "b", name, version=version, kept=True) as b:
        assert b.connected.get(timeout=PATIENCE_S) == (0, True)
        found = [b.next() for _ in range(60)]
        for qos in (
            1,
            2,
        ):  # the client hands over QoS 2 at the end of its exchange, so order holds within a QoS
            numbers = [int(message.payload) for message in found if message.qos == qos]
            assert numbers == list(range(qos - 1, 60, 2))
        assert told(b, topic) == []
    with Paho(server, "b", name, version=version) as b:  # negative control: a clean start has nothing
        assert b.connected.get(timeout=PATIENCE_S) == (0, False)
        assert told(b, topic) == []


def test_qos_2_arrives_once_through_lost_connections_and_a_kill(
    server: Whole, topic: str, version: int
) -> None:
    with (
        Paho(server, "b", f"two-{version}", version=version, kept=True) as b,
        Paho(server, "a", f"sender-{version}", version=version, kept=True) as a,
    ):
        b.subscribe(topic, 2)
        a.connected.get(timeout=PATIENCE_S)
        for n in range(150):
            a.client.publish(topic, b"%d" % n, 2)
            if n in (30, 90):
                for client in (a, b):
                    with contextlib.suppress(AttributeError, OSError):  # it is reconnecting already
                        client.client.socket().shutdown(2)
            elif n == 60:
                server.kill()
                server.start()
        got = [b.next().payload for _ in range(150)]
        for _ in range(150):
            a.published.get(timeout=PATIENCE_S)
        assert sorted(got, key=int) == [b"%d" % n for n in range(150)]
        assert b.messages.empty()


def test_all_properties_of_a_message(server: Whole, topic: str) -> None:
    users = [("b", "1"), ("a", "2"), ("b", "3")]
    sent = properties(
        PacketTypes.PUBLISH,
        PayloadFormatIndicator=1,
        MessageExpiryInterval=600,
        ContentType="text/plain",
        ResponseTopic="answers",
        CorrelationData=b"\x00\xff",
        UserProperty=users,
    )
    with Paho(server, "a") as a, Paho(server, "b") as b:
        identified = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=77)
        b.subscribe(topic, 2, properties=identified)
        a.publish(topic, b"x", 2, properties=sent)
        found = b.next().properties
        assert found.PayloadFormatIndicator == 1
        assert 590 <= found.MessageExpiryInterval <= 600
        assert found.ContentType == "text/plain"
        assert found.ResponseTopic == "answers"
        assert found.CorrelationData == b"\x00\xff"
        assert found.SubscriptionIdentifier == [77]
        assert [pair for pair in found.UserProperty if pair in users] == users


def test_who_published_stands_beside_the_message(server: Whole, topic: str) -> None:
    """What the sender claims does not count."""
    claim = properties(PacketTypes.PUBLISH, UserProperty=[("publisher", "somebody else")])
    with Paho(server, "a") as a, Paho(server, "b") as b:
        b.subscribe(topic)
        a.publish(topic, b"x", properties=claim)
        pairs = b.next().properties.UserProperty
        thing = server.key("a")[0]
        # The last of each name counts: the server's stand behind the publisher's
        told_by_server = dict(pairs)
        assert told_by_server["publisher"] == thing
        assert told_by_server["protocol"] == "mqtt"
        assert {"seq", "created_ns"} <= told_by_server.keys()


def test_aliases_of_both_sides(server: Whole, topic: str) -> None:
    with Paho(server, "a") as a, Paho(server, "b") as b:
        b.subscribe(topic)
        alias = properties(PacketTypes.PUBLISH, TopicAlias=3)
        for _ in range(3):
            a.publish(topic, b"x", properties=alias)
            assert b.next().topic == topic
        a.publish("", b"by alias", properties=alias)
        message = b.next()
        assert (message.topic, message.payload) == (topic, b"by alias")


def test_subscription_options(server: Whole, topic: str) -> None:
    with Paho(server, "a") as a, Paho(server, "b") as b:
        a.publish(topic, b"kept", retain=True)
        none = SubscribeOptions(
            qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND, retainAsPublished=True
        )
        b.client.subscribe([(topic, none)])
        assert b.granted.get(timeout=PATIENCE_S) == [1]
        a.publish(topic, b"live", retain=True)
        message = b.next()
        assert (message.payload, message.retain) == (b"live", True)
        a.client.subscribe([(topic, SubscribeOptions(qos=1, noLocal=True, retainHandling=2))])
        assert a.granted.get(timeout=PATIENCE_S) == [1]
        a.publish(topic, b"own")
        assert b.next().payload == b"own"
        b.publish(topic, b"of b")
        assert a.next().payload == b"of b"


def test_shared_subscriptions(server: Whole, topic: str) -> None:
    with Paho(server, "b") as one, Paho(server, "b") as two, Paho(server, "a") as a:
        for client in (one, two):
            assert client.subscribe(f"$share/g/{topic}") == [1]
        for n in range(40):
            a.publish(topic, b"%d" % n)
        halves = [told(client, f"{topic}/{name}") for client, name in ((one, "1"), (two, "2"))]
        assert sorted(halves[0] + halves[1], key=int) == [b"%d" % n for n in range(40)]
        assert all(halves)


def test_refusals_have_their_reasons(server: Whole, topic: str) -> None:
    with Paho(server, "stranger") as stranger:
        assert stranger.connected.get(timeout=PATIENCE_S) == (0, False)
        assert stranger.publish(topic, b"x", 1) == 0x87
        # This client sends PUBREL for a refused message too, and reports what that is answered with.
        assert stranger.publish(topic, b"x", 2) in (0x87, 0x92)
        assert stranger.subscribe(topic)[0] >= 0x80
        assert stranger.subscribe("#")[0] >= 0x80
        assert stranger.subscribe("$SYS/#")[0] >= 0x80
    wrong = Paho(server, "a")
    wrong.client.username_pw_set(server.key("a")[0], "a key nobody has, long")
    with wrong:
        assert wrong.connected.get(timeout=PATIENCE_S)[0] in (0x86, 0x87)


def test_a_takeover_is_told(server: Whole, topic: str) -> None:
    first = Paho(server, "a", "the same")
    first.client.reconnect_delay_set(60, 60)
    with first:
        assert first.connected.get(timeout=PATIENCE_S)[0] == 0
        with Paho(server, "a", "the same") as second:
            assert second.connected.get(timeout=PATIENCE_S)[0] == 0
            assert first.ended.get(timeout=PATIENCE_S) == 0x8E
            assert second.publish(topic, b"x") in (0, 0x10)


def test_tls_with_a_client_certificate(server: Whole, topic: str, version: int) -> None:
    pair = server.authority.issue("certified-1")
    context = ssl.create_default_context(cafile=str(server.authority.cert))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    bare = ssl.create_default_context(cafile=str(server.authority.cert))
    bare.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(pair.cert, pair.key)
    with (
        Paho(server, "certified", version=version, way="mutual", tls=context) as certified,
        Paho(server, "b", version=version, way="tls", tls=bare) as b,
    ):
        assert certified.connected.get(timeout=PATIENCE_S)[0] == 0
        b.subscribe(topic)
        certified.publish(topic, b"sealed")
        assert b.next().payload == b"sealed"
    refused = Paho(server, "b", version=version, way="mutual", tls=bare)  # the key alone is not enough here
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        refused.client.connect("127.0.0.1", refused.port)
        while refused.client.loop(1) == paho.MQTT_ERR_SUCCESS:
            pass
    assert refused.connected.empty()


def test_an_administrator_sees_what_the_server_tells(server: Whole, topic: str, version: int) -> None:
    with Paho(server, "admin", version=version) as admin, Paho(server, "a", version=version) as a:
        assert admin.subscribe("$SYS/#", 0) == [0]
        assert admin.next().topic.startswith("$SYS/")
        assert a.subscribe("$SYS/#", 0)[0] >= 0x80
        assert admin.subscribe(topic, 1) == [1]
        a.publish(topic, b"x")
        while (message := admin.next()).topic.startswith("$SYS/"):
            pass
        assert message.payload == b"x"


# aiomqtt


@pytest.mark.parametrize("level", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
def test_aiomqtt_meets_itself(server: Whole, topic: str, level: aiomqtt.ProtocolVersion) -> None:
    def client(thing: str) -> aiomqtt.Client:
        user, key = server.key(thing)
        return aiomqtt.Client("127.0.0.1", server.port(), username=user, password=key, protocol=level)

    async def main() -> None:
        async with client("a") as a, client("b") as b:
            await b.subscribe(topic + "/#", qos=2)
            for n in range(30):
                await a.publish(f"{topic}/{n}", b"%d" % n, qos=n % 3)
            seen = []
            async with asyncio.timeout(PATIENCE_S):
                async for message in b.messages:
                    seen.append((str(message.topic), message.payload, message.qos))
                    if len(seen) == 30:
                        break
            assert sorted(seen) == sorted((f"{topic}/{n}", b"%d" % n, n % 3) for n in range(30))
            answer = await b.subscribe("channels/elsewhere/messages")
            assert int(getattr(answer[0], "value", answer[0])) >= 0x80

    asyncio.run(main())
