"""What a client certificate costs: a connection over TLS, the gateway's own judgement, and the end of a session.

python tests/bench/bench_certificates.py [connections]
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT)]

from hub import mqtt  # noqa: E402
from hub.authority import profile  # noqa: E402
from hub.authority.certificates import Issued  # noqa: E402
from hub.authority.judge import Clock, judge  # noqa: E402
from hub.authority.profile import Names  # noqa: E402
from hub.hub import Hub  # noqa: E402
from hub.tls import door_context, load_pem  # noqa: E402

REVOCATIONS = 50
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c"


def gateway_context(hub: Hub) -> ssl.SSLContext:
    authority = hub.registry.authority
    authority.names = Names(("localhost",), ("127.0.0.1",))
    server = authority.new_server(hub.now_s())
    pair, issuing = authority.key_of(server), authority.issuing
    assert pair is not None
    assert issuing is not None
    context = door_context(authority.trusted())
    load_pem(context, profile.pem([server.certificate, issuing.certificate]) + profile.key_pem(pair.key))
    return context


def client_context(folder: Path, made: Issued | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if made is not None:
        file = folder / "client.pem"
        file.write_text(made.chain + made.key)
        context.load_cert_chain(file)
    return context


async def session(port: int, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(CONNECT)
    await reader.readexactly(4)
    return reader, writer


async def measure(connections: int, folder: Path) -> None:
    hub = Hub.open(folder, migrations=mqtt.MIGRATIONS)
    context = gateway_context(hub)
    door = mqtt.MqttDoor(hub, "127.0.0.1", 0)
    await door.start()
    port = await door.listen("127.0.0.1", 0, ssl=context)
    thing, _ = hub.registry.create_thing("pump")

    def issue() -> Issued:
        return hub.registry.certificates.issue(thing.id, hub.now_s(), "users/bench")

    for what, client in (
        ("without a certificate", client_context(folder, None)),
        ("with a certificate", client_context(folder, issue())),
    ):
        before = time.process_time()
        for _ in range(connections):
            _, writer = await session(port, client)
            writer.close()
        spent_ms = (time.process_time() - before) / connections * 1e3
        print(f"TLS and CONNECT {what}: {spent_ms:.2f} ms CPU, client and gateway together")

    authority, certificates = hub.registry.authority, hub.registry.certificates
    assert authority.issuing is not None
    assert authority.root is not None
    chain = [issue().certificate.encoded, authority.issuing.encoded, authority.root.encoded]
    before = time.process_time()
    for _ in range(connections):
        judge(chain, authority, certificates, Clock(hub.now_s(), True))
    print(f"judgement of a verified chain: {(time.process_time() - before) / connections * 1e6:.0f} us CPU")

    waits = []
    for _ in range(REVOCATIONS):
        made = issue()
        reader, writer = await session(port, client_context(folder, made))
        begun = time.perf_counter()
        serial = made.certificate.serial
        await asyncio.to_thread(certificates.revoke, [serial], hub.now_s())
        await reader.read()
        waits.append((time.perf_counter() - begun) * 1e3)
        writer.close()
    print(f"from the request to revoke to the closed session, commit included: median "
          f"{statistics.median(waits):.1f} ms, longest {max(waits):.1f} ms of {REVOCATIONS}")  # fmt: skip
    await door.close()
    await hub.close()


if __name__ == "__main__":
    logging.disable()
    with tempfile.TemporaryDirectory() as place:
        uvloop.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 300, Path(place)))
