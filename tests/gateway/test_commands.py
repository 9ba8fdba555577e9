"""Downlink orders by real clients over each door, in each form; receipts for what comes of them."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import aiocoap
import cbor2
import msgspec
import pytest

from gateway import commands
from gateway.lorawan.group import GroupConfig
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI
from gateway.wanted import Command, CommandError, Wanted, of_command, parse
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON, Message, Properties

OpenSite = Any  # fixtures of conftest.py, which tests cannot import
Device = Any
EUI = DevEUI(0x70B3D57ED0000009)
BYTES, VALUE = b"\x01\x02", [{"n": "digital_output_3", "v": 1}]


# What a command says


def read(subtopic: str, payload: bytes, content_type: str = JSON) -> Wanted:
    return parse(f"commands.{subtopic}", content_type, payload, 1e9)


def test_json_names_port_bytes_and_how_to_send_them() -> None:
    body = {"fport": 10, "payload": "01ff", "confirmed": True, "priority": 7, "ttl_s": 60, "id": "lamp-1"}
    assert read(str(EUI), json.dumps(body).encode()) == Wanted(
        EUI, "", 10, b"\x01\xff", None, True, 7, 60, "lamp-1"
    )
    assert read("groups.lamps", b'{"fport": 3, "payload": "00"}') == Wanted(None, "lamps", 3, b"\0")


def test_bytes_are_what_they_are_under_a_subtopic_with_a_port() -> None:
    for payload in (b"", b"\x00", b"{", b"[1]", bytes(range(256))):
        kind = JSON if payload == b"[1]" else OCTET_STREAM
        assert read(f"{EUI}.10", payload, kind) == Wanted(EUI, "", 10, payload)
    assert read("groups.lamps.9", b"\x01", OCTET_STREAM) == Wanted(None, "lamps", 9, b"\x01")


def test_values_go_through_the_codec_as_senml_or_as_named_values() -> None:
    pack = json.dumps(VALUE).encode()
    for wanted in (
        read(str(EUI), pack, SENML_JSON),
        read(f"{EUI}.10", pack, SENML_JSON),
        read(str(EUI), cbor2.dumps([{0: "digital_output_3", 2: 1}]), SENML_CBOR),
        read(str(EUI), json.dumps({"records": VALUE}).encode()),
    ):
        (record,) = wanted.value  # type: ignore[misc]
        assert (record.name, record.value, wanted.payload) == ("digital_output_3", 1, None)  # type: ignore[union-attr]
    assert read(str(EUI), b'{"data": {"on": true}}').value == {"on": True}
    assert read(f"{EUI}.10", b'{"on": true}').value == {"on": True}


@pytest.mark.parametrize(
    ("subtopic", "payload", "content_type", "words"),
    [
        pytest.param("shed", b"{}", JSON, "DevEUI", id="no DevEUI"),
        pytest.param("groups", b"{}", JSON, "no group", id="no group"),
        pytest.param(f"{EUI}.x", b"", OCTET_STREAM, "not a port", id="port"),
        pytest.param(f"{EUI}.1.2", b"", OCTET_STREAM, "after the port", id="too deep"),
        pytest.param(str(EUI), b"\x01", OCTET_STREAM, "commands/<DevEUI>/<port>", id="bytes without port"),
        pytest.param(str(EUI), b'{"payload": "0"}', JSON, "two digits a byte", id="half a byte"),
        pytest.param(str(EUI), b'{"payload": "00", "data": {}}', JSON, "one of them", id="two payloads"),
        pytest.param(str(EUI), b'{"priority": "high"}', JSON, "priority", id="priority in words"),
        pytest.param(str(EUI), b'{"id": "a b"}', JSON, "id has", id="id with a space"),
        pytest.param(str(EUI), b'{"records": [{"x": 1}]}', JSON, "not SenML", id="no record"),
        pytest.param(str(EUI), b'{"data":' * 2000, JSON, "not JSON|Expected", id="deep"),
        pytest.param(str(EUI), bytes(20_000), OCTET_STREAM, "at most", id="long"),
        pytest.param(str(EUI), b"\x81\xa0", SENML_CBOR, "not SenML", id="CBOR without a value"),
    ],
)
def test_what_is_no_command_is_refused_in_words(
    subtopic: str, payload: bytes, content_type: str, words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        read(subtopic, payload, content_type)


def test_damaged_commands_raise_nothing_else() -> None:
    rng = random.Random(5)
    valid = [
        (b'{"fport": 10, "payload": "01ff", "confirmed": true, "priority": 1, "ttl_s": 9.5}', JSON),
        (b'{"data": {"on": [1, 2, {"x": null}]}, "id": "a"}', JSON),
        (json.dumps({"records": VALUE}).encode(), JSON),
        (json.dumps(VALUE).encode(), SENML_JSON),
        (cbor2.dumps([{0: "digital_output_3", 2: 1}]), SENML_CBOR),
    ]
    refused = 0
    for _ in range(6000):
        body, content_type = rng.choice(valid)
        data = bytearray(body)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        subtopic = rng.choice((str(EUI), f"{EUI}.10", "groups.lamps", f"{EUI}.{rng.randrange(-5, 400)}"))
        try:
            read(subtopic, bytes(data), rng.choice((content_type, OCTET_STREAM)))
        except CommandError:
            refused += 1
    assert refused > 2000


def test_a_command_of_the_api_is_the_same_command() -> None:
    assert of_command(Wanted(EUI), Command(fport=2, payload="ff"), 0) == Wanted(EUI, "", 2, b"\xff")


# Over the doors


async def heard(s: Any, device: Device, opened: Any, last: int | None = None) -> tuple[int, bytes]:
    """The port and payload that the device gets with its next uplink."""
    await s.forwarder.push(device.uplink())
    frame, _, payload = opened(device, await s.forwarder.downlink(), last)
    return frame.fport, payload


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, out
    return out.decode()


def receipts(s: Any, eui: object) -> list[dict[str, Any]]:
    """The receipts on the device's channel, as name and value."""
    found = s.gateway.core.hub.log.read(0, lambda message: message.subtopic == f"{eui}.downlinks", 100)
    assert all(message.content_type == SENML_JSON for message in found)
    return [
        {
            record["n"].removeprefix("downlink").lstrip("_") or "state": record.get("vs", record.get("v"))
            for record in json.loads(message.payload)
        }
        for message in found
    ]


