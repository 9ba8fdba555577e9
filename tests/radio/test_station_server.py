"""The LNS client's thread against servers written from the protocol alone, over real TLS on loopback."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from gateway.demo.broker import free_port
from radio.concentrator import TxResult
from radio.config import ModuleConfig, RadioConfig
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.hardware.clock import MonotonicClock
from radio.lora import LoRaModulation
from radio.regions import get_region
from radio.seam import Edge
from radio.server_config import ServerConfig
from radio.service import Platform, run_radio
from radio.station.client import Client
from radio.station.credentials import Credentials, check_uri
from radio.station.server import StationServer
from tests.hub.pki import Authority, Pair

EUI = bytes.fromhex("b827ebfffe123456")
TOKEN = "NNSXS.an-api-key-as-the-things-stack-makes-them"
UPDF = bytes.fromhex("40abcdefff01f3f4ff202122a0a1a2a3")
CONFIG: dict[str, Any] = {
    "msgtype": "router_config",
    "NetID": None,
    "JoinEui": None,
    "region": "EU863",
    "hwspec": "sx1301/1",
    "freq_range": [863000000, 870000000],
    "DRs": [[12 - dr, 125, 0] for dr in range(6)] + [[-1, 0, 0]] * 10,
    "upchannels": [[868100000, 0, 5]],
    "sx1301_conf": [{}],
}


@dataclass
class Judge:
    """An LNS by the text of the protocol; `discovery` and `greeting` are what it says."""

    context: ssl.SSLContext | None
    discovery: Callable[["Judge"], dict[str, Any] | str] = lambda judge: {
        "router": "b827:ebff:fe12:3456",
        "muxs": "muxs-::1",
        "uri": f"{judge.uri}/traffic/eui-1",
    }
    greeting: list[dict[str, Any] | str] = field(default_factory=lambda: [CONFIG])
    token: str = f"Bearer {TOKEN}"
    heard: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    sockets: list[ServerConnection] = field(default_factory=list)
    certificates: list[Any] = field(default_factory=list)
    server: Server | None = None
    port: int = field(default_factory=free_port)  # that no connection gets while nobody listens

    @property
    def uri(self) -> str:
        return f"{'wss' if self.context else 'ws'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.server = serve(
            self._serve,
            "127.0.0.1",
            self.port,
            ssl=self.context,
            process_request=self._admit,
            close_timeout=1,
            open_timeout=15,
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kill(self) -> None:
        """The server is gone, its connections with it."""
        assert self.server is not None
        self.server.shutdown()
        for connection in self.sockets:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(2)
        self.sockets.clear()

    def say(self, message: dict[str, Any]) -> None:
        self.sockets[-1].send(json.dumps(message))

    def await_(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 15)

    def of(self, msgtype: str) -> list[dict[str, Any]]:
        return [message for message in self.heard if message["msgtype"] == msgtype]

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        if self.token and request.headers.get("Authorization") != self.token:
            return socket.respond(HTTPStatus.UNAUTHORIZED, "no")
        return None

    def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        if isinstance(socket.socket, ssl.SSLSocket):
            self.certificates.append(socket.socket.getpeercert())
        with contextlib.suppress(ConnectionClosed, OSError):
            if socket.request.path == "/router-info":
                self.asked.append(json.loads(socket.recv(10)))
                answer = self.discovery(self)
                socket.send(answer if isinstance(answer, str) else json.dumps(answer))
                return
            self.sockets.append(socket)
            for text in socket:
                message = json.loads(text)
                if message["msgtype"] == "version":
                    for said in self.greeting:
                        socket.send(said if isinstance(said, str) else json.dumps(said))
                with self.changed:
                    self.heard.append(message)
                    self.changed.notify_all()


@dataclass
class Running:
    """The client's thread, and a radio that takes every order."""

    server: StationServer
    orders: list[TxPacket]
    stop: threading.Event
    thread: threading.Thread

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def trouble(self) -> str:
        """What the first failed attempt is called."""
        self.until(lambda: self.server.core.counters["connections_failed"])
        trouble: str = self.server.status()["trouble"]
        return trouble


class Impatient:
    """A random number generator whose waits are as short as they may be."""

    def uniform(self, _low: float, _high: float) -> float:
        return 0.05

    def randrange(self, low: int, _high: int) -> int:
        return low


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    """A maker of running clients; they are ended afterwards."""
    made: list[Running] = []

    def make(uri: str, credentials: Credentials, *, downlinks: bool = True) -> Running:
        orders: list[TxPacket] = []

        def transmit(order: TxPacket, now_ns: int) -> TxResult:
            orders.append(order)
            return TxResult(TxError.NONE, start_ns=now_ns + 10_000_000, id=len(orders))

        core = Client(
            get_region("EU868"), transmit, name="things", downlinks=downlinks, heard_hz=[868_100_000]
        )
        rng: Any = Impatient()
        server = StationServer(core, EUI, uri, credentials, MonotonicClock(), rng=rng)
        stop = threading.Event()
        thread = threading.Thread(target=server.run, args=(stop,))
        made.append(Running(server, orders, stop, thread))
        thread.start()
        return made[-1]

    yield make
    for running in made:
        running.stop.set()
        running.server.wake()
    for running in made:
        running.thread.join(15)
        assert not running.thread.is_alive()
        running.server.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def judge(authority: Authority) -> Iterator[Judge]:
    judge = Judge(server_side(authority, authority.server()))
    judge.start()
    yield judge
    judge.kill()


