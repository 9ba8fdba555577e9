"""The sink against a broker that acknowledges as the test decides."""

import asyncio

import pytest

from gateway.upstream import mqtt, mqtt_link
from gateway.upstream.config import UpstreamMqttConfig
from gateway.upstream.errors import SinkOffline, SinkRefused
from gateway.upstream.mqtt import MqttSink, topic_for
from hub.message import TimeQuality

GATEWAY = "0102030405060708"


def sink_for(port: int, **settings) -> MqttSink:
    config = UpstreamMqttConfig(name="cloud", host="127.0.0.1", port=port, tls=False, **settings)
    return MqttSink(config, GATEWAY)


def nothing() -> None:
    pass


async def refused(broker, **settings) -> SinkRefused | SinkOffline:
    async with broker.serving():
        sink = sink_for(broker.port, **settings)
        with pytest.raises((SinkRefused, SinkOffline)) as caught:
            await sink.open(nothing)
        await sink.close()
        return caught.value


@pytest.mark.parametrize(
    ("subtopic", "topic"),
    [
        pytest.param("", "channels/c-1/messages", id="no subtopic, no slash at the end"),
        pytest.param("building.3.temp", "channels/c-1/messages/building/3/temp", id="dots become slashes"),
    ],
)
def test_topic_follows_the_channel_and_its_subtopic(message, subtopic: str, topic: str) -> None:
    config = UpstreamMqttConfig(name="cloud", host="h")
    assert topic_for(config, GATEWAY, message(1, channel="c-1", subtopic=subtopic)) == topic


def test_topic_template_and_prefix_are_the_users(message) -> None:
    config = UpstreamMqttConfig(
        name="c", host="h", topic="{gateway}/{publisher}/{protocol}", prefix="site 7/"
    )
    assert topic_for(config, GATEWAY, message(1)) == f"site 7/{GATEWAY}/device-1/lora"


def test_acknowledgements_out_of_order_count_from_the_front_without_a_gap(
    message, stub_broker, puback
) -> None:
    """Of 6 messages all but the third are acknowledged, in reverse, as the link breaks: 2 count."""

    async def main() -> None:
        broker = stub_broker()
        mids: list[int] = []

        def answer(index: int, mid: int) -> bytes:
            mids.append(mid)
            if index < 5:
                return b""
            asyncio.get_running_loop().call_later(0, broker.cut_after_flush)
            return b"".join(puback(mids[n]) for n in (5, 4, 3, 1, 0))

        broker.answer = answer
        async with broker.serving():
            sink = sink_for(broker.port)
            await sink.open(nothing)
            assert await sink.deliver([message(n, seq=n) for n in range(1, 7)]) == 2
            with pytest.raises(SinkOffline):
                await sink.deliver([message(3, seq=3)])
            await sink.close()

    asyncio.run(main())


def test_no_more_than_the_window_is_in_flight(message, stub_broker, puback, until) -> None:
    async def main() -> None:
        broker = stub_broker()
        held: list[int] = []
        broker.answer = lambda index, mid: held.append(mid) or b""
        async with broker.serving():
            sink = sink_for(broker.port, inflight=4)
            await sink.open(nothing)
            delivery = asyncio.create_task(sink.deliver([message(n, seq=n) for n in range(10)]))
            for _ in range(9):
                await until(lambda: held)
                assert len(held) <= 4
                broker.writer.write(puback(held.pop(0)))
            await until(lambda: len(broker.published) == 10)
            for mid in held:
                broker.writer.write(puback(mid))
            assert await delivery == 10
            await sink.close()

    asyncio.run(main())


def test_receive_maximum_of_the_broker_narrows_the_window(message, stub_broker, until) -> None:
    async def main() -> None:
        broker = stub_broker(connack=b"\x20\x06\x00\x00\x03\x21\x00\x07")  # MQTT 5.0, 3.2.2.3.3
        async with broker.serving():
            sink = sink_for(broker.port)
            await sink.open(nothing)
            delivery = asyncio.create_task(sink.deliver([message(n, seq=n) for n in range(20)]))
            await until(lambda: len(broker.published) == 7)
            broker.cut()
            with pytest.raises(SinkOffline):
                await delivery
            assert len(broker.published) == 7
            await sink.close()

    asyncio.run(main())


