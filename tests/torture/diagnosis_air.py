"""Faulty devices on a simulated air, and what the diagnosis of a gateway behind it makes of each.

The devices and what they get wrong are the simulator's (`hw_sim.node_config.NodeFault`), the gateway is whole but for
its sockets (`week_world`). One device of each kind stands among others that work, and an air loses frames: what is
said of each must name its fault, and of those that work nothing that stops them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.diagnosis.reasons import Kind, Weight
from hw_sim.scenario import Scenario, parse

from .week_world import RegionWorld

LOOK_S = 60.0  # between two looks of the diagnosis; the gateway looks more often
# What each fault may be called. Of a wrong key one bit is another one's, which is one digit.
EXPECTED: dict[str, tuple[str, set[Kind]]] = {
    "wrong_root_key": ('faults = ["wrong_root_key"]', {Kind.APP_KEY_DIGITS}),
    "wrong_join_eui": ('faults = ["wrong_join_eui"]', {Kind.JOIN_EUI_WRONG}),
    "swapped_dev_eui": ('faults = ["swapped_dev_eui"]', {Kind.DEV_EUI_REVERSED}),
    "wrong_nwk_s_key": ('activation = "abp"\nfaults = ["wrong_nwk_s_key"]', {Kind.NWK_S_KEY_DIGITS}),
    "wrong_app_s_key": ('activation = "abp"\nfaults = ["wrong_app_s_key"]', {Kind.APP_S_KEY_WRONG}),
    "stuck_dev_nonce": (
        'faults = ["stuck_dev_nonce"]\npower_losses_s = [2000]',
        {Kind.DEV_NONCE_REUSED},
    ),
    "forgets_dev_nonce": (
        'version = "1.0.4"\nfaults = ["forgets_dev_nonce"]\npower_losses_s = [2000, 5000]',
        {Kind.DEV_NONCE_REUSED},
    ),
    "forgets_counters": (
        'activation = "abp"\nfaults = ["forgets_counters"]\npower_losses_s = [5000]',
        {Kind.COUNTER_RESET},
    ),
    "deaf": ('faults = ["deaf"]', {Kind.JOIN_ACCEPT_UNHEARD}),
    "repeats_old": ('faults = ["repeats_old"]', {Kind.FRAME_REPLAYED, Kind.COUNTER_RESET}),
}


@dataclass
class AirResult:
    said: dict[str, str] = field(default_factory=dict)  # by fault
    wrong: list[str] = field(default_factory=list)  # sentences
    false_alarms: list[str] = field(default_factory=list)  # of devices that work

    @property
    def share(self) -> float:
        return 1 - len(self.wrong) / len(self.said) if self.said else 0.0


def scenario(seed: int, hours: float, healthy: int, faults: Sequence[str]) -> Scenario:
    parts = [
        f'title = "What is wrong"\nseed = {seed}\nregion = "EU868"\nduration_s = {hours * 3600}',
        "[air]\nloss = 0.03\nfading_db = 1.0",
        "[[gateway]]\nx_m = 0\ny_m = 0\n[gateway.concentrator]",
    ]
    plain = 'sf = 8\nradius_m = 600\ninterval_s = [200, 300]\nfirst_s = [1, 100]\nsensors = ["temperature", "humidity"]'
    parts += [
        f'[[nodes]]\nname = "{name}"\n{plain}\n{lines}' for name in faults for lines in EXPECTED[name][:1]
    ]
    parts += [f'[[nodes]]\nname = "works{n}"\n{plain}\nconfirmed_share = 0.2' for n in range(healthy)]
    return parse("\n".join(parts), "diagnosis.toml")


def run(
    seed: int, hours: float = 2.0, healthy: int = 5, faults: Sequence[str] = tuple(EXPECTED)
) -> AirResult:
    """One world; what was said of each faulty device at the end, or when it was worst."""
    result = AirResult()
    with tempfile.TemporaryDirectory() as folder:
        world = RegionWorld(scenario(seed, hours, healthy, faults), Path(folder))
        try:
            diagnoser = world.uplinks.diagnoser
            for _ in range(int(hours * 3600 / LOOK_S)):
                world.run(LOOK_S)
                diagnoser.tick(world.now())
            registered = {device.name: str(device.dev_eui) for device in world.server.devices()}
            for name in faults:
                expected = EXPECTED[name][1]
                found = diagnoser.search(dev_eui=registered[name])
                worst = max(found, key=lambda each: (each.explanation.weight, each.count), default=None)
                result.said[name] = "nothing" if worst is None else worst.kind.value
                if worst is None or worst.kind not in expected:
                    told = [f"{each.kind} ({each.count})" for each in found]
                    result.wrong.append(f"{name}: {', '.join(told) or 'nothing'}")
            for name, eui in registered.items():
                if name in EXPECTED:
                    continue
                for each in diagnoser.search(dev_eui=eui):
                    if each.explanation.weight is Weight.STOPS and each.resolved_ns is None:
                        result.false_alarms.append(f"{name}: {each.kind}")
        finally:
            world.close()
    return result