def test_mosquitto_pub_orders_as_json_senml_and_bytes(site: OpenSite, device: Device, opened: Any) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            await s.forwarder.pull()
            base = f"channels/{made.channel_id}/messages/commands/{device.dev_eui}"
            login = ["-p", str(s.gateway.mqtt.port), "-u", made.thing_id, "-P", made.thing_key, "-q", "1"]
            got = []
            for topic, body in (
                (base, '{"fport": 10, "payload": "0102"}'),
                (f"{base}/12", "raw"),
                (f"{base}/13/octet-stream", '{"text": 1}'),
                (f"{base}/14/senml-json", json.dumps(VALUE)),
                (base, json.dumps({"fport": 15, "records": VALUE})),
            ):
                await run("mosquitto_pub", *login, "-t", topic, "-m", body)
                got.append(await heard(s, device, opened, len(got) - 1 if got else None))
            lpp = b"\x03\x01\x01"
            assert got == [(10, b"\x01\x02"), (12, b"raw"), (13, b'{"text": 1}'), (14, lpp), (15, lpp)]

    asyncio.run(main())


def test_curl_orders_as_json_senml_cbor_and_bytes(site: OpenSite, device: Device, opened: Any) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            await s.forwarder.pull()
            base = f"http://127.0.0.1:{s.gateway.http.port}/channels/{made.channel_id}/messages/commands/{device.dev_eui}"
            key = f"Authorization: Thing {made.thing_key}"
            got = []
            for url, kind, body in (
                (base, JSON, b'{"fport": 10, "payload": "0102"}'),
                (f"{base}/12", OCTET_STREAM, b"raw"),
                (f"{base}/14", SENML_CBOR, cbor2.dumps([{0: "digital_output_3", 2: 1}])),
                (f"{base}/14", SENML_JSON, json.dumps(VALUE).encode()),
            ):
                answer = await s.api.post(
                    url, content=body, headers={"authorization": key[15:], "content-type": kind}
                )
                assert answer.status_code == 202, answer.text
                got.append(await heard(s, device, opened, len(got) - 1 if got else None))
            out = await run(
                *("curl", "-sS", "-w", "%{http_code}", "-H", key, "-H", "Content-Type: application/json"),
                *("-d", '{"fport": 9, "payload": "ff"}', base),
            )
            assert out.endswith("202")
            got.append(await heard(s, device, opened, len(got) - 1))
            lpp = b"\x03\x01\x01"
            assert got == [(10, b"\x01\x02"), (12, b"raw"), (14, lpp), (14, lpp), (9, b"\xff")]

    asyncio.run(main())


