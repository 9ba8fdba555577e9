"""Registering, changing and removing devices: each has a thing that its uplinks are published as, and a channel.

Registry and log are two files. Things are made first and taken back where a device cannot be stored, so a crash in
between leaves at worst a thing without a device, never a device without its thing. One change at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from gateway.codecs import CODECS
from gateway.devices.fields import Asked
from gateway.devices.profiles import ProfileLibrary
from gateway.devices.records import Record, Records
from gateway.lorawan.device import DeviceConfig
from gateway.lorawan.errors import DeviceExists, OrderError
from gateway.lorawan.outcome import Writes
from gateway.lorawan.profile import Profile
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import DevEUI
from hub.errors import HubError, NotFound
from hub.hub import Hub
from hub.registry_bulk import Wanted, create_connected, remove_all

AT_A_TIME = 50  # devices prepared before the loop gets a turn: about 20 ms on a slow board


@dataclass(frozen=True, slots=True)
class Registered:
    """A new device with its thing's key, which is shown this once."""

    dev_eui: DevEUI
    thing_id: str
    thing_key: str = field(repr=False)
    channel_id: str


class Registration:
    """The one place where devices come, change and go."""

    def __init__(
        self,
        hub: Hub,
        server: NetworkServer,
        *,
        profiles: ProfileLibrary | None = None,
        records: Records | None = None,
        codecs: Callable[[], Collection[str]] = lambda: CODECS,
        wall_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        """`codecs` gives the names there are now, `wall_ns` the time (UTC)."""
        self.hub, self.server = hub, server
        self.profiles = profiles or ProfileLibrary()
        self.records = records or Records()
        self.codecs = codecs
        self.wall_ns = wall_ns
        self.turn = asyncio.Lock()  # one change at a time
        self.leaving: Callable[[DevEUI], None] = lambda _dev_eui: None  # told before a device is removed

    async def register(self, asked: Asked) -> Registered:
        """Raises DeviceExists, OrderError (no room), NotFound for the channel, LogFailed and its like."""
        return (await self.register_all([asked]))[0]

    async def register_all(self, asked: Sequence[Asked]) -> list[Registered]:
        """Every one of them, or none: one transaction of the registry and one of the log. Raises as `register`."""
        async with self.turn:
            self._check(asked)
            named = [
                replace(each.config, name=each.config.name or str(each.config.dev_eui)) for each in asked
            ]
            wanted = [
                Wanted(config.name, {"lora": {"dev_eui": str(config.dev_eui)}}, each.channel_id)
                for config, each in zip(named, asked, strict=True)
            ]
            made = await asyncio.to_thread(create_connected, self.hub.registry, wanted)
            registered: list[Registered] = []
            writes: Writes = []
            applies: list[Callable[[], None]] = []
            try:
                for at, (config, each, thing) in enumerate(zip(named, asked, made, strict=True)):
                    if at % AT_A_TIME == AT_A_TIME - 1:
                        await asyncio.sleep(0)
                    config = replace(config, thing_id=thing.thing.id, channel_id=thing.channel_id)
                    more, apply = self.server.new_device(config)
                    record = replace(each.record, registered_ns=self.wall_ns())
                    writes += more
                    writes.append(Records.write(config.dev_eui, record))
                    applies.append(self.applying(config.dev_eui, record, apply))
                    registered.append(Registered(config.dev_eui, thing.thing.id, thing.key, thing.channel_id))
                await self.hub.log.write(writes)
            except BaseException:
                own = [each.channel_id for each in made if each.own_channel]
                await asyncio.to_thread(remove_all, self.hub.registry, [each.thing.id for each in made], own)
                raise
            for at, apply in enumerate(applies):
                apply()
                if at % AT_A_TIME == AT_A_TIME - 1:
                    await asyncio.sleep(0)
        return registered

    def _check(self, asked: Sequence[Asked]) -> None:
        codecs, seen = self.codecs(), set[int]()
        room = self.server.settings.max_devices - self.server.device_count
        if len(asked) > room:
            most = self.server.settings.max_devices
            raise OrderError(f"{most} devices are the most, and there is room for {room} more")
        for each in asked:
            config = each.config
            if config.codec not in codecs:
                raise OrderError(f"there is no codec {config.codec!r}; there are {', '.join(codecs)}")
            if config.dev_eui in seen:
                raise DeviceExists(f"{config.dev_eui} comes twice")
            seen.add(config.dev_eui)

    def applying(self, dev_eui: DevEUI, record: Record, apply: Callable[[], None]) -> Callable[[], None]:
        """What to call once a device and its record are durable."""

        def both() -> None:
            self.records.put(dev_eui, record)
            apply()

        return both

    async def change(self, config: DeviceConfig, record: Record, channel_id: str | None = None) -> None:
        """Make a registered device be as `config` says, on another channel where one is given.

        Sessions go on; keys count from the next join. Raises UnknownDevice, OrderError, NotFound, LogFailed.
        """
        async with self.turn:
            device = self.server.device(config.dev_eui)
            registry = self.hub.registry
            if config.codec not in self.codecs():
                raise OrderError(f"there is no codec {config.codec!r}; there are {', '.join(self.codecs())}")
            moves = channel_id is not None and channel_id != device.channel_id
            if moves:
                assert channel_id is not None
                if registry.channel(channel_id) is None:
                    raise NotFound("no such channel")
                config = replace(config, channel_id=channel_id)
                await asyncio.to_thread(registry.connect, [channel_id], [device.thing_id])
            writes, apply = self.server.change_device(config)
            await self.hub.log.write([*writes, Records.write(config.dev_eui, record)])
            apply()
            self.records.put(config.dev_eui, record)
            if moves and registry.connected(device.channel_id, device.thing_id):
                await asyncio.to_thread(registry.disconnect, [device.channel_id], [device.thing_id])
            if config.name != device.name and registry.thing(device.thing_id) is not None:
                await asyncio.to_thread(registry.update_thing, device.thing_id, config.name)

    async def note(self, dev_eui: DevEUI, record: Record, writes: Writes | None = None) -> None:
        """Keep a record, with further writes in the same transaction. Raises LogFailed and its like."""
        await self.hub.log.write([*(writes or []), Records.write(dev_eui, record)])
        self.records.put(dev_eui, record)

    async def unregister(self, dev_eui: DevEUI) -> None:
        """Forget a device and its thing; its channel and what was published stay. Raises UnknownDevice, LogFailed."""
        async with self.turn:
            thing_id = self.server.device(dev_eui).thing_id
            self.leaving(dev_eui)
            await self.hub.log.write([*self.server.remove_device(dev_eui), Records.gone(dev_eui)])
            self.records.remove(dev_eui)
            if self.hub.registry.thing(thing_id) is not None:
                await asyncio.to_thread(self.hub.registry.remove_thing, thing_id)

    async def put_profile(self, profile: Profile) -> None:
        """Make or change a profile: its devices have it at once, and its codec where they have none of their own.

        Raises OrderError, LogFailed and its like.
        """
        async with self.turn:
            if profile.codec not in self.codecs():
                raise OrderError(f"there is no codec {profile.codec!r}; there are {', '.join(self.codecs())}")
            before = self.profiles.own_profiles
            writes = self.profiles.put(self.server, profile)
            applies: list[Callable[[], None]] = []
            try:
                for device in list(self.server.every_device()):
                    follows = (
                        device.config.profile == profile.name
                        and not self.records.get(device.dev_eui).own_codec
                    )
                    if follows and device.config.codec != profile.codec:
                        more, apply = self.server.change_device(replace(device.config, codec=profile.codec))
                        writes += more
                        applies.append(apply)
                        if len(applies) % AT_A_TIME == 0:
                            await asyncio.sleep(0)
                await self.hub.log.write(writes)
            except HubError:
                self.profiles.restore(self.server, before)
                raise
            for apply in applies:
                apply()

    async def remove_profile(self, name: str) -> None:
        """Raises KeyError, OrderError where it is built in or devices have it, LogFailed and its like."""
        async with self.turn:
            before = self.profiles.own_profiles
            writes = self.profiles.remove(self.server, name)
            try:
                await self.hub.log.write(writes)
            except HubError:
                self.profiles.restore(self.server, before)
                raise


async def register(hub: Hub, server: NetworkServer, config: DeviceConfig, channel_id: str = "") -> Registered:
    """Register one device with what tools have, which is no profiles and no notes. Raises as `register` above."""
    return await Registration(hub, server).register(Asked(config, Record(), channel_id))
