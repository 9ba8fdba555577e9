"""Devices that go to another gateway with their sessions: one of them, or a whole site in one file.

The other gateway goes on where this one stopped, without a join. A copy leaves the device served here as well, and
if both gateways hear it both answer it; moving it ends that. Until the file has arrived it can be taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import msgspec

from gateway.devices import sealed
from gateway.devices.profiles import BUILT_IN, ProfileBody
from gateway.devices.records import Record, Records
from gateway.devices.registration import AT_A_TIME, Registered, Registration
from gateway.devices.sealed import Head, SealedError
from gateway.lorawan import transfer as lorawan
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import DeviceExists, OrderError, UnknownDevice
from gateway.lorawan.outcome import Due, Writes
from gateway.lorawan.profile import DEFAULT_NAME
from gateway.lorawan.transfer import ExportedDevice
from gateway.lorawan.types import DevEUI
from hub.errors import HubError
from hub.log import Done
from hub.registry_bulk import Wanted, create_connected, remove_all

FORMAT = 1
UNKNOWN_CODEC = "raw"  # keeps the bytes: nothing is lost until the right codec is there


class _Carried(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A device with what people have noted of it."""

    device: ExportedDevice
    own_codec: bool = True
    interval_s: int | None = None
    description: str = ""
    tags: dict[str, str] = {}


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    profiles: dict[str, ProfileBody]  # those that are not built in
    devices: list[_Carried]


class Arrival(msgspec.Struct, frozen=True):
    """What becomes of one device of a file. No keys."""

    dev_eui: str
    name: str
    state: str  # new, back (moved away before), wrong
    joined: bool  # it has a session, and goes on without a join
    problems: list[str] = []
    warnings: list[str] = []


@dataclass(slots=True)
class Load:
    """A file that was opened: what would happen, and what it takes."""

    head: Head
    arrivals: list[Arrival]
    _carried: list[tuple[_Carried, str]]  # of the good ones, each with the profile it is to have
    _profiles: dict[str, ProfileBody]  # new ones

    @property
    def good(self) -> int:
        return len(self._carried)