def test_a_coap_client_orders_as_json_senml_cbor_and_bytes(
    site: OpenSite, device: Device, opened: Any
) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            await s.forwarder.pull()
            port = s.gateway.doors.coap.port
            base = f"coap://127.0.0.1:{port}/channels/{made.channel_id}/messages/commands/{device.dev_eui}"
            client = await aiocoap.Context.create_client_context(transports=["simple6"])
            try:
                got = []
                for url, kind, body in (
                    (base, 50, b'{"fport": 10, "payload": "0102"}'),
                    (f"{base}/12", 42, b"raw"),
                    (f"{base}/14", 112, cbor2.dumps([{0: "digital_output_3", 2: 1}])),
                ):
                    request = aiocoap.Message(
                        code=aiocoap.POST,
                        uri=f"{url}?auth={made.thing_key}",
                        payload=body,
                        content_format=kind,
                    )
                    answer = await client.request(request).response
                    assert answer.code.is_successful(), answer
                    got.append(await heard(s, device, opened, len(got) - 1 if got else None))
            finally:
                await client.shutdown()
            assert got == [(10, b"\x01\x02"), (12, b"raw"), (14, b"\x03\x01\x01")]

    asyncio.run(main())


def test_receipts_tell_an_application_what_became_of_its_order(
    site: OpenSite, device: Device, opened: Any
) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            await s.forwarder.pull()
            hub = s.gateway.core.hub
            publisher = hub.authenticate_thing(made.thing_key)
            body = b'{"fport": 10, "payload": "01", "confirmed": true, "id": "order-1"}'
            topic = f"commands.{device.dev_eui}"
            await hub.publish(publisher, "mqtt", made.channel_id, topic, JSON, body)
            await s.forwarder.push(device.uplink())
            await s.forwarder.downlink()
            await s.until(lambda: s.gateway.core.server.counters.downlinks_sent == 1)
            await s.forwarder.push(device.uplink(ack=True))
            await hub.log.flush()
            told = receipts(s, device.dev_eui)
            assert [(each["state"], each["id"]) for each in told] == [
                ("queued", "order-1"),
                ("sent", "order-1"),
                ("acknowledged", "order-1"),
            ]
            assert (told[1]["window"], told[1]["fcnt"], len(told[1]["gateway"])) == ("RX1", 0, 16)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"{", "not JSON", id="not JSON"),
        pytest.param(b'{"fport": 0, "payload": "00"}', "FPort 0", id="port of MAC commands"),
        pytest.param(b'{"payload": "00"}', "no port is named", id="no port"),
        pytest.param(b'{"fport": 1, "payload": "%s"}' % (b"00" * 243), "send it in parts", id="too long"),
        pytest.param(b'{"data": {"nonsense": 1}}', "nonsense", id="the codec cannot say that"),
        pytest.param(b'{"fport": 1, "ttl_s": -1}', "ttl_s", id="ttl"),
        pytest.param(b'{"fport": 1, "priority": 256}', "priority is 0 to 255", id="priority"),
    ],
)
def test_every_refused_command_leaves_a_receipt_with_the_reason(
    site: OpenSite, device: Device, body: bytes, words: str
) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            hub = s.gateway.core.hub
            publisher = hub.authenticate_thing(made.thing_key)
            await hub.publish(
                publisher, "mqtt", made.channel_id, f"commands.{device.dev_eui}", OCTET_STREAM, body
            )
            await s.until(lambda: hub.log.next_seq == 3)
            await hub.log.flush()
            (told,) = receipts(s, device.dev_eui)
            assert (told["state"], told["id"]) == ("failed", "m1")
            assert words in told["reason"]
            entry = s.gateway.uplinks.live.after(0, 9)[-1]
            assert (entry["kind"], entry["reason"]) == ("rejected", "command")

    asyncio.run(main())


