"""The socket protocol: its words, damaged words, and foreign clients in lock-step."""

import contextlib
import random
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from hw_sim import protocol
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.edges import PinEdge, Trigger
from hw_sim.errors import ProtocolError
from hw_sim.hosts import LocalHost
from hw_sim.links import AirSettings
from hw_sim.server import Server
from hw_sim.socket_host import SocketHost
from hw_sim.sx1276 import SX1276
from radio.lora import LoRaModulation, airtime_us

US, MS, S = 1_000, 1_000_000, 1_000_000_000
DOCS = Path(__file__).parents[2] / "docs" / "hw_sim.md"

REQUESTS = {
    b"hello 1 node-1": protocol.Hello("node-1"),
    b"spi 0 1 4200": protocol.Spi(0, 1, b"\x42\x00", 8_000_000),
    b"spi 0 1 8D00ff 1000000": protocol.Spi(0, 1, b"\x8d\x00\xff", 1_000_000),
    b"read 4": protocol.Read(4),
    b"write 17 0": protocol.Write(17, False),
    b"write 17 1": protocol.Write(17, True),
    b"watch 4 rising": protocol.WatchLine(4, Trigger.RISING),
    b"watch 4 none": protocol.WatchLine(4, Trigger.NONE),
    b"time": protocol.Time(),
    b"delay 1000": protocol.Delay(1000),
    b"wait -": protocol.Wait(None),
    b"wait 5": protocol.Wait(5),
    b"yield": protocol.Yield(),
    b"wake node-1": protocol.Wake("node-1"),
    b"bye": protocol.Bye(),
}


@pytest.mark.parametrize(("line", "request_"), REQUESTS.items())
def test_request(line, request_):
    assert protocol.parse_request(line) == request_


@pytest.mark.parametrize(
    "line",
    [
        b"", b" time", b"time ", b"spi 0 0", b"spi 0 0 1", b"spi 0 0 gg", b"spi 0 0 " + b"00" * 4097, b"spi -1 0 00",
        b"spi 0 0 00 999", b"write 17 2", b"watch 4 up", b"delay 1.5", b"delay 99999999999999999999999", b"wait",
        b"hello 2 x", b"hello 1 a/b", b"hello 1 " + b"x" * 33, b"read \xb2", b"\xff\xfe", b"DELAY 1",
    ],
)  # fmt: skip
def test_what_is_no_request(line):
    with pytest.raises(ProtocolError):
        protocol.parse_request(line)


def test_replies_are_written_as_documented_and_read_back():
    edges = [PinEdge(4, True, 77, 1, 1), PinEdge(23, False, 78, 2, 1)]
    line = protocol.format_reply(100, "0012", edges)
    assert line == b"ok 100 0012 2 4 1 77 23 0 78\n"
    assert protocol.parse_reply(line[:-1]) == protocol.Reply(100, "0012", ((4, True, 77), (23, False, 78)))
    assert protocol.format_reply(5, "") == b"ok 5 - 0\n"
    assert protocol.parse_reply(b"ok 5 - 0").result == ""
    assert protocol.format_error(5, "no\nsuch\xe9") == b"err 5 no?such?\n"
    with pytest.raises(ProtocolError, match="no such"):
        protocol.parse_reply(b"err 5 no such thing")


@pytest.mark.parametrize(
    "line", [b"", b"ok", b"ok 1 - 1", b"ok 1 - 1 4 1", b"ok x - 0", b"\xff", b"ok 1 - 0 7"]
)
def test_what_is_no_reply(line):
    with pytest.raises(ProtocolError):
        protocol.parse_reply(line)


def test_damaged_lines_raise_nothing_but_protocol_error():
    rng = random.Random(1)
    lines = [*REQUESTS, b"ok 100 0012 2 4 1 77 23 0 78"]
    for _ in range(8000):
        damaged = bytearray(rng.choice(lines))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(damaged) + 1)
            match rng.randrange(4):
                case 0:
                    damaged[at:at] = rng.randbytes(rng.randint(1, 3))
                case 1:
                    del damaged[at : at + rng.randint(1, 4)]
                case 2 if at < len(damaged):
                    damaged[at] = rng.choice(b" 0123456789-\xb2\xffaz")
                case _:
                    damaged = damaged[:at] + rng.choice(lines)
        for parse in (protocol.parse_request, protocol.parse_reply):
            with contextlib.suppress(ProtocolError):
                parse(bytes(damaged))


