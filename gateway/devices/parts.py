"""The parts of this package wired together for a running gateway."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from gateway.devices.api import DevicesApi
from gateway.devices.fleet import Fleet
from gateway.devices.import_api import ImportApi
from gateway.devices.profile_api import ProfilesApi
from gateway.devices.profiles import ProfileLibrary
from gateway.devices.records import Records
from gateway.devices.registration import Registration
from gateway.devices.session_api import SessionApi
from gateway.devices.transfer import Transfer
from gateway.diagnosis.diagnoser import Diagnoser
from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Due
from gateway.lorawan.server import NetworkServer
from hub.http.table import Endpoint
from hub.hub import Hub
from hub.log import Done


@dataclass(slots=True)
class DeviceParts:
    fleet: Fleet
    registration: Registration
    diagnoser: Diagnoser
    clock: Callable[[], Instant]
    transfer: Transfer

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint of devices and profiles. Fixed paths stand before those with a DevEUI in their place."""
        return [
            *ImportApi(self.registration, lambda: self.clock().mono_ns).endpoints(),
            *DevicesApi(
                self.registration, self.fleet, self.diagnoser, lambda: self.clock().wall_ns
            ).endpoints(),
            *ProfilesApi(self.registration).endpoints(),
            *SessionApi(self.registration, self.transfer).endpoints(),
        ]


def opened(
    hub: Hub,
    server: NetworkServer,
    profiles: ProfileLibrary,
    records: Records,
    codecs: Callable[[], Collection[str]],
    diagnoser: Diagnoser,
    clock: Callable[[], Instant],
    carry_out: Callable[[Due, Done | None], None],
    gateway: str,
) -> DeviceParts:
    """`profiles` and `records` are what was loaded, `codecs` gives the names there are at a moment.

    `carry_out` is that of `gateway.downlinks`, `gateway` our EUI.
    """
    registration = Registration(
        hub, server, profiles=profiles, records=records, codecs=codecs, wall_ns=lambda: clock().wall_ns
    )
    transfer = Transfer(registration, carry_out, clock, gateway)
    return DeviceParts(Fleet(server, records, clock), registration, diagnoser, clock, transfer)
