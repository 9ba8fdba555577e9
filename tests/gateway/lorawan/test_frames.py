"""Frames against published vectors and against the npm package lora-packet, both ways."""

import random

import pytest

from gateway.lorawan import frames
from gateway.lorawan.crypto import DOWNLINK, UPLINK, SessionCrypto, SessionKeys, derive_session_keys
from gateway.lorawan.errors import FrameError, UnsupportedFrame
from gateway.lorawan.frames import DataFrame, JoinAccept, JoinRequest, MType, SealedJoinAccept
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI, NetID

# lora-packet's documentation: an uplink of DevAddr 49be7df1 that says "test"
KNOWN_UPLINK = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
NWK_S_KEY = AES128Key.parse("44024241ed4ce9a68c6a8bc055233fd3")
APP_S_KEY = AES128Key.parse("ec925802ae430ca77fd3dd73cb2cc588")
DEV_ADDR = DevAddr.parse("49be7df1")

# A join taken off the air of The Things Network and published with its key (lora-packet issue 10)
KNOWN_JOIN_REQUEST = bytes.fromhex("00dc0000d07ed5b3701e6fedf57ceeaf0085cc587fe913")
KNOWN_JOIN_ACCEPT = bytes.fromhex("204dd85ae608b87fc4889970b7d2042c9e72959b0057aed6094b16003df12de145")
APP_KEY = AES128Key.parse("b6b53f4a168a7a88bdf7ea135ce9cfca")


@pytest.fixture
def crypto():
    return SessionCrypto(DEV_ADDR, SessionKeys.of_1_0(NWK_S_KEY, APP_S_KEY))


def test_a_known_uplink_is_read_verified_and_decrypted(crypto):
    frame = frames.parse(KNOWN_UPLINK)
    assert isinstance(frame, DataFrame)
    assert (frame.mtype, frame.dev_addr, frame.fcnt, frame.fport) == (MType.UNCONFIRMED_UP, DEV_ADDR, 2, 1)
    assert crypto.uplink_mic(2, frame.message) == frame.mic
    assert crypto.cipher(UPLINK, 2, 1, frame.frm_payload) == b"test"


def test_the_same_uplink_is_built(crypto):
    assert frames.build_uplink(crypto, DEV_ADDR, 2, fport=1, payload=b"test") == KNOWN_UPLINK


def test_a_known_join_request_is_read_and_built():
    request = frames.parse(KNOWN_JOIN_REQUEST)
    assert isinstance(request, JoinRequest)
    assert str(request.join_eui) == "70b3d57ed00000dc"
    assert str(request.dev_eui) == "00afee7cf5ed6f1e"
    assert request.dev_nonce == 0xCC85


def test_a_known_join_accept_is_opened_and_built():
    accept = frames.open_join_accept(APP_KEY, KNOWN_JOIN_ACCEPT)
    assert accept == JoinAccept(
        join_nonce=0xE5063A,
        net_id=NetID(0x13),
        dev_addr=DevAddr.parse("26012e43"),
        rx1_dr_offset=0,
        rx2_dr=3,
        rx_delay_s=1,
        cflist=bytes.fromhex("184f84e85684b85e84886684586e8400"),
    )
    assert frames.build_join_accept(APP_KEY, accept) == KNOWN_JOIN_ACCEPT


def test_its_session_keys_are_those_published():
    keys = derive_session_keys(APP_KEY, 0xE5063A, 0x13, 0xCC85)
    assert keys.nwk_s_enc == keys.s_nwk_s_int == keys.f_nwk_s_int
    assert keys.f_nwk_s_int.value.hex() == "2c96f7028184bb0be8aa49275290d4fc"
    assert keys.app_s.value.hex() == "f3a5c8f0232a38c144029c165865802c"


@pytest.mark.parametrize("fcnt", [0, 1, 0xFFFF, 0x1_0000, 0x7654_3210])
@pytest.mark.parametrize(
    ("mtype", "fport", "payload", "fopts"),
    [
        pytest.param("Unconfirmed Data Up", 1, b"x", b"", id="one byte"),
        pytest.param("Confirmed Data Up", 223, bytes(range(51)), b"\x02", id="confirmed with LinkCheckReq"),
        pytest.param("Unconfirmed Data Up", 0, b"\x03\x07", b"", id="MAC on port 0"),
        pytest.param("Unconfirmed Data Up", 2, b"", b"\x03\x07\x06\xff\x05", id="FOpts and an empty payload"),
        pytest.param("Unconfirmed Data Up", 7, bytes(222), b"", id="the longest"),
    ],
)
def test_what_the_oracle_builds_is_read_here(lora_packet, crypto, fcnt, mtype, fport, payload, fopts):
    answer = lora_packet(
        "build",
        mtype=mtype,
        devAddr=str(DEV_ADDR),
        fctrl={"ADR": True, "ACK": True, "ADRACKReq": False, "FPending": False},
        fcnt=fcnt,
        fport=fport,
        payload=payload,
        fopts=fopts,
        nwkSKey=NWK_S_KEY.value,
        appSKey=APP_S_KEY.value,
    )
    frame = frames.parse(bytes.fromhex(answer["phy"]))
    assert isinstance(frame, DataFrame)
    assert frame.uplink
    assert frame.confirmed == mtype.startswith("Confirmed")
    assert (frame.dev_addr, frame.fcnt, frame.fport, frame.fopts) == (DEV_ADDR, fcnt & 0xFFFF, fport, fopts)
    assert (frame.adr, frame.ack, frame.adr_ack_req) == (True, True, False)
    assert crypto.uplink_mic(fcnt, frame.message) == frame.mic
    assert crypto.cipher(UPLINK, fcnt, fport, frame.frm_payload) == payload


