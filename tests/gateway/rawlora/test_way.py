"""Simple nodes end to end: an unmodified RadioHead-style driver on the air, a running gateway, its API and commands."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.rawlora.node import Header, Node
from gateway.rawlora.receiver import Receiver, Taken
from hub.message import OCTET_STREAM, SENML_JSON, Message
from hw_sim import fakes, platforms
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.fakes.host_time import HostTime
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.sx1276 import SX1276
from radio import gwmp
from radio.boards import get_board
from radio.config import ModuleConfig, RadioConfig
from radio.gwmp import PushAck, PushData, RxPacket, TxError
from radio.lora import SYNC_WORD_PRIVATE, LoRaModulation
from radio.service import Radio

MS, S = 1_000_000, 1_000_000_000
FREQ_HZ = 868_100_000
BOARD = "fluxgate-sim-4"
EUI = bytes.fromhex("02f10f6a7e0000aa")
LPP = bytes.fromhex("0167010d")  # Cayenne LPP: 26.9 Cel on 1
NODE = {"header": "radiohead", "address": 5, "own_address": 1, "name": "tank", "codec": "cayenne"}

OpenSite = Any  # fixtures of the folder above, which tests cannot import


class Yard:
    """Our radio with a private module beside one for LoRaWAN, and a foreign driver on a machine of its own."""

    def __init__(self) -> None:
        self.kernel = Kernel(seed=1)
        air = Air(self.kernel, AirSettings(fading_db=0.0, decode_width_db=0.01))
        chips = [SX1276(self.kernel, "lorawan"), SX1276(self.kernel, "private")]
        theirs = SX1276(self.kernel, "theirs")
        for chip in chips:
            air.add(chip)
        air.add(theirs, x_m=250.0)
        self.receiver = Receiver([Node(header=Header.RADIOHEAD, address=5, own_address=1, name="tank")])
        self.heard: list[RxPacket] = []
        self.taken: list[Taken] = []
        host = LocalHost(self.kernel, Board.wired(self.kernel, get_board(BOARD), chips))
        modules = (
            ModuleConfig(BOARD, 0, FREQ_HZ),
            ModuleConfig(BOARD, 1, FREQ_HZ, sync_word="private"),
        )
        config = RadioConfig(modules=modules, gateway_eui=EUI, tx_lead_us=0)
        self.radio = Radio(config, platforms.lockstep(host), self._frame)
        machine = Board(self.kernel)
        machine.connect(theirs, (0, 0), {0: 25}, reset=22)
        self.host = LocalHost(self.kernel, machine)
        fakes.install(self.host)

    def _frame(self, rx: RxPacket, end_ns: int) -> None:
        self.heard.append(rx)
        if rx.sync_word == SYNC_WORD_PRIVATE:
            self.taken.append(self.receiver.take(rx, EUI, end_ns, end_ns))
            if (answer := self.taken[-1].answer) is not None:
                assert self.radio.transmit(answer, end_ns).error is TxError.NONE

    def run(self, script: Any, for_ns: int) -> None:
        def foreign() -> None:
            self.host.delay(100 * MS)  # ours is up by then
            script()

        self.radio.start()
        self.kernel.spawn(foreign, "foreign")
        self.kernel.await_clients(3)
        self.kernel.run_until(for_ns)
        self.radio.ask_to_stop()
        self.kernel.run_until(for_ns + 100 * MS)
        self.radio.stop()
        assert self.radio.failure is None


@pytest.fixture
def yard() -> Iterator[Yard]:
    made = Yard()
    yield made
    made.kernel.close()
    fakes.uninstall()


@pytest.fixture
def heard_on_air(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """Adafruit's driver sends two reliable datagrams and gets both acknowledged."""
    for known in [name for name in sys.modules if name.split(".")[0] == "adafruit_rfm9x"]:
        monkeypatch.delitem(sys.modules, known)
    driver = importlib.import_module("adafruit_rfm9x")
    monkeypatch.setattr(sys.modules["adafruit_rfm9x"], "time", HostTime(yard.host))
    import board
    import busio
    import digitalio

    got: list[bool] = []

    def script() -> None:
        radio = driver.RFM9x(
            busio.SPI(board.SCK, MOSI=board.MOSI, MISO=board.MISO),
            digitalio.DigitalInOut(board.CE0),
            digitalio.DigitalInOut(board.D22),
            FREQ_HZ / 1e6,
        )
        radio.node, radio.destination = 5, 1
        got.append(radio.send_with_ack(LPP))
        got.append(radio.send_with_ack(LPP))

    yard.run(script, 3 * S)
    assert got == [True, True]
    return yard


