"""Servers of a radio: who is given a frame, one answer to a join, and settings that do not fit."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.radio_servers import answering_elsewhere, server_config
from gateway.settings import ServerSection
from radio.concentrator import TxResult
from radio.filters import EVERYTHING, Filter
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.lora import LoRaModulation
from radio.server_config import LOCAL, MAX_SERVERS, ServerConfig, check_servers
from radio.servers import JOIN_WATCHED_NS, MAX_JOINS, Downlinks, Fanout, Outlet

SF7 = LoRaModulation(7, 125_000)


def join(tmst: int, dev_eui: int = 2, stat: int = 1) -> RxPacket:
    data = b"\x00" + (1).to_bytes(8, "little") + dev_eui.to_bytes(8, "little") + b"\x07\x00" + bytes(4)
    return RxPacket(tmst, 868_100_000, 0, 0, stat, SF7, -50, 9.0, data)


def order(tmst: int | None, imme: bool = False) -> TxPacket:
    return TxPacket(tmst, imme, 868_100_000, 0, 14, SF7, True, b"down", True)


@dataclass
class Radio:
    answer: TxError = TxError.NONE
    orders: list[TxPacket] = field(default_factory=list)

    def transmit(self, tx: TxPacket, _now_ns: int) -> TxResult:
        self.orders.append(tx)
        return TxResult(self.answer)


@dataclass
class Quiet:
    """A server that only takes."""

    name: str
    frames: list[RxPacket] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    closed: bool = False
    woken: threading.Event = field(default_factory=threading.Event)

    def frame(self, rx: RxPacket) -> None:
        self.frames.append(rx)

    def sent(self, tx_id: int) -> None:
        self.told.append(tx_id)

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.woken.wait(20)

    def wake(self) -> None:
        self.woken.set()

    def close(self) -> None:
        self.closed = True

    def status(self) -> dict[str, Any]:
        return {"name": self.name}


def fanout(
    *servers: tuple[Quiet, Filter], clock: Callable[[], int] = lambda: 0
) -> tuple[Fanout, Downlinks, Radio]:
    radio = Radio()
    downlinks = Downlinks(radio.transmit)
    return (
        Fanout([Outlet(each, passes.why_not) for each, passes in servers], downlinks, clock),
        downlinks,
        radio,
    )


def test_frames_go_to_those_they_are_for_and_the_others_are_counted_by_reason() -> None:
    local, other = Quiet(LOCAL), Quiet("other")
    one, *_ = fanout((local, EVERYTHING), (other, Filter.of(net_ids=[], join_euis=["0" * 15 + "9"])))
    for rx in (join(1), join(2, stat=-1), join(3)):
        one.frame(rx)
    assert (len(local.frames), other.frames) == (3, [])
    assert [each["filtered_by_reason"] for each in one.status()] == [{}, {"join": 2, "crc_error": 1}]
    one.sent(7)
    assert local.told == other.told == [7]


def test_the_servers_run_in_threads_of_their_own_until_they_are_stopped() -> None:
    local, other = Quiet(LOCAL), Quiet("other")
    one, *_ = fanout((local, EVERYTHING), (other, EVERYTHING))
    one.start(lambda: None)
    one.stop(20)
    assert local.closed
    assert other.closed


@pytest.mark.parametrize("delay_us", [5_000_000, 6_000_000])
def test_the_first_server_to_answer_a_join_has_it_in_both_windows(delay_us: int) -> None:
    one, downlinks, radio = fanout((Quiet(LOCAL), EVERYTHING), (Quiet("other"), EVERYTHING))
    one.frame(join(2**32 - 1))
    local, other = downlinks.of(LOCAL), downlinks.of("other")
    assert other(order(delay_us - 1), 0).error is TxError.NONE
    assert local(order(4_999_999), 0).error is TxError.COLLISION_PACKET
    assert other(order(5_999_999), 0).error is TxError.NONE
    assert len(radio.orders) == 2
    assert downlinks.conflicts == {LOCAL: 1}


def test_an_answer_that_the_radio_refused_leaves_the_join_to_the_other_server() -> None:
    one, downlinks, radio = fanout((Quiet(LOCAL), EVERYTHING), (Quiet("other"), EVERYTHING))
    one.frame(join(0))
    radio.answer = TxError.TOO_LATE
    assert downlinks.of("other")(order(5_000_000), 0).error is TxError.TOO_LATE
    radio.answer = TxError.NONE
    assert downlinks.of(LOCAL)(order(6_000_000), 0).error is TxError.NONE


def test_what_answers_no_watched_join_goes_straight_to_the_radio() -> None:
    one, downlinks, radio = fanout(
        (Quiet(LOCAL), EVERYTHING), (Quiet("other"), Filter.of(net_ids=["*"], join_euis=[]))
    )
    one.frame(join(0))  # given to one server only
    for name in (LOCAL, "other"):
        assert downlinks.of(name)(order(5_000_000), 0).error is TxError.NONE
    assert downlinks.of("other")(order(None, imme=True), 0).error is TxError.NONE
    assert len(radio.orders) == 3


def test_watched_joins_are_bounded_and_forgotten() -> None:
    now_ns = 0
    one, downlinks, _ = fanout((Quiet(LOCAL), EVERYTHING), (Quiet("other"), EVERYTHING), clock=lambda: now_ns)
    for n in range(MAX_JOINS + 5):
        one.frame(join(n, dev_eui=n))
    assert len(downlinks._joins) == MAX_JOINS
    now_ns = JOIN_WATCHED_NS
    one.frame(join(9_000_000))
    assert len(downlinks._joins) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ServerConfig(""), "needs a name"),
        (lambda: ServerConfig("x"), "server x: host is empty"),
        (lambda: ServerConfig("x", "smoke", "h"), "server x: kind 'smoke' is not one of gwmp, station"),
        (lambda: ServerConfig("x", host="h", port=0), "server x: port 0 is not 1 to 65535"),
        (lambda: ServerConfig("x", "station"), "server x: uri is empty"),
        (lambda: check_servers((ServerConfig("x", host="h"),) * 2), "same name"),
        (lambda: check_servers((ServerConfig(LOCAL, host="h"),)), "'local' is that of this gateway"),
        (
            lambda: check_servers(tuple(ServerConfig(f"x{n}", host="h") for n in range(MAX_SERVERS + 1))),
            "9 servers configured, 8 are the most",
        ),
        (
            lambda: server_config(ServerSection(name="ttn", host="h", net_ids=("13",), join_euis=())),
            "server ttn: net_ids: '13': .* 2 hex digits, not 6",
        ),
    ],
)
def test_settings_that_do_not_fit_are_said_with_their_server(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_which_servers_may_answer_a_join_as_well() -> None:
    ttn = ServerSection(
        name="ttn", host="h", downlinks=True, net_ids=("000013",), join_euis=("70b3d57ed0000000/36",)
    )
    copy = ServerSection(name="copy", host="h")
    elsewhere = answering_elsewhere([ttn, copy])
    assert elsewhere(0x70B3D57ED0000001, 5) == ["ttn"]
    assert elsewhere(1, 5) == []
