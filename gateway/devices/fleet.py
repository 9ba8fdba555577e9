"""All devices of the site at a moment: searched, sorted, paged, and summed up for status and metrics.

Ten thousand devices take longer to go through than a receive window lasts, so whoever goes through all of them lets
the loop run in between.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.devices.records import Records
from gateway.devices.reports import State
from gateway.devices.views import DeviceView, missing, standing, view
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Device
from gateway.lorawan.errors import UnknownDevice
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.types import DevEUI

SUM_UP_S = 15.0  # how old the summary in status and metrics may be
AT_A_TIME = 200  # devices looked at before the loop gets a turn: about 10 ms on a slow board
NAMED = 5  # devices that a warning names
_HEX = frozenset("0123456789abcdef")


class Sort(enum.StrEnum):
    LAST_SEEN = "last_seen"  # newest first; those never heard at the end
    NAME = "name"
    DEV_EUI = "dev_eui"
    ATTENTION = "attention"  # those that need somebody first, the longest missing on top
    SIGNAL = "signal"  # weakest first
    BATTERY = "battery"  # emptiest first


@dataclass(frozen=True, slots=True)
class Query:
    """Which devices, in which order, which part of them."""

    text: str = ""  # part of name, DevEUI, DevAddr, description or a tag
    attention: bool = False
    state: State | None = None
    profile: str = ""
    sort: Sort = Sort.LAST_SEEN
    offset: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """How many devices stand how, and which have missed reports."""

    total: int = 0
    states: dict[State, int] = field(default_factory=dict)
    missed: int = 0  # reports, of all devices
    overdue: tuple[str, ...] = ()  # names of the first NAMED
    in_two_places: tuple[str, ...] = ()  # names: copied to another gateway and still served here

    @property
    def attention(self) -> int:
        return sum(count for state, count in self.states.items() if state.needs_attention)


class Fleet:
    def __init__(self, server: NetworkServer, records: Records, clock: Callable[[], Instant]) -> None:
        self._server, self._records, self._clock = server, records, clock
        self._began_ns = clock().mono_ns
        self.summary = Summary()

    def view(self, dev_eui: int) -> DeviceView:
        """Raises UnknownDevice."""
        device = self._server.registered(dev_eui)
        if device is None:
            raise UnknownDevice(f"{DevEUI(dev_eui)} is not registered")
        now = self._clock()
        return view(device, self._records.get(dev_eui), self._since(now), now.wall_ns)

    def first(self, limit: int) -> list[DeviceView]:
        """Some of them, for local tools."""
        now = self._clock()
        since = self._since(now)
        found: list[DeviceView] = []
        for device in self._server.every_device():
            if len(found) >= limit:
                break
            found.append(view(device, self._records.get(device.dev_eui), since, now.wall_ns))
        return found

    async def find(self, query: Query) -> tuple[list[DeviceView], int]:
        """A page of what the query wants, and how many there are in all."""
        now = self._clock()
        since = self._since(now)
        text = " ".join(query.text.lower().split())
        digits = "".join(char for char in text if char not in " :-.")
        digits = digits if len(digits) >= 2 and set(digits) <= _HEX else ""
        found: list[tuple[tuple[object, ...], Device]] = []
        for at, device in enumerate(list(self._server.every_device())):
            if at % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            if (key := self._key(device, query, text, digits, since, now.wall_ns)) is not None:
                found.append((key, device))
        found.sort(key=lambda each: each[0])
        end = None if query.limit is None else query.offset + query.limit
        views: list[DeviceView] = []
        for at, (_, device) in enumerate(found[query.offset : end]):
            if at % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            views.append(view(device, self._records.get(device.dev_eui), since, now.wall_ns))
        return views, len(found)

    def _key(
        self, device: Device, query: Query, text: str, digits: str, since_ns: int, now_ns: int
    ) -> tuple[object, ...] | None:
        """Where a device stands in the list; None: it is not in it. Ends with the DevEUI, so it is one order."""
        config = device.config
        if query.profile and config.profile != query.profile:
            return None
        if text and not self._matches(device, text, digits):
            return None
        record = self._records.get(device.dev_eui)
        wants_state = query.attention or query.state is not None or query.sort is Sort.ATTENTION
        missing_now = missing(device, record, since_ns, now_ns) if wants_state else None
        state = standing(device, missing_now) if missing_now is not None else None
        if state is not None:
            if query.attention and not state.needs_attention:
                return None
            if query.state is not None and state is not query.state:
                return None
        name, eui, seen = config.name.lower(), int(device.dev_eui), device.last_seen_ns or 0
        match query.sort:
            case Sort.NAME:
                return name, eui
            case Sort.DEV_EUI:
                return (eui,)
            case Sort.ATTENTION:
                assert state is not None
                assert missing_now is not None
                return not state.needs_attention, missing_now.since_ns or now_ns, name, eui
            case Sort.SIGNAL:
                return device.last_rx is None, device.last_rx.lsnr_db if device.last_rx else 0.0, name, eui
            case Sort.BATTERY:
                level = device.battery
                known = level is not None and 0 < level < 255
                return not known, level if known else 0, name, eui
            case _:
                return -seen, name, eui

    def _matches(self, device: Device, text: str, digits: str) -> bool:
        if text in device.config.name.lower():
            return True
        if digits:
            session = device.session
            if digits in device.topic or (session is not None and digits in str(session.dev_addr)):
                return True
        record = self._records.get(device.dev_eui)
        return text in record.description.lower() or any(
            text in f"{name}={value}".lower() for name, value in record.tags.items()
        )

    async def keep_summed_up(self) -> None:
        """Sum up now and every SUM_UP_S, until cancelled."""
        while True:
            await self.sum_up()
            await asyncio.sleep(SUM_UP_S)

    async def sum_up(self) -> None:
        now = self._clock()
        since = self._since(now)
        states = dict.fromkeys(State, 0)
        overdue: list[tuple[int, str]] = []
        twice: list[str] = []
        missed_reports = 0
        devices = list(self._server.every_device())
        for at, device in enumerate(devices):
            if at % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            record = self._records.get(device.dev_eui)
            missing_now = missing(device, record, since, now.wall_ns)
            state = standing(device, missing_now)
            states[state] += 1
            missed_reports += missing_now.count
            if state is State.OVERDUE and missing_now.since_ns is not None:
                overdue.append((missing_now.since_ns, device.config.name))
            exported_ns = record.exported_ns
            if exported_ns is not None and not device.moved and (device.last_seen_ns or 0) > exported_ns:
                twice.append(device.config.name)
        overdue.sort()
        self.summary = Summary(
            total=len(devices),
            states=states,
            missed=missed_reports,
            overdue=tuple(name for _, name in overdue[:NAMED]),
            in_two_places=tuple(twice[:NAMED]),
        )

    def warnings(self) -> list[str]:
        """Sentences for the status."""
        found: list[str] = []
        overdue = self.summary.states.get(State.OVERDUE, 0)
        if overdue:
            devices = "1 device has" if overdue == 1 else f"{overdue} devices have"
            found.append(
                f"{devices} missed reports: {_named(self.summary.overdue, overdue)}. See to power, place and antenna;"
                " the page Devices shows since when"
            )
        found += [
            f"device {name!r} was copied to another gateway and is still served here: if the other one has it too,"
            " both answer it. Move it there, or remove the copy"
            for name in self.summary.in_two_places
        ]
        return found

    def metrics(self) -> dict[str, float]:
        """For `/metrics`."""
        summary = self.summary
        flat: dict[str, float] = {
            f'fluxgate_devices{{state="{state}"}}': count for state, count in summary.states.items()
        }
        flat["fluxgate_devices_attention"] = summary.attention
        flat["fluxgate_device_reports_missed"] = summary.missed
        return flat

    def _since(self, now: Instant) -> int:
        """When this process began to listen, in the UTC of now: a clock that was set meanwhile does not matter."""
        return now.wall_ns - (now.mono_ns - self._began_ns)


def _named(names: tuple[str, ...], count: int) -> str:
    more = count - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
