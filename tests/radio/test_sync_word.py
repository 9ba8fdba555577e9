"""Modules that hear simple nodes beside LoRaWAN: what they listen for, how their frames are told apart, who answers."""

from dataclasses import replace

import pytest

from radio import gwmp
from radio.concentrator import Concentrator, TxModule
from radio.config import ModuleConfig, RadioConfig
from radio.filters import EVERYTHING, Filter, Why
from radio.gwmp import PullResp, PushData, RxPacket, TxError, TxPacket
from radio.lora import SYNC_WORD_LORAWAN, SYNC_WORD_PRIVATE, LoRaModulation
from radio.regions import get_region
from radio.roles import Role, default_roles
from radio.sx127x.chip import Packet
from radio.sx127x.events import Received
from radio.sx127x.registers import REG_SYNC_WORD, Settings, for_receive

EUI = bytes.fromhex("aa555a0000000101")
SF7 = LoRaModulation(7, 125_000)
UPLINK = bytes.fromhex("40efbeadde0001000155aabbccdd")  # it looks like LoRaWAN's
HEARD = RxPacket(123, 868_100_000, 1, 0, 1, SF7, -80, 7.5, UPLINK, sync_word=SYNC_WORD_PRIVATE)
ORDER = TxPacket(
    None, True, 868_100_000, 0, 14, SF7, False, b"\x05\x01\x07\x80!", sync_word=SYNC_WORD_PRIVATE
)


class Owner:
    """A module's owner that takes everything."""

    name = "module 0"

    def __init__(self):
        self.sent = []

    def submit(self, tx, now_ns):
        self.sent.append(tx)
        return TxError.NONE

    def earliest_start(self, airtime_us, now_ns):
        return now_ns


def test_the_sync_word_travels_with_frames_and_orders_and_is_left_out_of_lorawans():
    assert gwmp.decode(gwmp.encode(PushData(1, EUI, (HEARD,)))).rxpk == (HEARD,)
    assert gwmp.decode(gwmp.encode(PullResp(1, ORDER))).txpk == ORDER
    lorawan = replace_sync(HEARD, SYNC_WORD_LORAWAN)
    assert b'"sync"' not in gwmp.encode(PushData(1, EUI, (lorawan,)))
    assert b'"sync":18' in gwmp.encode(PushData(1, EUI, (HEARD,)))


def replace_sync(rx, sync_word):
    return RxPacket(
        *[sync_word if name == "sync_word" else getattr(rx, name) for name in rx.__struct_fields__]
    )


def test_no_other_server_is_given_a_private_frame_whatever_it_looks_like():
    assert Filter().why_not(HEARD) is Why.PROPRIETARY
    assert Filter(proprietary=True).why_not(HEARD) is Why.PROPRIETARY
    assert EVERYTHING.why_not(HEARD) is Why.PASSES
    assert Filter().why_not(replace_sync(HEARD, SYNC_WORD_LORAWAN)) is Why.PASSES


def test_a_module_listens_for_its_own_sync_word():
    private = ModuleConfig("fluxgate-sim-4", 1, 868_450_000, sync_word="private")
    config = RadioConfig((ModuleConfig("fluxgate-sim-4", 0), private), EUI)
    assert [config.sync_word_of(module) for module in config.modules] == [0x34, 0x12]
    assert for_receive(Settings(868_450_000, SF7, sync_word=0x12))[REG_SYNC_WORD] == 0x12
    with pytest.raises(ValueError, match="sync_word"):
        ModuleConfig(sync_word="public")


def test_a_private_module_may_listen_as_no_lorawan_device_sends():
    private = ModuleConfig("fluxgate-sim-4", 1, 868_450_000, sf=9, bw_hz=500_000, sync_word="private")
    config = RadioConfig((ModuleConfig("fluxgate-sim-4", 0), private), EUI)
    assert not any("868.45" in doubt for doubt in config.doubts)
    with pytest.raises(ValueError, match="no uplink data rate"):
        RadioConfig((replace(private, sync_word="lorawan"),), EUI)


AUTO, RX, TX, RXTX = Role.AUTO, Role.RX, Role.TX, Role.RXTX


@pytest.mark.parametrize(
    ("roles", "private", "expected"),
    [
        pytest.param([AUTO, AUTO], [False, True], (RXTX, RX), id="the only LoRaWAN module does everything"),
        pytest.param([AUTO, AUTO, AUTO], [False, False, True], (RX, TX, RX), id="two and one"),
        pytest.param([AUTO], [True], (RXTX,), id="a private one alone"),
        pytest.param([RX, AUTO], [False, True], (RX, RXTX), id="somebody has to send"),
        pytest.param([AUTO, TX], [True, False], (RX, TX), id="one that sends is there"),
    ],
)
def test_private_modules_listen_beside_the_others(roles, private, expected):
    assert default_roles(roles, private=private) == expected


def test_frames_are_marked_by_the_module_that_heard_them_and_orders_keep_their_sync_word(received):
    heard = []
    concentrator = Concentrator(get_region("EU868"), lambda rx, _end: heard.append(rx), private=[False, True])
    owner = Owner()
    concentrator.use([TxModule(owner, receives=True, pa_boost=True, max_power_dbm=17)])
    concentrator.on_event(0, received)
    concentrator.on_event(1, received)
    assert [rx.sync_word for rx in heard] == [0x34, 0x12]
    assert concentrator.transmit(ORDER, 0).error is TxError.NONE
    lorawan = TxPacket(None, True, 868_100_000, 0, 14, SF7, True, b"\x60", ncrc=True)
    assert concentrator.transmit(lorawan, 0).error is TxError.NONE
    assert [tx.sync_word for tx in owner.sent] == [0x12, 0x34]
    assert [tx.iq_inverted for tx in owner.sent] == [False, True]
    assert [tx.crc for tx in owner.sent] == [True, False]


def test_a_module_that_cannot_change_its_sync_word_is_not_asked():
    concentrator = Concentrator(get_region("EU868"), lambda _rx, _end: None)
    serial = TxModule(Owner(), receives=True, pa_boost=False, max_power_dbm=14, any_sync_word=False)
    concentrator.use([serial])
    refused = concentrator.transmit(ORDER, 0)
    assert (refused.error, "LoRaWAN devices only" in refused.reason) == (TxError.TX_FREQ, True)


@pytest.fixture
def received():
    return Received(Packet(UPLINK, True, True, -80, 7.5, 0, 1), 1000, False, 868_100_000, SF7)
