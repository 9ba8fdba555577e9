"""The LNS over TLS, judged by a concentrator that is written from the protocol's text alone."""

import asyncio
import contextlib
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from gateway.devices.registration import register
from gateway.errors import StartFailed
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.frames import build_join_request, open_downlink, open_join_accept
from gateway.lorawan.types import AES128Key, DevEUI, JoinEUI
from gateway.settings import Config, TlsSection
from hub.message import TimeQuality
from radio import gwmp
from radio.lora import LoRaModulation
from tests.gateway.station.judge import EUI, OTHER_EUI, OTHER_TOKEN, TOKEN, US, Concentrator, Field
from tests.hub.pki import Authority, Pair

Site = Any
GPS_EPOCH_S = 315_964_800
APP_KEY = AES128Key(bytes(range(16)))


async def add(s: Field, device: Any) -> Any:
    core = s.gateway.core
    device.registered = await register(core.hub, core.server, device.config())
    return device


def test_discovery_configuration_uplink_and_class_a_downlink(station_site: Site, device: Any) -> None:
    async def main() -> None:
        async with station_site() as s:
            await add(s, device)
            answer = await s.discover()
            assert answer == {
                "router": "b827:ebff:fe12:3456",
                "muxs": "::0",
                "uri": f"{s.base}/gateway/{EUI}",
            }
            async with s.concentrator() as c:
                assert c.config["region"] == "EU863"
                assert [868_100_000, 0, 5] in c.config["upchannels"]
                await c.uplink(device.uplink(confirmed=True), 5_000_000)
                order = await c.hear()
                assert order["msgtype"] == "dnmsg"
                assert (order["dC"], order["RxDelay"], order["rctx"]) == (0, 1, c.unit)
                assert order["xtime"] == c.xtime(5_000_000), "copied from the uplink, bit for bit"
                assert (order["RX1DR"], order["RX1Freq"]) == (5, 868_100_000)
                assert (order["RX2DR"], order["RX2Freq"]) == (0, 869_525_000)
                assert order["DevEui"].replace("-", "").lower() == str(device.dev_eui)
                frame, _, _ = open_downlink(device.crypto, device.dev_addr, None, bytes.fromhex(order["pdu"]))
                assert frame.ack
                server = s.gateway.core.server
                assert server.counters.downlinks_sent == 0, "not before it is reported"
                await c.sent(order)
                await s.until(lambda: server.counters.downlinks_sent == 1)
            values, radio = s.gateway.core.hub.log.read(0)
            assert values.publisher == device.registered.thing_id
            heard = {record["n"]: record["v"] for record in json.loads(radio.payload)}
            assert heard == {"rssi": -80, "snr": 7.5, "sf": 7, "frequency": 868_100_000, "fcnt": 0}

    asyncio.run(main())


def test_a_device_joins_through_a_concentrator(station_site: Site) -> None:
    async def main() -> None:
        async with station_site() as s:
            core = s.gateway.core
            dev_eui, join_eui = DevEUI(0x70B3D57ED0001234), JoinEUI(0x0011223344556677)
            config = DeviceConfig(
                dev_eui=dev_eui, activation=Activation.OTAA, join_eui=join_eui, app_key=APP_KEY, name="joiner"
            )
            await register(core.hub, core.server, config)
            async with s.concentrator() as c:
                await c.uplink(build_join_request(APP_KEY, join_eui, dev_eui, 7), 1_000_000, dr=0)
                order = await c.hear()
                assert (order["RxDelay"], order["RX1DR"], order["priority"]) == (5, 0, 20)
                accept = open_join_accept(APP_KEY, bytes.fromhex(order["pdu"]))
                assert accept.rx_delay_s == 1
                await c.sent(order, window=2)
                await s.until(lambda: core.server.counters.downlinks_sent == 1)
                shown = s.gateway.uplinks.live.after(0, 10)
                assert shown[-1]["detail"] == "sent in RX2"

    asyncio.run(main())


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="nothing"),
        pytest.param("Bearer wrong-token-of-nobody-at-all", id="wrong"),
        pytest.param(f"Basic {TOKEN}", id="another scheme"),
        pytest.param(f"Bearer {TOKEN}x", id="longer"),
        pytest.param(f"Bearer {TOKEN[:-1]}", id="shorter"),
        pytest.param("Bearer ", id="empty"),
        pytest.param("Bearer \xff\xfe", id="no text"),
    ],
)
def test_no_websocket_is_opened_without_the_token(station_site: Site, token: str) -> None:
    async def main() -> None:
        async with station_site() as s:
            for path in ("/router-info", f"/gateway/{EUI}"):
                with pytest.raises(InvalidStatus) as caught:
                    async with s.socket(path, token):
                        pass
                assert caught.value.response.status_code == 401
            assert s.door.counters["refused_credentials"] == 2
            assert not s.door.lns.sessions

    asyncio.run(main())


