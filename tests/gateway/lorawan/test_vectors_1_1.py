"""LoRaWAN 1.1 frames, both directions and both ends, against the npm package lora-packet."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest

from gateway.lorawan import frames
from gateway.lorawan.crypto import (
    DOWNLINK,
    UPLINK,
    SessionCrypto,
    SessionKeys,
    derive_session_keys,
    derive_session_keys_1_1,
    join_server_keys,
)
from gateway.lorawan.errors import FrameError
from gateway.lorawan.frames import DataFrame, JoinAccept, JoinReqType, RejoinRequest
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI, NetID

RNG = random.Random(11)
DEV_ADDR = DevAddr.parse("49be7df1")
KEYS = SessionKeys(*(AES128Key(RNG.randbytes(16)) for _ in range(4)))
ORACLE_KEYS = {
    "fNwkSInt": KEYS.f_nwk_s_int.value.hex(),
    "sNwkSInt": KEYS.s_nwk_s_int.value.hex(),
    "nwkSEnc": KEYS.nwk_s_enc.value.hex(),
    "appS": KEYS.app_s.value.hex(),
}
NWK_KEY, APP_KEY = AES128Key(RNG.randbytes(16)), AES128Key(RNG.randbytes(16))
DEV_EUI, JOIN_EUI = DevEUI.parse("00afee7cf5ed6f1e"), JoinEUI.parse("70b3d57ed00000dc")
JS_INT, JS_ENC = join_server_keys(NWK_KEY, DEV_EUI)
CFLIST = bytes.fromhex("184f84e85684b85e84886684586e8400")


@pytest.fixture
def crypto() -> SessionCrypto:
    return SessionCrypto(DEV_ADDR, KEYS, v1_1=True)


def signed(conf_fcnt: int) -> str:
    """ConfFCnt as the oracle takes it: the two bytes as they are signed."""
    return (conf_fcnt & 0xFFFF).to_bytes(2, "little").hex()


CONTENTS = [
    pytest.param(5, b"hello", b"", id="payload"),
    pytest.param(5, b"hello", b"\x02", id="payload and FOpts"),
    pytest.param(223, bytes(range(51)), b"\x0b\x01", id="RekeyInd and four blocks"),
    pytest.param(0, b"\x06", b"", id="port 0"),
    pytest.param(None, b"", b"\x06\xff\x05", id="FOpts alone"),
    pytest.param(None, b"", bytes(range(2, 17)), id="fifteen bytes of FOpts"),
]


@pytest.mark.parametrize("fcnt", [0, 0xFFFF, 0x1_0000, 0xFFFF_FFFF])
@pytest.mark.parametrize("ack", [False, True])
@pytest.mark.parametrize("way", [UPLINK, DOWNLINK])
@pytest.mark.parametrize(("fport", "payload", "fopts"), CONTENTS)
def test_what_is_built_here_the_oracle_reads(lora_packet, crypto, way, fport, payload, fopts, ack, fcnt):
    conf, tx = 0xFE01 if ack else 0, {"tx_dr": 3, "tx_ch": 7}
    args: dict[str, Any] = {
        "fport": fport,
        "payload": payload,
        "fopts": fopts,
        "ack": ack,
        "conf_fcnt": 0xFE01,
    }
    if way == UPLINK:
        phy = frames.build_uplink(crypto, DEV_ADDR, fcnt, **args, **tx)
    else:
        phy = frames.build_downlink(crypto, DEV_ADDR, fcnt, **args)
    asked = {"phy": phy, "fcnt": fcnt, "txDr": 3, "txCh": 7, "keys": ORACLE_KEYS}
    # The oracle signs the counter of an uplink on port 0 whether it acknowledges or not; the specification does not.
    read = lora_packet("open11", conf=signed(conf), **asked)
    assert read == {
        "mtype": f"Unconfirmed Data {'Down' if way else 'Up'}",
        "fport": fport,
        "fopts": fopts.hex(),
        "payload": payload.hex(),
        "mic": True,
    }
    if ack:  # the control: another acknowledged counter is noticed
        assert not lora_packet("open11", conf=signed(conf + 1), **asked)["mic"]
    if way == UPLINK:
        assert not lora_packet("open11", conf=signed(conf), **{**asked, "txCh": 6})["mic"]
        assert not lora_packet("open11", conf=signed(conf), **{**asked, "txDr": 2})["mic"]


@pytest.mark.parametrize("fcnt", [0, 0x1_0000, 0x7654_3210])
@pytest.mark.parametrize("ack", [False, True])
@pytest.mark.parametrize("confirmed", [False, True])
@pytest.mark.parametrize(
    ("fport", "payload", "fopts"), [(1, b"x", b""), (2, b"\x01" * 33, b"\x03\x07\x06"), (0, b"\x03\x07", b"")]
)
def test_what_the_oracle_sends_up_is_read_here(
    lora_packet, crypto, fport, payload, fopts, confirmed, ack, fcnt
):
    conf = 0x1234 if ack else 0
    answer = lora_packet(
        "build11",
        mtype=f"{'Confirmed' if confirmed else 'Unconfirmed'} Data Up",
        devAddr=str(DEV_ADDR),
        fctrl={"ADR": True, "ACK": ack, "ADRACKReq": False, "FPending": False},
        fcnt=fcnt,
        fport=fport,
        payload=payload,
        fopts=fopts,
        conf=signed(conf),
        txDr=5,
        txCh=2,
        keys=ORACLE_KEYS,
    )
    frame = frames.parse(bytes.fromhex(answer["phy"]))
    assert isinstance(frame, DataFrame)
    assert (frame.confirmed, frame.ack, frame.fport) == (confirmed, ack, fport)
    assert crypto.uplink_mic(fcnt, frame.message, conf, tx_dr=5, tx_ch=2) == frame.mic
    assert crypto.uplink_mic(fcnt, frame.message, conf, tx_dr=5, tx_ch=3) != frame.mic
    assert crypto.uplink_mic(fcnt, frame.message, conf + 1, tx_dr=5, tx_ch=2) != frame.mic
    assert crypto.cipher(UPLINK, fcnt, fport, frame.frm_payload) == payload
    assert crypto.fopts(UPLINK, fcnt, frame.fopts) == fopts


@pytest.mark.parametrize("fcnt", [0, 0x1_0000])
@pytest.mark.parametrize("ack", [False, True])
@pytest.mark.parametrize(
    ("fport", "payload", "fopts"), [(1, b"x", b""), (2, b"\x01" * 33, b"\x03\x07\x06"), (0, b"\x03\x07", b"")]
)
def test_what_the_oracle_sends_down_a_device_opens(lora_packet, crypto, fport, payload, fopts, ack, fcnt):
    answer = lora_packet(
        "build11",
        mtype="Confirmed Data Down",
        devAddr=str(DEV_ADDR),
        fctrl={"ADR": False, "ACK": ack, "ADRACKReq": False, "FPending": True},
        fcnt=fcnt,
        fport=fport,
        payload=payload,
        fopts=fopts,
        conf=signed(77 if ack else 0),
        txDr=0,
        txCh=0,
        keys=ORACLE_KEYS,
    )
    phy = bytes.fromhex(answer["phy"])
    last = fcnt - 1 if fcnt else None
    before = {"last_fcnt": None, "last_app_fcnt": last} if fport else {"last_fcnt": last}
    used = {"last_fcnt": None, "last_app_fcnt": fcnt} if fport else {"last_fcnt": fcnt}
    frame, taken, clear = frames.open_downlink(crypto, DEV_ADDR, phy=phy, conf_fcnt=77, **before)
    assert (taken, clear, frame.fopts, frame.fpending) == (fcnt, payload, fopts, True)
    with pytest.raises(FrameError, match="used before"):
        frames.open_downlink(crypto, DEV_ADDR, phy=phy, conf_fcnt=77, **used)
    if ack:
        with pytest.raises(FrameError, match="does not verify"):
            frames.open_downlink(crypto, DEV_ADDR, phy=phy, conf_fcnt=78, **before)


def test_the_two_downlink_counters_encrypt_fopts_differently(crypto):
    """The erratum of 1.1 on FCntDown in FOpts: as printed, both counters would give one key stream."""
    fopts = b"\x06\x03\x51\x07\x00\x01"
    network, app = (crypto.fopts(DOWNLINK, 9, fopts, app_counter=app) for app in (False, True))
    assert len({fopts, network, app}) == 3
    assert crypto.fopts(DOWNLINK, 9, network) == crypto.fopts(DOWNLINK, 9, app, app_counter=True) == fopts


def test_a_session_of_1_0_sends_fopts_in_clear_and_signs_no_channel():
    crypto = SessionCrypto(DEV_ADDR, KEYS)
    phy = frames.build_uplink(crypto, DEV_ADDR, 5, fopts=b"\x02", tx_dr=3, tx_ch=7, ack=True, conf_fcnt=9)
    assert phy[8:9] == b"\x02"
    assert phy == frames.build_uplink(crypto, DEV_ADDR, 5, fopts=b"\x02", ack=True)


def test_an_unacknowledged_counter_is_not_signed(crypto):
    for build in (frames.build_uplink, frames.build_downlink):
        assert build(crypto, DEV_ADDR, 1, conf_fcnt=5) == build(crypto, DEV_ADDR, 1)
        assert build(crypto, DEV_ADDR, 1, conf_fcnt=5, ack=True) != build(crypto, DEV_ADDR, 1, ack=True)


# Frames that the tests of another implementation, brocaar/lorawan, hold as bytes

TWOS = bytes((2,)) * 15
OTHER_ADDR = DevAddr.parse("01020304")
OTHER_KEYS = SessionKeys(
    f_nwk_s_int=AES128Key(TWOS + b"\3"),
    s_nwk_s_int=AES128Key(TWOS + b"\2"),
    nwk_s_enc=AES128Key(TWOS + b"\4"),
    app_s=AES128Key(b"\1" * 16),
)
ONES = replace(OTHER_KEYS, nwk_s_enc=AES128Key(b"\1" * 16))
HELLO = {"fport": 1, "payload": b"hello", "adr": True}
COUNTING_UP = AES128Key(bytes(range(1, 17)))


@pytest.mark.parametrize(
    ("keys", "fcnt", "args", "wire"),
    [
        pytest.param(OTHER_KEYS, 1, HELLO, "400403020180010001a6946426157612366a", id="payload"),
        pytest.param(
            OTHER_KEYS, 1, {**HELLO, "ack": True}, "4004030201a0010001a694642615f842c4b9", id="acknowledging"
        ),
        pytest.param(
            ONES, 0, {"fport": 0, "payload": b"\x02\x03\x05"}, "40040302010000000069369efa931bd7", id="port 0"
        ),
    ],
)
def test_published_uplinks_are_built_and_read(keys, fcnt, args, wire):
    crypto = SessionCrypto(OTHER_ADDR, keys, v1_1=True)
    phy = frames.build_uplink(crypto, OTHER_ADDR, fcnt, conf_fcnt=1, tx_dr=2, tx_ch=3, **args)
    assert phy == bytes.fromhex(wire)
    frame = frames.parse(phy)
    assert isinstance(frame, DataFrame)
    assert crypto.cipher(UPLINK, fcnt, args["fport"], frame.frm_payload) == args["payload"]


@pytest.mark.parametrize(
    ("keys", "args", "wire"),
    [
        pytest.param(OTHER_KEYS, {}, "6004030201030000" + "dfb4f1e24f1f9f", id="NFCntDown"),
        pytest.param(
            SessionKeys(
                AES128Key(bytes(16)),
                AES128Key(b"\1" * 15 + b"\0"),
                AES128Key(b"\1" * 14 + b"\2\0"),
                AES128Key(bytes(range(16, 0, -1))),
            ),
            {"fport": 1, "payload": b"\1\2\3\4"},
            "6004030201030000" + "22ac0a01f0b468ddaa5ed13a",
            id="AFCntDown",
        ),
    ],
)
def test_published_downlinks_with_encrypted_fopts_are_built_and_opened(keys, args, wire):
    crypto = SessionCrypto(OTHER_ADDR, keys, v1_1=True)
    phy = frames.build_downlink(crypto, OTHER_ADDR, 0, fopts=b"\x02\x07\x01", **args)
    assert phy == bytes.fromhex(wire)
    frame, _, clear = frames.open_downlink(crypto, OTHER_ADDR, None, phy)
    assert (frame.fopts, clear) == (b"\x02\x07\x01", args.get("payload", b""))


def test_a_published_join_accept_is_built_and_opened():
    """Its test takes one key for both purposes."""
    accept = JoinAccept(65793, NetID.parse("020202"), OTHER_ADDR, 0, 0, 0, opt_neg=True)
    asked = {"js_int_key": COUNTING_UP, "join_eui": JoinEUI.parse("0807060504030201"), "dev_nonce": 258}
    phy = frames.build_join_accept(COUNTING_UP, accept, **asked)
    assert phy == bytes.fromhex("207abeea06b02920f11c02d0348fcf1815")
    assert frames.open_join_accept(COUNTING_UP, phy, **asked) == replace(accept, rx_delay_s=1)


@pytest.mark.parametrize(
    ("kind", "home", "dev_eui", "wire"),
    [
        (2, {"net_id": 0x010203}, "0102030405060708", "c0020302010807060504030201db003c8642ae"),
        (
            1,
            {"join_eui": 0x0102030405060708},
            "090a0b0c0d0e0f10",
            "c0010807060504030201100f0e0d0c0b0a09db00eac31072",
        ),
    ],
)
def test_published_rejoin_requests_are_built_and_read(kind, home, dev_eui, wire):
    key = AES128Key(bytes(16))
    phy = frames.build_rejoin_request(key, kind, DevEUI.parse(dev_eui), 219, **home)
    assert phy == bytes.fromhex(wire)
    request = frames.parse(phy)
    assert isinstance(request, RejoinRequest)
    assert (request.kind, str(request.dev_eui), request.rj_count) == (kind, dev_eui, 219)
    assert frames.verify_join(key, request)


# Joins


@pytest.mark.parametrize("cflist", [b"", CFLIST], ids=["", "CFList"])
@pytest.mark.parametrize("kind", list(JoinReqType))
def test_the_oracle_opens_a_join_accept_and_derives_the_same_keys(lora_packet, kind, cflist):
    accept = JoinAccept(0x010203, NetID(1), DevAddr.parse("03abcdef"), 2, 5, 5, cflist, opt_neg=True)
    sealed_with = NWK_KEY if kind is JoinReqType.JOIN else JS_ENC
    asked = {"request_type": kind, "join_eui": JOIN_EUI, "dev_nonce": 0x0102}
    phy = frames.build_join_accept(sealed_with, accept, js_int_key=JS_INT, **asked)
    read = lora_packet(
        "joinAccept11",
        phy=phy,
        sealedWith=sealed_with.value,
        nwkKey=NWK_KEY.value,
        appKey=APP_KEY.value,
        devEui=str(DEV_EUI),
        joinEui=str(JOIN_EUI),
        devNonce="0102",
        requestType=int(kind),
    )
    assert (read["mic"], read["optNeg"], read["joinNonce"]) == (True, True, "010203")
    keys = derive_session_keys_1_1(NWK_KEY, APP_KEY, 0x010203, JOIN_EUI, 0x0102)
    ours = [keys.f_nwk_s_int, keys.s_nwk_s_int, keys.nwk_s_enc, keys.app_s]
    assert read["keys"] == [key.value.hex() for key in ours]
    assert read["js"] == [JS_INT.value.hex(), JS_ENC.value.hex()]
    assert frames.open_join_accept(sealed_with, phy, js_int_key=JS_INT, **asked) == accept
    for wrong in ({"dev_nonce": 0x0103}, {"join_eui": JoinEUI(1)}, {"request_type": (kind + 1) & 0xFF}):
        with pytest.raises(FrameError, match="does not verify"):
            frames.open_join_accept(sealed_with, phy, js_int_key=JS_INT, **{**asked, **wrong})


@pytest.mark.parametrize("cflist", [CFLIST], ids=["CFList"])
@pytest.mark.parametrize("kind", list(JoinReqType))
def test_a_join_accept_of_the_oracle_is_opened_here(lora_packet, kind, cflist):
    sealed_with = NWK_KEY if kind is JoinReqType.JOIN else JS_ENC
    built = lora_packet(
        "buildJoinAccept11",
        joinNonce="010203",
        netId="000001",
        devAddr="03abcdef",
        dlSettings="a5",
        rxDelay="05",
        cflist=cflist,
        sealedWith=sealed_with.value,
        jsInt=JS_INT.value,
        joinEui=str(JOIN_EUI),
        devNonce="0102",
        requestType=int(kind),
    )
    accept = frames.open_join_accept(
        sealed_with,
        bytes.fromhex(built["phy"]),
        js_int_key=JS_INT,
        request_type=kind,
        join_eui=JOIN_EUI,
        dev_nonce=0x0102,
    )
    assert accept == JoinAccept(0x010203, NetID(1), DevAddr.parse("03abcdef"), 2, 5, 5, cflist, opt_neg=True)


def test_a_1_1_device_opens_the_accept_of_a_1_0_network():
    """OptNeg unset: signed with the NwkKey, as 1.0.x does with the AppKey, and keys as in 1.0.x."""
    accept = JoinAccept(7, NetID(0), DevAddr(9), 0, 0, 1)
    phy = frames.build_join_accept(NWK_KEY, accept)
    asked = {"js_int_key": JS_INT, "join_eui": JOIN_EUI, "dev_nonce": 1}
    assert frames.open_join_accept(NWK_KEY, phy, **asked) == accept
    keys = derive_session_keys(NWK_KEY, 7, 0, 1)
    assert keys.s_nwk_s_int is keys.nwk_s_enc is keys.f_nwk_s_int


def test_opt_neg_and_its_key_belong_together():
    accept = JoinAccept(7, NetID(0), DevAddr(9), 0, 0, 1)
    with pytest.raises(FrameError, match="OptNeg"):
        frames.build_join_accept(NWK_KEY, accept, js_int_key=JS_INT, join_eui=JOIN_EUI, dev_nonce=1)
    with pytest.raises(FrameError, match="OptNeg"):
        frames.build_join_accept(NWK_KEY, replace(accept, opt_neg=True))
    with pytest.raises(FrameError, match="covers JoinEUI"):
        frames.build_join_accept(NWK_KEY, replace(accept, opt_neg=True), js_int_key=JS_INT)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_the_oracle_reads_a_rejoin_request(lora_packet, kind):
    key = JS_INT if kind == 1 else KEYS.s_nwk_s_int
    phy = frames.build_rejoin_request(key, kind, DEV_EUI, 0xA1B2, net_id=0x01, join_eui=JOIN_EUI)
    read = lora_packet("rejoinRequest", phy=phy, sNwkSInt=KEYS.s_nwk_s_int.value, jsInt=JS_INT.value)
    assert read == {
        "mtype": "Rejoin Request",
        "kind": kind,
        "netId": "" if kind == 1 else "000001",
        "joinEui": str(JOIN_EUI) if kind == 1 else "",
        "devEui": str(DEV_EUI),
        "count": "" if kind == 1 else "a1b2",
        "mic": True,
    }
    frame = frames.parse(phy)
    assert isinstance(frame, RejoinRequest)
    assert (frame.kind, frame.dev_eui, frame.rj_count) == (kind, DEV_EUI, 0xA1B2)
    assert (frame.net_id, frame.join_eui) == ((None, JOIN_EUI) if kind == 1 else (1, None))
    assert frames.verify_join(key, frame)
    assert not frames.verify_join(NWK_KEY, frame)


@pytest.mark.parametrize(
    ("phy", "words"),
    [
        pytest.param("c0", "no known type", id="no type"),
        pytest.param("c003" + "00" * 17, "no known type", id="type 3"),
        pytest.param("c000" + "00" * 16, "19 bytes", id="short"),
        pytest.param("c001" + "00" * 17, "24 bytes", id="type 1 of the other length"),
        pytest.param("c100" + "00" * 17, "major version", id="another major version"),
    ],
)
def test_what_is_no_rejoin_request_is_refused_in_words(phy, words):
    with pytest.raises(FrameError, match=words):
        frames.parse(bytes.fromhex(phy))


def test_a_rejoin_request_names_its_network_or_join_server():
    for kind, home in ((0, {"join_eui": 1}), (1, {"net_id": 1}), (2, {}), (3, {"net_id": 1})):
        with pytest.raises(FrameError, match="names the NetID"):
            frames.build_rejoin_request(JS_INT, kind, DEV_EUI, 0, **home)


def test_damaged_frames_of_1_1_raise_nothing_but_frame_error(crypto):
    rng = random.Random(1)
    accept = JoinAccept(1, NetID(0), DevAddr(9), 0, 0, 1, CFLIST, opt_neg=True)
    asked = {"js_int_key": JS_INT, "join_eui": JOIN_EUI, "dev_nonce": 1}
    vectors = [
        frames.build_rejoin_request(JS_INT, 0, DEV_EUI, 1, net_id=1),
        frames.build_rejoin_request(JS_INT, 1, DEV_EUI, 1, join_eui=JOIN_EUI),
        frames.build_join_accept(NWK_KEY, accept, **asked),
        frames.build_downlink(crypto, DEV_ADDR, 1, fport=1, payload=b"on", fopts=b"\x06"),
        frames.build_uplink(crypto, DEV_ADDR, 1, fport=1, payload=b"on", fopts=b"\x06"),
    ]
    read = opened = 0
    for _ in range(10_000):
        phy = bytearray(rng.choice(vectors))
        for _ in range(rng.randrange(3)):
            match rng.randrange(3):
                case 0:
                    phy[rng.randrange(len(phy))] ^= 1 << rng.randrange(8)
                case 1:
                    del phy[rng.randrange(1, len(phy)) :]
                case 2:
                    phy += rng.randbytes(rng.randrange(1, 9))
            if len(phy) < 2:
                break
        attempts = (
            lambda phy=phy: frames.parse(bytes(phy)),
            lambda phy=phy: frames.open_downlink(crypto, DEV_ADDR, None, bytes(phy)),
            lambda phy=phy: frames.open_join_accept(NWK_KEY, bytes(phy), **asked),
        )
        for number, attempt in enumerate(attempts):
            try:
                attempt()
            except FrameError:
                continue
            if number:
                assert bytes(phy) in vectors  # the control of the codes: nothing damaged is opened
                opened += 1
            read += 1
    assert read > 3000
    assert opened > 1000


def test_any_frame_comes_back_as_it_was_built(crypto):
    """Both halves back to back, over seeded values of every field."""
    rng = random.Random(2)
    for _, v1_1 in itertools.product(range(500), (False, True)):
        session = SessionCrypto(DEV_ADDR, KEYS, v1_1)
        fport = rng.choice([None, 0, 1, 223, rng.randrange(1, 224)])
        payload = rng.randbytes(rng.randrange(60)) if fport is not None else b""
        fopts = b"" if fport == 0 else rng.randbytes(rng.randrange(16))
        fcnt, conf = rng.getrandbits(32), rng.getrandbits(32)
        flags = {name: rng.random() < 0.5 for name in ("confirmed", "adr", "ack", "fpending")}
        phy = frames.build_downlink(
            session, DEV_ADDR, fcnt, fport=fport, payload=payload, fopts=fopts, conf_fcnt=conf, **flags
        )
        last = fcnt - 1 - rng.randrange(100)
        frame, taken, clear = (
            frames.open_downlink(session, DEV_ADDR, last, phy, last_app_fcnt=last, conf_fcnt=conf)
            if last >= 0
            else (None, fcnt, payload)
        )
        assert (taken, clear) == (fcnt, payload)
        if frame is not None:
            assert (frame.fport, frame.fopts) == (fport, fopts)
            assert {name: getattr(frame, name) for name in flags} == flags
