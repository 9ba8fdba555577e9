"""The profiles a site has: those that are built in, and those its people have made. Kept in `lorawan_profile`.

A built-in profile is one version and class with nothing else set; it cannot be changed, a copy of it can.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import msgspec

from gateway.lorawan.errors import OrderError
from gateway.lorawan.profile import (
    DEFAULT,
    DEFAULT_NAME,
    CounterReset,
    DeviceClass,
    DevNonceRule,
    Profile,
    Version,
)
from gateway.lorawan.server import NetworkServer
from hub.database import Migration
from hub.log import Write

log = logging.getLogger(__name__)

MAX_PROFILES = 1000  # one for each kind of device on the market would still fit

MIGRATIONS = (
    Migration(
        "devices: profiles",
        (
            """CREATE TABLE lorawan_profile (
                name TEXT PRIMARY KEY,
                body TEXT NOT NULL               -- JSON: what differs from the defaults
            ) WITHOUT ROWID""",
        ),
        {"lorawan_profile": 60.0},
    ),
)


def _built_in() -> Iterator[Profile]:
    yield replace(DEFAULT, description="LoRaWAN 1.0.3, class A, as the gateway's settings say")
    for version in Version:
        for device_class in DeviceClass:
            if device_class is DeviceClass.B and version in (Version.V1_0_0, Version.V1_0_1, Version.V1_0_2):
                continue  # class B was experimental before 1.0.3
            yield Profile(
                f"LoRaWAN-{version}-{device_class}",
                version,
                device_class,
                description=f"LoRaWAN {version}, class {device_class}",
            )


BUILT_IN: Mapping[str, Profile] = {profile.name: profile for profile in _built_in()}


class ProfileBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A profile as the API takes and shows it; see docs/devices.md. null: as the gateway or the region has it."""

    version: Version = DEFAULT.version
    device_class: DeviceClass = DEFAULT.device_class
    region: str = DEFAULT.region
    codec: str = DEFAULT.codec
    expected_interval_s: int = DEFAULT.expected_interval_s
    description: str = ""
    adr: bool = DEFAULT.adr
    adr_margin_db: float | None = None
    min_dr: int | None = None
    max_dr: int | None = None
    max_tx_power: int | None = None
    max_nb_trans: int | None = None
    fixed_dr: int | None = None
    dev_nonces: DevNonceRule | None = None
    counter_reset: CounterReset = DEFAULT.counter_reset
    abp_rx1_delay_s: int = DEFAULT.abp_rx1_delay_s
    abp_rx1_dr_offset: int = DEFAULT.abp_rx1_dr_offset
    abp_rx2_dr: int | None = None
    abp_rx2_freq_hz: int | None = None
    abp_channels_hz: tuple[int, ...] = ()
    class_b_timeout_s: int = DEFAULT.class_b_timeout_s
    class_c_timeout_s: int = DEFAULT.class_c_timeout_s
    ping_slot_dr: int | None = None
    ping_slot_freq_hz: int | None = None
    ping_slot_period_s: int | None = None
    max_downlink_attempts: int = DEFAULT.max_downlink_attempts

    def named(self, name: str) -> Profile:
        """Raises OrderError for a value outside its range."""
        return Profile(name, **msgspec.structs.asdict(self))

    @classmethod
    def of(cls, profile: Profile) -> ProfileBody:
        return cls(**{field: getattr(profile, field) for field in cls.__struct_fields__})


class ProfileView(msgspec.Struct, frozen=True):
    """A profile as it is shown."""

    name: str
    built_in: bool
    devices: int  # that have it
    body: dict[str, Any]  # every field of a profile


class ProfileLibrary:
    """Every profile of the site. Changes reach the server's devices with the call that makes them."""

    def __init__(self, profiles: Mapping[str, Profile] | None = None) -> None:
        self._own = dict(profiles or {})

    @classmethod
    def load(cls, conn: sqlite3.Connection) -> ProfileLibrary:
        """What was kept. A profile that cannot be read is left out, with a line in the log."""
        own: dict[str, Profile] = {}
        for name, body in conn.execute("SELECT name, body FROM lorawan_profile ORDER BY name"):
            try:
                own[name] = msgspec.json.decode(body, type=ProfileBody).named(name)
            except (msgspec.MsgspecError, OrderError) as error:
                log.error(
                    "profile %s cannot be read, and its devices are treated as having none: %s", name, error
                )
        return cls(own)

    @property
    def all(self) -> dict[str, Profile]:
        return {**BUILT_IN, **self._own}

    def get(self, name: str) -> Profile | None:
        return self._own.get(name) or BUILT_IN.get(name)

    def put(self, server: NetworkServer, profile: Profile) -> list[Write]:
        """Make or change one; it holds for its devices from now on, and is kept once the writes are durable.

        Raises OrderError for a built-in one, another region than the gateway's, or where no more fit.
        """
        if profile.name in BUILT_IN:
            raise OrderError(
                f"the profile {profile.name!r} is built in: make one of your own with another name"
            )
        if profile.region and profile.region != server.region.name:
            raise OrderError(
                f"the profile is for {profile.region}, and this gateway works in {server.region.name}: its devices"
                " would never be heard"
            )
        if profile.name not in self._own and len(self._own) >= MAX_PROFILES:
            raise OrderError(f"there are {MAX_PROFILES} profiles, and no more fit")
        _check_rates(server, profile)
        own = {**self._own, profile.name: profile}
        server.use_profiles({**BUILT_IN, **own})
        self._own = own
        body = msgspec.json.encode(ProfileBody.of(profile)).decode()
        return [("INSERT OR REPLACE INTO lorawan_profile VALUES (?, ?)", (profile.name, body))]

    def remove(self, server: NetworkServer, name: str) -> list[Write]:
        """Raises OrderError where it is built in or devices have it, KeyError where there is none."""
        if name in BUILT_IN:
            raise OrderError(f"the profile {name!r} is built in and cannot be removed")
        own = {other: profile for other, profile in self._own.items() if other != name}
        if len(own) == len(self._own):
            raise KeyError(name)
        server.use_profiles({**BUILT_IN, **own})
        self._own = own
        return [("DELETE FROM lorawan_profile WHERE name = ?", (name,))]

    def restore(self, server: NetworkServer, own: Mapping[str, Profile]) -> None:
        """Back to what `own_profiles` gave, where writes could not be kept."""
        self._own = dict(own)
        server.use_profiles(self.all)

    @property
    def own_profiles(self) -> dict[str, Profile]:
        return dict(self._own)


def view(profile: Profile, devices: int) -> ProfileView:
    body = {field.name: getattr(profile, field.name) for field in fields(profile) if field.name != "name"}
    return ProfileView(profile.name, profile.name in BUILT_IN, devices, body)


def _check_rates(server: NetworkServer, profile: Profile) -> None:
    """Raises OrderError for data rates that the gateway's region does not have."""
    region = server.region
    for name in ("min_dr", "max_dr", "fixed_dr"):
        rate = getattr(profile, name)
        if rate is not None and rate not in region.uplink_data_rates:
            raise OrderError(f"{name} {rate} is not an uplink data rate of {region.name}")
    for name in ("abp_rx2_dr", "ping_slot_dr"):
        rate = getattr(profile, name)
        if rate is not None and rate not in region.downlink_data_rates:
            raise OrderError(f"{name} {rate} is not a downlink data rate of {region.name}")


assert DEFAULT_NAME in BUILT_IN
