"""The whole relay against a real mosquitto: outages, kills, TLS, passwords."""

import asyncio
import datetime
import ipaddress
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import MQTTProtocolVersion

from gateway.upstream import mqtt, mqtt_link
from gateway.upstream.backoff import Backoff
from gateway.upstream.config import UpstreamMqttConfig
from gateway.upstream.mqtt import MqttSink
from gateway.upstream.refusals import MIGRATIONS
from gateway.upstream.relay import Relay
from gateway.upstream.sink import UpstreamState
from hub.log import Log
from hub.message import Properties as MessageProperties
from hub.message import TimeQuality

GATEWAY = "0102030405060708"


def relay_for(log: Log, port: int, sink_type: type[MqttSink] = MqttSink, **settings) -> Relay:
    defaults = {"name": "cloud", "host": "127.0.0.1", "port": port, "tls": False}
    sink = sink_type(UpstreamMqttConfig(**(defaults | settings)), GATEWAY)
    return Relay(log, sink, backoff=Backoff(base_s=0.02, cap_s=0.05))


class HastySink(MqttSink):
    """The control: reports a batch as delivered once it is handed to the socket, before any PUBACK."""

    async def _wait(self, link) -> None:
        self._pipeline.begin()
        await asyncio.sleep(0)


def identity(heard) -> tuple[str, str]:
    properties = dict(heard.properties.UserProperty)
    return properties["gateway"], properties["seq"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_messages_reach_a_subscriber_of_their_channel(
    tmp_path, mosquitto, cloud_of, message, running, protocol
) -> None:
    async def main() -> None:
        cloud = cloud_of(mosquitto)
        log = Log.open(tmp_path / "log.db")
        async with running(relay_for(log, mosquitto.port, protocol=protocol)):
            await log.append([message(1, subtopic="building.3"), message(2)])
            heard = await cloud.collect(lambda kept: len(kept) == 2)
        channel = message(1).channel
        assert [(each.topic, each.payload, each.qos) for each in heard] == [
            (f"channels/{channel}/messages/building/3", b"device-1 1", 1),
            (f"channels/{channel}/messages", b"device-1 2", 1),
        ]
        await log.close()

    asyncio.run(main())


def test_mqtt_5_carries_identity_and_content_type(tmp_path, mosquitto, cloud_of, message, running) -> None:
    async def main() -> None:
        cloud = cloud_of(mosquitto, MQTTProtocolVersion.MQTTv5)
        log = Log.open(tmp_path / "log.db")
        async with running(relay_for(log, mosquitto.port)):
            (seq,) = await log.append([message(1, content_type="application/senml+json", payload=b"[]")])
            (heard,) = await cloud.collect(lambda kept: len(kept) == 1)
        assert heard.properties.ContentType == "application/senml+json"
        assert dict(heard.properties.UserProperty) == {
            "gateway": GATEWAY,
            "seq": str(seq),
            "publisher": "device-1",
            "protocol": "lora",
            "created_ns": str(message(1).created_ns),
            "time": "unset",
        }
        await log.close()

    asyncio.run(main())


def test_what_an_mqtt_5_publisher_said_travels_before_the_identity(
    tmp_path, mosquitto, cloud_of, message, running
) -> None:
    said = MessageProperties(
        payload_format=1,
        expiry_s=3600,
        response_topic="answers/here",
        correlation_data=b"\x00\xff",
        user=(("unit", "m"), ("unit", "s")),
        content_type="text/plain",
    )

    async def main() -> None:
        cloud = cloud_of(mosquitto, MQTTProtocolVersion.MQTTv5)
        log = Log.open(tmp_path / "log.db")
        async with running(relay_for(log, mosquitto.port)):
            await log.append([message(1, properties=said)])
            (heard,) = await cloud.collect(lambda kept: len(kept) == 1)
        properties = heard.properties
        assert (properties.ContentType, properties.PayloadFormatIndicator) == ("text/plain", 1)
        assert (properties.ResponseTopic, properties.CorrelationData) == ("answers/here", b"\x00\xff")
        assert 0 < properties.MessageExpiryInterval <= 3600
        names = [name for name, _ in properties.UserProperty]
        assert names == ["unit", "unit", "gateway", "seq", "publisher", "protocol", "created_ns", "time"]
        await log.close()

    asyncio.run(main())


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_clock_that_was_set_is_told_and_later_messages_are_right(
    tmp_path, mosquitto, cloud_of, message, running, until, protocol
) -> None:
    async def main() -> None:
        cloud = cloud_of(mosquitto, MQTTProtocolVersion.MQTTv5)
        log = Log.open(tmp_path / "log.db")
        relay = relay_for(log, mosquitto.port, protocol=protocol)
        (first,) = await log.append([message(1, boot="b-1")])
        async with running(relay):
            await until(lambda: relay.status().delivered == 1)
            relay.pause()
            await until(lambda: relay.status().state is UpstreamState.PAUSED)
            (second,) = await log.append([message(2, boot="b-1")])
            log.correct("b-1", 5_000_000_000, TimeQuality.NTP)
            relay.resume()
            heard = await cloud.collect(lambda kept: len(kept) == 3)
        told = next(each for each in heard if each.topic == f"gateways/{GATEWAY}/corrections")
        assert json.loads(told.payload) == {
            "gateway": GATEWAY,
            "boot": "b-1",
            "up_to_seq": second,
            "offset_ns": 5_000_000_000,
            "quality": "ntp",
        }
        if protocol == "5":
            stamps = {
                dict(each.properties.UserProperty)["seq"]: dict(each.properties.UserProperty)
                for each in heard
                if each is not told
            }
            assert stamps[str(first)]["time"] == "unset"
            assert stamps[str(second)]["time"] == "ntp"
            assert stamps[str(second)]["created_ns"] == str(message(2).created_ns + 5_000_000_000)
        await log.close()

    asyncio.run(main())


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_the_cloud_is_told_which_messages_retention_took(
    tmp_path, mosquitto, cloud_of, message, running, until, protocol
) -> None:
    async def main() -> None:
        cloud = cloud_of(mosquitto, MQTTProtocolVersion.MQTTv5)
        log = Log.open(tmp_path / "log.db", max_messages=100)
        relay = relay_for(log, mosquitto.port, protocol=protocol)
        for _ in range(15):
            seqs = await log.append([message(n) for n in range(100)])
        missed = relay.status().missed
        async with running(relay):
            heard = await cloud.collect(lambda kept: len(kept) == 1501 - missed)
        assert heard[0].topic == f"gateways/{GATEWAY}/gaps"
        assert json.loads(heard[0].payload) == {
            "gateway": GATEWAY,
            "first_seq": 1,
            "last_seq": seqs[-1] - (len(heard) - 1),
            "messages": missed,
        }
        if protocol == "5":
            assert dict(heard[1].properties.UserProperty)["seq"] == str(missed + 1)
        await log.close()

    asyncio.run(main())


def test_a_broker_that_forbids_what_is_said_beside_them_still_gets_every_message(
    tmp_path, start_mosquitto, message, running, until
) -> None:
    rights = tmp_path / "acl"
    rights.write_text("topic write channels/#\n")
    broker = start_mosquitto("allow_anonymous true", f"acl_file {rights}")

    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=MIGRATIONS, max_messages=100)
        relay = relay_for(log, broker.port)
        log.correct("b-1", 5_000_000_000, TimeQuality.NTP)
        for _ in range(5):
            await log.append([message(n) for n in range(100)])
        async with running(relay):
            await until(lambda: log.cursor("upstream/cloud") == log.committed_seq)
            status = relay.status()
        assert status.state is UpstreamState.CONNECTED
        assert status.delivered + status.missed == 500
        assert status.missed
        assert status.rejected == 1
        assert f"gateways/{GATEWAY}/gaps is refused" in status.rejected_detail
        await log.close()

    asyncio.run(main())


