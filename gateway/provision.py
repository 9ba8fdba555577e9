"""Registering LoRaWAN devices: each gets a thing that its uplinks are published as, and a channel.

Registry and log are two files. The thing is made first and taken back where the device cannot be stored, so a
crash in between leaves at worst a thing without a device, never a device without its thing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from gateway.codecs import CODECS
from gateway.lorawan.device import DeviceConfig
from gateway.lorawan.errors import OrderError
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import DevEUI
from hub.errors import HubError, NotFound
from hub.hub import Hub


@dataclass(frozen=True, slots=True)
class Registered:
    """A new device with its thing's key, which is shown this once."""

    dev_eui: DevEUI
    thing_id: str
    thing_key: str
    channel_id: str


async def register(hub: Hub, server: NetworkServer, config: DeviceConfig, channel_id: str = "") -> Registered:
    """Add a device with a thing, on the given channel or one of its own.

    Raises DeviceExists, OrderError (unknown codec, no room), NotFound for the channel, LogFailed.
    """
    if config.codec not in CODECS:
        raise OrderError(f"there is no codec {config.codec!r}; there are {', '.join(CODECS)}")
    name = config.name or str(config.dev_eui)
    registry = hub.registry
    if channel_id and registry.channel(channel_id) is None:
        raise NotFound("no such channel")

    def make_thing() -> tuple[str, str, str]:
        thing, key = registry.create_thing(name, {"lora": {"dev_eui": str(config.dev_eui)}})
        channel = channel_id or registry.create_channel(name).id
        registry.connect([channel], [thing.id])
        return thing.id, key, channel

    def take_back() -> None:
        registry.remove_thing(thing_id)
        if not channel_id:
            registry.remove_channel(channel)

    thing_id, key, channel = await asyncio.to_thread(make_thing)
    try:
        writes = server.add_device(replace(config, name=name, thing_id=thing_id, channel_id=channel))
    except Exception:
        await asyncio.to_thread(take_back)
        raise
    try:
        await hub.log.write(writes)
    except HubError:
        server.remove_device(config.dev_eui)
        await asyncio.to_thread(take_back)
        raise
    return Registered(config.dev_eui, thing_id, key, channel)


async def unregister(hub: Hub, server: NetworkServer, dev_eui: DevEUI) -> None:
    """Forget a device and its thing; its channel and what was published stay. Raises UnknownDevice, LogFailed."""
    thing_id = server.device(dev_eui).thing_id
    await hub.log.write(server.remove_device(dev_eui))
    if hub.registry.thing(thing_id) is not None:
        await asyncio.to_thread(hub.registry.remove_thing, thing_id)
