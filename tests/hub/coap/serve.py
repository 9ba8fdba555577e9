"""A hub with its CoAP door as a process of its own: `serve.py DATA_DIR [PORT [forgetful]]`.

Creates two things on one channel the first time. Prints one line of JSON (port, ids, keys) when it listens, and runs
until it is killed or its standard input ends; then one more with the counters. `forgetful` is for a control: such a
door does not look at what the last run stored.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from hub.coap import MIGRATIONS, CoapDoor
from hub.hub import Hub


async def serve(folder: Path, port: int, *, forgetful: bool) -> None:
    hub = Hub.open(folder, migrations=MIGRATIONS)
    if forgetful:
        await hub.log.write([("DELETE FROM coap_exchange", ())])
    door = CoapDoor(hub, "127.0.0.1", port)
    facts = folder / "facts.json"
    if facts.exists():
        known = json.loads(facts.read_text())
    else:
        known = {"channel": hub.registry.create_channel("room").id}
        for name in ("a", "b"):
            thing, key = hub.registry.create_thing(name)
            known[name] = [thing.id, key]
            hub.registry.connect([known["channel"]], [thing.id])
        facts.write_text(json.dumps(known))
    await door.start()
    if "oscore" not in known:
        made = await door.contexts.create(known["a"][0])
        known["oscore"] = {
            name: getattr(made, name).hex()
            for name in ("master_secret", "master_salt", "sender_id", "recipient_id")
        }
        facts.write_text(json.dumps(known))
    print(json.dumps(known | {"port": door.port}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await door.close()
    print(json.dumps(door.counters), flush=True)
    await hub.close()


if __name__ == "__main__":
    given = sys.argv[2:]
    asyncio.run(serve(Path(sys.argv[1]), int(given[0]) if given else 0, forgetful="forgetful" in given))