def test_an_outage_in_the_middle_loses_nothing_and_keeps_each_devices_order(
    tmp_path, mosquitto, cloud_of, message, running, until
) -> None:
    async def main() -> None:
        cloud = cloud_of(mosquitto, MQTTProtocolVersion.MQTTv5)
        log = Log.open(tmp_path / "log.db")
        seqs: list[int] = []
        numbers = itertools.count()

        async def send(count: int) -> None:
            for _ in range(count):
                n = next(numbers)
                seqs.extend(await log.append([message(n, device=f"device-{n % 3}")]))

        async with running(relay_for(log, mosquitto.port)) as relay:
            await send(100)
            mosquitto.stop()
            await send(200)
            await until(lambda: relay.status().state is UpstreamState.OFFLINE)
            assert relay.status().queued >= 200
            mosquitto.start()
            await send(100)
            await until(lambda: relay.status().queued == 0)
            wanted = {str(seq) for seq in seqs}
            heard = await cloud.collect(lambda kept: wanted <= {identity(each)[1] for each in kept})
        first_copies = {identity(each): each for each in reversed(heard)}
        assert len(first_copies) == len(seqs) == 400
        of_device = defaultdict(list)
        for each in {identity(each): each for each in heard}.values():
            device, n = each.payload.split()
            of_device[device].append(int(n))
        assert all(order == sorted(order) for order in of_device.values())
        await log.close()

    asyncio.run(main())


