"""A separate MQTT broker for the demonstration's upstream: mosquitto where installed, else a second hub."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import sys
from pathlib import Path

from paho.mqtt.enums import MQTTProtocolVersion

from gateway.supervisor import Program

MQTT_3_1_1 = MQTTProtocolVersion.MQTTv311
MQTT_5 = MQTTProtocolVersion.MQTTv5


LISTENING = range(20_000, 32_000)  # below what Linux gives to outgoing connections


def free_port(wanted: int = 0, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """`wanted` if nobody has it on loopback, else another one.

    Not one that the system chooses: an outgoing connection could get the same while nobody listens on it.
    """
    for port in (wanted or random.choice(LISTENING), *random.sample(LISTENING, 100)):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise OSError("no port is free on loopback")


def mosquitto_path() -> str | None:
    """Debian keeps it in /usr/sbin, which a user's PATH may lack."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def mosquitto(folder: Path, port: int, command: str) -> Program:
    """Mosquitto on loopback that keeps persistent sessions while it runs."""
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
        "log_type error\nlog_type warning\n"
    )
    return Program("upstream", [command, "-c", str(configuration)], folder / "upstream.log")


def second_hub(config_file: Path, folder: Path) -> Program:
    """Another gateway process, of which only the MQTT door is used."""
    command = [sys.executable, "-m", "gateway", "gateway", "--config", str(config_file)]
    return Program("upstream", command, folder / "upstream.log")
