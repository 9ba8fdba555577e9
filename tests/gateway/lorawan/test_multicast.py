"""Multicast groups: keys as other implementations derive them, one frame for all, each gateway once and in turn."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gateway.lorawan import mckeys
from gateway.lorawan.errors import OrderError, QueueFull
from gateway.lorawan.frames import build_uplink
from gateway.lorawan.group import GroupConfig
from gateway.lorawan.multicast import MAX_GROUPS, MAX_ORDERS, MAX_REFUSALS
from gateway.lorawan.outcome import Reason
from gateway.lorawan.profile import DeviceClass, Profile
from gateway.lorawan.seal import Sealer
from gateway.lorawan.store import Store
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI
from radio.gwmp import TxError
from radio.lora import airtime_us

NEAR, FAR = bytes.fromhex("02f10f6a7e00000a"), bytes.fromhex("02f10f6a7e00000b")
LAMPS = GroupConfig(
    name="lamps",
    mc_addr=DevAddr(0x01FFFFFF),
    nwk_s_key=AES128Key.parse("bb75c362588f5d65fcc61c080b76dba3"),
    app_s_key=AES128Key.parse("c3f6c39b6b6496c29629f7e7e9b0cd29"),
    gateways=(NEAR, FAR),
)
LAMP = Profile("lamp", device_class=DeviceClass.C)


def key(first: int) -> AES128Key:
    return AES128Key(bytes((first, *range(2, 17))))


def test_root_keys_are_those_of_another_implementation():
    """brocaar/lorawan, applayer/multicastsetup/keys_test.go."""
    assert mckeys.mc_root_key(key(3)).value.hex() == "55344e82570eaec8bf03b99962d1f445"
    assert mckeys.mc_root_key_1_1(key(2)).value.hex() == "264fd859583fcc670241ac071cc9f5bb"
    assert mckeys.mc_ke_key(key(4)).value.hex() == "9083bebf704257883160dbfcde33ad71"


@pytest.mark.parametrize(
    ("mc_addr", "app_s_key", "nwk_s_key"),
    [
        pytest.param(
            *(0x01020304, "95cb4518ee375606735bbacbdce837fa", "c3f6b388bad6c000b23291ad52c11c7b"),
            id="brocaar/lorawan",
        ),
        pytest.param(
            *(0x01FFFFFF, "c3f6c39b6b6496c29629f7e7e9b0cd29", "bb75c362588f5d65fcc61c080b76dba3"),
            id="LoRaMac-node fuota-test-01",
        ),
    ],
)
def test_session_keys_of_a_group_are_those_of_other_implementations(mc_addr, app_s_key, nwk_s_key):
    mc_key = AES128Key(bytes(range(1, 17)))
    assert mckeys.mc_app_s_key(mc_key, DevAddr(mc_addr)).value.hex() == app_s_key
    assert mckeys.mc_nwk_s_key(mc_key, DevAddr(mc_addr)).value.hex() == nwk_s_key


def test_a_mc_key_travels_as_a_device_of_another_implementation_reads_it():
    """LoRaMac-node, fuota-test-01."""
    ke_key = AES128Key.parse("2c578f7927a949d3b511ae8fb69145c6")
    travels = mckeys.encrypted_mc_key(ke_key, AES128Key(bytes(range(1, 17))))
    assert travels.hex() == "015e85f4b99dc0b944066cd07498330b"


@pytest.fixture
def lamps(network):
    network.commit(network.server.groups.set_up(LAMPS))
    return network


def order(network, payload=b"on", fport=15, **how):
    queued = network.server.queue_group_downlink("lamps", fport, payload, now=network.now(), **how)
    network.commit(queued.writes)
    return queued.id


def of_one(network, node):
    """A member that the network has heard."""
    network.server.use_profiles({"lamp": LAMP})
    network.add(replace(node.config, profile="lamp"))
    network.join(node)
    network.hear(node.uplink())
    network.commit(network.server.groups.join("lamps", node.dev_eui))


def test_each_gateway_sends_the_one_frame_once_and_never_on_top_of_the_other(lamps):
    queued = order(lamps, b"\x01\x02")
    ((after_s, first),) = lamps.wait(5, 1)
    assert (after_s, first.id, first.group, first.gateway) == (0, queued, "lamps", NEAR)
    assert (first.dev_eui, first.klass, first.windows[0].imme) == (None, "C", True)
    (receipt,) = lamps.sent(first).receipts
    assert (receipt.state, receipt.group, receipt.gateway, receipt.window) == ("sent", "lamps", NEAR, "RXC")
    ((after_s, second),) = lamps.wait(60, 1)
    assert after_s >= airtime_us(first.windows[0].modulation, len(first.windows[0].data), crc=False) / 1e6
    assert (second.gateway, second.windows[0].data) == (FAR, first.windows[0].data)
    assert second.fcnt == first.fcnt
    (receipt,) = lamps.sent(second).receipts
    assert (receipt.state, receipt.gateway, receipt.attempt) == ("sent", FAR, 2)
    assert lamps.wait(600) == []
    assert lamps.db.execute("SELECT count(*) FROM lorawan_group_downlink").fetchone() == (0,)


def test_the_frame_opens_with_the_groups_keys(lamps, lora_packet):
    order(lamps, b"\x01\x02", 15)
    ((_, downlink),) = lamps.wait(1)
    phy = downlink.windows[0].data
    read = lora_packet("open", phy=phy, fcnt=0, nwkSKey=LAMPS.nwk_s_key.value, appSKey=LAMPS.app_s_key.value)
    assert (read["mic"], read["devAddr"], read["fport"], read["payload"]) == (True, "01ffffff", 15, "0102")
    assert (read["ack"], read["fpending"], read["fopts"]) == (False, False, "")


def test_without_a_list_the_gateways_that_hear_members_send(lamps, node, make_node):
    lamps.commit(lamps.server.groups.set_up(replace(LAMPS, gateways=())))
    order(lamps)
    assert lamps.wait(600) == []
    group = lamps.server.groups.get("lamps")
    assert "no gateway has heard a member" in group.orders[0].held
    of_one(lamps, node)
    ((_, downlink),) = lamps.wait(60)
    assert downlink.gateway.hex() == "aa555a0000000101"
    lamps.sent(downlink)
    lamps.restart()
    order(lamps)
    ((_, downlink),) = lamps.wait(1)
    assert downlink.gateway.hex() == "aa555a0000000101", "a class C device's gateway outlives a restart"


def test_a_refusing_gateway_goes_last_and_is_given_up_on(lamps):
    queued = order(lamps)
    sent_by, failed = [], []
    for _ in range(MAX_REFUSALS + 1):
        ((_, downlink),) = lamps.wait(100, 1)
        if downlink.gateway == NEAR:
            failed += lamps.failed(downlink, TxError.COLLISION_PACKET).receipts
        else:
            sent_by += lamps.sent(downlink).receipts
    assert [receipt.gateway for receipt in sent_by] == [FAR]
    assert [(receipt.order_id, receipt.state, receipt.gateway) for receipt in failed] == [
        (queued, "failed", NEAR)
    ]
    assert NEAR.hex() in failed[0].reason
    assert lamps.wait(600) == []


def test_when_no_gateway_has_sent_it_the_order_itself_has_failed(lamps):
    order(lamps)
    receipts = []
    for _ in range(2):
        ((_, downlink),) = lamps.wait(100, 1)
        receipts += lamps.failed(downlink, TxError.TX_FREQ).receipts
    assert [(receipt.state, receipt.gateway) for receipt in receipts] == [
        ("failed", NEAR),
        ("failed", FAR),
        ("failed", None),
    ]


def test_a_gateway_that_tells_nothing_does_not_hold_up_the_others(lamps):
    order(lamps)
    lamps.wait(1)
    ((_, downlink),) = lamps.wait(100, 1)
    assert downlink.gateway == FAR
    assert lamps.receipts[0].reason.endswith("it has not told whether it sent the frame")


def test_frames_of_a_group_keep_their_order_and_counters(lamps):
    orders = [order(lamps, bytes((number,)), priority=number // 3) for number in range(6)]
    left = []
    while downlinks := lamps.wait(60, 1):
        ((_, downlink),) = downlinks
        left.append((downlink.id, downlink.fcnt, downlink.gateway))
        lamps.sent(downlink)
    expected = [orders[at] for at in (3, 4, 5, 0, 1, 2)]
    assert left == [(each, fcnt, gateway) for fcnt, each in enumerate(expected) for gateway in (NEAR, FAR)]


def test_after_a_restart_only_the_gateways_left_send_and_counters_never_go_back(lamps):
    queued = order(lamps)
    ((_, first),) = lamps.wait(1)
    lamps.sent(first)
    lamps.restart()
    ((_, second),) = lamps.wait(1)
    assert (second.id, second.gateway, second.windows[0].data) == (queued, FAR, first.windows[0].data)
    lamps.sent(second)
    order(lamps)
    ((_, third),) = lamps.wait(60, 1)
    assert third.fcnt > first.fcnt
    assert third.after_commit, "its counter is not reserved yet"


def test_what_has_expired_is_told_and_not_sent(lamps):
    lamps.commit(lamps.server.groups.set_up(replace(LAMPS, gateways=())))
    queued = order(lamps, ttl_s=60)
    assert lamps.wait(100) == []
    (receipt,) = lamps.receipts
    assert (receipt.order_id, receipt.state) == (queued, "failed")
    assert receipt.reason.startswith("expired (no gateway has heard a member")


def test_an_uplink_under_the_groups_address_is_refused(lamps):
    group = lamps.server.groups.get("lamps")
    phy = build_uplink(group.crypto, LAMPS.mc_addr, 0, fport=1, payload=b"x")
    outcome = lamps.hear(phy)
    assert outcome.reason is Reason.MULTICAST_ADDRESS
    assert "multicast group lamps" in outcome.detail
    lamps.commit(lamps.server.groups.remove("lamps", lamps.now()).writes)
    assert lamps.hear(phy).reason is Reason.UNKNOWN_DEV_ADDR


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"name": "la.mps"}, "name", id="a dot would be another subtopic"),
        pytest.param({"name": ""}, "name", id="no name"),
        pytest.param({"device_class": DeviceClass.A}, "class B or C", id="class A"),
        pytest.param({"ping_period": 8}, "ping_period", id="period"),
        pytest.param({"gateways": (NEAR, NEAR)}, "twice", id="gateway twice"),
        pytest.param({"name": "other"}, "group lamps", id="address taken"),
        pytest.param({"freq_hz": 915_000_000}, "frequency", id="outside the region"),
        pytest.param({"dr": 15}, "data rate", id="no such data rate"),
    ],
)
def test_a_group_that_cannot_work_is_refused_in_words(lamps, changes, words):
    with pytest.raises(OrderError, match=words):
        lamps.server.groups.set_up(replace(LAMPS, **changes))


def test_members_are_registered_devices_and_leave_with_them(lamps, node):
    with pytest.raises(OrderError, match="not registered"):
        lamps.server.groups.join("lamps", node.dev_eui)
    of_one(lamps, node)
    lamps.restart()
    lamps.server.use_profiles({"lamp": LAMP})
    assert lamps.server.groups.get("lamps").members == {node.dev_eui}
    lamps.commit(lamps.server.remove_device(node.dev_eui))
    assert lamps.server.groups.get("lamps").members == set()
    with pytest.raises(OrderError, match="not a member"):
        lamps.server.groups.leave("lamps", DevEUI(node.dev_eui))
    assert lamps.db.execute("SELECT count(*) FROM lorawan_group_member").fetchone() == (0,)


def test_orders_that_can_never_be_sent_are_refused(lamps):
    for payload, fport in ((b"x", 0), (b"x", 224), (bytes(52), 1)):  # SF12 takes 51 bytes
        with pytest.raises(OrderError):
            order(lamps, payload, fport)
    with pytest.raises(OrderError, match="no group"):
        lamps.server.queue_group_downlink("nobody", 1, b"x", now=lamps.now())
    for _ in range(MAX_ORDERS):
        order(lamps)
    with pytest.raises(QueueFull):
        order(lamps)


def test_groups_are_bounded(network):
    for number in range(MAX_GROUPS):
        network.server.groups.set_up(replace(LAMPS, name=f"g{number}", mc_addr=DevAddr(number)))
    with pytest.raises(OrderError, match="no more fit"):
        network.server.groups.set_up(LAMPS)


def test_orders_are_taken_back_one_or_all(lamps):
    first, second, third = order(lamps), order(lamps), order(lamps)
    due = lamps.server.groups.cancel("lamps", second, lamps.now())
    lamps.commit(due.writes)
    assert [(receipt.order_id, receipt.reason) for receipt in due.receipts] == [(second, "cancelled")]
    with pytest.raises(OrderError, match="no downlink"):
        lamps.server.groups.cancel("lamps", second, lamps.now())
    due = lamps.server.groups.remove("lamps", lamps.now())
    lamps.commit(due.writes)
    assert [receipt.order_id for receipt in due.receipts] == [first, third]
    for table in ("group", "group_member", "group_downlink"):
        assert lamps.db.execute(f"SELECT count(*) FROM lorawan_{table}").fetchone() == (0,)


def test_new_keys_begin_a_new_count_and_other_changes_do_not(lamps):
    order(lamps)
    ((_, downlink),) = lamps.wait(1)
    lamps.sent(downlink)
    group = lamps.server.groups.get("lamps")
    lamps.commit(lamps.server.groups.set_up(replace(LAMPS, dr=3)))
    assert group.fcnt_down.next == 1
    lamps.commit(lamps.server.groups.set_up(replace(LAMPS, app_s_key=key(9)), fcnt_down=100))
    assert lamps.server.groups.get("lamps").fcnt_down.next == 100


def test_keys_at_rest_are_sealed_and_keys_of_another_host_are_not_taken(make_network):
    sealer = Sealer({1: bytes(32)})
    network = make_network(writer=Store(sealer.seal, sealer.unseal))
    network.commit(network.server.groups.set_up(LAMPS))
    stored = b"".join(network.db.execute("SELECT nwk_s_key, app_s_key FROM lorawan_group").fetchone())
    assert LAMPS.nwk_s_key.value not in stored
    assert LAMPS.app_s_key.value not in stored
    assert [group.config for group in network.writer.load(network.db).groups] == [LAMPS]
    stranger = Sealer({1: bytes((1, *bytes(31)))})
    assert Store(stranger.seal, stranger.unseal).load(network.db).groups == []
    assert "bb75c362" not in repr(LAMPS)


def test_whatever_happens_each_gateway_sends_each_frame_at_most_once_and_counters_rise(lamps):
    """Some thousand orders, reports, refusals and restarts in any order."""
    rng = random.Random(3)
    sent: set[tuple[int, bytes]] = set()
    bodies: dict[int, bytes] = {}
    ended: set[str] = set()
    orders: set[str] = set()
    for _ in range(1500):
        match rng.randrange(12):
            case 0 | 1 if len(lamps.server.groups.get("lamps").orders) < 20:
                orders.add(order(lamps, rng.randbytes(8), ttl_s=rng.choice((None, 20))))
            case 2 if rng.random() < 0.1:
                lamps.restart()
            case _:
                for _, downlink in lamps.wait(rng.random() * 4):
                    packet = downlink.windows[0]
                    assert bodies.setdefault(downlink.fcnt, packet.data) == packet.data
                    if rng.random() < 0.7:
                        lamps.sent(downlink)
                        assert (downlink.fcnt, downlink.gateway) not in sent
                        sent.add((downlink.fcnt, downlink.gateway))
                    else:
                        lamps.failed(downlink, TxError.COLLISION_PACKET)
                ended |= {
                    receipt.order_id for receipt in lamps.receipts
                    if receipt.state == "failed" and receipt.gateway is None
                }  # fmt: skip
    while downlinks := lamps.wait(100, 1):
        lamps.sent(downlinks[0][1])
    assert lamps.db.execute("SELECT count(*) FROM lorawan_group_downlink").fetchone() == (0,)
    assert len(sent) > 200
    assert len(set(bodies.values())) == len(bodies)