def test_a_gateway_cannot_speak_for_another(station_site: Site) -> None:
    async def main() -> None:
        async with station_site() as s:
            answer = await s.discover(OTHER_EUI)
            assert "uri" not in answer
            assert "not those of gateway" in answer["error"]
            with pytest.raises(InvalidStatus) as caught:
                async with s.socket(f"/gateway/{OTHER_EUI}", f"Bearer {TOKEN}"):
                    pass
            assert caught.value.response.status_code == 403
            assert s.door.counters["refused_identities"] == 2
            assert (await s.discover(OTHER_EUI, OTHER_TOKEN))["uri"].endswith(OTHER_EUI), (
                "bare token, own name"
            )

    asyncio.run(main())


def test_a_certificate_that_names_the_gateway_lets_it_in(station_site: Site, authority: Authority) -> None:
    async def main() -> None:
        async with station_site() as s:
            for name in (EUI, "B8-27-EB-FF-FE-12-34-56", f"router-{EUI[:4]}:ebff:fe12:3456"):
                async with s.concentrator(token="", pair=authority.issue(name)) as c:
                    assert c.config["msgtype"] == "router_config"

    asyncio.run(main())


async def refused(s: Field, pair: Pair) -> bool:
    """Whether TLS itself turns a certificate down."""
    try:
        await s.discover(token="", pair=pair)
    except (ssl.SSLError, ConnectionError, ConnectionClosed, InvalidMessage):
        return True
    return False


async def closed(c: Concentrator) -> int | None:
    """The code a connection ends with, after whatever was still said."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await c.hear()
    return c.socket.close_code


def test_certificates_that_let_nobody_in(station_site: Site, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger", "stranger")
    refused_by_tls = {
        "expired": authority.issue(EUI, from_days=-3, to_days=-1),
        "not yet valid": authority.issue(EUI, from_days=1, to_days=3),
        "of another authority": stranger.issue(EUI),
        "for servers": authority.issue(EUI, server=True),
    }

    async def main() -> None:
        async with station_site() as s:
            for case, pair in refused_by_tls.items():
                for attempt in ("first", "second"):
                    assert await refused(s, pair), f"{case}, {attempt} attempt"
            with pytest.raises(InvalidStatus) as caught:
                await s.discover(token="", pair=authority.issue("aabbccddeeff0011"))
            assert caught.value.response.status_code == 401
            assert "error" in await s.discover(token="", pair=authority.issue(OTHER_EUI))
            assert not s.door.lns.sessions

    asyncio.run(main())


def test_a_client_that_does_not_trust_the_server_does_not_connect(station_site: Site, tmp_path: Path) -> None:
    """The negative control of TLS: the check is the client's, and it bites."""

    async def main() -> None:
        async with station_site() as s:
            s.authority = Authority(tmp_path, "elsewhere")
            with pytest.raises(ssl.SSLCertVerificationError):
                await s.discover()

    asyncio.run(main())


def test_a_new_connection_takes_over_from_an_old_one(station_site: Site, device: Any) -> None:
    async def main() -> None:
        async with station_site() as s:
            await add(s, device)
            async with s.concentrator() as old, s.concentrator() as new:
                with pytest.raises(ConnectionClosed) as caught:
                    await old.hear()
                assert caught.value.rcvd is not None
                assert (caught.value.rcvd.code, "taken over" in caught.value.rcvd.reason) == (1008, True)
                await new.uplink(device.uplink(confirmed=True), 7_000_000)
                assert (await new.hear())["xtime"] == new.xtime(7_000_000)
                assert len(s.door.lns.sessions) == 1
                assert s.door.lns.counters["takeovers"] == 1
            await s.until(lambda: not s.door.lns.sessions)

    asyncio.run(main())


def test_an_answer_after_a_new_connection_goes_nowhere_and_is_counted(
    station_site: Site, device: Any
) -> None:
    """The new session's counter may have begun anew: an old xtime would name another moment."""

    async def main() -> None:
        async with station_site() as s:
            await add(s, device)
            server = s.gateway.core.server
            async with s.concentrator() as old:
                await old.uplink(device.uplink(confirmed=True), 7_000_000)
                order = await old.hear()
                async with s.concentrator() as new:
                    await new.sent(order)
                    await s.until(lambda: server.counters.downlinks_sent == 1)
                    await new.sent(order)
                    await s.until(lambda: s.door.lns.counters["unexpected_reports"] == 1)
                    server.queue_downlink(device.dev_eui, 1, b"x", now=Instant(0, 0))
                    session = next(iter(s.door.lns.sessions.values()))
                    assert not session.contexts

    asyncio.run(main())


