"""The gateway process: wires the LoRaWAN server between links and log, opens the doors, relays.

The first part that fails ends the process, and its supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from gateway import __version__, codec_parts, doors, logs, mac_api
from gateway.api import Api
from gateway.classb_api import ClassBApi
from gateway.clock import SystemClock
from gateway.codecs import Codecs
from gateway.commands import Commands, Orderly
from gateway.config import flat
from gateway.console import Console
from gateway.copies import Copies, CopiesReceiver
from gateway.core import Core, opened_core
from gateway.devices import parts as device_parts
from gateway.diagnosis_api import DiagnosisApi
from gateway.diagnosis_clock import DiagnosisClock
from gateway.doors import Doors
from gateway.downlink_api import DownlinkApi
from gateway.downlink_clock import DownlinkClock
from gateway.errors import StartFailed
from gateway.group_api import GroupApi
from gateway.joins_api import JoinsApi
from gateway.link import UdpLink
from gateway.links import Links
from gateway.live import LiveFrames
from gateway.lorawan.publish import Publisher
from gateway.machine import gateway_eui
from gateway.oscore_api import OscoreApi
from gateway.radio_api import RadioApi
from gateway.radio_link import RadioLink
from gateway.radio_roles import with_roles
from gateway.radio_servers import answering_elsewhere
from gateway.rawlora import store as raw_store
from gateway.rawlora.receiver import Receiver as RawReceiver
from gateway.rawlora.service import RawLora
from gateway.rawlora_api import RawLoraApi
from gateway.settings import Config, UpstreamSection
from gateway.station.door import StationDoor
from gateway.station.parts import station_door
from gateway.status import StatusFiles, StatusSource
from gateway.uplinks import Uplinks
from gateway.upstream.config import UpstreamMqttConfig
from gateway.upstream.mqtt import MqttSink
from gateway.upstream.relay import Relay
from hub import coap, mqtt
from hub.errors import LogFailed
from hub.http.app import create_app
from hub.http.door import HttpDoor
from hub.http.table import routes
from hub.hub import Hub
from hub.mqtt import websocket

if TYPE_CHECKING:
    from gateway.nats_source import NatsSource

log = logging.getLogger(__name__)

UMASK = 0o077  # what we write is for this user alone: databases hold messages and names, the rest secrets
SWITCH_INTERVAL_S = 0.001  # the writer thread gets the interpreter this soon while the loop is busy
GC_THRESHOLD = 20_000  # new objects between collections; a burst of uplinks makes that many in 0.1 s


@dataclass(slots=True)
class Gateway:
    """A running gateway, with the ports its doors really have."""

    core: Core
    uplinks: Uplinks
    link: UdpLink
    doors: Doors
    gwmp_port: int
    relays: list[Relay]
    source: StatusSource
    radio: RadioLink
    devices: device_parts.DeviceParts
    station: StationDoor | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def mqtt(self) -> mqtt.MqttDoor:
        return self.doors.mqtt

    @property
    def http(self) -> HttpDoor:
        return self.doors.http

    async def failure(self) -> None:
        """Wait until a part fails. Raises what it failed with."""
        done, _ = await asyncio.wait([*self.tasks, self.core.failure], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Gateway]:
    """The whole gateway between its first and its last breath. Raises StartFailed."""
    async with opened_core(config) as core, contextlib.AsyncExitStack() as stack:
        hub, server, clock = core.hub, core.server, core.clock
        live = LiveFrames()
        codecs = codec_parts.opened(hub, server)
        publisher = Publisher(hub.boot, codecs.codecs)
        uplinks = Uplinks(server, publisher, hub.access, hub.log, live, clock.now)
        stack.push_async_callback(codecs.close, uplinks)
        try:
            uplinks.elsewhere = answering_elsewhere(config.radio.server)
        except ValueError as error:
            raise StartFailed(f"[[radio.server]]: {error}") from error

        links = Links()
        copies = CopiesReceiver(
            uplinks, Copies(config.lorawan.merge_window_ms * 1_000_000, links.reaches), clock.now
        )
        stack.callback(copies.close)
        link = UdpLink(copies, clock.mono_ns, [bytes.fromhex(each) for each in config.lorawan.gateways])
        station = station_door(config, server.region, copies, clock.now)
        links.use(*(each for each in (station, link) if each is not None))
        uplinks.raw = raw = _raw_lora(hub, live, clock, uplinks.publisher.codecs)
        raw.transmit = links.transmit
        stack.callback(raw.close)
        uplinks.downlinks.transmitter = links
        downlink_clock = DownlinkClock(server, uplinks.downlinks, clock.now)
        uplinks.downlinks.changed = downlink_clock.wake
        diagnosis_clock = DiagnosisClock(uplinks.diagnoser, hub.log, clock.now)
        orderly = Orderly(server, codecs.codecs)
        commands = Commands(server, hub.log, live, uplinks.downlinks, orderly, clock.now)
        stack.callback(commands.close)
        eui = gateway_eui(config.gateway.eui)
        relays, sources = _beyond(config, hub, eui.hex())
        source = StatusSource(
            config.gateway.name,
            __version__,
            hub,
            server,
            link.link,
            uplinks.counters,
            live,
            relays,
            clock.now,
            with_roles(config.radio.module),
            sources,
        )
        radio = RadioLink(_radio_socket(config), clock.mono_ns, told=clock.told)
        uplinks.diagnoser.radio_connected = source.connected
        devices = device_parts.opened(
            hub,
            server,
            core.profiles,
            core.records,
            uplinks.publisher.codecs.names,
            uplinks.diagnoser,
            clock.now,
            uplinks.downlinks.carry_out,
            eui.hex(),
        )
        devices.registration.leaving = uplinks.downlinks.leaving
        source.devices = devices.fleet
        class_b = ClassBApi(server, clock.now)
        steering = mac_api.warnings(server)
        source.warnings = lambda: [
            *(*uplinks.warnings(), *devices.fleet.warnings(), *class_b.warnings(), *steering)
        ]
        if config.lorawan.class_b:

            def radio_seen(status: dict[str, Any]) -> None:
                server.class_b.told(eui, status, clock.now())
                downlink_clock.wake()  # a beacon may be due from now on

            radio.seen = radio_seen
        source.copies = copies.copies.counters
        mqtt_door = mqtt.MqttDoor(
            *(hub, config.mqtt.host, config.mqtt.port),
            limits=doors.mqtt_limits(config),
            gateway=eui.hex(),
            version=__version__,
        )
        coap_door = coap.CoapDoor(hub, config.coap.host, config.coap.port)
        hub.audit.configured(flat(config))
        hub.registry.second_factor_for = frozenset(config.people.second_factor_for)
        app = create_app(
            hub,
            routes(
                [
                    *Api(source, live).endpoints(),
                    *class_b.endpoints(),
                    *devices.endpoints(),
                    *codecs.endpoints(),
                    *DiagnosisApi(uplinks.diagnoser).endpoints(),
                    *RawLoraApi(raw).endpoints(),
                    *DownlinkApi(hub, server, uplinks.downlinks, orderly, clock.now).endpoints(),
                    *GroupApi(hub, server, uplinks.downlinks, orderly, clock.now).endpoints(),
                    *mac_api.MacApi(hub, server).endpoints(),
                    *JoinsApi(hub, server, clock.now).endpoints(),
                    *OscoreApi(coap_door.contexts).endpoints(),
                    *RadioApi(radio).endpoints(),
                ]
            ),
            version=__version__,
            limits=doors.http_limits(config),
            mqtt=websocket.asgi_app(mqtt_door),
            gateway=eui.hex(),
            proxies=doors.trusted_proxies(config),
        )
        app.add_counters(source.metrics)
        app.add_counters(devices.fleet.metrics)
        app.add_counters(codecs.metrics)
        app.add_counters(uplinks.downlinks.metrics)
        app.add_counters(commands.metrics)
        app.add_counters(radio.metrics)
        app.add_counters(uplinks.diagnoser.metrics)
        app.add_counters(lambda: {f"fluxgate_rawlora_{name}_total": n for name, n in raw.counters().items()})
        app.add_counters(lambda: {f"fluxgate_mqtt_{name}": n for name, n in mqtt_door.counters.items()})
        app.add_counters(lambda: {f"fluxgate_coap_{name}": n for name, n in coap_door.counters.items()})
        opened = await stack.enter_async_context(doors.opened(config, hub, app, mqtt_door, coap_door))
        with doors.address_in_use("lorawan.port", config.lorawan.port):
            gwmp_port = await link.start(config.lorawan.host, config.lorawan.port)
        stack.callback(link.close)
        if station is not None:
            stack.push_async_callback(station.close)
            with doors.address_in_use("station.port", config.station.port):
                await station.start()
            source.station = station.status
            app.add_counters(station.metrics)
        gateway = Gateway(core, uplinks, link, opened, gwmp_port, relays, source, radio, devices, station)
        files = StatusFiles(Path(config.gateway.runtime_dir), source, hub.registry.claim_code)
        console = Console(Path(config.gateway.runtime_dir), hub)
        await console.start()
        stack.push_async_callback(console.close)
        gateway.tasks = [
            *(asyncio.create_task(relay.run(), name=f"upstream {relay.status().name}") for relay in relays),
            *(asyncio.create_task(each.run(), name=f"nats {each.status().name}") for each in sources),
            asyncio.create_task(files.run(), name="status files"),
            asyncio.create_task(clock.keep(), name="clock"),
            asyncio.create_task(devices.fleet.keep_summed_up(), name="devices summed up"),
            asyncio.create_task(radio.run(), name="radio process"),
            asyncio.create_task(link.expire(), name="unanswered downlinks"),
            asyncio.create_task(downlink_clock.run(), name="downlinks due"),
            asyncio.create_task(commands.run(), name="commands"),
            asyncio.create_task(diagnosis_clock.run(), name="diagnosis"),
            *(asyncio.create_task(door.failed(), name="http door") for door in opened.listeners),
        ]
        if opened.tls is not None:
            gateway.tasks.append(asyncio.create_task(opened.tls.run(), name="certificates"))
        if station is not None:
            gateway.tasks.append(asyncio.create_task(station.expire(), name="unreported downlinks"))
            log.info("concentrators with Basics Station on %d", station.port)
        stack.push_async_callback(_cancel, gateway.tasks)
        log.info("gateway %s: %s, GWMP on %d", eui.hex(), opened, gwmp_port)
        yield gateway


async def serve(config: Config) -> None:
    """Run until SIGINT or SIGTERM. Raises StartFailed, or what a part failed with."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(config) as gateway:
        # What is here now stays: the collector need not look through it again and again under load.
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        stopped = asyncio.create_task(stop.wait(), name="stop")
        failed = asyncio.create_task(gateway.failure(), name="failure")
        done, _ = await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
        await _cancel([stopped, failed])
        if failed in done:
            failed.result()


