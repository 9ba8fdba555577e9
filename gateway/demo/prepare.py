"""Before the demonstration's processes start: devices, things and channels of a scenario in a fresh data directory."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.config import show
from gateway.core import opened_core
from gateway.devices.registration import register
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from gateway.settings import (
    CoapSection,
    Config,
    GatewaySection,
    HttpSection,
    LorawanSection,
    ModuleSection,
    MqttSection,
    RadioSection,
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was registered, and the login of a thing that may listen and send commands on every channel."""

    scenario: str
    channels: tuple[str, ...]
    thing_id: str
    thing_key: str


class ScenarioFailed(Exception):
    """The scenario cannot be read; the text is the simulator's."""


async def scenario_devices(scenario: str) -> list[DeviceConfig]:
    """The devices of a scenario. Raises ScenarioFailed."""
    return [_device(entry) for entry in await _ask_simulator("devices", scenario)]


async def scenario_radio(scenario: str) -> tuple[str, RadioSection]:
    """The region of a scenario, and its modules as settings of a gateway. Raises ScenarioFailed."""
    answer = await _ask_simulator("radio", scenario)
    return answer["region"], RadioSection(
        module=msgspec.convert(answer["modules"], tuple[ModuleSection, ...])
    )


async def _ask_simulator(command: str, scenario: str) -> Any:
    """What a command of the simulator prints. It is asked as a process: the gateway does not import it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "hw_sim", command, "--scenario", scenario),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise ScenarioFailed(errors.decode(errors="replace").strip())
    return json.loads(output)


async def prepare(config: Config, scenario: str) -> Prepared:
    """Register a scenario's devices in the data directory of `config`."""
    devices = await scenario_devices(scenario)
    async with opened_core(config) as core:
        registry = core.hub.registry
        channels = [(await register(core.hub, core.server, device)).channel_id for device in devices]
        thing, key = await asyncio.to_thread(registry.create_thing, "demonstration")
        await asyncio.to_thread(registry.connect, channels, [thing.id])
    return Prepared(scenario, tuple(channels), thing.id, key)


async def prepare_upstream(folder: Path, channels: tuple[str, ...], mqtt_port: int) -> tuple[str, str]:
    """Make a second hub that takes those channels; returns user name and password for its MQTT door."""
    config = Config(
        gateway=GatewaySection(name="upstream", data_dir=str(folder / "data"), runtime_dir=str(folder)),
        lorawan=LorawanSection(port=0),
        mqtt=MqttSection(port=mqtt_port),
        http=HttpSection(port=0, workshop_port=0),
        coap=CoapSection(enabled=False),
    )
    async with opened_core(config) as core:
        registry = core.hub.registry
        for channel in channels:
            await asyncio.to_thread(registry.create_channel, "", None, channel)
        thing, key = await asyncio.to_thread(registry.create_thing, "gateway", None, str(uuid.uuid4()))
        await asyncio.to_thread(registry.connect, channels, [thing.id])
    (folder / "fluxgate.toml").write_text(show(config))
    return thing.id, key


def _device(entry: dict[str, str]) -> DeviceConfig:
    keys: dict[str, Any] = {
        name: AES128Key.parse(value) for name, value in entry.items() if name.endswith("_key")
    }
    dev_eui, name, profile = DevEUI.parse(entry["dev_eui"]), entry["name"], entry["profile"]
    if entry["activation"] == "otaa":
        join_eui = JoinEUI.parse(entry["join_eui"])
        return DeviceConfig(dev_eui=dev_eui, name=name, profile=profile, join_eui=join_eui, **keys)
    dev_addr = DevAddr.parse(entry["dev_addr"])
    return DeviceConfig(
        dev_eui=dev_eui,
        activation=Activation.ABP,
        name=name,
        profile=profile,
        dev_addr=dev_addr,
        **keys,
    )
