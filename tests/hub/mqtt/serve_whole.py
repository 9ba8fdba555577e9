"""A hub with every way in for MQTT, as a process of its own: `serve_whole.py FACTS`.

FACTS is a JSON file: {"folder", "ports": {tcp, tls, mutual, ws}, "cert", "key", "authority"}; ports of 0 are chosen by
the system. Prints one line of JSON when all listen: the facts with the ports, and the things of the first start.
Runs until its standard input ends, or it is killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from hub.http.app import create_app
from hub.http.door import HttpDoor
from hub.hub import Hub
from hub.mqtt import MIGRATIONS, Limits, MqttDoor
from hub.mqtt.websocket import asgi_app
from hub.tls import server_context

HOST = "127.0.0.1"


def people(hub: Hub) -> dict[str, Any]:
    """Things a, b and "certified" on one channel, "stranger" on none, and an administrator's token."""
    channel = hub.registry.create_channel("room").id
    known: dict[str, Any] = {"channel": channel}
    for name in ("a", "b", "stranger"):
        thing, key = hub.registry.create_thing(name)
        known[name] = [thing.id, key]
    thing, _ = hub.registry.create_thing("certified", id="certified-1")
    hub.registry.connect([channel], [known["a"][0], known["b"][0], thing.id])
    code = hub.registry.claim_code()
    assert code
    user = hub.registry.claim(code, "admin@example.org", "a long enough password")
    known["admin"] = ["admin@example.org", hub.registry.issue_token(user.id, time.time())]
    return known


async def serve(given: dict[str, Any]) -> None:
    folder = Path(given["folder"])
    hub = Hub.open(folder, migrations=MIGRATIONS)
    facts = folder / "facts.json"
    known = json.loads(facts.read_text()) if facts.exists() else people(hub)
    facts.write_text(json.dumps(known))
    ports = given["ports"]
    door = MqttDoor(hub, HOST, ports["tcp"], limits=Limits(connections_per_thing=100))
    await door.start()
    ports["tcp"] = door.port
    tls = {"client_ca_file": given["authority"]}
    context = server_context(given["cert"], given["key"], **tls)
    ports["tls"] = await door.listen(HOST, ports["tls"], ssl=context)
    mutual = server_context(given["cert"], given["key"], client_cert_required=True, **tls)
    ports["mutual"] = await door.listen(HOST, ports["mutual"], ssl=mutual)
    web = HttpDoor(hub, create_app(hub, mqtt=asgi_app(door)), HOST, ports["ws"])
    await web.start()
    ports["ws"] = web.port
    print(json.dumps(given | known), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await web.close()
    await door.close()
    await hub.close()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text())))