def test_a_message_above_the_brokers_maximum_is_counted_and_not_sent(message, stub_broker, puback) -> None:
    async def main() -> None:
        broker = stub_broker(connack=b"\x20\x08\x00\x00\x05\x27\x00\x00\x04\x00")  # MQTT 5.0, 3.2.2.3.6
        broker.answer = lambda index, mid: puback(mid)
        async with broker.serving():
            sink = sink_for(broker.port)
            await sink.open(nothing)
            batch = [message(1, seq=1), message(2, seq=2, payload=bytes(900)), message(3, seq=3)]
            assert await sink.deliver(batch) == 3
            assert sink.rejected == 1
            assert len(broker.published) == 2
            await sink.close()

    asyncio.run(main())


@pytest.mark.parametrize("reason", [0x90, 0x99])
def test_a_message_that_can_never_be_taken_is_counted_and_holds_nothing_up(
    message, stub_broker, puback, reason: int
) -> None:
    async def main() -> None:
        broker = stub_broker()
        broker.answer = lambda index, mid: puback(mid, reason if index == 1 else 0)
        async with broker.serving():
            sink = sink_for(broker.port)
            await sink.open(nothing)
            assert await sink.deliver([message(n, seq=n) for n in range(3)]) == 3
            assert sink.rejected == 1
            await sink.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("reason", "words"),
    [pytest.param(0x87, "publish to channels/", id="no right"), pytest.param(0x97, "quota", id="quota")],
)
def test_a_refused_message_is_not_delivered_and_says_why(message, stub_broker, puback, reason, words) -> None:
    async def main() -> None:
        broker = stub_broker()
        broker.answer = lambda index, mid: puback(mid, reason if index == 1 else 0)
        async with broker.serving():
            sink = sink_for(broker.port)
            await sink.open(nothing)
            assert await sink.deliver([message(n, seq=n) for n in range(3)]) == 1
            with pytest.raises(SinkRefused, match=words):
                await sink.deliver([message(1, seq=1)])
            assert sink.rejected == 0
            await sink.close()

    asyncio.run(main())


@pytest.mark.parametrize("reason", [0x80, 0x83, 0x87])
def test_a_topic_that_stays_refused_is_passed_over_once_patience_is_over(
    message, stub_broker, puback, reason
) -> None:
    async def main() -> None:
        broker = stub_broker()
        broker.answer = lambda index, mid: puback(mid, reason if b"theirs" in broker.published[index] else 0)
        async with broker.serving():
            sink = sink_for(broker.port, refusal_hold_s=0)
            passed_over = []
            sink.on_rejected = lambda each, why: passed_over.append((each.seq, why))
            await sink.open(nothing)
            names = ["mine", "theirs", "mine", "theirs"]
            batch = [message(n, seq=n, channel=name) for n, name in enumerate(names)]
            assert await sink.deliver(batch) == 4
            assert [seq for seq, _ in passed_over] == [1, 3]
            assert "channels/theirs" in passed_over[0][1] or "does not take" in passed_over[0][1]
            await sink.close()

    asyncio.run(main())


def test_a_quota_is_never_a_reason_to_pass_a_message_over(message, stub_broker, puback) -> None:
    async def main() -> None:
        broker = stub_broker()
        broker.answer = lambda index, mid: puback(mid, 0x97)
        async with broker.serving():
            sink = sink_for(broker.port, refusal_hold_s=0)
            await sink.open(nothing)
            with pytest.raises(SinkRefused, match="quota"):
                await sink.deliver([message(1, seq=1)])
            assert sink.rejected == 0
            await sink.close()

    asyncio.run(main())


def test_what_is_left_of_an_expiry_goes_on_and_is_never_nothing(message) -> None:
    def left(expiry_s, waited_s, **changes):
        return mqtt._left_s(message(0, **changes), expiry_s, message(0).created_ns + waited_s * 10**9)

    assert left(None, 5) is None
    known = {"time": TimeQuality.NTP}
    assert left(60, 15, **known) == 45
    assert left(60, 600, **known) == 1
    assert left(60, -600, **known) == 60
    assert left(60, 600, time=TimeQuality.UNSET) == 60