class World:
    """Two chips on one air, each on a machine of its own, behind a server each."""

    def __init__(self, kernel, tmp_path):
        self.kernel = kernel
        self.air = Air(kernel, AirSettings(fading_db=0.0))
        self.servers = []
        for i, address in enumerate((("127.0.0.1", 0), str(tmp_path / "sim.sock"))):
            chip = SX1276(kernel, f"chip{i}")
            self.air.add(chip, 50.0 * i)
            board = Board(kernel)
            board.connect(chip, (0, 0), {0: 4, 1: 23}, reset=17)
            self.servers.append(Server(LocalHost(kernel, board), address))

    @property
    def port(self):
        return self.servers[0].address[1]

    @property
    def path(self):
        return self.servers[1].address


@pytest.fixture
def world(kernel, tmp_path):
    made = World(kernel, tmp_path)
    yield made
    kernel.close()
    for server in made.servers:
        server.close()


def run_while(kernel, process):
    """Run virtual time until a foreign process has ended; give what it printed."""
    ended = threading.Event()
    output = []

    def watch():
        output.extend(process.communicate(timeout=60))
        ended.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    kernel.run(stop=ended)
    watcher.join()
    assert process.returncode == 0, output
    return output[0]


def expected_tx_done_us():
    return 175 + airtime_us(LoRaModulation(7, 125_000), 5, crc=False)


