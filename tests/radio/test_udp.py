"""Forwarders with their sockets against servers on loopback: gone, restarted, moved, and beside each other."""

import errno
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from gateway.demo.broker import free_port
from radio.concentrator import TxResult
from radio.filters import EVERYTHING, Filter
from radio.forwarder import MAX_WAITING, Forwarder, Way
from radio.gwmp import (
    Datagram,
    PullAck,
    PullData,
    PullResp,
    PushAck,
    PushData,
    RxPacket,
    TxAck,
    TxError,
    TxPacket,
    decode,
    encode,
)
from radio.hardware.clock import MonotonicClock
from radio.lora import LoRaModulation
from radio.route import Endpoint, resolve
from radio.servers import Downlinks, Fanout, Outlet
from radio.udp import UdpForwarder

EUI = bytes.fromhex("b827ebfffe000001")
SF7 = LoRaModulation(7, 125_000)
WAIT_S = 20


def frame(dev_addr: int, tmst: int = 1) -> RxPacket:
    data = b"\x40" + dev_addr.to_bytes(4, "little") + b"\x00\x01\x00" + bytes(4)
    return RxPacket(tmst, 868_100_000, 0, 0, 1, SF7, -50, 9.0, data)


def join(tmst: int) -> RxPacket:
    data = b"\x00" + (1).to_bytes(8, "little") + (2).to_bytes(8, "little") + b"\x07\x00" + bytes(4)
    return RxPacket(tmst, 868_100_000, 0, 0, 1, SF7, -50, 9.0, data)


def order(tmst: int) -> TxPacket:
    return TxPacket(tmst, False, 868_100_000, 0, 14, SF7, True, b"down", True)


def until(condition: Callable[[], bool]) -> None:
    """Let the other threads work until something holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class NetworkServer:
    """A GWMP server that acknowledges, in the test's own thread; what came before a wish is kept."""

    def __init__(self, port: int = 0, family: int = socket.AF_INET) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
        self.socket.settimeout(WAIT_S)
        self.port: int = self.socket.getsockname()[1]
        self.heard: list[Datagram] = []
        self.down: tuple[object, ...] | None = None  # where PULL_DATA came from last
        self.ups: set[tuple[object, ...]] = set()

    def until(self, wanted: Callable[[Datagram], bool]) -> Datagram:
        """Serve until such a datagram comes."""
        while True:
            data, address = self.socket.recvfrom(65_535)
            datagram = decode(data)
            self.heard.append(datagram)
            if isinstance(datagram, PullData):
                self.down = address
                self.socket.sendto(encode(PullAck(datagram.token)), address)
            elif isinstance(datagram, PushData):
                self.ups.add(address)
                self.socket.sendto(encode(PushAck(datagram.token)), address)
            if wanted(datagram):
                return datagram

    def pulled(self) -> None:
        self.until(lambda datagram: isinstance(datagram, PullData))

    def frame(self, tmst: int) -> None:
        """Serve until the frame with this tmst has come."""
        self.until(lambda got: isinstance(got, PushData) and any(rx.tmst == tmst for rx in got.rxpk))

    def ask(self, token: int, packet: TxPacket) -> TxAck:
        assert self.down is not None
        self.socket.sendto(encode(PullResp(token, packet)), self.down)
        answer = self.until(lambda got: isinstance(got, TxAck) and got.token == token)
        assert isinstance(answer, TxAck)
        return answer

    @property
    def frames(self) -> list[int]:
        return [rx.tmst for got in self.heard if isinstance(got, PushData) for rx in got.rxpk]

    def close(self) -> None:
        self.socket.close()


@dataclass
class Names:
    """A resolver whose answers the test decides."""

    places: dict[str, Sequence[Endpoint] | OSError] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    stuck: threading.Event = field(default_factory=threading.Event)  # set: "slow" answers as well

    def __call__(self, host: str, port: int) -> Sequence[Endpoint]:
        self.asked[host] += 1
        if host == "slow":
            self.stuck.wait()  # to the end of the test, however long it takes
        found = self.places.get(host)
        if isinstance(found, OSError):
            raise found
        return found if found is not None else resolve(host, port)