def server_side(authority: Authority, pair: Pair, *, ask: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if ask:
        context.load_verify_locations(authority.cert)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def trusting(authority: Authority, token: str = TOKEN) -> Credentials:
    return Credentials(ca_file=str(authority.cert), token=token)


def heard(freq_hz: int = 868_100_000) -> RxPacket:
    tmst = time.monotonic_ns() // 1000 % (1 << 32)
    return RxPacket(tmst, freq_hz, 0, 0, 1, LoRaModulation(7, 125_000), -80, 7.5, UPDF)


def test_a_frame_goes_up_and_its_answer_comes_down_and_is_reported(
    judge: Judge, authority: Authority, run: Any
) -> None:
    client = run(judge.uri, trusting(authority))
    judge.await_(lambda: judge.of("timesync"))
    assert judge.asked == [{"router": "b827:ebff:fe12:3456"}]
    assert judge.heard[0]["msgtype"] == "version"
    client.server.frame(heard())
    judge.await_(lambda: judge.of("updf"))
    (up,) = judge.of("updf")
    assert (up["FCnt"], up["DR"], up["Freq"]) == (62707, 5, 868_100_000)
    judge.say(
        {
            "msgtype": "dnmsg",
            "DevEui": "00-00-00-00-00-00-00-01",
            "dC": 0,
            "diid": 42,
            "pdu": "600102",
            "RxDelay": 1,
            "RX1DR": 5,
            "RX1Freq": 868100000,
            "xtime": up["upinfo"]["xtime"],
            "rctx": up["upinfo"]["rctx"],
        }
    )
    client.until(lambda: client.orders)
    assert client.orders[0].tmst == (up["upinfo"]["xtime"] + 1_000_000) % (1 << 32)
    client.server.sent(1)
    judge.await_(lambda: judge.of("dntxed"))
    assert judge.of("dntxed")[0]["diid"] == 42
    status = client.server.status()
    assert (status["kind"], status["connected"], status["forwarded"], status["downlinks_sent"]) == (
        "station",
        True,
        1,
        1,
    )


def test_a_server_that_was_killed_is_found_again(judge: Judge, authority: Authority, run: Any) -> None:
    client = run(judge.uri, trusting(authority))
    for times in (1, 2):
        judge.await_(lambda: len(judge.of("version")) == times)  # noqa: B023
        client.until(lambda: client.server.core.connected)
        judge.kill()
        client.until(lambda: not client.server.core.connected)
        client.server.frame(heard())
        judge.start()
    judge.await_(lambda: len(judge.of("updf")) == 2)
    assert client.server.core.counters["connections"] >= 3


def test_a_certificate_of_the_gateway_is_shown(authority: Authority, run: Any) -> None:
    judge = Judge(server_side(authority, authority.server(), ask=True), token="")
    judge.start()
    pair = authority.issue(EUI.hex())
    credentials = Credentials(str(authority.cert), str(pair.cert), str(pair.key))
    client = run(judge.uri, credentials)
    client.until(lambda: client.server.core.connected)
    assert judge.certificates[0]["subject"] == ((("commonName", EUI.hex()),),)
    judge.kill()


def test_a_wrong_token_is_said_in_words(judge: Judge, authority: Authority, run: Any) -> None:
    assert "401; is the token" in run(judge.uri, trusting(authority, "another-token-than-that")).trouble()


@pytest.mark.parametrize("case", ["expired", "of a stranger", "for another host", "for clients"])
def test_a_server_that_cannot_be_trusted_gets_no_token(
    authority: Authority, tmp_path: Path, run: Any, case: str
) -> None:
    (tmp_path / "stranger").mkdir()
    pair = {
        "expired": lambda: authority.issue("x", server=True, from_days=-3, to_days=-1),
        "of a stranger": lambda: Authority(tmp_path / "stranger").server(),
        "for another host": lambda: authority.issue("x", server=True),
        "for clients": lambda: authority.issue("x"),
    }[case]()
    judge = Judge(server_side(authority, pair))
    judge.start()
    client = run(judge.uri, trusting(authority))
    assert "not trusted" in client.trouble()
    client.until(lambda: client.server.core.counters["connections_failed"] >= 2)
    assert judge.asked == [], "nor at the second attempt"
    judge.kill()


def test_the_negative_control_of_trust_connects(authority: Authority, run: Any) -> None:
    """The same server with a good certificate: it is the certificate that decides."""
    judge = Judge(server_side(authority, authority.server()))
    judge.start()
    client = run(judge.uri, trusting(authority))
    client.until(lambda: client.server.core.connected)
    judge.kill()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param({"router": "::1", "error": "no such gateway"}, "no such gateway", id="refused"),
        pytest.param({"router": "::1", "uri": "ws://127.0.0.1:1/x"}, "with TLS or without", id="without TLS"),
        pytest.param({"router": "::1", "uri": "http://127.0.0.1/x"}, "none", id="no WebSocket"),
        pytest.param({"router": "::1", "uri": "wss://[::bad/x"}, "none", id="no address"),
        pytest.param("{", "truncated", id="garbage"),
        pytest.param({"router": "::1"}, "neither", id="nothing"),
    ],
)
def test_answers_to_the_discovery_that_lead_nowhere(
    judge: Judge, authority: Authority, run: Any, answer: Any, words: str
) -> None:
    judge.discovery = lambda _judge: answer
    assert words in run(judge.uri, trusting(authority)).trouble()
    assert judge.sockets == []


