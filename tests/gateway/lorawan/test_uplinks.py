"""Data frames: taken once, refused with a reason, answered when they ask."""

import random

import pytest

from gateway.lorawan.crypto import SessionKeys
from gateway.lorawan.device import COUNTER_AHEAD
from gateway.lorawan.frames import build_downlink
from gateway.lorawan.outcome import Reason, Rejected, Uplink
from gateway.lorawan.types import AES128Key
from radio.gwmp import RxPacket


def test_an_uplink_carries_everything_a_reader_needs(joined):
    network, node = joined
    uplink = network.hear(node.uplink(b"\x02\x68\x50", fport=9, adr=True))
    assert (uplink.payload, uplink.fport, uplink.fcnt, uplink.adr) == (b"\x02\x68\x50", 9, 1, True)
    assert (uplink.confirmed, uplink.downlink, uplink.acked, uplink.durable) == (False, None, None, False)
    assert uplink.device.config.name == "shed"
    assert uplink.dev_addr == node.dev_addr
    assert len(uplink.writes) == 1
    status = network.server.device(node.dev_eui)
    assert (status.rssi_dbm, status.snr_db, status.sf, status.fcnt_up, status.uplinks) == (-87, 7.0, 7, 1, 2)
    assert status.last_seen_ns == uplink.at.wall_ns


def test_a_frame_without_port_or_on_port_0_has_no_payload(joined):
    network, node = joined
    assert network.hear(node.uplink(fport=None)).payload == b""
    uplink = network.hear(node.uplink(b"\x02", fport=0))
    assert (uplink.payload, uplink.fport) == (b"", 0)
    assert [command.name for command in node.commands(uplink.downlink)] == ["LinkCheckAns"]


def test_a_replayed_uplink_is_refused_also_after_a_restart(joined):
    network, node = joined
    first, second = node.uplink(), node.uplink()
    network.hear(first)
    network.hear(second)
    for frame in (first, second):
        outcome = network.hear(frame)
        assert outcome.reason is Reason.REPLAY
        assert "was used before" in outcome.detail
        assert outcome.downlink is None
    network.restart()
    for frame in (first, second):
        assert network.hear(frame).reason is Reason.REPLAY
    assert network.server.counters.rejected[Reason.REPLAY] == 2
    assert network.server.counters.uplinks == 0


def test_an_uplink_whose_writes_were_lost_is_taken_again_after_the_restart(joined):
    network, node = joined
    frame = node.uplink(b"once")
    assert network.hear(frame, commit=False).payload == b"once"
    network.restart()
    assert network.hear(frame).payload == b"once"
    network.restart()
    assert network.hear(frame).reason is Reason.REPLAY


def test_the_same_uplink_by_a_second_gateway_is_a_duplicate_and_keeps_the_better_snr(joined):
    network, node = joined
    frame = node.uplink()
    network.hear(frame, snr_db=-3.0)
    outcome = network.hear(frame, after_s=0.05, snr_db=4.0)
    assert outcome.reason is Reason.DUPLICATE
    assert outcome.dev_eui == node.dev_eui
    uplink = network.hear(node.uplink())
    assert list(uplink.device.session.mac.snr_db)[-2:] == [4.0, 7.0]


def test_the_counter_rolls_over_at_65535(joined):
    network, node = joined
    node.fcnt_up = 65535
    assert network.hear(node.uplink()).fcnt == 65535
    for expected in (65536, 65537):
        assert network.hear(node.uplink()).fcnt == expected
    network.restart()
    assert network.hear(node.uplink()).fcnt == 65538


@pytest.mark.parametrize("lost", [1, 16_384, 16_385, 65_534, 65_536, 100_000])
def test_no_gap_up_to_one_more_turn_of_the_counter_loses_a_device(joined, lost):
    network, node = joined
    node.fcnt_up += lost
    expected = node.fcnt_up
    assert network.hear(node.uplink()).fcnt == expected


@pytest.mark.parametrize("fcnt", [0, 65_535, 65_536, 700_000])
def test_an_abp_device_that_was_at_work_before_is_taken_at_its_counter(network, node, fcnt):
    network.add(node.abp(0x01000001))
    node.fcnt_up = fcnt
    assert network.hear(node.uplink()).fcnt == fcnt
    assert network.hear(node.uplink()).fcnt == fcnt + 1


def test_a_used_up_counter_is_refused(joined):
    network, node = joined
    session = network.hear(node.uplink()).device.session
    session.fcnt_up = 0xFFFF_FFFF
    node.fcnt_up = 0x1_0000_0000 & 0xFFFF
    assert network.hear(node.uplink()).reason is Reason.REPLAY


def test_a_frame_with_a_wrong_mic_changes_nothing(joined):
    network, node = joined
    frame = bytearray(node.uplink())
    frame[-1] ^= 1
    outcome = network.hear(bytes(frame))
    assert outcome.reason is Reason.BAD_MIC
    assert outcome.writes == []
    assert network.server.device(node.dev_eui).fcnt_up == 0
    frame[-1] ^= 1
    assert isinstance(network.hear(bytes(frame)), Uplink)


