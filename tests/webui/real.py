"""The real gateway, its real pages and a real broker as processes, and a radio that feeds them over GWMP."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gateway.config import show
from gateway.demo.broker import free_port, mosquitto, mosquitto_path
from gateway.lorawan.crypto import SessionCrypto, SessionKeys
from gateway.lorawan.frames import build_uplink, open_downlink
from gateway.lorawan.types import AES128Key, DevAddr
from gateway.settings import (
    CoapSection,
    Config,
    GatewaySection,
    HttpSection,
    HubSection,
    LorawanSection,
    ModuleSection,
    MqttSection,
    RadioSection,
    UpstreamSection,
    WebuiSection,
)
from radio import gwmp
from radio.lora import LoRaModulation

GATEWAY_EUI = bytes.fromhex("02f10f6a7e0000aa")
TEMPERATURE_AND_HUMIDITY = bytes.fromhex("0167010d02685a")  # Cayenne LPP: 26.9 Cel on 1, 45 %RH on 2
T = TypeVar("T")
DEADLINE_S = 60.0
LISTENING = re.compile(r"MQTT on (\d+), HTTP on (\d+), .*GWMP on (\d+)")


class Sensor:
    """The device half of an ABP device, with made-up keys."""

    dev_eui = "70b3d57ed0000001"
    dev_addr = DevAddr(0x01000001)
    nwk_s_key = AES128Key(b"n" * 16)
    app_s_key = AES128Key(b"a" * 16)

    def __init__(self) -> None:
        self._crypto = SessionCrypto(self.dev_addr, SessionKeys.of_1_0(self.nwk_s_key, self.app_s_key))
        self._fcnt = -1

    def uplink(self) -> bytes:
        """The next frame."""
        self._fcnt += 1
        return build_uplink(
            self._crypto, self.dev_addr, self._fcnt, fport=1, payload=TEMPERATURE_AND_HUMIDITY
        )

    def opens(self, phy: bytes) -> tuple[int | None, bytes]:
        """Port and payload of a downlink. Raises FrameError where it is not for this device."""
        frame, _, payload = open_downlink(self._crypto, self.dev_addr, None, phy)
        return frame.fport, payload


class Forwarder:
    """A packet forwarder that accepts every downlink and keeps it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._token = 0
        self._acks: queue.SimpleQueue[gwmp.Datagram] = queue.SimpleQueue()
        self.downlinks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._receive, name="forwarder", daemon=True)
        self._thread.start()

    def pull(self) -> None:
        """Open the way for downlinks."""
        self._ask(gwmp.PullData(self._next(), GATEWAY_EUI))

    def push(self, frame: bytes) -> None:
        """Hand in a frame; returns once the gateway has it."""
        heard = gwmp.RxPacket(1_000_000, 868_100_000, 0, 0, 1, LoRaModulation(7, 125_000), -80, 7.5, frame)
        self._ask(gwmp.PushData(self._next(), GATEWAY_EUI, (heard,)))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _next(self) -> int:
        self._token += 1
        return self._token

    def _ask(self, datagram: gwmp.Datagram) -> None:
        self._socket.send(gwmp.encode(datagram))
        self._acks.get(timeout=DEADLINE_S)

    def _receive(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                datagram = gwmp.decode(data)
                if isinstance(datagram, gwmp.PullResp):
                    self.downlinks.put(datagram.txpk.data)
                    self._socket.send(gwmp.encode(gwmp.TxAck(datagram.token, GATEWAY_EUI, gwmp.TxError.NONE)))
                else:
                    self._acks.put(datagram)


@dataclass
class Cloud:
    """Mosquitto on one port, which can be stopped and started."""

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = mosquitto_path()
        assert path is not None, "mosquitto is not installed"
        self._process = subprocess.Popen(mosquitto(self.folder, self.port, path).command)
        wait_for_port(self.port)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE_S)
            self._process = None


@dataclass
class RealSite:
    """A running gateway with its pages."""

    config: Config
    url: str  # of the pages
    forwarder: Forwarder
    cloud: Cloud

    def claim_code(self) -> str:
        """What the gateway wrote for those who are on the machine."""
        path = Path(self.config.gateway.runtime_dir) / "claim-code"
        wait_until(path.exists, "claim code")
        return path.read_text().strip()


@contextmanager
def real_site(folder: Path) -> Iterator[RealSite]:
    """Everything up, then everything down."""
    with contextlib.ExitStack() as stack:
        cloud = Cloud(folder, free_port())
        stack.callback(cloud.stop)
        cloud.start()
        config = Config(
            gateway=GatewaySection(
                name="north barn",
                eui=GATEWAY_EUI.hex(),
                data_dir=str(folder / "data"),
                runtime_dir=str(folder / "run"),
            ),
            radio=RadioSection(module=(ModuleSection(),)),
            lorawan=LorawanSection(port=0),
            hub=HubSection(commit_interval_s=0.05),
            mqtt=MqttSection(port=0),
            http=HttpSection(port=0, workshop_port=0),
            coap=CoapSection(port=0),
            webui=WebuiSection(port=free_port()),
            upstream=(UpstreamSection(name="cloud", host="127.0.0.1", port=cloud.port, tls=False),),
        )
        file = folder / "fluxgate.toml"
        file.write_text(show(config))
        log = folder / "gateway.log"
        stack.enter_context(_fluxgate("gateway", file, log))
        ports = wait_until(lambda: LISTENING.search(log.read_text()), "the gateway's ports", log)
        # The pages are told the port that the system has chosen for the gateway's HTTP door.
        file.write_text(file.read_text().replace('api_url = ""', f'api_url = "http://127.0.0.1:{ports[2]}"'))
        stack.enter_context(_fluxgate("webui", file, folder / "webui.log"))
        wait_for_port(config.webui.port)
        forwarder = Forwarder(int(ports[3]))
        stack.callback(forwarder.close)
        forwarder.pull()
        yield RealSite(config, f"http://127.0.0.1:{config.webui.port}", forwarder, cloud)


@contextmanager
def _fluxgate(command: str, config: Path, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", command, "--config", str(config)],
            stdout=output,
            stderr=output,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": "platform"},
        )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(DEADLINE_S) in (0, -15), log.read_text()


def wait_for_port(port: int) -> None:
    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    wait_until(listens, f"a listener on port {port}")


def wait_until(condition: Callable[[], T | None], what: str, log: Path | None = None) -> T:
    """The first true answer of `condition`; fails the test where there is none for DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"no {what} {log.read_text() if log else ''}"
        time.sleep(0.02)
    return answer