def test_a_foreign_node_on_the_air_is_heard_by_the_private_module_only_and_acknowledged(
    heard_on_air: Yard,
) -> None:
    yard = heard_on_air
    assert {(rx.chan, rx.sync_word) for rx in yard.heard} == {(1, SYNC_WORD_PRIVATE)}
    assert [each.reading.payload for each in yard.taken if each.reading] == [LPP, LPP]
    assert [each.reading.node.name for each in yard.taken if each.reading] == ["tank", "tank"]
    counted = yard.receiver.counters
    assert (counted.acks, counted.own, counted.unknown) == (2, 2, 0), "the other module sends the answers"


def test_what_it_said_becomes_senml_on_its_channel(heard_on_air: Yard, site: OpenSite) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            made = (await s.api.post("/rawlora/nodes", json=NODE)).json()
            await s.forwarder.pull()
            for rx in [each.reading.rx for each in heard_on_air.taken if each.reading]:
                s.forwarder.send_raw(gwmp.encode(PushData(9, EUI, (rx,))))
                assert await s.forwarder.receive() == PushAck(9)
                order = await s.forwarder.downlink()
                assert (order.sync_word, order.imme, order.ipol) == (SYNC_WORD_PRIVATE, True, False)
                assert order.data == bytes((5, 1, rx.data[2], 0x80)) + b"!"
            log = s.gateway.core.hub.log
            await s.until(lambda: log.committed_seq >= 4)
            assert s.gateway.uplinks.raw.receiver.counters.readings == 2
            values, radio, *_ = log.read(0)
            assert (values.channel, values.publisher) == (made["channel_id"], made["thing_id"])
            assert (values.subtopic, values.content_type) == ("raw-radiohead-5", SENML_JSON)
            pack = json.loads(values.payload)
            assert pack[0]["bn"] == f"urn:uuid:{made['thing_id']}:"
            assert [(each["n"], each["v"], each["u"]) for each in pack] == [("temperature_1", 26.9, "Cel")]
            assert radio.subtopic == "raw-radiohead-5.radio"
            assert {each["n"] for each in json.loads(radio.payload)} == {
                "rssi",
                "snr",
                "sf",
                "frequency",
                "id",
            }
            assert s.gateway.core.server.counters.uplinks == 0
            assert sum(s.gateway.core.server.counters.rejected.values()) == 0

    asyncio.run(main())


def heard(data: bytes, sync_word: int = SYNC_WORD_PRIVATE) -> RxPacket:
    return RxPacket(
        1_000_000, FREQ_HZ, 1, 0, 1, LoRaModulation(7, 125_000), -80, 7.5, data, sync_word=sync_word
    )


async def push(s: Any, *frames: RxPacket) -> None:
    s.forwarder.send_raw(gwmp.encode(PushData(9, EUI, frames)))
    assert await s.forwarder.receive() == PushAck(9)