@pytest.mark.parametrize("fcnt", [0, 0xFFFF, 0x1_0000, 0xFFFF_FFFF])
@pytest.mark.parametrize("confirmed", [False, True])
@pytest.mark.parametrize(
    ("fport", "payload", "fopts"), [(5, b"hello", b"\x02"), (0, b"\x06", b""), (None, b"", b"\x06")]
)
@pytest.mark.parametrize("way", [UPLINK, DOWNLINK])
def test_what_is_built_here_the_oracle_reads(
    lora_packet, crypto, way, fcnt, confirmed, fport, payload, fopts
):
    build = frames.build_downlink if way else frames.build_uplink
    phy = build(
        crypto, DEV_ADDR, fcnt, fport=fport, payload=payload, fopts=fopts, confirmed=confirmed, ack=True
    )
    read = lora_packet("open", phy=phy, fcnt=fcnt, nwkSKey=NWK_S_KEY.value, appSKey=APP_S_KEY.value)
    assert read["mic"]
    assert read["mtype"] == f"{'Confirmed' if confirmed else 'Unconfirmed'} Data {'Down' if way else 'Up'}"
    assert (read["dir"], read["devAddr"], read["fcnt"]) == (
        "down" if way else "up",
        str(DEV_ADDR),
        fcnt & 0xFFFF,
    )
    assert (read["fport"], read["payload"], read["fopts"]) == (fport, payload.hex(), fopts.hex())
    assert (read["ack"], read["adr"]) == (True, False)


def test_the_oracle_reads_fpending_and_adr_ack_req(lora_packet, crypto):
    keys = {"nwkSKey": NWK_S_KEY.value, "appSKey": APP_S_KEY.value}
    down = frames.build_downlink(crypto, DEV_ADDR, 1, fpending=True, adr=True)
    assert lora_packet("open", phy=down, fcnt=1, **keys)["fpending"]
    up = frames.build_uplink(crypto, DEV_ADDR, 1, adr_ack_req=True)
    assert lora_packet("open", phy=up, fcnt=1, **keys)["adrAckReq"]


def test_a_join_request_built_here_satisfies_the_oracle_and_the_reverse(lora_packet):
    join_eui, dev_eui = JoinEUI.parse("70b3d57ed00000dc"), DevEUI.parse("00afee7cf5ed6f1e")
    phy = frames.build_join_request(APP_KEY, join_eui, dev_eui, 0xCC85)
    read = lora_packet("joinRequest", phy=phy, appKey=APP_KEY.value)
    assert read == {
        "mtype": "Join Request",
        "joinEui": str(join_eui),
        "devEui": str(dev_eui),
        "devNonce": "cc85",
        "mic": True,
    }
    built = lora_packet(
        "buildJoinRequest", joinEui=str(join_eui), devEui=str(dev_eui), devNonce="cc85", appKey=APP_KEY.value
    )
    assert bytes.fromhex(built["phy"]) == phy
    request = frames.parse(phy)
    assert isinstance(request, JoinRequest)
    assert frames.verify_join(APP_KEY, request)
    assert not frames.verify_join(NWK_S_KEY, request)


@pytest.mark.parametrize("cflist", [b"", bytes.fromhex("184f84e85684b85e84886684586e8400")])
def test_the_oracle_opens_a_join_accept_and_derives_the_same_keys(lora_packet, cflist):
    accept = JoinAccept(0x010203, NetID(0), DevAddr.parse("01abcdef"), 2, 5, 5, cflist)
    phy = frames.build_join_accept(APP_KEY, accept)
    assert len(phy) == (33 if cflist else 17)
    read = lora_packet("joinAccept", phy=phy, appKey=APP_KEY.value, devNonce="0102")
    assert read["mic"]
    assert (read["joinNonce"], read["netId"], read["devAddr"]) == ("010203", "000000", "01abcdef")
    assert (read["dlSettings"], read["rxDelay"], read["cflist"]) == ("25", "05", cflist.hex())
    keys = derive_session_keys(APP_KEY, 0x010203, 0, 0x0102)
    assert (read["nwkSKey"], read["appSKey"]) == (keys.f_nwk_s_int.value.hex(), keys.app_s.value.hex())


def test_a_join_accept_with_another_key_is_refused():
    with pytest.raises(FrameError, match="root key"):
        frames.open_join_accept(NWK_S_KEY, KNOWN_JOIN_ACCEPT)