def test_the_documented_c_client_drives_a_chip(world, kernel, tmp_path):
    source = re.search(r"```c\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    assert len([line for line in source.splitlines() if line.strip()]) < 100
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        command = [sys.executable, "-c", PLAIN_CLIENT, str(world.port)]
    else:
        (tmp_path / "client.c").write_text(source)
        binary = tmp_path / "client"
        subprocess.run(
            [compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", binary, tmp_path / "client.c"],
            check=True,
        )
        command = [str(binary), str(world.port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output = run_while(kernel, process)
    # 10 us of the transfer that started the transmission had passed for the client when it looked at the clock
    assert output == f"edge after {expected_tx_done_us() - 10} us, flags 08\n"
    assert world.air.records.frames[-1].payload == b"hello"


# What a foreign driver does, with nothing of ours imported.
PLAIN_CLIENT = textwrap.dedent("""
    import socket, sys
    link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    lines = link.makefile("rb")
    edges = []
    def request(line):
        link.sendall(line.encode() + b"\\n")
        words = lines.readline().split()
        assert words[0] == b"ok", words
        edges.extend(int(word) for word in words[6::3])
        return int(words[1]), words[2].decode()
    request("hello 1 plain")
    request("write 17 0"); request("delay 200000"); request("write 17 1"); request("delay 5000000")
    assert request("spi 0 0 4200")[1] == "0012"
    for transfer in ("8180", "8181", "89fc", "8e00", "8d00", "80" + b"hello".hex(), "a205", "c040"):
        request("spi 0 0 " + transfer)
    request("watch 4 rising")
    began, _ = request("spi 0 0 8183")
    _, result = request("wait -")
    flags = request("spi 0 0 1200")[1][2:]
    print(f"{result} after {(edges[0] - began) // 1000} us, flags {flags}")
    request("bye")
""")


def test_a_plain_client_in_another_process_drives_a_chip(world, kernel):
    process = subprocess.Popen(
        [sys.executable, "-c", PLAIN_CLIENT, str(world.port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run_while(kernel, process) == f"edge after {expected_tx_done_us() - 10} us, flags 08\n"


def in_thread(fn):
    """Run `fn` in a thread outside lock-step; `result()` joins and gives what it returned or raised."""
    box = []

    def body():
        try:
            box.append((fn(), None))
        except BaseException as error:
            box.append((None, error))

    thread = threading.Thread(target=body)
    thread.start()

    def result():
        thread.join(30)
        value, error = box[0]
        if error is not None:
            raise error
        return value

    return result


def test_two_socket_clients_meet_on_the_air_in_lockstep(world, kernel):
    def receiver():
        host = SocketHost(world.path, "receiver")
        watch = host.watch({4: Trigger.RISING})
        for transfer in ("8180", "8181", "8185"):
            host.xfer(0, 0, bytes.fromhex(transfer))
        host.wait((watch,), None)
        (edge,) = host.take(watch)
        host.xfer(0, 0, b"\x8d\x00")
        payload = host.xfer(0, 0, bytes(6))[1:]
        host.close()
        return edge.t_ns, payload

    def sender():
        host = SocketHost(world.servers[0].address, "sender")
        host.delay(10 * MS)
        for transfer in ("8180", "8181", "89fc", "8e00", "8d00", "80" + b"hello".hex(), "a205", "8183"):
            host.xfer(0, 0, bytes.fromhex(transfer))
        host.delay(S)
        now_ns = host.now_ns()
        host.close()
        return now_ns

    results = [in_thread(receiver), in_thread(sender)]
    kernel.await_clients(2)
    kernel.run_until(2 * S)
    (edge_ns, payload), sent_ns = (result() for result in results)
    assert payload == b"hello"
    assert edge_ns == world.air.records.frames[-1].end_ns
    assert sent_ns > S


def test_pins_time_and_errors_over_the_socket(world, kernel):
    def work():
        host = SocketHost(world.path, "pins")
        host.write_pin(20, True)
        levels = [host.read_pin(20), host.read_pin(21)]
        began = host.now_ns()
        host.delay(5 * MS)
        passed = host.now_ns() - began
        with pytest.raises(ProtocolError, match="no chip on SPI bus 7"):
            host.xfer(7, 0, b"\x42\x00")
        host.xfer(0, 0, b"\x81\x00")
        with pytest.raises(ProtocolError, match="SLEEP"):
            host.xfer(0, 0, b"\x00\x00")
        limit = host.wait((), host.now_ns() + MS)
        host.wake()
        woken = host.wait((), None)
        with pytest.raises(ProtocolError, match="already"):
            SocketHost(world.path, "pins")
        host.close()
        return levels, passed // MS, limit, woken

    result = in_thread(work)
    kernel.await_clients(1)
    stop = threading.Event()
    waiter = threading.Thread(target=lambda: (result(), stop.set()))
    waiter.start()
    kernel.run(stop=stop)
    waiter.join()
    assert result() == ([True, False], 5, False, True)


def test_watched_directions_are_merged_and_undone(world, kernel):
    def work():
        host = SocketHost(world.path, "edges")
        rising = host.watch({20: Trigger.RISING})
        falling = host.watch({20: Trigger.FALLING})
        host.write_pin(20, True)
        host.write_pin(20, False)
        counts = [len(host.take(watch)) for watch in (rising, falling)]
        host.unwatch(rising)
        host.write_pin(20, True)
        host.write_pin(20, False)
        counts.append(len(host.take(falling)))
        host.close()
        return counts

    result = in_thread(work)
    kernel.await_clients(1)
    kernel.run_until(S)
    assert result() == [1, 1, 1]


def raw(world, *lines):
    """Send lines on a connection; give the replies until the server closes."""
    with socket.create_connection(world.servers[0].address, timeout=30) as link:
        for line in lines:
            link.sendall(line)
        link.shutdown(socket.SHUT_WR)
        return link.makefile("rb").read().splitlines()


def test_nothing_but_wake_and_bye_works_before_hello(world):
    assert raw(world, b"time\n", b"nonsense\r\n", b"wake nobody\n", b"bye\n") == [
        b"err 0 say hello first",
        b"err 0 no such request: 'nonsense'",
        b"err 0 no client nobody",
        b"ok 0 - 0",
    ]


def test_a_line_that_is_too_long_ends_the_connection(world):
    assert raw(world, b"x" * 20_000 + b"\ntime\n") == [b"err 0 the line is too long"]


def test_a_client_whose_connection_ends_no_longer_holds_time(world, kernel):
    with socket.create_connection(world.servers[0].address, timeout=30) as link:
        link.sendall(b"hello 1 short\n")
        kernel.await_clients(1)
        closer = threading.Timer(0.05, lambda: link.shutdown(socket.SHUT_RDWR))
        closer.start()
        kernel.run_until(S)
        closer.join()
    assert kernel.now_ns == S


def test_hello_is_said_once(world, kernel):
    result = in_thread(lambda: raw(world, b"hello 1 x\n", b"hello 1 y\n", b"bye\n"))
    kernel.await_clients(1)
    kernel.run_until(S)
    replies = result()
    assert replies[0].endswith(b" 1 0")
    assert replies[1].endswith(b" hello was said")


def test_a_full_server_refuses(world, monkeypatch, caplog):
    monkeypatch.setattr("hw_sim.server.MAX_CONNECTIONS", 1)
    with socket.create_connection(world.servers[0].address, timeout=30) as first:
        first.sendall(b"wake nobody\n")
        assert first.recv(100)
        with socket.create_connection(world.servers[0].address, timeout=30) as second:
            assert second.recv(100) == b""
    assert "refused" in caplog.text


def test_every_request_of_the_documentation_is_one_the_server_knows():
    table = DOCS.read_text().split("| request | result | meaning |")[1].split("\n\n")[0]
    documented = set(re.findall(r"^\| `(\w+)", table, re.MULTILINE))
    assert documented == {line.split()[0].decode() for line in REQUESTS}
