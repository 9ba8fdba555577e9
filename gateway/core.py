"""The parts behind the doors: hub, LoRaWAN server and keys on one data directory, which one process at a time holds.

Tools that work on a data directory without a running gateway open the same. Start equals recovery: nothing here depends
on how the last run ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from gateway.clock import SystemClock
from gateway.devices.profiles import ProfileLibrary
from gateway.devices.records import Records
from gateway.errors import StartFailed
from gateway.keyring import opened_sealer, seal_anew
from gateway.lorawan import store
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.settings import Listener, Settings
from gateway.migrations import MIGRATIONS
from gateway.radio_roles import with_roles
from gateway.region import region_of
from gateway.settings import Config
from hub.errors import HubError, LogFailed
from hub.hub import Hub, HubSettings
from hub.log_copy import copied_rows
from hub.message import TimeQuality
from radio.gnss.leap import fixed, system_leap_seconds
from radio.lora import LoRaModulation
from radio.regions import Region

log = logging.getLogger(__name__)

DAY_S = 86_400
LOCK_FILE = "lock"
LOOPBACK = ("127.0.0.1", "::1", "localhost")  # nobody else's forwarder reaches a GWMP server there


@dataclass(slots=True)
class Core:
    """The parts behind the doors: what tools use that work on a data directory without a running gateway."""

    hub: Hub
    server: NetworkServer
    failure: asyncio.Future[None]
    clock: SystemClock
    profiles: ProfileLibrary
    records: Records


@contextlib.asynccontextmanager
async def opened_core(config: Config) -> AsyncIterator[Core]:
    """Open data directory, hub and LoRaWAN server, as the only one who does. Raises StartFailed."""
    folder = Path(config.gateway.data_dir)
    clock = SystemClock()
    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def failed(error: LogFailed) -> None:
        if not failure.done():
            failure.set_exception(error)

    def hub_clock() -> tuple[int, TimeQuality]:
        now = clock.now()
        return now.wall_ns, now.quality

    async with contextlib.AsyncExitStack() as stack:
        try:
            stack.enter_context(_only_one(folder / LOCK_FILE))
            hub = Hub.open(
                folder,
                migrations=MIGRATIONS,
                settings=HubSettings(
                    commit_interval_s=config.hub.commit_interval_s,
                    max_messages=config.hub.max_messages,
                    max_bytes=config.hub.max_bytes,
                    max_age_s=int(config.hub.max_age_days * DAY_S),
                    min_free_bytes=config.hub.min_free_bytes,
                    events=config.hub.events,
                    history_max_bytes=config.hub.history_max_bytes,
                    history_max_age_s=config.hub.history_max_age_days * DAY_S,
                ),
                clock=hub_clock,
                on_failure=failed,
            )
            stack.push_async_callback(hub.close)
            clock.follow(hub.log, hub.boot)
            if config.hub.events:
                await hub.events.start()
            sealer = await opened_sealer(folder, hub)
        except (OSError, sqlite3.Error) as error:
            raise StartFailed(
                f"data directory {folder} cannot be used: {error}; "
                "see that it is a folder of this user with room on its disk, or set gateway.data_dir"
            ) from error
        writer = store.Store(sealer.seal, sealer.unseal)
        stored = await _stored(hub, writer)
        await seal_anew(hub, sealer)
        with contextlib.closing(hub.log.reader()) as reader:
            profiles, records = ProfileLibrary.load(reader.connection), Records.load(reader.connection)
        server = _server(config, writer, stored, profiles)
        yield Core(hub, server, failure, clock, profiles, records)


async def _stored(hub: Hub, writer: store.Store) -> store.Stored:
    """Devices and counters; a device whose keys are damaged is taken from the log's copy where that has it whole."""

    def load() -> store.Stored:
        with contextlib.closing(hub.log.reader()) as reader:
            return writer.load(reader.connection)

    stored = load()
    if stored.unreadable and (writes := store.from_copy(stored.unreadable, copied_rows(hub.log.path))):
        damaged = stored.unreadable
        try:
            await hub.log.write(writes)
            stored = load()
        except HubError as error:
            log.error("damaged devices cannot be put back: %s", error)
        for eui in set(damaged).difference(stored.unreadable):
            log.error("the keys of device %s were damaged and are taken from the log's copy", eui)
    for eui in stored.unreadable:
        log.error("the keys of device %s cannot be opened: register it again", eui)
    return stored


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold the data directory: two processes that write its databases would damage them.

    The kernel lets go of the lock when the process ends, however it ends. Raises StartFailed, OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock_file(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StartFailed(
                f"data directory {path.parent} is in use by another gateway (process {file.read(16).strip()}): "
                "stop that one first, or set gateway.data_dir to a folder of its own"
            ) from None
        # Who holds it is only told; a full or read-only disk does not matter
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def _lock_file(path: Path) -> TextIO:
    """The lock file; on a read-only disk the one that an earlier start has left."""
    try:
        return path.open("a+")
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return path.open()


def _server(
    config: Config, writer: store.Store, stored: store.Stored, profiles: ProfileLibrary
) -> NetworkServer:
    settings = config.lorawan
    try:
        region = region_of(config)
        return NetworkServer(
            region,
            settings.net_id,
            settings=Settings(
                rx1_delay_s=settings.rx1_delay_s,
                rx1_dr_offset=settings.rx1_dr_offset,
                rx2_dr=settings.rx2_dr,
                rx2_freq_hz=settings.rx2_freq_hz,
                max_eirp_dbm=settings.max_eirp_dbm,
                limit_dwell=config.radio.limit_dwell,
                cflist_hz=settings.cflist_hz,
                uplink_channels=settings.uplink_channels or None,
                heard=_listeners(config),
                steer=settings.steer,
                max_duty=settings.max_duty,
                adr_ack=settings.adr_ack,
                rejoin=settings.rejoin,
                adr=settings.adr,
                adr_margin_db=settings.adr_margin_db,
                adr_max_dr=_adr_max_dr(config, region),
                status_interval_s=settings.status_interval_s,
                max_downlinks=settings.max_downlinks,
                class_b=settings.class_b,
                beacon=settings.beacon,
                beacon_gateways=tuple(bytes.fromhex(eui) for eui in settings.beacon_gateways),
                beacon_hz=settings.beacon_hz,
                beacon_share=settings.beacon_share,
            ),
            writer=writer,
            stored=stored,
            profiles=profiles.all,
            leap=system_leap_seconds()
            if config.gnss.leap_seconds is None
            else fixed(config.gnss.leap_seconds),
        )
    except (KeyError, ValueError) as error:
        raise StartFailed(f"gateway.region, [lorawan]: {error}") from error


def _listeners(config: Config) -> tuple[Listener, ...]:
    """All that hears uplinks: the modules, where no other gateway is expected; else empty, for everything."""
    if config.station.port or config.lorawan.host not in LOOPBACK or len(config.lorawan.gateways) > 1:
        return ()
    return tuple(
        Listener(module.freq_hz, module.sweep_sfs or (module.sf,), module.bw_hz)
        for module in with_roles(config.radio.module)
        if module.role != "tx" and module.sync_word == "lorawan"
    )


def _adr_max_dr(config: Config, region: Region) -> int | None:
    """The fastest data rate that devices may be moved to: one that a configured module hears.

    An SX127x hears one spreading factor, or sweeps over a few; a device moved past the fastest would be lost.
    """
    if config.lorawan.adr_max_dr is not None:
        return config.lorawan.adr_max_dr
    heard = [
        rate
        for module in with_roles(config.radio.module)
        if module.role != "tx" and module.sync_word == "lorawan"
        for sf in module.sweep_sfs or (module.sf,)
        if (rate := region.dr_of(LoRaModulation(sf, module.bw_hz))) is not None
    ]
    return max(heard, default=None)