async def lost_by_a_frozen_broker_that_dies(
    sink_type, tmp_path, mosquitto, cloud_of, message, running, until
) -> set[bytes]:
    """A broker stops working with the connection open, is then killed, and comes back."""
    cloud = cloud_of(mosquitto)
    log = Log.open(tmp_path / "log.db")
    relay = relay_for(log, mosquitto.port, sink_type)
    async with running(relay):
        await log.append([message(n) for n in range(20)])
        await cloud.collect_payloads({message(n).payload for n in range(20)})
        mosquitto.send_signal(signal.SIGSTOP)
        await log.append([message(n) for n in range(20, 60)])
        if sink_type is HastySink:
            await until(lambda: relay.status().queued == 0)
        mosquitto.stop(signal.SIGKILL)
        await until(lambda: relay.status().state is UpstreamState.OFFLINE)
        relay.pause()  # a killed mosquitto forgets its sessions: let the subscriber be first
        mosquitto.start()
        await asyncio.to_thread(cloud.wait_subscribed)
        await log.append([message(n) for n in range(60, 80)])
        relay.resume()
        await until(lambda: relay.status().queued == 0)
        heard = await cloud.collect_payloads({message(79).payload})
    await log.close()
    return {message(n).payload for n in range(80)} - set(heard)


def test_a_broker_that_freezes_and_dies_with_messages_in_flight_loses_none(
    tmp_path, mosquitto, cloud_of, message, running, until
) -> None:
    kit = (tmp_path, mosquitto, cloud_of, message, running, until)
    assert asyncio.run(lost_by_a_frozen_broker_that_dies(MqttSink, *kit)) == set()


def test_a_cursor_that_moves_before_the_acknowledgement_does_lose_messages(
    tmp_path, mosquitto, cloud_of, message, running, until
) -> None:
    kit = (tmp_path, mosquitto, cloud_of, message, running, until)
    lost = asyncio.run(lost_by_a_frozen_broker_that_dies(HastySink, *kit))
    assert lost == {message(n).payload for n in range(20, 60)}


CHILD = """
import asyncio, itertools, sys
from gateway.upstream import mqtt, mqtt_link
from gateway.upstream.backoff import Backoff
from gateway.upstream.config import UpstreamMqttConfig
from gateway.upstream.mqtt import MqttSink
from gateway.upstream.relay import Relay
from hub.log import Log
from hub.message import OCTET_STREAM, Message

path, port, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]

async def main():
    log = Log.open(path)
    config = UpstreamMqttConfig(name="cloud", host="127.0.0.1", port=port, tls=False)
    relay = Relay(log, MqttSink(config, "0102030405060708"))
    task = asyncio.create_task(relay.run())
    for n in itertools.count():
        if mode == "drain":
            break
        batch = [Message("c", "", "d", "lora", OCTET_STREAM, b"payload", 1_790_000_000_000_000_000 + n)]
        (seq,) = await log.append(batch)
        print(seq, flush=True)
    while log.cursor("upstream/cloud") < log.committed_seq:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await log.close()

asyncio.run(main())
"""