def test_garbage_is_counted_and_the_connection_stays(judge: Judge, authority: Authority, run: Any) -> None:
    judge.greeting = ["{", "[]", '{"msgtype":"dnmsg"}', '{"msgtype":"runcmd","command":"reboot"}', CONFIG]
    client = run(judge.uri, trusting(authority))
    client.until(lambda: client.server.core.connected)
    assert client.server.core.counters["messages_malformed"] == 3
    assert client.server.core.counters["remote_control_refused"] == 1
    client.server.frame(heard())
    judge.await_(lambda: judge.of("updf"))


def test_a_message_that_is_too_long_ends_the_connection(judge: Judge, authority: Authority, run: Any) -> None:
    judge.greeting = ["x" * 100_000]
    assert "ended" in run(judge.uri, trusting(authority)).trouble()


def test_frames_wait_in_a_bounded_queue_while_nobody_answers(run: Any, authority: Authority) -> None:
    client = run("wss://127.0.0.1:9", trusting(authority))
    for _ in range(300):
        client.server.frame(heard())
    assert client.server.core.counters["frames_dropped"] == 300 - 256
    assert client.trouble()


@pytest.mark.parametrize(
    "uri",
    ["", "wss://", "http://x", "ws://elsewhere.example:1887", "wss://u:p@x", "wss://x:99999", "wss://[x"],
)
def test_addresses_that_are_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"wss://"):
        check_uri(uri)


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("wss://eu1.cloud.thethings.network:8887", "wss://eu1.cloud.thethings.network:8887"),
        ("wss://eu1.cloud.thethings.network:8887/", "wss://eu1.cloud.thethings.network:8887"),
        ("wss://x/router-info", "wss://x"),
        ("ws://127.0.0.1:1887", "ws://127.0.0.1:1887"),
        ("wss://[::1]:8887", "wss://[::1]:8887"),
    ],
)
def test_addresses_that_are_taken(uri: str, base: str) -> None:
    assert check_uri(uri) == base


def test_credentials_show_no_token_and_say_what_is_missing(tmp_path: Path) -> None:
    assert "secret" not in repr(Credentials(token="secret-of-this-gateway"))
    assert Credentials(token="abc").headers() == {"Authorization": "Bearer abc"}
    assert Credentials(token="Bearer abc").headers() == {"Authorization": "Bearer abc"}
    assert Credentials().headers() == {}
    with pytest.raises(ValueError, match="both"):
        Credentials(cert_file="x")
    with pytest.raises(ValueError, match="header"):
        Credentials(token="a\r\nb: c")
    with pytest.raises(OSError, match="ca_file"):
        Credentials(ca_file=str(tmp_path / "none.pem")).context()


class NoLines:
    """The wires of a module on which nothing happens."""

    backend = "sim"
    poll_ns: int | None = None

    def fileno(self) -> int | None:
        return None

    def read_edges(self) -> list[Edge]:
        return []

    def get(self, name: str) -> bool:
        return False

    def set(self, name: str, level: bool) -> None:
        pass

    def close(self) -> None:
        pass


def test_the_radio_process_serves_an_lns_beside_the_local_gateway(
    judge: Judge, authority: Authority, bus: Any, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as local:
        local.bind(("127.0.0.1", 0))
        things = ServerConfig("things", "station", uri=judge.uri, credentials=trusting(authority))
        config = RadioConfig(
            modules=(ModuleConfig("fluxgate-sim-4"),),
            gateway_eui=EUI,
            server_port=local.getsockname()[1],
            servers=(things,),
        )
        platform = Platform(
            bus=lambda _board, _wiring: bus,
            lines=lambda _board, _wiring, _clock: NoLines(),
            clock=lambda _name: MonotonicClock(),
        )
        stop = threading.Event()
        thread = threading.Thread(target=run_radio, args=(config, stop, platform))
        thread.start()
        try:
            judge.await_(lambda: judge.of("timesync"))
            local.settimeout(15)
            assert local.recv(4096)
        finally:
            stop.set()
            thread.join(15)
        assert not thread.is_alive()
    assert judge.asked == [{"router": "b827:ebff:fe12:3456"}]


def test_settings_of_a_server_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"things: .*without TLS"):
        ServerConfig("things", "station", uri="ws://elsewhere.example:1887")
