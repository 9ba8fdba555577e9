"""A process that changes the registry until it is killed; test_events.py runs it.

Arguments: the data directory, and "told" or "untold": whether it puts its events into the log as well. Each line on
standard output is a change that is durable: `<operation> <id>`.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from hub.hub import Hub, HubSettings


def say(text: str) -> None:
    """One unbuffered line; it counts as said once the kernel has it."""
    os.write(1, text.encode() + b"\n")


async def main(folder: str, manner: str) -> None:
    hub = Hub.open(Path(folder), settings=HubSettings(commit_interval_s=0.01, events=True))
    if manner == "told":
        await hub.events.start()
    registry = hub.registry
    dice = random.Random()
    while True:
        things = registry.all_things()
        if len(things) < 3 or dice.random() < 0.5:
            thing, _ = await asyncio.to_thread(registry.create_thing, "x")
            say(f"thing.create {thing.id}")
        else:
            gone = dice.choice(things).id
            await asyncio.to_thread(registry.remove_thing, gone)
            say(f"thing.remove {gone}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