class Transfer:
    def __init__(
        self,
        registration: Registration,
        carry_out: Callable[[Due, Done | None], None],
        clock: Callable[[], Instant],
        gateway: str,
    ) -> None:
        """`carry_out` commits and tells what ends at a move (`gateway.downlinks`); `gateway` is our EUI."""
        self._registration, self._carry_out = registration, carry_out
        self._clock, self._gateway = clock, gateway
        self._one = asyncio.Lock()  # 64 MiB each: one passphrase at a time

    # Away

    async def export(self, euis: Sequence[DevEUI], passphrase: str, *, move: bool) -> bytes:
        """The sealed file. With `move` the devices are not answered here any more from now on.

        Raises SealedError for the passphrase, UnknownDevice, OrderError, LogFailed and its like.
        """
        sealed.check_passphrase(passphrase)
        registration, now = self._registration, self._clock()
        server, records = registration.server, registration.records
        for eui in euis:
            if server.registered(eui) is None:
                raise UnknownDevice(f"{eui} is not registered")
        if move:
            await asyncio.gather(*[self._moved_away(eui, now) for eui in euis])
        carried: list[_Carried] = []
        names: set[str] = set()
        writes: Writes = []
        fresh: list[tuple[DevEUI, Record]] = []
        for at, eui in enumerate(euis):
            if at % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            record = records.get(eui)
            device = server.export_session(eui)
            names.add(device.profile)
            carried.append(
                _Carried(device, record.own_codec, record.interval_s, record.description, dict(record.tags))
            )
            record = replace(record, exported_ns=now.wall_ns)
            if move:
                record = replace(record, moved_ns=now.wall_ns)
            writes.append(Records.write(eui, record))
            fresh.append((eui, record))
        profiles = {
            name: ProfileBody.of(profile)
            for name in sorted(names)
            if name not in BUILT_IN and (profile := registration.profiles.get(name)) is not None
        }
        content = _Content(FORMAT, profiles, carried)
        head = Head(
            kind=sealed.KIND,
            version=sealed.VERSION,
            made=now.wall_ns / 1e9,
            gateway=self._gateway,
            region=server.region.name,
            devices=len(carried),
            moved=move,
        )
        async with self._one:
            file = await asyncio.to_thread(_sealed, head, content, passphrase)
        await registration.hub.log.write(writes)
        for eui, record in fresh:
            records.put(eui, record)
        return file

    async def _moved_away(self, eui: DevEUI, now: Instant) -> None:
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: HubError | None) -> None:
            if not durable.done():
                if error is not None:
                    durable.set_exception(error)
                else:
                    durable.set_result(None)

        self._carry_out(self._registration.server.move_away(eui, now), done)
        await durable

    async def take_back(self, eui: DevEUI) -> None:
        """Serve a device again that was moved away. Raises UnknownDevice, LogFailed and its like."""
        registration = self._registration
        writes = registration.server.take_back(eui)
        record = replace(registration.records.get(eui), moved_ns=None, exported_ns=None)
        await registration.note(eui, record, writes)

    # Here

    async def open(self, file: bytes, passphrase: str) -> Load:
        """Open a file and see what would happen with it. Raises SealedError."""
        async with self._one:
            head, content = await asyncio.to_thread(_opened, file, passphrase)
        registration = self._registration
        profiles, codecs = registration.profiles.all, registration.codecs()
        new_profiles = {name: body for name, body in content.profiles.items() if name not in profiles}
        load = Load(head, [], [], new_profiles)
        seen: set[str] = set()
        for at, each in enumerate(content.devices):
            if at % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            device = each.device
            problems, warnings, state = [], [], "new"
            known = registration.server.registered(int(device.dev_eui, 16))
            if device.dev_eui in seen:
                problems.append(f"{device.dev_eui} comes twice in the file")
            elif known is not None and known.moved:
                state = "back"
            elif known is not None:
                problems.append(f"{device.dev_eui} is registered and served here already: remove it first")
            if device.region != registration.server.region.name:
                problems.append(
                    f"it works in {device.region}, and this gateway in {registration.server.region.name}"
                )
            seen.add(device.dev_eui)
            name, words = self._profile(device.profile, content.profiles)
            warnings += words
            if device.codec not in codecs:
                warnings.append(
                    f"there is no codec {device.codec!r} here: its bytes are kept as they are until it has one"
                )
                each = msgspec.structs.replace(
                    each, own_codec=True, device=msgspec.structs.replace(device, codec=UNKNOWN_CODEC)
                )
            if not head.moved and device.session is not None:
                warnings.append(
                    "it is still served by the gateway it comes from: remove it there, or both answer it where both"
                    " hear it"
                )
            if problems:
                state = "wrong"
            else:
                load._carried.append((each, name))
            load.arrivals.append(
                Arrival(device.dev_eui, device.name, state, device.session is not None, problems, warnings)
            )
        return load

    def _profile(self, name: str, brought: dict[str, ProfileBody]) -> tuple[str, list[str]]:
        """The profile a device is to have here, and what is to be said of it."""
        here = self._registration.profiles.get(name)
        if here is not None:
            differs = name in brought and ProfileBody.of(here) != brought[name]
            return name, [f"the profile {name!r} is another here, and stays as it is here"] if differs else []
        if name in brought:
            return name, []
        return DEFAULT_NAME, [
            f"there is no profile {name!r} here, and the file brings none: it gets the default one"
        ]

    async def receive(self, load: Load, channel_id: str = "") -> list[Registered]:
        """Go on with every good device of a file: all of them or none, each with a thing, on the given channel or
        one of its own. Raises OrderError, DeviceExists, NotFound for the channel, LogFailed and its like.
        """
        registration = self._registration
        for name, body in load._profiles.items():
            await registration.put_profile(_with_known_codec(body, registration.codecs()).named(name))
        async with registration.turn:
            wanted = [
                Wanted(
                    each.device.name or each.device.dev_eui,
                    {"lora": {"dev_eui": each.device.dev_eui}},
                    channel_id,
                )
                for each, _ in load._carried
            ]
            back = self._things_of_returning(load)
            made = await asyncio.to_thread(create_connected, registration.hub.registry, wanted)
            registered: list[Registered] = []
            writes: Writes = []
            applies: list[Callable[[], None]] = []
            room = registration.server.settings.max_devices - registration.server.device_count
            now_ns = registration.wall_ns()
            try:
                if load.good - len(back) > room:
                    raise OrderError(f"there is room for {room} more devices")
                for at, ((each, profile), thing) in enumerate(zip(load._carried, made, strict=True)):
                    if at % AT_A_TIME == AT_A_TIME - 1:
                        await asyncio.sleep(0)
                    eui = DevEUI.parse(each.device.dev_eui)
                    more, apply = registration.server.import_session(
                        each.device, thing_id=thing.thing.id, channel_id=thing.channel_id, profile=profile
                    )
                    record = Record(
                        own_codec=each.own_codec,
                        interval_s=each.interval_s,
                        description=each.description,
                        tags=each.tags,
                        registered_ns=now_ns,
                    )
                    writes += [*more, Records.write(eui, record)]
                    applies.append(registration.applying(eui, record, apply))
                    registered.append(Registered(eui, thing.thing.id, thing.key, thing.channel_id))
                await registration.hub.log.write(writes)
            except BaseException:
                own = [each_made.channel_id for each_made in made if each_made.own_channel]
                things = [each_made.thing.id for each_made in made]
                await asyncio.to_thread(remove_all, registration.hub.registry, things, own)
                raise
            for at, apply in enumerate(applies):
                apply()
                if at % AT_A_TIME == AT_A_TIME - 1:
                    await asyncio.sleep(0)
            if back:
                await asyncio.to_thread(remove_all, registration.hub.registry, back)
        return registered

    def _things_of_returning(self, load: Load) -> list[str]:
        """Things of devices that come back; each gets a new one, as any other."""
        found: list[str] = []
        for each, _ in load._carried:
            device = self._registration.server.registered(int(each.device.dev_eui, 16))
            if device is not None:
                if not device.moved:
                    raise DeviceExists(f"{each.device.dev_eui} is registered and served here already")
                found.append(device.config.thing_id)
        return found


def _with_known_codec(body: ProfileBody, codecs: Collection[str]) -> ProfileBody:
    return body if body.codec in codecs else msgspec.structs.replace(body, codec=UNKNOWN_CODEC)


def _sealed(head: Head, content: _Content, passphrase: str) -> bytes:
    return sealed.seal(head, msgspec.json.encode(content), passphrase)


def _opened(file: bytes, passphrase: str) -> tuple[Head, _Content]:
    head, data = sealed.open_sealed(file, passphrase)
    try:
        content = msgspec.json.decode(data, type=_Content)
        for name, body in content.profiles.items():
            body.named(name)
        for each in content.devices:
            lorawan.read(each.device.plain())
            Record(interval_s=each.interval_s, description=each.description, tags=each.tags)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OrderError):
        raise SealedError(
            "the file opened, but what is in it was made by a newer gateway: update this one"
        ) from None
    if content.format != FORMAT:
        raise SealedError(f"the file's content has format {content.format}: update this gateway")
    return head, content