def test_five_kills_in_full_flight_lose_nothing_that_was_acknowledged(tmp_path, mosquitto, cloud_of) -> None:
    cloud = cloud_of(mosquitto, MQTTProtocolVersion.MQTTv5)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "log.db"), str(mosquitto.port)]
    acknowledged: list[str] = []
    for round_ in range(5):
        child = subprocess.Popen([*command, "send"], stdout=subprocess.PIPE, text=True, env=environment)
        assert child.stdout is not None
        acknowledged += [line.strip() for line in itertools.islice(child.stdout, 60 + 37 * round_)]
        child.kill()
        rest = child.stdout.read()
        acknowledged += [line for line in rest.splitlines(keepends=False) if rest.endswith("\n")]
        child.stdout.close()
        child.wait()
    subprocess.run([*command, "drain"], check=True, env=environment, timeout=60)
    wanted = set(acknowledged)
    heard = asyncio.run(cloud.collect(lambda kept: wanted <= {identity(each)[1] for each in kept}))
    assert len(acknowledged) == len(wanted) >= 5 * 60
    assert all(seq.isdigit() for _, seq in map(identity, heard))


def test_a_line_that_breaks_two_hundred_times_loses_nothing(
    tmp_path, mosquitto, cloud_of, message, running, until, bad_line, monkeypatch
) -> None:
    """Cut anywhere in a packet, half-open, swallowed: each message arrives, first copies in order."""
    monkeypatch.setattr(mqtt, "ACK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(mqtt_link, "OPEN_TIMEOUT_S", 0.1)

    async def main() -> None:
        cloud = cloud_of(mosquitto, MQTTProtocolVersion.MQTTv5)
        log = Log.open(tmp_path / "log.db")
        line = bad_line(mosquitto.port, seed=12, most_bytes=4000)
        async with line.standing():
            relay = relay_for(log, line.port, inflight=20)
            relay._backoff = Backoff(base_s=0.001, cap_s=0.001, patient_after_s=1e9)
            seqs: list[int] = []
            async with running(relay):
                while line.breaks < 200:
                    if relay.status().queued < 50:
                        n = len(seqs)
                        seqs += await log.append([message(n + k) for k in range(20)])
                    await asyncio.sleep(0.01)
                monkeypatch.undo()  # what comes now may take its time on a busy machine
                line.mend()
                await until(lambda: log.cursor("upstream/cloud") == seqs[-1])
            assert relay.status().rejected == 0
        wanted = {str(seq) for seq in seqs}
        heard = await cloud.collect(lambda kept: wanted <= {identity(each)[1] for each in kept})
        firsts = [int(seq) for seq in dict.fromkeys(identity(each)[1] for each in heard)]
        assert firsts == sorted(firsts)
        await log.close()

    asyncio.run(main())


def test_a_wrong_password_is_said_and_the_right_one_gets_through(
    tmp_path, start_mosquitto, message, running, until
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(passwords), "gateway", "right"], check=True, capture_output=True
    )
    broker = start_mosquitto("allow_anonymous false", f"password_file {passwords}")

    async def state_with(password: str) -> tuple[UpstreamState, str]:
        log = Log.open(tmp_path / f"{password}.db")
        relay = relay_for(log, broker.port, username="gateway", password=password)
        async with running(relay):
            await until(lambda: relay.status().state is not UpstreamState.CONNECTING)
            status = relay.status()
        await log.close()
        return status.state, status.detail

    state, detail = asyncio.run(state_with("wrong"))
    assert state is UpstreamState.REFUSED
    assert "password" in detail
    assert asyncio.run(state_with("right")) == (UpstreamState.CONNECTED, "")


