"""Starts every process of the gateway on simulated hardware, watches, and counts.

The simulator process holds chips, air and nodes, and in it the radio's own code runs on fake `spidev` and
`gpiod`; everything behind GWMP is what a Raspberry Pi runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live

from gateway.app import UMASK
from gateway.config import show
from gateway.demo import broker, table
from gateway.demo.observer import Observer
from gateway.demo.prepare import Prepared, ScenarioFailed, prepare, prepare_upstream, scenario_radio
from gateway.demo.report import report
from gateway.errors import StartFailed
from gateway.settings import (
    CoapSection,
    Config,
    GatewaySection,
    HttpSection,
    HubSection,
    LorawanSection,
    MqttSection,
    UpstreamSection,
    WebuiSection,
)
from gateway.status import CLAIM_FILE, STATUS_FILE
from gateway.supervisor import ProcessFailed, Program, Supervisor

START_TIMEOUT_S = 30.0
DRAIN_TIMEOUT_S = 20.0  # from the last frame on the air until everything has arrived upstream
COMMAND_INTERVAL_S = 20.0  # between the confirmed downlinks the demonstration orders


class DemoFailed(Exception):
    """The demonstration cannot go on; the text says why and where to look."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `fluxgate demo` was asked for."""

    speed: float = 1.0
    headless: bool = False
    seconds: float = 0.0  # 0: until interrupted
    report: Path | None = None
    scenario: str = "demo"
    keep: Path | None = None
    any_ports: bool = False

    def port(self, usual: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
        """A free one: the usual one, if it is free and wanted."""
        return broker.free_port(0 if self.any_ports else usual, kind)


@dataclass(slots=True)
class _Demo:
    options: Options
    folder: Path
    config: Config
    prepared: Prepared
    upstream_login: tuple[str, str]
    supervisor: Supervisor
    local: Observer
    upstream: Observer
    console: Console = field(default_factory=Console)
    commands: int = 0  # confirmed downlinks ordered

    def statistics(self, name: str) -> dict[str, Any] | None:
        with contextlib.suppress(FileNotFoundError):
            loaded: dict[str, Any] = json.loads((self.folder / name).read_text())
            return loaded
        return None


async def run(options: Options) -> None:
    """Run until interrupted or until `seconds` are over. Raises DemoFailed."""
    os.umask(UMASK)
    with _folder(options.keep) as folder:
        demo = await _prepare(options, folder)
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        try:
            await _start(demo)
            failure = asyncio.create_task(demo.supervisor.failure(), name="failure")
            watch = asyncio.create_task(_watch(demo, stop), name="watch")
            await asyncio.wait({failure, watch}, return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                watch.cancel()
                failure.result()
            failure.cancel()
            await watch
            await _finish(demo)
        except (ProcessFailed, ConnectionError) as error:
            raise DemoFailed(f"{error}{_last_words(folder)}") from error
        finally:
            await asyncio.to_thread(demo.local.stop)
            await asyncio.to_thread(demo.upstream.stop)
            await demo.supervisor.stop()


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        try:
            keep.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DemoFailed(f"--keep {keep} cannot be used: {error.strerror or error}") from error
        if (keep / "data").exists():
            raise DemoFailed(
                f"{keep} holds an earlier demonstration: give --keep a new folder, or remove that one"
            )
        yield keep.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="fluxgate-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _prepare(options: Options, folder: Path) -> _Demo:
    upstream_port = broker.free_port()
    try:
        region, radio = await scenario_radio(options.scenario)
    except ScenarioFailed as error:
        raise DemoFailed(str(error)) from error
    config = Config(
        gateway=GatewaySection(
            name="demo",
            eui="02f10f6a7e000001",
            data_dir=str(folder / "data"),
            runtime_dir=str(folder),
            region=region,
        ),
        radio=msgspec.structs.replace(
            radio, state_dir=str(folder / "radio"), control_socket=str(folder / "radio.sock")
        ),
        lorawan=LorawanSection(port=options.port(1700, socket.SOCK_DGRAM)),
        # Its report holds each message of the log against what arrived upstream, and events stay here.
        hub=HubSection(events=not options.headless),
        mqtt=MqttSection(port=options.port(1883)),
        http=HttpSection(port=options.port(8080), workshop_port=options.port(7070)),
        coap=CoapSection(port=options.port(5683, socket.SOCK_DGRAM)),
        webui=WebuiSection(port=options.port(8000)),
    )
    login = ("", "")
    try:
        prepared = await prepare(config, options.scenario)
        if broker.mosquitto_path() is None:
            login = await prepare_upstream(folder / "upstream", prepared.channels, upstream_port)
    except StartFailed as error:
        raise DemoFailed(str(error)) from error
    cloud = UpstreamSection(
        name="cloud",
        host="127.0.0.1",
        port=upstream_port,
        tls=False,
        username=login[0],
        password=login[1],
    )
    config = msgspec.structs.replace(config, upstream=(cloud,))
    (folder / "fluxgate.toml").write_text(show(config, secrets=True))
    filters = [f"channels/{channel}/messages/#" for channel in prepared.channels]
    return _Demo(
        options,
        folder,
        config,
        prepared,
        login,
        Supervisor(),
        Observer(filters, prepared.thing_id, prepared.thing_key, broker.MQTT_3_1_1),
        Observer(
            ["#"] if broker.mosquitto_path() else filters,
            *login,
            protocol=broker.MQTT_5 if broker.mosquitto_path() else broker.MQTT_3_1_1,
        ),
    )


async def _start(demo: _Demo) -> None:
    folder, config = demo.folder, demo.config
    settings = str(folder / "fluxgate.toml")
    fluxgate = [sys.executable, "-m", "gateway"]
    upstream_port = config.upstream[0].port
    command = broker.mosquitto_path()
    if command is not None:
        await demo.supervisor.start(broker.mosquitto(folder, upstream_port, command))
    else:
        await demo.supervisor.start(broker.second_hub(folder / "upstream" / "fluxgate.toml", folder))
    await demo.supervisor.start(
        Program("gateway", [*fluxgate, "gateway", "--config", settings], folder / "gateway.log")
    )
    for port in (upstream_port, config.mqtt.port, config.http.port):
        await _listening(demo, port)
    await asyncio.to_thread(demo.upstream.start, "127.0.0.1", upstream_port)
    await asyncio.to_thread(demo.local.start, "127.0.0.1", config.mqtt.port)
    await demo.supervisor.start(
        Program("webui", [*fluxgate, "webui", "--config", settings], folder / "webui.log")
    )
    await _listening(demo, config.webui.port)
    simulator = [sys.executable, "-m", "hw_sim", "run", "--scenario", demo.prepared.scenario]
    simulator += ["--speed", str(demo.options.speed), "--server", f"127.0.0.1:{config.lorawan.port}"]
    simulator += ["--eui", config.gateway.eui, "--statistics", str(folder / "simulator.json")]
    simulator += ["--control", config.radio.control_socket]
    await demo.supervisor.start(Program("simulator", simulator, folder / "simulator.log"))
    await _simulating(demo)


async def _simulating(demo: _Demo) -> None:
    """Wait until the simulator counts: what `--seconds` allows begins with its first frame, not with its start."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while demo.statistics("simulator.json") is None:
        if time.monotonic() > deadline:
            raise DemoFailed(f"the simulator does not start{_last_words(demo.folder)}")
        await asyncio.sleep(0.1)


async def _listening(demo: _Demo, port: int) -> None:
    """Wait until somebody listens on `port`."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if time.monotonic() > deadline:
            raise DemoFailed(f"nothing listens on port {port}{_last_words(demo.folder)}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await demo.supervisor.failure()


async def _watch(demo: _Demo, stop: asyncio.Event) -> None:
    """Show the table, or nothing, until it is time to end; order a confirmed downlink now and then."""
    loop = asyncio.get_running_loop()
    end = loop.time() + demo.options.seconds if demo.options.seconds else None
    next_command = loop.time() + COMMAND_INTERVAL_S / demo.options.speed
    welcome = _welcome(demo)
    if demo.options.headless:
        demo.console.print(welcome, highlight=False, soft_wrap=True)
    screen = (
        contextlib.nullcontext()
        if demo.options.headless
        else Live(console=demo.console, auto_refresh=False, screen=demo.console.is_terminal)
    )
    with screen as live:
        while not stop.is_set() and (end is None or loop.time() < end):
            if live is not None:
                delivered = (demo.local.delivered, demo.upstream.delivered)
                state = demo.statistics("simulator.json"), demo.statistics(STATUS_FILE)
                live.update(table.render(welcome, *state, delivered), refresh=True)
            if loop.time() >= next_command:
                next_command += COMMAND_INTERVAL_S / demo.options.speed
                _order_downlink(demo)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await stop.wait()


def _order_downlink(demo: _Demo) -> None:
    """Ask for a confirmed downlink the way an application does: a message on the device's channel."""
    status = demo.statistics(STATUS_FILE)
    joined = [device for device in status["shown_devices"] if device["dev_addr"]] if status else []
    if joined:
        device = joined[int(time.monotonic() * 1000) % len(joined)]
        topic = f"channels/{device['channel_id']}/messages/commands/{device['dev_eui']}"
        demo.commands += 1
        demo.local.publish(
            topic, b'{"fport": 10, "payload": "%04x", "confirmed": true}' % (demo.commands & 0xFFFF)
        )


async def _finish(demo: _Demo) -> None:
    """Silence the nodes, let everything under way arrive, and write the report."""
    await demo.supervisor.stop("simulator")
    simulator = demo.statistics("simulator.json")
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while True:
        status = demo.statistics(STATUS_FILE)
        if simulator is None or status is None:
            raise DemoFailed(f"simulator or gateway left no statistics{_last_words(demo.folder)}")
        expected = status["store"]["messages"]
        counts = report(simulator, status, demo.local.delivered, demo.upstream.delivered, expected)
        settled = status["store"]["pending"] == 0 and counts["lost"] == 0
        if settled or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.3)
    if demo.options.report is not None:
        demo.options.report.write_text(json.dumps(counts, indent=2) + "\n")
    demo.console.print_json(data=counts)


def _welcome(demo: _Demo) -> str:
    config, prepared = demo.config, demo.prepared
    claim = (demo.folder / CLAIM_FILE).read_text().strip() if (demo.folder / CLAIM_FILE).exists() else "-"
    channel = prepared.channels[0]
    return (
        f"Admin pages  http://127.0.0.1:{config.webui.port}    claim code {claim}\n"
        f"REST API     http://127.0.0.1:{config.http.port}/health\n"
        f"MQTT         mosquitto_sub -p {config.mqtt.port} -u {prepared.thing_id} -P {prepared.thing_key} "
        f"-t 'channels/{channel}/messages/#'\n"
        f"Upstream     {'mosquitto' if broker.mosquitto_path() else 'a second hub'} on port "
        f"{config.upstream[0].port}; logs in {demo.folder}"
    )


def _last_words(folder: Path) -> str:
    """The end of each log, for an error message."""
    words = ""
    for path in sorted(folder.glob("*.log")):
        lines = path.read_text(errors="replace").strip().splitlines()[-8:]
        if lines:
            words += f"\n--- {path.name}\n" + "\n".join(lines)
    return words