def test_time_is_told_where_it_is_known(station_site: Site, mocker: Any) -> None:
    async def main() -> None:
        async with station_site() as s:
            clock = s.door._clock
            for quality, known in (
                (TimeQuality.NTP, True),
                (TimeQuality.GNSS, True),
                (TimeQuality.UNSET, False),
            ):
                wall_ns = 1_800_000_000_123_456_789
                mocker.patch.object(
                    s.door,
                    "_clock",
                    lambda q=quality, w=wall_ns: msgspec.structs.replace(clock(), quality=q, wall_ns=w),
                )
                async with s.concentrator() as c:
                    await c.say({"msgtype": "timesync", "txtime": 5_029_138_245_781})
                    answer = await c.hear()
                assert answer.pop("MuxTime") == pytest.approx(wall_ns / 1e9)
                expected = {"msgtype": "timesync", "txtime": 5_029_138_245_781}
                if known:
                    expected["gpstime"] = (1_800_000_000 - GPS_EPOCH_S + 18) * US + 123_456
                assert answer == expected

    asyncio.run(main())


def test_garbage_is_counted_and_too_much_of_it_ends_the_connection(station_site: Site, device: Any) -> None:
    async def main() -> None:
        async with station_site() as s:
            await add(s, device)
            async with s.concentrator() as c:
                for garbage in (
                    "",
                    "{",
                    "[]",
                    '{"msgtype":"updf"}',
                    '{"msgtype":"dntxed"}',
                    b"\xff\x00binary",
                ):
                    await c.socket.send(garbage)
                await c.say({"msgtype": "alarm", "text": "a kind of later versions"})
                await c.uplink(device.uplink(), 1_000_000)
                await s.until(lambda: s.gateway.core.server.counters.uplinks == 1)
                counters = s.door.lns.counters
                assert (counters["malformed"], counters["ignored"]) == (6, 1)
                with contextlib.suppress(ConnectionClosed):
                    for _ in range(200):
                        await c.socket.send("{")
                assert await closed(c) == 1008

    asyncio.run(main())


def test_a_message_that_is_too_long_ends_the_connection(station_site: Site) -> None:
    async def main() -> None:
        async with station_site() as s:
            async with s.concentrator() as c:
                with contextlib.suppress(ConnectionClosed):
                    await c.socket.send("x" * 70_000)
                assert await closed(c) == 1009
            async with s.concentrator():
                pass

    asyncio.run(main())


def test_too_many_messages_a_second_end_the_connection(station_site: Site, mocker: Any) -> None:
    async def main() -> None:
        async with station_site() as s:
            now = s.door._clock()
            mocker.patch.object(s.door, "_clock", return_value=now)
            async with s.concentrator() as c:
                with contextlib.suppress(ConnectionClosed):
                    for _ in range(2100):
                        await c.say({"msgtype": "alarm"})
                assert await closed(c) == 1008
            assert s.door.counters["too_fast"] == 1

    asyncio.run(main())


def test_requests_that_are_none_of_the_protocol(station_site: Site) -> None:
    async def main() -> None:
        async with station_site() as s:
            with pytest.raises(InvalidStatus) as caught:
                async with s.socket("/elsewhere", f"Bearer {TOKEN}"):
                    pass
            assert caught.value.response.status_code == 404
            for asked in ("{", '{"router":"zz"}', "[]", '{"router":-1}'):
                async with s.socket("/router-info", f"Bearer {TOKEN}") as socket:
                    await socket.send(asked)
                    with pytest.raises(ConnectionClosed):
                        await asyncio.wait_for(socket.recv(), 10)
            context = s.trusting()
            for request in (b"\x16\x03\x01 no http\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", s.door.port, ssl=context)
                writer.write(request)
                answer = await asyncio.wait_for(reader.read(), 10)
                assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    asyncio.run(main())


def test_on_loopback_a_listed_gateway_needs_no_credentials(
    station_site: Site, station_config: Config
) -> None:
    station = msgspec.structs.replace(station_config.station, tls=False, cert_file="", key_file="")
    config = msgspec.structs.replace(station_config, station=station)

    async def main() -> None:
        async with station_site(config) as s:
            async with s.concentrator(token="") as c:
                assert c.config["region"] == "EU863"
            assert "error" in await s.discover("aabbccddeeff0011", token="")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"tls": False, "host": "0.0.0.0"}, "without tls", id="open to all without TLS"),
        pytest.param({"cert_file": ""}, "needs a certificate", id="no certificate"),
        pytest.param({"gateway": ()}, "no gateway that may connect", id="nobody listed"),
        pytest.param(
            {"channels_hz": (863_100_000, 866_000_000, 869_000_000)}, "two radios", id="channels apart"
        ),
        pytest.param({"uri": "http://here"}, "wss://", id="no address"),
        pytest.param({"trust_file": "/nowhere.pem"}, "/nowhere.pem", id="no trust"),
        pytest.param({"join_euis": ("zz",)}, "EUI", id="no JoinEUI"),
        pytest.param({"join_euis": ("0000000000000000-0000000000000009",)}, "above 0", id="from 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_words(
    station_site: Site, station_config: Config, changes: dict[str, Any], words: str
) -> None:
    station = msgspec.structs.replace(station_config.station, **changes)
    config = msgspec.structs.replace(station_config, station=station)

    async def main() -> None:
        with pytest.raises(StartFailed, match=words):
            async with station_site(config):
                pass

    asyncio.run(main())