@dataclass
class Site:
    """A radio's servers: the local one first."""

    names: Names = field(default_factory=Names)
    orders: list[TxPacket] = field(default_factory=list)
    udp: dict[str, UdpForwarder] = field(default_factory=dict)
    outlets: list[Outlet] = field(default_factory=list)
    sockets: list[NetworkServer] = field(default_factory=list)
    fanout: Fanout = field(init=False)
    failed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.downlinks = Downlinks(self.transmit)

    def transmit(self, tx: TxPacket, _now_ns: int) -> TxResult:
        self.orders.append(tx)
        return TxResult(TxError.NONE, id=len(self.orders))

    def server(self, port: int = 0, family: int = socket.AF_INET) -> NetworkServer:
        self.sockets.append(NetworkServer(port, family))
        return self.sockets[-1]

    def add(
        self, name: str, host: str, port: int, passes: Filter = EVERYTHING, downlinks: bool = True
    ) -> None:
        core = Forwarder(EUI, self.downlinks.of(name), name=name, downlinks=downlinks, keepalive_ns=10**9)
        self.udp[name] = UdpForwarder(core, host, port, MonotonicClock(), resolver=self.names)
        self.outlets.append(Outlet(self.udp[name], passes.why_not))

    def start(self) -> None:
        self.fanout = Fanout(self.outlets, self.downlinks, MonotonicClock().now_ns)
        self.fanout.start(self.failed.set)

    def status(self, name: str) -> dict[str, object]:
        return next(each for each in self.fanout.status() if each["name"] == name)


@pytest.fixture
def site() -> Iterator[Site]:
    one = Site()
    yield one
    one.names.stuck.set()
    if hasattr(one, "fanout"):
        one.fanout.stop(WAIT_S)
    for each in one.sockets:
        each.close()


def test_each_server_gets_its_own_frames_and_the_local_one_all(site: Site) -> None:
    local, ttn, other = site.server(), site.server(), site.server()
    site.add("local", "127.0.0.1", local.port)
    site.add("ttn", "ttn.example", ttn.port, Filter.of(net_ids=["000013"], join_euis=[]), downlinks=False)
    site.add("other", "127.0.0.1", other.port, Filter.of(net_ids=["00003c"], join_euis=[]))
    site.names.places["ttn.example"] = resolve("127.0.0.1", ttn.port)
    site.start()
    for server in (local, ttn, other):
        server.pulled()
    for tmst, addr in enumerate((0x26000001, 0x78000001, 0x01020304, 0x26000002, 0x78000002)):
        site.fanout.frame(frame(addr, tmst))
    local.frame(4)
    ttn.frame(3)
    other.frame(4)
    assert (local.frames, ttn.frames, other.frames) == ([0, 1, 2, 3, 4], [0, 3], [1, 4])
    assert ttn.ask(7, order(5)) == TxAck(7, EUI, TxError.TX_FREQ)
    assert other.ask(8, order(6)) == TxAck(8, EUI)
    site.fanout.sent(1)
    assert [tx.tmst for tx in site.orders] == [6]
    assert site.status("ttn")["filtered_by_reason"] == {"dev_addr": 3}
    assert (site.status("ttn")["downlinks_refused"], site.status("other")["downlinks_accepted"]) == (1, 1)
    assert all(down not in server.ups for server in (local, ttn, other) if (down := server.down))


def test_a_resolver_that_hangs_delays_no_other_server(site: Site) -> None:
    local = site.server()
    site.add("local", "127.0.0.1", local.port)
    site.add("stuck", "slow", local.port)
    site.add("nowhere", "nowhere.example", 1700)
    site.names.places["nowhere.example"] = OSError("no such name")
    site.start()
    local.pulled()
    for tmst in range(MAX_WAITING + 40):
        site.fanout.frame(frame(1, tmst))
        local.frame(tmst)
    assert len(local.frames) == MAX_WAITING + 40
    assert site.names.asked["slow"] == 1
    assert site.status("stuck")["connected"] is False
    until(lambda: site.status("stuck")["dropped"] == 40)  # its thread takes them over in its own time
    assert site.status("stuck")["waiting"] == MAX_WAITING
    assert site.status("local")["dropped"] == 0
    assert site.names.asked["nowhere.example"] > 0


def test_a_server_that_is_killed_and_restarted_is_found_again(site: Site) -> None:
    first = site.server(free_port(kind=socket.SOCK_DGRAM))  # that no other socket gets while it is closed
    site.add("local", "127.0.0.1", first.port)
    site.start()
    first.pulled()
    site.fanout.frame(frame(1, 1))
    first.frame(1)
    first.close()
    core = site.udp["local"].core
    site.fanout.frame(frame(1, 2))  # meets a closed port
    until(lambda: core.counters["server_unreachable"] > 0)
    again = site.server(first.port)
    again.pulled()
    site.fanout.frame(frame(1, 3))
    again.frame(3)
    assert again.ask(9, order(5)) == TxAck(9, EUI)
    assert site.status("local")["connected"] is True