def test_keepalive_finds_a_black_hole(message, stub_broker, until, monkeypatch) -> None:
    """The broker acknowledges, then falls silent with the connection open: only time can tell."""

    async def main() -> None:
        broker = stub_broker()
        async with broker.serving():
            sink = sink_for(broker.port, keepalive_s=5)
            lost: list[bool] = []
            await sink.open(lambda: lost.append(True))
            broker.pongs = False
            loop = asyncio.get_running_loop()
            real = loop.time
            monkeypatch.setattr(sink._link, "_loop", AheadLoop(loop, real))
            sink._link._keep_alive()
            assert lost
            with pytest.raises(SinkOffline, match="stopped answering"):
                sink.check()
            await sink.close()

    asyncio.run(main())


class AheadLoop:
    """The running loop, eight seconds later."""

    def __init__(self, loop, real) -> None:
        self._loop, self._real = loop, real

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def time(self) -> float:
        return self._real() + 8.0


def test_a_broker_that_never_acknowledges_is_given_up(message, stub_broker, monkeypatch) -> None:
    monkeypatch.setattr(mqtt, "ACK_TIMEOUT_S", 0.05)

    async def main() -> None:
        broker = stub_broker()
        async with broker.serving():
            sink = sink_for(broker.port)
            await sink.open(nothing)
            with pytest.raises(SinkOffline, match="acknowledges none"):
                await sink.deliver([message(1, seq=1)])
            await sink.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "protocol", "kind", "words"),
    [
        pytest.param(0x86, "5", SinkRefused, "wrong user name or password", id="password, MQTT 5"),
        pytest.param(0x87, "5", SinkRefused, "does not admit", id="not authorised, MQTT 5"),
        pytest.param(0x84, "5", SinkRefused, "`protocol`", id="version, MQTT 5"),
        pytest.param(0x89, "5", SinkOffline, "busy", id="busy, MQTT 5"),
        pytest.param(1, "5", SinkRefused, "`protocol`", id="a 3.1.1 broker asked in MQTT 5"),
        pytest.param(2, "3.1.1", SinkRefused, "client id", id="client id, MQTT 3.1.1"),
        pytest.param(3, "3.1.1", SinkOffline, "not available", id="unavailable, MQTT 3.1.1"),
        pytest.param(4, "3.1.1", SinkRefused, "wrong user name or password", id="password, MQTT 3.1.1"),
        pytest.param(5, "3.1.1", SinkRefused, "does not admit", id="not authorised, MQTT 3.1.1"),
    ],
)
def test_a_refusing_broker_is_quoted_in_plain_words(stub_broker, code, protocol, kind, words) -> None:
    connack = (
        b"\x20\x02\x00" + bytes([code]) if protocol == "3.1.1" or code == 1 else b"\x20\x03\x00%c\x00" % code
    )
    error = asyncio.run(refused(stub_broker(connack=connack), protocol=protocol))
    assert isinstance(error, kind)
    assert words in error.words


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n", b"\x20\x01\x00", b"\x20\xff\xff\xff\xff\x01"]
)
def test_a_port_that_speaks_something_else_is_an_answer_not_a_crash(stub_broker, monkeypatch, answer) -> None:
    monkeypatch.setattr(mqtt_link, "OPEN_TIMEOUT_S", 0.3)  # the start of a packet may just need waiting
    assert asyncio.run(refused(stub_broker(connack=answer))).words


def test_nobody_listening_is_said_so(unused_port) -> None:
    async def main() -> None:
        sink = sink_for(unused_port)
        with pytest.raises(SinkOffline, match=f"nothing answers at 127.0.0.1 port {unused_port}"):
            await sink.open(nothing)
        await sink.close()

    asyncio.run(main())


def test_a_silent_port_is_given_up(stub_broker, monkeypatch) -> None:
    monkeypatch.setattr(mqtt_link, "OPEN_TIMEOUT_S", 0.1)
    assert "no answer" in asyncio.run(refused(stub_broker(connack=b""))).words


def test_a_ca_file_that_is_missing_is_named(unused_port, tmp_path) -> None:
    async def main() -> None:
        config = UpstreamMqttConfig(
            name="cloud", host="127.0.0.1", port=unused_port, ca_file=str(tmp_path / "none.pem")
        )
        sink = MqttSink(config, GATEWAY)
        with pytest.raises(SinkRefused, match=r"none\.pem"):
            await sink.open(nothing)
        await sink.close()

    asyncio.run(main())
