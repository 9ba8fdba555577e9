"""The servers that bench_mqtt.py compares, each a process of its own.

    python tests/bench/mqtt_servers.py DATA_DIR      the hub's door by itself; prints one line of JSON, listens

amqtt lives in an environment of its own that is made once in the user's cache folder; it is no part of the project.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
AMQTT = "amqtt==0.12.1"
TOPIC = "channels/6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c001/messages"


class Missing(Exception):
    """A server that is not there to be compared; the sentence says why."""


@dataclass
class Server:
    """One running server and how to log in."""

    name: str
    process: subprocess.Popen[str]
    port: int
    topic: str = TOPIC
    user: str = ""
    key: str = ""
    window: int = 10_000  # QoS 0 deliveries under way

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def start_hub(folder: Path) -> Server:
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder / "hub")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "platform")},
    )
    assert process.stdout is not None
    facts = json.loads(process.stdout.readline())
    return Server("hub", process, facts["port"], facts["topic"], facts["user"], facts["key"])


def start_mosquitto(folder: Path, *, durable: bool) -> Server:
    """Debian's mosquitto. Its queue bound is raised: at 1000 it drops most of what it acknowledged in a burst."""
    if shutil.which("mosquitto") is None:
        raise Missing("mosquitto is not installed")
    name = "mosquitto durable" if durable else "mosquitto"
    where, port = _place(folder, name)
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "user root", "set_tcp_nodelay true"]
    lines.append("max_queued_messages 100000")
    if durable:
        lines += ["persistence true", f"persistence_location {where}/"]
        lines += ["autosave_on_changes true", "autosave_interval 1"]
    (where / "conf").write_text("\n".join(lines) + "\n")
    return _started(name, ["mosquitto", "-c", str(where / "conf")], where, port)


def start_nats(folder: Path) -> Server:
    """nats-server's own MQTT listener over JetStream, each acknowledged message synchronised to the disk."""
    binary = Path(sys.executable).parent / "nats-server"
    if not binary.exists():
        raise Missing("nats-server is not installed")
    where, port = _place(folder, "nats")
    (where / "conf").write_text(
        f'server_name: bench\nlisten: "127.0.0.1:-1"\nmqtt {{ listen: "127.0.0.1:{port}" }}\n'
        f'jetstream {{ store_dir: "{where}", sync_interval: always }}\n'
    )
    return _started("JetStream sync always", [str(binary), "-c", str(where / "conf")], where, port)


def start_amqtt(folder: Path) -> Server:
    """amqtt with its defaults, in an environment of its own."""
    where, port = _place(folder, "amqtt")
    (where / "conf").write_text(
        f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n    max_connections: 2000\n"
        "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
    )
    command = [str(_amqtt_environment() / "bin/amqtt"), "-c", str(where / "conf")]
    server = _started("amqtt", command, where, port)
    server.window = 5_000  # it takes seconds for more, and drops none of these
    return server


def _amqtt_environment() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "fluxgate-bench" / AMQTT.replace("==", "-")
    if not (folder / "bin/amqtt").exists():
        print(f"making an environment for {AMQTT} in {folder}", flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            subprocess.run([folder / "bin/pip", "install", "-q", AMQTT], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise Missing(f"{AMQTT} cannot be installed: {error}") from None
    return folder


def _place(folder: Path, name: str) -> tuple[Path, int]:
    where = folder / name.replace(" ", "-")
    where.mkdir()
    where.chmod(0o777)  # a server may drop to a user of its own
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return where, port


def _started(name: str, command: list[str], where: Path, port: int) -> Server:
    with (where / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True, cwd=where)
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return Server(name, process, port)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    raise Missing(f"{name} does not start: {(where / 'log').read_text()[-300:]}")


async def _serve(folder: Path) -> None:
    from hub.hub import Hub
    from hub.mqtt import MIGRATIONS, Limits, MqttDoor

    hub = Hub.open(folder, migrations=MIGRATIONS)
    thing, key = hub.registry.create_thing("load")
    channel = hub.registry.create_channel("room")
    hub.registry.connect([channel.id], [thing.id])
    limits = Limits(connections=2000, connections_per_thing=2000)
    door = MqttDoor(hub, "127.0.0.1", 0, limits=limits)
    await door.start()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    topic = f"channels/{channel.id}/messages"
    print(json.dumps({"port": door.port, "topic": topic, "user": thing.id, "key": key}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    import uvloop

    # This, the loop and the collector's threshold are those of the gateway's process.
    sys.setswitchinterval(0.001)
    uvloop.run(_serve(Path(sys.argv[1])))
