"""The way of a frame through a running gateway: GWMP in, log, history and downlinks out; and what refuses it."""

import asyncio
import json
from typing import Any

import pytest

from gateway.core import _adr_max_dr
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import FrameError
from gateway.settings import Config, LorawanSection, ModuleSection, RadioSection
from hub.errors import LogFull
from hub.message import OCTET_STREAM, SENML_JSON
from radio.gwmp import TxError
from radio.regions import get_region

OpenSite = Any  # fixtures of conftest.py, which tests cannot import
Device = Any


def test_an_uplink_becomes_senml_on_its_channel_with_its_thing_as_publisher(
    site: OpenSite, device: Device
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.forwarder.push(device.uplink())
            log = s.gateway.core.hub.log
            await s.until(lambda: log.committed_seq == 2)
            values, radio = log.read(0)
            eui = str(device.dev_eui)
            assert (values.channel, values.publisher) == (
                device.registered.channel_id,
                device.registered.thing_id,
            )
            assert (values.subtopic, values.protocol, values.content_type) == (eui, "lora", SENML_JSON)
            pack = json.loads(values.payload)
            assert pack[0]["bn"] == f"urn:dev:mac:{eui}:"
            assert [(record["n"], record["v"], record["u"]) for record in pack] == [
                ("temperature_1", 26.9, "Cel"),
                ("humidity_2", 45.0, "%RH"),
            ]
            assert radio.subtopic == f"{eui}.radio"
            heard = {record["n"]: record["v"] for record in json.loads(radio.payload)}
            assert heard == {"rssi": -80, "snr": 7.5, "sf": 7, "frequency": 868_100_000, "fcnt": 0}

    asyncio.run(main())


def test_a_confirmed_uplink_is_acknowledged_after_its_commit(
    site: OpenSite, device: Device, opened: Any
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.forwarder.pull()
            await s.forwarder.push(device.uplink(confirmed=True))
            packet = await s.forwarder.downlink()
            assert s.gateway.core.hub.log.committed_seq == 2
            frame, fcnt, payload = opened(device, packet, None)
            assert (frame.ack, fcnt, payload) == (True, 0, b"")
            assert packet.tmst == 2_000_000  # one second after the uplink's end
            await s.until(lambda: s.gateway.core.server.counters.downlinks_sent == 1)

    asyncio.run(main())


@pytest.mark.parametrize("at_once", [True, False], ids=["refused at once", "refused by the commit"])
def test_an_uplink_that_found_no_room_is_taken_when_its_device_repeats_it(
    site: OpenSite, device: Device, opened: Any, mocker: Any, at_once: bool
) -> None:
    full = LogFull("the disk is full")

    def refuse(messages: Any, also: Any, done: Any) -> list[int]:
        if at_once:
            raise full
        asyncio.get_running_loop().call_soon(done, full)
        return []

    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.forwarder.pull()
            log, counters = s.gateway.core.hub.log, s.gateway.core.server.counters
            frame = device.uplink(confirmed=True)
            patched = mocker.patch.object(log, "submit", side_effect=refuse)
            await s.forwarder.push(frame)
            await s.until(lambda: patched.called)
            mocker.stop(patched)
            assert log.read(0) == []
            await s.forwarder.push(frame)
            packet = await s.forwarder.downlink()
            assert opened(device, packet, None)[0].ack
            assert len(log.read(0)) == 2, "acknowledged, so it is stored"
            assert counters.uplinks == 2

    asyncio.run(main())


def test_no_acknowledgement_leaves_when_the_commit_fails(site: OpenSite, device: Device, mocker: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.forwarder.pull()
            mocker.patch.object(
                s.gateway.core.hub.log._writer, "_transact", side_effect=OSError("disk I/O error")
            )
            await s.forwarder.push(device.uplink(confirmed=True))
            with pytest.raises(Exception, match="disk I/O error"):
                await asyncio.wait_for(s.gateway.failure(), 10)
            assert s.gateway.core.server.counters.downlinks_sent == 0
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(s.forwarder.receive(), 0.1)

    asyncio.run(main())


def test_a_replay_after_a_restart_is_refused_and_named(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            first, second = device.uplink(), device.uplink()
            await s.forwarder.push(first, second)
            await s.until(lambda: s.gateway.core.hub.log.committed_seq == 4)
        async with site() as s:
            await s.forwarder.push(first)
            await s.forwarder.push(device.uplink())
            log = s.gateway.core.hub.log
            await s.until(lambda: log.committed_seq == 6)
            counters = s.gateway.source.counters()
            assert counters["rejected"] == {"replay": 1}
            assert "FCnt 0 was used before" in s.gateway.uplinks.live.after(0, 10)[0]["detail"]

    asyncio.run(main())


def test_frames_of_strangers_are_counted_visible_and_harmless(
    site: OpenSite, device: Device, another_device: Device
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            good = device.uplink()
            forged = good[:-1] + bytes([good[-1] ^ 1])
            join = bytes(1) + bytes(8) + bytes(range(8)) + b"\x01\x00" + bytes(4)
            await s.forwarder.push(forged, another_device.uplink(), join, b"\x40", good)
            await s.forwarder.push(good[:-4] + b"oops", stat=-1)
            await s.until(lambda: s.gateway.core.hub.log.committed_seq == 2)
            assert s.gateway.source.counters()["rejected"] == {
                "bad_mic": 1,
                "unknown_dev_addr": 1,
                "unknown_dev_eui": 1,
                "malformed": 1,
                "crc_error": 1,
            }
            entries = s.gateway.uplinks.live.after(0, 10)
            shown = [entry["reason"] for entry in entries if entry["kind"] == "rejected"]
            assert shown == ["bad_mic", "unknown_dev_addr", "unknown_dev_eui", "malformed", "crc_error"]

    asyncio.run(main())


def test_a_payload_its_codec_cannot_read_is_kept_as_it_came(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.forwarder.push(device.uplink(b"\xff\xff\xff"))
            await s.until(lambda: s.gateway.core.hub.log.committed_seq == 2)
            message = s.gateway.core.hub.log.read(0)[0]
            assert (message.content_type, message.payload) == (OCTET_STREAM, b"\xff\xff\xff")
            assert s.gateway.uplinks.counters.undecodable == 1

    asyncio.run(main())


def test_a_thing_that_lost_its_channel_is_not_published(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            s.gateway.core.hub.registry.disconnect([made.channel_id], [made.thing_id])
            await s.forwarder.push(device.uplink())
            assert s.gateway.uplinks.counters.denied == 1
            entries = s.gateway.uplinks.live.after(0, 9)
            assert "not connected" in next(e["detail"] for e in entries if e["kind"] == "uplink")

    asyncio.run(main())


def test_a_command_becomes_a_downlink_and_its_acknowledgement_is_counted(
    site: OpenSite, device: Device, opened: Any
) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            await s.forwarder.pull()
            hub = s.gateway.core.hub
            publisher = hub.authenticate_thing(made.thing_key)
            body = b'{"fport": 10, "payload": "01ff", "confirmed": true}'
            topic = f"commands.{device.dev_eui}"
            await hub.publish(publisher, "mqtt", made.channel_id, topic, "application/json", body)
            await s.forwarder.push(device.uplink())
            packet = await s.forwarder.downlink(TxError.TOO_LATE)
            again = await s.forwarder.downlink()
            assert (packet.data, again.freq_hz) == (again.data, 869_525_000)
            frame, _, payload = opened(device, packet, None)
            assert (frame.fport, payload, frame.confirmed) == (10, b"\x01\xff", True)
            with pytest.raises(FrameError):
                opened(device, packet, 0)
            await s.until(lambda: s.gateway.core.server.counters.downlinks_sent == 1)
            await s.forwarder.push(device.uplink(ack=True))
            assert s.gateway.source.counters()["downlinks_acked"] == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"{", "JSON", id="not JSON"),
        pytest.param(b'{"fport": 10, "payload": "zz"}', "not hex", id="not hex"),
        pytest.param(b'{"fport": 0}', "FPort 0", id="port of MAC commands"),
        pytest.param(b'{"fport": 10, "colour": 1}', "colour", id="unknown field"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_shown(
    site: OpenSite, device: Device, body: bytes, words: str
) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            hub = s.gateway.core.hub
            publisher = hub.authenticate_thing(made.thing_key)
            topic = f"commands.{device.dev_eui}"
            await hub.publish(publisher, "mqtt", made.channel_id, topic, "application/octet-stream", body)
            entry = s.gateway.uplinks.live.after(0, 1)[0]
            assert (entry["kind"], entry["reason"]) == ("rejected", "command")
            assert words in entry["detail"]

    asyncio.run(main())


def test_a_command_from_another_channel_is_refused(
    site: OpenSite, device: Device, another_device: Device
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            other = (await s.add(another_device)).registered
            hub = s.gateway.core.hub
            publisher = hub.authenticate_thing(other.thing_key)
            topic = f"commands.{device.dev_eui}"
            await hub.publish(publisher, "mqtt", other.channel_id, topic, "application/json", b'{"fport": 1}')
            assert "another channel" in s.gateway.uplinks.live.after(0, 1)[0]["detail"]
            assert s.gateway.core.server.device(device.dev_eui).queued == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("modules", "setting", "fastest"),
    [
        pytest.param((), None, None, id="no module here: the region's"),
        pytest.param((9,), None, 3, id="one module at SF9"),
        pytest.param((12, 7), None, 5, id="the fastest of two"),
        pytest.param((9,), 4, 4, id="as the owner says"),
    ],
)
def test_adr_never_moves_devices_past_what_the_radios_hear(
    modules: tuple[int, ...], setting: int | None, fastest: int | None
) -> None:
    config = Config(
        radio=RadioSection(
            module=tuple(ModuleSection(index=i, sf=sf, role="rxtx") for i, sf in enumerate(modules))
        ),
        lorawan=LorawanSection(adr_max_dr=setting),
    )
    assert _adr_max_dr(config, get_region("EU868")) == fastest


def test_a_downlink_no_forwarder_answers_is_given_up_and_waits_for_the_next_uplink(
    site: OpenSite, device: Device, mocker: Any
) -> None:
    mocker.patch("gateway.link.ACK_TIMEOUT_NS", 0)
    mocker.patch("gateway.link.EXPIRE_INTERVAL_S", 0.01)

    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.forwarder.pull()
            s.gateway.core.server.queue_downlink(device.dev_eui, 10, b"\x01", now=Instant(0, 0))
            await s.forwarder.push(device.uplink())
            await s.until(lambda: s.gateway.core.server.counters.downlinks_failed == 1)
            assert s.gateway.core.server.device(device.dev_eui).queued == 1
            assert s.gateway.source.counters()["gwmp"]["tx_unanswered"] == 1

    asyncio.run(main())