def test_devices_that_share_an_address_are_told_apart_by_their_keys(network, make_node):
    nodes = [make_node(number) for number in (1, 2, 3)]
    rng_base = 0x01000007
    for node in nodes:
        config = node.abp(rng_base)
        rng = random.Random(node.dev_eui)
        keys = SessionKeys.of_1_0(AES128Key(rng.randbytes(16)), AES128Key(rng.randbytes(16)))
        node._begin(keys)
        network.add(
            type(config)(
                dev_eui=node.dev_eui,
                activation=config.activation,
                dev_addr=config.dev_addr,
                nwk_s_key=keys.f_nwk_s_int,
                app_s_key=keys.app_s,
            )
        )
    for node in nodes:
        assert network.hear(node.uplink(bytes((node.dev_eui,)))).device.dev_eui == node.dev_eui
    network.commit(network.server.remove_device(nodes[1].dev_eui))
    assert isinstance(network.hear(nodes[2].uplink()), Uplink)
    assert network.hear(nodes[1].uplink()).reason is Reason.BAD_MIC


def test_frames_of_strangers_are_counted_and_not_remembered(network, node):
    network.add(node.config)
    network.join(node)
    for address, words in ((0x01ABCDEF, "no device here has it"), (0x26012E43, "belongs to another network")):
        node.dev_addr = address
        outcome = network.hear(node.uplink())
        assert outcome.reason is Reason.UNKNOWN_DEV_ADDR
        assert words in outcome.detail
    assert network.server.counters.rejected[Reason.UNKNOWN_DEV_ADDR] == 2


def test_crc_errors_downlinks_and_rubbish_are_counted(joined):
    network, node = joined
    rx = network.rx(node.uplink())
    damaged = RxPacket(**{name: getattr(rx, name) for name in rx.__struct_fields__} | {"stat": -1})
    assert network.server.handle(damaged, b"", network.now()).reason is Reason.CRC_ERROR
    downlink = build_downlink(node.crypto, node.dev_addr, 1)
    assert network.hear(downlink).reason is Reason.NOT_AN_UPLINK
    assert network.hear(b"\x40").reason is Reason.MALFORMED


def test_a_confirmed_uplink_is_acknowledged_after_its_commit(joined):
    network, node = joined
    uplink = network.hear(node.uplink(confirmed=True))
    assert uplink.confirmed
    assert uplink.durable
    assert uplink.downlink.after_commit
    frame, _ = node.hear(uplink.downlink)
    assert frame.ack
    assert not frame.confirmed
    assert (uplink.downlink.windows[0].tmst - uplink.rx.tmst) % 2**32 == 1_000_000
    assert (uplink.downlink.windows[-1].tmst - uplink.rx.tmst) % 2**32 == 2_000_000


def test_a_repeated_confirmed_uplink_is_acknowledged_again_and_published_once(joined):
    network, node = joined
    frame = node.uplink(confirmed=True)
    first = network.hear(frame)
    node.hear(first.downlink)
    for _ in range(8):
        outcome = network.hear(frame, after_s=3)
        assert isinstance(outcome, Rejected)
        assert outcome.reason is Reason.DUPLICATE
        answer, _ = node.hear(outcome.downlink)  # Node insists on a counter of its own
        assert answer.ack
        assert outcome.downlink.after_commit
    assert network.hear(frame, after_s=3).reason is Reason.REPLAY
    assert network.server.counters.uplinks == 2


def test_a_repeat_is_still_answered_after_a_restart(joined):
    network, node = joined
    frame = node.uplink(confirmed=True)
    node.hear(network.hear(frame).downlink)
    network.restart()
    outcome = network.hear(frame)
    assert outcome.reason is Reason.DUPLICATE
    assert node.hear(outcome.downlink)[0].ack


def test_adr_ack_req_is_answered(joined):
    network, node = joined
    uplink = network.hear(node.uplink(adr=True, adr_ack_req=True))
    frame, _ = node.hear(uplink.downlink)
    assert (frame.fport, frame.ack, frame.adr) == (None, False, True)


def test_downlink_counters_never_repeat_whatever_is_lost(joined):
    network, node = joined
    seen = set()
    rng = random.Random(11)
    for _ in range(300):
        uplink = network.hear(node.uplink(confirmed=True), commit=True)
        assert uplink.downlink.fcnt not in seen
        seen.add(uplink.downlink.fcnt)
        if rng.random() < 0.05:
            network.restart()
    assert len(seen) == 300


def test_an_answer_under_a_counter_that_is_not_reserved_waits_for_the_commit(joined):
    network, node = joined
    network.restart()
    network.queue(node, b"on")
    first = network.hear(node.uplink())
    assert first.downlink.after_commit
    assert first.durable
    waited = []
    for _ in range(COUNTER_AHEAD):
        answer = network.hear(node.uplink(adr_ack_req=True))
        waited.append(answer.downlink.after_commit)
    assert waited == sorted(waited, reverse=True)  # once the reservation is surely on the disk, none waits
    assert not waited[-1]


def test_damaged_frames_are_rejected_and_harmless(joined):
    network, node = joined
    rng = random.Random(8)
    vectors = [node.uplink(), node.uplink(confirmed=True), node.join_request()]
    before = network.server.device(node.dev_eui).fcnt_up
    for _ in range(5000):
        phy = bytearray(rng.choice(vectors))
        phy[rng.randrange(len(phy))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            del phy[rng.randrange(len(phy)) :]
        outcome = network.hear(bytes(phy), after_s=0.01)
        assert isinstance(outcome, Rejected)
        assert outcome.detail
    status = network.server.device(node.dev_eui)
    assert status.fcnt_up == before
    assert status.queued <= network.settings.max_downlinks
    assert sum(network.server.counters.rejected.values()) == 5000
    assert isinstance(network.hear(vectors[0]), Uplink)