def run(config: Config) -> None:
    """The `fluxgate gateway` command."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    os.umask(UMASK)
    logs.set_up(config.gateway.log_level)
    try:
        uvloop.run(serve(config))
    except LogFailed as error:
        # Nothing that was acknowledged is in doubt; what the disk does next is for the next start to see.
        raise StartFailed(f"the store failed and the process stops: {error}") from error
    except OSError as error:
        raise StartFailed(str(error)) from error


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _raw_lora(hub: Hub, live: LiveFrames, clock: SystemClock, codecs: Codecs) -> RawLora:
    """The simple nodes that are not LoRaWAN, as they are registered."""
    with contextlib.closing(hub.log.reader()) as reader:
        nodes = raw_store.load(reader.connection)
    return RawLora(hub, live, clock.now, codecs, RawReceiver(nodes))


def _radio_socket(config: Config) -> Path | None:
    """Where the radio process of this machine can be asked; None where none is configured."""
    section = config.radio
    return Path(section.control_socket) if section.module and section.control_socket else None


def _beyond(config: Config, hub: Hub, gateway: str) -> tuple[list[Relay], list[NatsSource]]:
    """What carries messages to other machines, and what brings them from there. Raises StartFailed."""
    relays = [
        Relay(hub.log, MqttSink(_upstream(section), gateway), hold_s=section.refusal_hold_s)
        for section in config.upstream
    ]
    sources = []
    for section in config.nats:
        from gateway import nats_parts  # 6 MB that most gateways have no use for

        try:
            if (relay := nats_parts.nats_relay(section, hub, gateway)) is not None:
                relays.append(relay)
            if (source := nats_parts.nats_source(section, hub, gateway)) is not None:
                sources.append(source)
        except ValueError as error:
            raise StartFailed(f"[[nats]] {section.name}: {error}") from error
    return relays, sources


def _upstream(section: UpstreamSection) -> UpstreamMqttConfig:
    try:
        return UpstreamMqttConfig(**{name: getattr(section, name) for name in section.__struct_fields__})
    except ValueError as error:
        raise StartFailed(f"[[upstream]] {section.name}: {error}") from error
