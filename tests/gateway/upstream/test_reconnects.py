"""A thousand connections to a broker that misbehaves in every way a line or a broker can."""

import asyncio
import random
from collections import defaultdict

import pytest

from gateway.upstream import mqtt, mqtt_link
from gateway.upstream.backoff import Backoff
from gateway.upstream.config import UpstreamMqttConfig
from gateway.upstream.mqtt import MqttSink
from gateway.upstream.relay import Relay
from hub.log import Log

CONNECTIONS = 1000
BUSY = b"\x20\x03\x00\x89\x00"  # CONNACK, server busy (MQTT 5.0, 3.2.2.2)
WELCOME = b"\x20\x03\x00\x00\x00"


class EvilBroker:
    """Decides anew for each connection what goes wrong, and after how many messages."""

    FAULTS = ("busy", "mute", "black hole", "cut", "acknowledge and cut", "half a packet", "close")

    def __init__(self, stub, puback, rng: random.Random) -> None:
        self.stub = stub
        self.good = False
        self.acknowledged: set[int] = set()  # index into stub.published
        self._puback = puback
        self._rng = rng
        self._fault = ""
        self._left = 0
        self.suffered: defaultdict[str, int] = defaultdict(int)
        stub.answer = self.answer
        self.draw()

    def draw(self) -> None:
        """What the next connection is in for."""
        self._fault = "" if self.good else self._rng.choice(self.FAULTS)
        self._left = self._rng.randrange(6)
        self.stub.connack = {"busy": BUSY, "mute": b""}.get(self._fault, WELCOME)
        self.suffered[self._fault] += 1

    def answer(self, index: int, mid: int) -> bytes:
        if self.good or self._left > 0:
            self._left -= 1
            self.acknowledged.add(index)
            return self._puback(mid)
        loop = asyncio.get_running_loop()
        match self._fault:
            case "cut":
                self.stub.cut()
            case "acknowledge and cut":
                self.acknowledged.add(index)
                loop.call_soon(self.stub.cut_after_flush)
                return self._puback(mid)
            case "half a packet":
                loop.call_soon(self.stub.cut_after_flush)
                return self._puback(mid)[:2]
            case "close":
                loop.call_soon(self.stub.cut_after_flush)
        return b""  # a black hole goes on like this


def test_a_thousand_broken_connections_lose_nothing_and_keep_each_devices_order(
    tmp_path, message, stub_broker, puback, running, until, monkeypatch
) -> None:
    monkeypatch.setattr(mqtt, "ACK_TIMEOUT_S", 0.02)
    monkeypatch.setattr(mqtt_link, "OPEN_TIMEOUT_S", 0.05)

    async def main() -> None:
        stub = stub_broker()
        evil = EvilBroker(stub, puback, random.Random(20))
        log = Log.open(tmp_path / "log.db")
        async with stub.serving():
            config = UpstreamMqttConfig(name="cloud", host="127.0.0.1", port=stub.port, tls=False, inflight=8)
            sink = MqttSink(config, "0102030405060708")
            opening = sink.open

            async def open_and_draw(on_lost) -> None:
                evil.draw()
                await opening(on_lost)

            sink.open = open_and_draw
            relay = Relay(log, sink, backoff=Backoff(base_s=0.001, cap_s=0.001, patient_after_s=1e9))
            sent = 0
            async with running(relay):
                while stub.connections < CONNECTIONS:
                    if relay.status().queued < 50:
                        batch = [
                            message(sent + k, device=f"d-{k % 3}", channel=f"c-{k % 3}") for k in range(30)
                        ]
                        await log.append(batch)
                        sent += 30
                    await asyncio.sleep(0.01)
                monkeypatch.undo()  # what comes now may take its time on a busy machine
                evil.good = True
                evil.draw()
                stub.cut()
                await until(lambda: log.cursor("upstream/cloud") == log.committed_seq)
                assert (relay.status().rejected, relay.status().missed) == (0, 0)
        payloads = [body[body.rindex(b"d-") :] for body in stub.published]
        acknowledged = {payloads[index] for index in evil.acknowledged}
        assert len(acknowledged) == sent
        firsts = list(dict.fromkeys(payloads))
        of_device = defaultdict(list)
        for payload in firsts:
            device, n = payload.split()
            of_device[device].append(int(n))
        assert all(order == sorted(order) for order in of_device.values())
        assert min(evil.suffered[fault] for fault in EvilBroker.FAULTS) > 50
        await log.close()

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(3))
def test_no_gateway_tries_more_than_once_a_second_after_a_minute(seed: int) -> None:
    """Ten thousand attempts of one outage: pauses are drawn anew, and never too short for long."""
    backoff = Backoff(rng=random.Random(seed))
    now = 0.0
    early, late = [], []
    for _ in range(10_000):
        pause = backoff.pause_s(now)
        (early if now < 60 else late).append(pause)
        now += pause
    assert max(late) <= 30
    assert min(late) >= 1
    assert len(set(late)) > 9000
    assert len(early) < 200