def test_a_private_frame_is_never_taken_for_lorawan_nor_the_reverse(site: OpenSite, device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await push(s, heard(device.uplink()))
            counters = s.gateway.core.server.counters
            assert (counters.uplinks, sum(counters.rejected.values())) == (0, 0)
            assert s.gateway.uplinks.raw.receiver.counters.unknown == 1
            await push(s, heard(bytes((1, 5, 1, 0)) + b"x", sync_word=0x34))
            assert sum(counters.rejected.values()) == 1
            assert s.gateway.uplinks.raw.receiver.counters.frames == 1

    asyncio.run(main())


def test_nodes_are_registered_listed_kept_and_removed_over_the_api(site: OpenSite) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await push(s, heard(bytes((0, 5, 1, 0)) + b"x"))
            listed = (await s.api.get("/rawlora/nodes")).json()
            assert listed["nodes"] == []
            assert listed["heard"][0]["first_bytes"] == "00050100"
            answer = await s.api.post("/rawlora/nodes", json=NODE)
            assert (answer.status_code, answer.json()["id"]) == (201, "raw-radiohead-5")
            assert (await s.api.post("/rawlora/nodes", json=NODE)).status_code == 409
            for wrong in ({"header": "morse"}, {"header": "single"}, {"address": 300}, {"codec": "none"}):
                assert (await s.api.post("/rawlora/nodes", json=wrong)).status_code == 400, wrong
            token = s.api.headers["authorization"]
        async with site() as s:
            s.api.headers["authorization"] = token
            (node,) = (await s.api.get("/rawlora/nodes")).json()["nodes"]
            assert (node["name"], node["codec"], node["last_seen"]) == ("tank", "cayenne", None)
            assert (await s.api.delete("/rawlora/nodes/raw-radiohead-5")).status_code == 204
            assert (await s.api.delete("/rawlora/nodes/raw-radiohead-5")).status_code == 404
            assert (await s.api.get("/rawlora/nodes")).json()["nodes"] == []
            assert s.gateway.core.hub.registry.thing(node["thing_id"]) is None
            assert s.gateway.core.hub.registry.channel(node["channel_id"]) is not None

    asyncio.run(main())


def test_orders_leave_at_once_over_the_api_and_as_messages(site: OpenSite) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            made = (await s.api.post("/rawlora/nodes", json=NODE)).json()
            where = "/rawlora/nodes/raw-radiohead-5/downlinks"
            refused = await s.api.post(where, json={"payload": "6f6e"})
            assert (refused.status_code, "not heard" in refused.json()["detail"]) == (400, True)
            await s.forwarder.pull()
            await push(s, heard(bytes((255, 5, 1, 0)) + LPP))
            assert (await s.api.post(where, json={"payload": "6f6e"})).status_code == 202
            order = await s.forwarder.downlink()
            assert (order.data[:2], order.data[4:]) == (bytes((5, 1)), b"on")
            log = s.gateway.core.hub.log
            thing, channel = made["thing_id"], made["channel_id"]
            subtopic = "commands.raw-radiohead-5"
            for content_type, body, sent in (
                ("application/json", b'{"payload": "ff01"}', b"\xff\x01"),
                (OCTET_STREAM, b"\x00\x10", b"\x00\x10"),
            ):
                await log.append([Message(channel, subtopic, thing, "http", content_type, body, 1)])
                assert (await s.forwarder.downlink()).data[4:] == sent
            for body in (b"no JSON", b'{"payload": "zz"}', b'{"volume": 11}', b"\xff"):
                await log.append([Message(channel, subtopic, thing, "http", "application/json", body, 1)])
            await log.append([Message(thing, subtopic, thing, "http", OCTET_STREAM, b"x", 1)])
            await s.until(lambda: s.gateway.uplinks.raw.refused == 5)

    asyncio.run(main())


def test_a_reading_that_is_not_stored_is_not_acknowledged_and_taken_when_it_comes_again(
    site: OpenSite, mocker: Any
) -> None:
    from hub.errors import LogFull

    async def main() -> None:
        async with site() as s:
            await s.claim()
            await s.api.post("/rawlora/nodes", json=NODE)
            await s.forwarder.pull()
            log, frame = s.gateway.core.hub.log, heard(bytes((1, 5, 1, 0)) + LPP)
            before = log.committed_seq
            patched = mocker.patch.object(log, "submit", side_effect=LogFull("the disk is full"))
            await push(s, frame)
            assert patched.called
            mocker.stop(patched)
            await push(s, frame)
            order = await s.forwarder.downlink()
            assert order.data == bytes((5, 1, 1, 0x80)) + b"!"
            assert log.committed_seq == before + 2
            assert s.gateway.uplinks.raw.counters()["not_stored"] == 1

    asyncio.run(main())