class Authority:
    """A certificate authority that lives as long as a test."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca_file = folder / f"{name}-ca.pem"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(*[n in (5, 6) for n in range(9)])  # sign certificates and CRLs
        own = self._builder(self._name, self._key.public_key()).add_extension(basic, critical=True)
        self._write(self.ca_file, own.add_extension(usage, critical=True).sign(self._key, hashes.SHA256()))

    def issue(
        self, name: str, address: str = "127.0.0.1", days: tuple[int, int] = (-1, 30)
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = self._builder(subject, key.public_key(), days).add_extension(names, critical=False)
        key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        signed = builder.add_extension(key_id, critical=False).sign(self._key, hashes.SHA256())
        self._write(cert_file, signed)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_file, key_file

    def _builder(self, subject, public_key, days=(-1, 30)) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )

    def _write(self, path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def tls_settings(authority: Authority, server: tuple[Path, Path]) -> list[str]:
    return [
        "allow_anonymous true",
        f"cafile {authority.ca_file}",
        f"certfile {server[0]}",
        f"keyfile {server[1]}",
    ]


async def state_over_tls(
    folder: Path, port: int, running, until, message=None, **settings
) -> tuple[str, str]:
    log = Log.open(folder / "log.db")
    relay = relay_for(log, port, tls=True, **settings)
    async with running(relay):
        await until(lambda: relay.status().state is not UpstreamState.CONNECTING)
        if message is not None:
            await log.append([message(n) for n in range(300)])
            await until(lambda: relay.status().delivered == 300)
        status = relay.status()
    await log.close()
    return status.state.value, status.detail


def test_messages_go_over_tls_to_a_broker_whose_authority_is_known(
    tmp_path, start_mosquitto, running, until, message
) -> None:
    ours = Authority(tmp_path, "ours")
    broker = start_mosquitto(*tls_settings(ours, ours.issue("broker")))
    settings = {"ca_file": str(ours.ca_file)}
    state = asyncio.run(state_over_tls(tmp_path, broker.port, running, until, message, **settings))
    assert state == ("connected", "")


@pytest.mark.parametrize(
    ("server", "words"),
    [
        pytest.param({}, "certificate not trusted", id="another authority"),
        pytest.param({"address": "192.0.2.1"}, "for another name", id="another name"),
        pytest.param({"days": (-30, -1)}, "expired", id="expired"),
        pytest.param({"days": (10, 30)}, "clock wrong?", id="not yet valid"),
    ],
)
def test_a_certificate_that_does_not_hold_is_refused_with_words(
    tmp_path, start_mosquitto, running, until, server: dict, words: str
) -> None:
    theirs = Authority(tmp_path, "theirs")
    known = theirs if server else Authority(tmp_path, "ours")
    broker = start_mosquitto(*tls_settings(theirs, theirs.issue("broker", **server)))
    state, detail = asyncio.run(
        state_over_tls(tmp_path, broker.port, running, until, ca_file=str(known.ca_file))
    )
    assert state == "refused"
    assert words in detail


def test_a_broker_that_wants_a_client_certificate_gets_ours(
    tmp_path, start_mosquitto, running, until, message
) -> None:
    ours = Authority(tmp_path, "ours")
    settings = [*tls_settings(ours, ours.issue("broker")), "require_certificate true"]
    broker = start_mosquitto(*settings)
    cert_file, key_file = ours.issue("gateway")
    trusted = {"ca_file": str(ours.ca_file)}
    with_it = trusted | {"cert_file": str(cert_file), "key_file": str(key_file)}
    (tmp_path / "with").mkdir()
    state = asyncio.run(state_over_tls(tmp_path / "with", broker.port, running, until, message, **with_it))
    assert state == ("connected", "")
    state, detail = asyncio.run(state_over_tls(tmp_path, broker.port, running, until, **trusted))
    assert state == "refused"
    assert "client certificate" in detail


def test_a_port_without_tls_is_told_apart(tmp_path, mosquitto, running, until, monkeypatch) -> None:
    monkeypatch.setattr(mqtt_link, "CONNECT_TIMEOUT_S", 0.5)  # it waits for the rest of a long packet
    state, detail = asyncio.run(state_over_tls(tmp_path, mosquitto.port, running, until))
    assert state == "refused"
    assert "TLS" in detail


def test_a_channel_that_the_broker_forbids_is_named(
    tmp_path, start_mosquitto, message, running, until
) -> None:
    rights = tmp_path / "acl"
    rights.write_text("topic write allowed/#\n")
    broker = start_mosquitto("allow_anonymous true", f"acl_file {rights}")

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        relay = relay_for(log, broker.port)
        async with running(relay):
            await log.append([message(1)])
            await until(lambda: relay.status().state is UpstreamState.REFUSED)
            assert "does not let this user publish to channels/" in relay.status().detail
            assert relay.status().queued == 1
        await log.close()

    asyncio.run(main())
