"""Frames that come at once are worked off together, and nothing else about them changes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.link import Link
from gateway.lorawan.outcome import Downlink
from gateway.lorawan.types import DevEUI
from gateway.uplinks import BURST
from hub.errors import Busy
from hub.log import Log
from radio import gwmp
from radio.lora import LoRaModulation

OpenSite = Any  # fixtures of conftest.py, which tests cannot import
Device = Any
A, B = bytes.fromhex("02f10f6a7e000001"), bytes.fromhex("02f10f6a7e000002")
HERE = ("127.0.0.1", 4000)
SF7 = LoRaModulation(7, 125_000)


def heard(data: bytes) -> gwmp.RxPacket:
    return gwmp.RxPacket(5, 868_100_000, 0, 0, 1, SF7, -80, 7.0, data)


@dataclass
class Calls:
    """`gateway.link.Receiver` that writes down what it is told, in order."""

    told: list[object] = field(default_factory=list)

    def receive(self, packets: tuple[gwmp.RxPacket, ...], eui: bytes) -> None:
        self.told.append((eui, [packet.data for packet in packets]))

    def sent(self, downlink: Downlink, window: int) -> None:
        self.told.append("sent")

    def failed(self, downlink: Downlink, error: gwmp.TxError) -> None:
        self.told.append("failed")


@dataclass
class Bench:
    calls: Calls = field(default_factory=Calls)
    out: list[gwmp.Datagram] = field(default_factory=list)
    link: Link = field(init=False)

    def __post_init__(self) -> None:
        self.link = Link(self.calls, lambda data, _: self.out.append(gwmp.decode(data)))

    def feed(self, *messages: gwmp.Datagram) -> None:
        self.link.datagrams([(gwmp.encode(message), HERE) for message in messages], 0)


def test_frames_of_datagrams_that_came_at_once_are_handed_on_together_and_each_acknowledged() -> None:
    bench = Bench()
    bench.feed(*(gwmp.PushData(token, A, (heard(bytes([token])),)) for token in range(3)))
    assert bench.calls.told == [(A, [b"\0", b"\1", b"\2"])]
    assert bench.out == [gwmp.PushAck(token) for token in range(3)]


def test_frames_of_two_gateways_stay_in_the_order_in_which_they_came() -> None:
    bench = Bench()
    bench.feed(*(gwmp.PushData(at, eui, (heard(bytes([at])),)) for at, eui in enumerate((A, A, B, A))))
    assert bench.calls.told == [(A, [b"\0", b"\1"]), (B, [b"\2"]), (A, [b"\3"])]


def test_what_a_forwarder_says_of_a_downlink_stays_between_the_frames_before_and_after_it() -> None:
    bench = Bench()
    bench.feed(gwmp.PullData(1, A))
    window = gwmp.TxPacket(1_000_000, False, 868_100_000, 0, 14, SF7, True, b"\x60" * 12)
    bench.link.transmit(Downlink("1", DevEUI(1), (window,), False, 0, False), A, 0)
    (order,) = [message for message in bench.out if isinstance(message, gwmp.PullResp)]
    bench.feed(
        gwmp.PushData(2, A, (heard(b"before"),)),
        gwmp.TxAck(order.token, A),
        gwmp.PushData(3, A, (heard(b"after"),)),
    )
    assert bench.calls.told == [(A, [b"before"]), "sent", (A, [b"after"])]


def test_a_damaged_datagram_takes_no_other_of_its_burst_with_it() -> None:
    bench = Bench()
    whole = [gwmp.encode(gwmp.PushData(token, A, (heard(bytes([token])),))) for token in range(2)]
    bench.link.datagrams([(whole[0], HERE), (b"\x02\0\0\0", HERE), (whole[1], HERE)], 0)
    assert bench.calls.told == [(A, [b"\0", b"\1"])]
    assert bench.link.counters["malformed"] == 1


def test_a_burst_is_stored_in_its_order_and_its_counters_with_it(
    site: OpenSite, device: Device, another_device: Device
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.add(another_device)
            frames = [each.uplink() for _ in range(BURST) for each in (device, another_device)]
            stranger = bytes([0x40, *bytes(12)])
            s.gateway.uplinks.receive(tuple(map(heard, (*frames[:7], stranger, *frames[7:]))), A)
            log = s.gateway.core.hub.log
            await log.flush()
            stored = [message.subtopic for message in log.read(0, None, 1000) if "." not in message.subtopic]
            assert stored == [str(device.dev_eui), str(another_device.dev_eui)] * BURST
            kinds = [entry["kind"] for entry in s.gateway.uplinks.live.after(0, 1000)]
            kinds = [kind for kind in kinds if kind != "downlink"]
            assert kinds[7] == "rejected", "it is told of where it was heard"
            assert kinds.count("uplink") == 2 * BURST
        async with site() as s:
            s.gateway.uplinks.receive((heard(frames[-1]), heard(device.uplink())), A)
            assert s.gateway.core.server.counters.uplinks == 1, "the last one is known after a restart"

    asyncio.run(main())


async def stored_of(log: Log, device: Device) -> int:
    """How many messages of a device's values the log holds."""
    await log.flush()
    return sum(message.subtopic == str(device.dev_eui) for message in log.read(0))


@pytest.mark.parametrize("confirmed", [(False, False), (False, True), (True, True)])
def test_a_burst_that_found_no_room_is_taken_when_its_device_repeats_it(
    site: OpenSite, device: Device, mocker: Any, confirmed: Sequence[bool]
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            log, uplinks = s.gateway.core.hub.log, s.gateway.uplinks
            uplinks.receive((heard(device.uplink()),), A)
            frames = [heard(device.uplink(confirmed=each)) for each in confirmed]
            for name in ("post_each", "submit"):
                mocker.patch.object(log, name, side_effect=Busy("too many messages wait"))
            uplinks.receive(tuple(frames), A)
            assert uplinks.counters.store_busy == 2
            mocker.stopall()
            uplinks.receive(tuple(frames), A)
            uplinks.receive(tuple(frames), A)  # the control: what is stored is not taken once more
            assert await stored_of(log, device) == 3
            assert s.gateway.core.server.counters.uplinks == 5, "one, two refused, and these two again"

    asyncio.run(main())


def test_a_frame_refused_in_front_of_one_that_is_stored_leaves_the_counter_at_the_stored_one(
    site: OpenSite, device: Device, mocker: Any
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            log, uplinks = s.gateway.core.hub.log, s.gateway.uplinks
            uplinks.receive((heard(device.uplink()),), A)
            mocker.patch.object(log, "post_each", side_effect=Busy("too many messages wait"))
            uplinks.receive((heard(device.uplink()), heard(device.uplink(confirmed=True))), A)
            assert uplinks.counters.store_busy == 1
            (status,) = s.gateway.core.server.devices()
            assert status.fcnt_up == 2
            assert await stored_of(log, device) == 2

    asyncio.run(main())