def test_a_name_that_moves_to_another_address_and_family_is_followed(site: Site) -> None:
    old = site.server()
    new = site.server(family=socket.AF_INET6)
    site.names.places["lns.example"] = resolve("127.0.0.1", old.port)
    site.add("local", "lns.example", old.port)
    site.start()
    old.pulled()
    site.names.places["lns.example"] = resolve("::1", new.port)
    until(lambda: site.udp["local"]._acked_ns is not None)
    site.udp["local"].route._due_ns = 0  # as if five minutes had passed
    site.fanout.frame(frame(1, 5))
    new.pulled()
    site.fanout.frame(frame(1, 6))
    new.frame(6)
    assert site.status("local")["address"] == f"[::1]:{new.port}"
    assert site.status("local")["moves"] == 1


def test_an_interface_that_goes_away_makes_fresh_sockets(site: Site) -> None:
    local = site.server()
    site.add("local", "lns.example", local.port)
    site.names.places["lns.example"] = resolve("127.0.0.1", local.port)
    site.start()
    local.pulled()
    first = local.down
    udp = site.udp["local"]
    until(lambda: udp.core.counters["pull_ack"] == len(local.heard))
    asked = site.names.asked["lns.example"]
    send = udp._send

    def fail_once(out: list[tuple[Way, bytes]]) -> None:
        if out:
            udp._send = send  # type: ignore[method-assign]
            udp._failed(OSError(errno.ENETUNREACH, "Network is unreachable"))

    udp._send = fail_once  # type: ignore[method-assign]
    site.fanout.frame(frame(1, 6))
    while local.down == first:
        local.pulled()
    assert site.names.asked["lns.example"] > asked
    assert site.status("local")["counters"]["network_gone"] == 1  # type: ignore[index]
    site.fanout.frame(frame(1, 7))
    local.frame(7)


def test_one_join_has_one_answer(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    local, other = site.server(), site.server()
    site.add("local", "127.0.0.1", local.port)
    site.add("other", "127.0.0.1", other.port)
    site.start()
    local.pulled()
    other.pulled()
    site.fanout.frame(join(2**32 - 1_000_000))
    site.fanout.frame(join(2**32 - 999_990))  # the same, heard by a second module
    local.frame(2**32 - 1_000_000)
    other.frame(2**32 - 999_990)
    assert local.ask(1, order(4_000_000)) == TxAck(1, EUI)
    words = "local has answered this join-request already"
    assert other.ask(2, order(5_000_010)) == TxAck(2, EUI, TxError.COLLISION_PACKET, reason=words)  # in RX2
    assert other.ask(3, order(9_000_000)) == TxAck(3, EUI)  # something else
    assert "two servers answer the join of device 0000000000000002" in caplog.text
    assert site.status("other")["join_conflicts"] == 1


def test_a_fault_of_ours_in_one_server_ends_only_that_one(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    local, other = site.server(), site.server()
    site.add("local", "127.0.0.1", local.port)
    site.add("other", "127.0.0.1", other.port)

    def broken(_rx: RxPacket, _now_ns: int) -> None:
        raise RuntimeError("a fault of ours")

    site.udp["other"].core.on_frame = broken  # type: ignore[method-assign]
    site.start()
    local.pulled()
    other.pulled()
    site.fanout.frame(frame(1, 1))
    local.frame(1)
    until(lambda: site.status("other")["faults"] == 1)
    site.fanout.frame(frame(1, 2))
    local.frame(2)
    assert not site.failed.is_set()
    assert "server other: its thread failed" in caplog.text


def test_a_fault_of_ours_in_the_local_server_ends_the_radio(site: Site) -> None:
    local = site.server()
    site.add("local", "127.0.0.1", local.port)

    def broken(_rx: RxPacket, _now_ns: int) -> None:
        raise RuntimeError("a fault of ours")

    site.udp["local"].core.on_frame = broken  # type: ignore[method-assign]
    site.start()
    site.fanout.frame(frame(1, 1))
    assert site.failed.wait(WAIT_S)
    assert str(site.fanout.failure) == "a fault of ours"


def test_a_server_may_be_closed_while_its_resolver_still_hangs(site: Site) -> None:
    site.add("local", "slow", 1700)
    site.start()
    until(lambda: site.names.asked["slow"] > 0)
    site.fanout.stop(WAIT_S)
    site.udp["local"].wake()
    site.udp["local"].close()
    assert site.status("local")["address"] is None