def test_the_doors_certificate_serves_where_there_is_no_other(
    station_site: Site, station_config: Config
) -> None:
    station = station_config.station
    config = msgspec.structs.replace(
        station_config,
        tls=TlsSection(
            cert_file=station.cert_file, key_file=station.key_file, client_ca_file=station.client_ca_file
        ),
        station=msgspec.structs.replace(station, cert_file="", key_file="", client_ca_file=""),
    )

    async def main() -> None:
        async with station_site(config) as s, s.concentrator() as c:
            assert c.config["msgtype"] == "router_config"

    asyncio.run(main())


def test_connected_gateways_are_shown_and_counted(station_site: Site, device: Any) -> None:
    async def main() -> None:
        async with station_site() as s:
            await add(s, device)
            async with s.concentrator() as c:
                await c.uplink(device.uplink(), 1_000_000)
                await s.until(lambda: s.gateway.core.server.counters.uplinks == 1)
                status = s.gateway.source.status()
                (shown,) = status["station"]
                assert status["radio"]["connected"]
                assert (shown["eui"], shown["name"], shown["station"]) == (EUI, "roof", "2.0.6(judge)")
                assert (shown["received"], shown["configured"]) == (1, True)
                assert 0 <= shown["round_trip_ms"] < 10_000
                metrics = s.door.metrics()
                assert metrics["fluxgate_station_gateways"] == 1
                assert metrics["fluxgate_station_uplinks_total"] == 1
            assert s.gateway.source.status()["station"] == []

    asyncio.run(main())


def test_the_listener_closes_while_gateways_are_connected(station_site: Site) -> None:
    async def main() -> None:
        async with station_site() as s, s.concentrator() as c:
            async with asyncio.timeout(30):
                await s.door.close()
            with pytest.raises(ConnectionClosed):
                await c.hear()

    asyncio.run(main())


@pytest.mark.parametrize("station_snr", [9.0, -9.0], ids=["Station hears it better", "GWMP hears it better"])
def test_a_frame_heard_by_both_kinds_of_gateways_is_taken_once_and_answered_by_the_better_one(
    station_site: Site, device: Any, station_snr: float
) -> None:
    other = bytes.fromhex("02f10f6a7e0000bb")

    async def main() -> None:
        async with station_site() as s:
            await add(s, device)
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forwarder:
                forwarder.setblocking(False)
                forwarder.connect(("127.0.0.1", s.gateway.gwmp_port))

                async def answer() -> gwmp.Datagram:
                    return gwmp.decode(await asyncio.wait_for(loop.sock_recv(forwarder, 65536), 10))

                forwarder.send(gwmp.encode(gwmp.PullData(1, other)))
                assert await answer() == gwmp.PullAck(1)

                def push(token: int, phy: bytes) -> None:
                    sf7 = LoRaModulation(7, 125_000)
                    rx = gwmp.RxPacket(9_000_000, 868_100_000, 0, 0, 1, sf7, -80, 0.0, phy)
                    forwarder.send(gwmp.encode(gwmp.PushData(token, other, (rx,))))

                async with s.concentrator() as c:
                    # From here on two gateways are known to hear frames, and copies are waited for.
                    push(2, b"\x40")
                    assert await answer() == gwmp.PushAck(2)
                    await c.uplink(device.uplink(), 1_000_000)
                    assert (await c.hear())["xtime"] == c.xtime(1_000_000), (
                        "the first frame is asked for status"
                    )
                    phy = device.uplink(confirmed=True)
                    await c.uplink(phy, 5_000_000, snr=station_snr)
                    push(3, phy)
                    assert await answer() == gwmp.PushAck(3)
                    if station_snr > 0:
                        assert (await c.hear())["xtime"] == c.xtime(5_000_000)
                    else:
                        order = await answer()
                        assert isinstance(order, gwmp.PullResp)
                        assert order.txpk.tmst == 10_000_000
            assert s.gateway.core.server.counters.uplinks == 2
            assert s.gateway.core.server.counters.rejected["duplicate"] == 0

    asyncio.run(main())