def test_a_command_for_nobody_known_is_answered_where_it_came_from(
    site: OpenSite, device: Device, another_device: Device
) -> None:
    """A device of another channel is nobody: nothing is told there, and nothing of it here."""

    async def main() -> None:
        async with site() as s:
            await s.add(device)
            other = (await s.add(another_device)).registered
            hub = s.gateway.core.hub
            publisher = hub.authenticate_thing(other.thing_key)
            for target, words in (
                (device.dev_eui, "another channel"),
                ("1122334455667788", "not registered"),
            ):
                await hub.publish(
                    publisher, "mqtt", other.channel_id, f"commands.{target}", JSON, b'{"fport": 1}'
                )
                await hub.log.flush()
                (told,) = receipts(s, target)
                assert (told["state"], words in told["reason"]) == ("failed", True)
            messages = hub.log.read(0, lambda message: message.subtopic.endswith(".downlinks"), 9)
            assert {(message.channel, message.publisher) for message in messages} == {
                (other.channel_id, other.thing_id)
            }

    asyncio.run(main())


def test_who_may_not_publish_on_the_channel_orders_nothing(
    site: OpenSite, device: Device, another_device: Device
) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            other = (await s.add(another_device)).registered
            url = f"/channels/{made.channel_id}/messages/commands/{device.dev_eui}"
            answer = await s.api.post(
                url,
                json={"fport": 1, "payload": "00"},
                headers={"authorization": f"Thing {other.thing_key}"},
            )
            assert answer.status_code == 403
            assert s.gateway.core.server.device(device.dev_eui).queued == 0

    asyncio.run(main())


