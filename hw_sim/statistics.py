"""What happened on the air of a world, counted as it happens and written to a file that others may read."""

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from hw_sim.records import Fate, FrameRecord
from hw_sim.world import World

# The fate of a frame at a gateway of several modules is the best one that any of them gave it.
BEST_FIRST: Final = (
    Fate.RECEIVED,
    Fate.CRC_ERROR,
    Fate.COLLIDED,
    Fate.JAMMED,
    Fate.BELOW_SENSITIVITY,
    Fate.TRUNCATED,
    Fate.DEAF,
    Fate.NOT_MATCHED,
)


class Statistics:
    """Counts the frames of a world's devices by their fate at the gateway."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._receivers = world.receivers
        self._devices = {node.config.name for node in world.nodes}
        self.fates: Counter[Fate] = Counter()
        self.downlinks = 0
        world.air.records.observe(self._frame)

    def _frame(self, record: FrameRecord) -> None:
        if record.iq_inverted:
            self.downlinks += 1
        if record.sender not in self._devices:
            return
        fates = {record.fate(receiver) for receiver in self._receivers}
        self.fates[next(fate for fate in BEST_FIRST if fate in fates)] += 1

    def summary(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "virtual_s": round(self._world.kernel.now_ns / 1e9, 3),
            "frames_on_air": self.fates.total(),
            "frames_received": self.fates[Fate.RECEIVED],
            "downlinks_on_air": self.downlinks,
            "fates": {str(fate): count for fate, count in self.fates.items()},
            "nodes": [
                {"name": node.config.name, "dev_eui": str(node.config.dev_eui), "joined": node.joined}
                | asdict(node.counters)
                for node in self._world.nodes
            ],
        }

    def write(self, path: Path) -> None:
        """Replace the file, so that a reader sees the old or the new one."""
        new = path.with_name(path.name + ".new")
        new.write_text(json.dumps(self.summary()))
        os.replace(new, path)