def test_rx_delay_zero_means_one_second():
    phy = frames.build_join_accept(APP_KEY, JoinAccept(1, NetID(0), DevAddr(1), 0, 0, 0))
    assert frames.open_join_accept(APP_KEY, phy).rx_delay_s == 1


@pytest.mark.parametrize(
    ("phy", "words"),
    [
        pytest.param("", "empty", id="nothing"),
        pytest.param("41f17dbe4900020001954378762b11ff0d", "major version", id="another major version"),
        pytest.param("40f17dbe490002002b11ff", "at least 12", id="too short"),
        pytest.param("40f17dbe490f02002b11ff0d", "do not fit", id="FOpts longer than the frame"),
        pytest.param(
            "40f17dbe49010200020095432b11ff0d", "both in FOpts and on port 0", id="FOpts and port 0"
        ),
        pytest.param("00dc0000d07ed5b3701e6fedf57ceeaf0085cc587fe9", "23 bytes", id="short join-request"),
        pytest.param("204dd85ae608b87fc488", "17 or 33", id="short join-accept"),
    ],
)
def test_what_is_no_frame_is_refused_in_words(phy, words):
    with pytest.raises(FrameError, match=words):
        frames.parse(bytes.fromhex(phy))


def test_a_proprietary_frame_is_unsupported():
    with pytest.raises(UnsupportedFrame):
        frames.parse(b"\xe0" + bytes(20))


@pytest.mark.parametrize(
    ("last", "fcnt16", "expected"),
    [
        (None, 0, 0),
        (None, 65535, 65535),
        (0, 1, 1),
        (0, 0, 65536),  # the same 16 bits again are a full turn on, or a repetition
        (65535, 0, 65536),
        (65534, 3, 65539),
        (70000, 70001 & 0xFFFF, 70001),
        (10, 9, 65545),
        (5, 5 + 16384 + 1, 5 + 16384 + 1),  # beyond the gap limit of the 1.0.x texts
        (0xFFFF_FFFF, 0, 0x1_0000_0000),  # used up
    ],
)
def test_the_counter_is_rebuilt_from_its_low_half(last, fcnt16, expected):
    assert frames.next_fcnt(last, fcnt16) == expected


def test_a_device_refuses_a_repeated_or_foreign_downlink(crypto):
    phy = frames.build_downlink(crypto, DEV_ADDR, 4, fport=1, payload=b"on")
    frame, fcnt, clear = frames.open_downlink(crypto, DEV_ADDR, None, phy)
    assert (frame.fport, fcnt, clear) == (1, 4, b"on")
    with pytest.raises(FrameError, match="used before"):
        frames.open_downlink(crypto, DEV_ADDR, 4, phy)
    with pytest.raises(FrameError, match="not a data frame for this device"):
        frames.open_downlink(crypto, DevAddr(1), None, phy)
    with pytest.raises(FrameError, match="not a data frame for this device"):
        frames.open_downlink(crypto, DEV_ADDR, None, KNOWN_UPLINK)


@pytest.mark.parametrize(
    "arguments",
    [
        {"fopts": bytes(16)},
        {"payload": b"x"},
        {"fport": 0, "payload": b"\x02", "fopts": b"\x02"},
        {"fport": 1, "payload": bytes(243)},
    ],
)
def test_what_cannot_be_a_frame_is_not_built(crypto, arguments):
    with pytest.raises(FrameError):
        frames.build_uplink(crypto, DEV_ADDR, 0, **arguments)


def test_a_cflist_has_sixteen_bytes():
    with pytest.raises(FrameError, match="16 bytes"):
        frames.build_join_accept(APP_KEY, JoinAccept(1, NetID(0), DevAddr(1), 0, 0, 1, b"short"))


def test_the_longest_frame_fills_the_radio(crypto):
    assert len(frames.build_uplink(crypto, DEV_ADDR, 0, fport=1, payload=bytes(242))) == 255


def test_damaged_frames_raise_nothing_but_frame_error(crypto):
    rng = random.Random(20)
    vectors = [KNOWN_UPLINK, KNOWN_JOIN_REQUEST, KNOWN_JOIN_ACCEPT]
    read = 0
    for _ in range(20_000):
        phy = bytearray(rng.choice(vectors))
        for _ in range(rng.randrange(1, 4)):
            match rng.randrange(4):
                case 0:
                    phy[rng.randrange(len(phy))] = rng.randrange(256)
                case 1:
                    del phy[rng.randrange(len(phy)) :]
                case 2:
                    phy += rng.randbytes(rng.randrange(1, 20))
                case 3:
                    phy[0] = rng.randrange(256)
            if not phy:
                break
        try:
            frame = frames.parse(bytes(phy))
        except FrameError:
            pass
        else:
            assert isinstance(frame, DataFrame | JoinRequest | SealedJoinAccept)
            read += 1
        for opening in (
            lambda phy=phy: frames.open_downlink(crypto, DEV_ADDR, None, bytes(phy)),
            lambda phy=phy: frames.open_join_accept(APP_KEY, bytes(phy)),
        ):
            try:
                opening()
            except FrameError:
                continue
    assert read > 1000
