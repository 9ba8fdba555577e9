"""A hub in memory with its loop, and connections that nobody is at the other end of: what door targets stand on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvloop

from hub.coap import MIGRATIONS as COAP_MIGRATIONS
from hub.http import MIGRATIONS as HTTP_MIGRATIONS
from hub.hub import Hub, HubSettings
from hub.mqtt import MIGRATIONS as MQTT_MIGRATIONS

from .cuts import memory_folder
from .fuzz_seeds import ASKING_KEY, CHANNEL, KEY

EMAIL = "fuzz@example.org"


class World:
    """A hub with a thing on a channel, in memory, and its loop, whose unhandled errors are kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.failures: list[str] = []
        loop.set_exception_handler(lambda _loop, context: self.failures.append(repr(context)))
        self.folder = memory_folder()
        self.hub: Hub
        self.thing = ""
        self.other = ""  # a thing to be changed and removed
        self.token = ""  # of an administrator

    async def open(self) -> None:
        self.hub = Hub.open(
            self.folder,
            migrations=(*MQTT_MIGRATIONS, *HTTP_MIGRATIONS, *COAP_MIGRATIONS),
            settings=HubSettings(commit_interval_s=0.05, max_messages=2000),
        )
        registry = self.hub.registry
        registry.create_channel("fuzzed", id=CHANNEL)
        thing, _ = registry.create_thing("fuzzed", key=KEY)
        asking, _ = registry.create_thing("asking", key=ASKING_KEY)
        registry.connect([CHANNEL], [thing.id, asking.id])
        self.thing = thing.id
        self.other = registry.create_thing("managed")[0].id
        user = registry.create_user(EMAIL, "correct horse battery")
        self.token = registry.issue_token(user.id, self.hub.now_s())

    async def durable(self) -> None:
        """Return when what was taken so far is stored and who waited for it has been told."""
        await asyncio.sleep(0)  # a door hands over what it has gathered at the end of a turn
        await self.hub.log.flush()
        await asyncio.sleep(0)

    def found(self) -> list[str]:
        """Errors that nothing on the loop has caught, since the last call."""
        failures, self.failures = self.failures, []
        return [f"an error on the loop: {failure}" for failure in failures]


@contextmanager
def opened_world() -> Iterator[World]:
    loop = uvloop.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        world = World(loop)
        try:
            loop.run_until_complete(world.open())
            try:
                yield world
            finally:
                loop.run_until_complete(world.hub.close())
        finally:
            shutil.rmtree(world.folder, ignore_errors=True)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class Transport(asyncio.Transport):
    """The door's side of a connection. `answered` is told what the door writes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.Protocol,
        answered: Callable[[bytes], None] | None = None,
        peer: str = "192.0.2.1",
    ) -> None:
        super().__init__({"peername": (peer, 5), "sockname": ("192.0.2.2", 1)})
        self._loop, self.protocol = loop, protocol
        self._answered = answered
        self.closed = False
        self.lost = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._answered is not None:
            self._answered(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._lose)  # the protocol may change until then

    def _lose(self) -> None:
        self.lost = True
        self.protocol.connection_lost(None)

    abort = close

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_reading(self) -> bool:
        return not self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def feed(self, data: bytes) -> None:
        """Bytes from the peer, in one or two reads."""
        middle = len(data) * (data[-1] if data else 0) // 512
        for piece in (data[:middle], data[middle:]) if middle % 3 else (data,):
            if self.closed:
                return
            self.protocol.data_received(piece)
