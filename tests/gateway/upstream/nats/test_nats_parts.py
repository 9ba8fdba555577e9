"""A `[[nats]]` section of the configuration file, as the parts that a gateway runs."""

import asyncio

import pytest

from gateway import config, nats_parts, nats_place
from gateway.config import ConfigError
from gateway.upstream import refusals
from hub.hub import Hub
from hub.message import OCTET_STREAM, Message

CHANNEL = "6b3ff1e6-3a4c-4d1e-9c58-4f6a2f1d7c10"
GATEWAYS = ("0102030405060708", "1112131415161718")


def section_of(port: int, more: str = ""):
    text = f'[[nats]]\nname = "fleet"\nservers = ["127.0.0.1:{port}"]\ntls = false\n{more}'
    return config.parse(text).nats[0]


def test_two_gateways_with_one_stream_hold_each_others_messages(
    nats_server, tmp_path, running, until
) -> None:
    section = section_of(nats_server.port, "receive = true\n")

    async def main() -> None:
        hubs = []
        parts = []
        for gateway in GATEWAYS:
            migrations = (*nats_place.MIGRATIONS, *refusals.MIGRATIONS)
            hub = Hub.open(tmp_path / gateway, migrations=migrations)
            hub.registry.create_channel("fleet", id=CHANNEL)
            hubs.append(hub)
            relay = nats_parts.nats_relay(section, hub, gateway)
            source = nats_parts.nats_source(section, hub, gateway)
            assert relay is not None
            assert source is not None
            parts.append((relay, source))
        (relay, source), (other_relay, other_source) = parts
        async with running(relay), running(other_relay), running(source), running(other_source):
            for name, hub in zip(("a", "b"), hubs, strict=True):
                batch = [
                    Message(CHANNEL, "", "thing", "lora", OCTET_STREAM, f"{name}{n}".encode(), n)
                    for n in range(50)
                ]
                await hub.log.append(batch)
            await until(lambda: all(hub.log.message_count == 100 for hub in hubs))
        wanted = {f"{name}{n}".encode() for name in "ab" for n in range(50)}
        for hub in hubs:
            found = [message.payload for message in hub.log.read(0, limit=1000)]
            assert len(found) == 100
            assert set(found) == wanted
            for name in "ab":
                own = [payload for payload in found if payload.startswith(name.encode())]
                assert own == [f"{name}{n}".encode() for n in range(50)]
            await hub.close()

    asyncio.run(main())


def test_a_section_may_only_send_or_only_receive(tmp_path) -> None:
    async def main() -> None:
        hub = Hub.open(tmp_path)
        sending = section_of(4222)
        receiving = section_of(4222, "send = false\nreceive = true\n")
        assert nats_parts.nats_relay(sending, hub, GATEWAYS[0]) is not None
        assert nats_parts.nats_source(sending, hub, GATEWAYS[0]) is None
        assert nats_parts.nats_relay(receiving, hub, GATEWAYS[0]) is None
        assert nats_parts.nats_source(receiving, hub, GATEWAYS[0]) is not None
        await hub.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param("replicas = 2\n", "replicas", id="replicas"),
        pytest.param("receive = 1\n", "receive", id="no yes or no"),
        pytest.param("nkey = 'x'\n", "no such setting", id="misspelt"),
    ],
)
def test_a_setting_that_cannot_be_is_named(more: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        section_of(4222, more)


def test_one_name_is_given_to_one_destination_only() -> None:
    text = '[[upstream]]\nname = "cloud"\nhost = "h"\n\n[[nats]]\nname = "cloud"\nservers = ["h"]\n'
    with pytest.raises(ConfigError, match=r"line 6: nats.* is used twice"):
        config.parse(text)


def test_secrets_are_not_shown() -> None:
    shown = config.show(config.parse('[[nats]]\nname = "n"\nservers = ["h"]\ntoken = "secret-word"\n'))
    assert "secret-word" not in shown
    assert 'servers = ["h"]' in shown