def test_a_group_is_ordered_from_its_own_channel(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            await s.forwarder.pull()
            core = s.gateway.core
            group = GroupConfig(
                name="lamps",
                mc_addr=DevAddr(0x01020304),
                nwk_s_key=AES128Key(bytes(16)),
                app_s_key=AES128Key(bytes(16)),
                gateways=tuple(s.gateway.link.link.forwarders.known),
                thing_id=made.thing_id,
                channel_id=made.channel_id,
            )
            await core.hub.log.write(core.server.groups.set_up(group))
            publisher = core.hub.authenticate_thing(made.thing_key)

            async def order(subtopic: str, body: bytes) -> None:
                kind = JSON if body.startswith(b"{") else OCTET_STREAM
                await core.hub.publish(publisher, "mqtt", made.channel_id, subtopic, kind, body)

            await order("commands.groups.lamps", b'{"fport": 10, "payload": "0102"}')
            packet = await s.forwarder.downlink()
            assert (packet.imme, packet.freq_hz) == (True, 869_525_000)
            await s.until(lambda: core.server.counters.downlinks_sent == 1)
            await order("commands.groups.lamps.11", b"\x01")
            await order("commands.groups.lamps", b'{"data": {"on": 1}, "fport": 2}')
            await core.hub.log.flush()
            await s.until(lambda: len(receipts(s, "groups.lamps")) >= 4)
            told = receipts(s, "groups.lamps")
            assert [(each["state"], each["id"]) for each in told[:2]] == [("queued", "m1"), ("sent", "m1")]
            assert {(each["state"], "no codec" in each.get("reason", "")) for each in told[2:4]} == {
                ("queued", False),
                ("failed", True),
            }

    asyncio.run(main())


# Across lives


def test_a_command_is_carried_out_once_whatever_the_cursor_says(
    site: OpenSite, device: Device, opened: Any
) -> None:
    """The crash came after the order was stored and before the cursor: the control is one whose order was not."""

    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            hub = s.gateway.core.hub
            publisher = hub.authenticate_thing(made.thing_key)
            topic = f"commands.{device.dev_eui}"
            await hub.publish(
                publisher, "mqtt", made.channel_id, topic, JSON, b'{"fport": 1, "payload": "01"}'
            )
            await hub.log.flush()
            hub.log.move_cursor(commands.CURSOR, 0)
            await hub.log.flush()
        async with site() as s:
            await s.until(lambda: s.gateway.core.hub.log.cursor(commands.CURSOR) > 0)
            assert s.gateway.core.server.device(device.dev_eui).queued == 1
            await s.forwarder.pull()
            assert await heard(s, device, opened) == (1, b"\x01")
            await s.until(lambda: s.gateway.core.server.counters.downlinks_sent == 1)
            await s.gateway.core.hub.log.flush()
            s.gateway.core.hub.log.move_cursor(commands.CURSOR, 0)
            await s.gateway.core.hub.log.flush()
        async with site() as s:
            await s.until(lambda: s.gateway.core.hub.log.cursor(commands.CURSOR) > 0)
            assert s.gateway.core.server.device(device.dev_eui).queued == 0
            assert [each["state"] for each in receipts(s, device.dev_eui)] == ["queued", "sent"]

    asyncio.run(main())


def test_a_command_of_while_the_gateway_was_off_is_carried_out_unless_its_time_is_over(
    site: OpenSite, device: Device
) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            hub = s.gateway.core.hub
            publisher = hub.authenticate_thing(made.thing_key)
            topic = f"commands.{device.dev_eui}"
            position = hub.log.committed_seq
            for body in (b'{"fport": 1, "ttl_s": 0.001}', b'{"fport": 2}'):
                await hub.publish(publisher, "mqtt", made.channel_id, topic, JSON, body)
            for order in list(s.gateway.core.server.registered(device.dev_eui).orders):
                s.gateway.core.server.cancel_downlink(device.dev_eui, order.id, s.gateway.core.clock.now())
            await hub.log.write([("DELETE FROM lorawan_downlink", ()), ("DELETE FROM lorawan_receipt", ())])
            hub.log.move_cursor(commands.CURSOR, position)
            await hub.log.flush()
        async with site() as s:
            server = s.gateway.core.server
            await s.until(lambda: server.device(device.dev_eui).queued == 1)
            assert server.registered(device.dev_eui).orders[0].fport == 2
            await s.gateway.core.hub.log.flush()
            assert any(
                "while the gateway was off" in each.get("reason", "") for each in receipts(s, device.dev_eui)
            )

    asyncio.run(main())


def test_the_json_form_is_the_one_that_is_documented() -> None:
    assert [field.name for field in msgspec.structs.fields(Command)] == [
        *("fport", "payload", "data", "records", "confirmed", "priority", "ttl_s", "id"),
    ]


def test_a_command_that_another_gateway_has_relayed_is_left_to_it(site: OpenSite, device: Device) -> None:
    """Both have the channel; the device is the other one's, and so is the receipt."""

    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            hub = s.gateway.core.hub
            for user in ((), (("gateway", "0011223344556677"), ("seq", "7"))):
                message = Message(
                    made.channel_id,
                    "commands.70b3d57ed00000ff",
                    made.thing_id,
                    "mqtt",
                    JSON,
                    b'{"fport": 1, "payload": "00"}',
                    1,
                    properties=Properties(user=user),
                )
                await hub.log.append([message])
            await s.until(lambda: hub.log.read(0, lambda each: each.subtopic.endswith(".downlinks")))
            receipts = hub.log.read(0, lambda each: each.subtopic.endswith(".downlinks"))
            assert [b"failed" in each.payload for each in receipts] == [True]

    asyncio.run(main())
