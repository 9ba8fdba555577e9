"""MAC commands of LoRaWAN 1.0.0 to 1.0.4, 1.1 and class B, both directions, bytes to values and back.

Each command is a class with the fields of the specification: those of every device in `core`, those of class B in
`class_b`, those of 1.1 in `v1_1`. All are importable from here. A CID has a length of its own, so after an unknown
or a proprietary one (0x80 and more) nothing can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.lorawan.errors import MacError
from gateway.lorawan.mac.base import Command
from gateway.lorawan.mac.class_b import (
    BeaconFreqAns,
    BeaconFreqReq,
    BeaconTimingAns,
    BeaconTimingReq,
    PingSlotChannelAns,
    PingSlotChannelReq,
    PingSlotInfoAns,
    PingSlotInfoReq,
)
from gateway.lorawan.mac.core import (
    BATTERY_EXTERNAL,
    BATTERY_UNKNOWN,
    KEEP,
    MAX_EIRP_DBM,
    DeviceTimeAns,
    DeviceTimeReq,
    DevStatusAns,
    DevStatusReq,
    DlChannelAns,
    DlChannelReq,
    DutyCycleAns,
    DutyCycleReq,
    LinkADRAns,
    LinkADRReq,
    LinkCheckAns,
    LinkCheckReq,
    NewChannelAns,
    NewChannelReq,
    RXParamSetupAns,
    RXParamSetupReq,
    RXTimingSetupAns,
    RXTimingSetupReq,
    TxParamSetupAns,
    TxParamSetupReq,
)
from gateway.lorawan.mac.v1_1 import (
    CLASS_A,
    CLASS_C,
    MINOR,
    ADRParamSetupAns,
    ADRParamSetupReq,
    DeviceModeConf,
    DeviceModeInd,
    ForceRejoinReq,
    RejoinParamSetupAns,
    RejoinParamSetupReq,
    RekeyConf,
    RekeyInd,
    ResetConf,
    ResetInd,
)
from gateway.lorawan.mac.words import fields_in_words

__all__ = [
    "BATTERY_EXTERNAL",
    "BATTERY_UNKNOWN",
    "CLASS_A",
    "CLASS_C",
    "DOWNLINK",
    "KEEP",
    "MAX_EIRP_DBM",
    "MINOR",
    "PROPRIETARY",
    "UPLINK",
    "ADRParamSetupAns",
    "ADRParamSetupReq",
    "BeaconFreqAns",
    "BeaconFreqReq",
    "BeaconTimingAns",
    "BeaconTimingReq",
    "Command",
    "DevStatusAns",
    "DevStatusReq",
    "DeviceModeConf",
    "DeviceModeInd",
    "DeviceTimeAns",
    "DeviceTimeReq",
    "DlChannelAns",
    "DlChannelReq",
    "DutyCycleAns",
    "DutyCycleReq",
    "ForceRejoinReq",
    "LinkADRAns",
    "LinkADRReq",
    "LinkCheckAns",
    "LinkCheckReq",
    "NewChannelAns",
    "NewChannelReq",
    "PingSlotChannelAns",
    "PingSlotChannelReq",
    "PingSlotInfoAns",
    "PingSlotInfoReq",
    "RXParamSetupAns",
    "RXParamSetupReq",
    "RXTimingSetupAns",
    "RXTimingSetupReq",
    "RejoinParamSetupAns",
    "RejoinParamSetupReq",
    "RekeyConf",
    "RekeyInd",
    "ResetConf",
    "ResetInd",
    "TxParamSetupAns",
    "TxParamSetupReq",
    "encode",
    "fields_in_words",
    "parse_downlink",
    "parse_uplink",
]

PROPRIETARY = 0x80  # CIDs from here on mean what a manufacturer likes

UPLINK: dict[int, type[Command]] = {
    kind.CID: kind
    for kind in (
        ResetInd,
        LinkCheckReq,
        LinkADRAns,
        DutyCycleAns,
        RXParamSetupAns,
        DevStatusAns,
        NewChannelAns,
        RXTimingSetupAns,
        TxParamSetupAns,
        DlChannelAns,
        RekeyInd,
        ADRParamSetupAns,
        DeviceTimeReq,
        RejoinParamSetupAns,
        PingSlotInfoReq,
        PingSlotChannelAns,
        BeaconTimingReq,
        BeaconFreqAns,
        DeviceModeInd,
    )
}
DOWNLINK: dict[int, type[Command]] = {
    kind.CID: kind
    for kind in (
        ResetConf,
        LinkCheckAns,
        LinkADRReq,
        DutyCycleReq,
        RXParamSetupReq,
        DevStatusReq,
        NewChannelReq,
        RXTimingSetupReq,
        TxParamSetupReq,
        DlChannelReq,
        RekeyConf,
        ADRParamSetupReq,
        DeviceTimeAns,
        ForceRejoinReq,
        RejoinParamSetupReq,
        PingSlotInfoAns,
        PingSlotChannelReq,
        BeaconTimingAns,
        BeaconFreqReq,
        DeviceModeConf,
    )
}


def parse_uplink(data: bytes) -> tuple[Command, ...]:
    """What a device says in FOpts or on port 0. Raises MacError, which holds the commands read before the
    fault."""
    return _parse(data, UPLINK)


def parse_downlink(data: bytes) -> tuple[Command, ...]:
    """What a network says in FOpts or on port 0. Raises MacError, which holds the commands read before the
    fault."""
    return _parse(data, DOWNLINK)


def encode(commands: Iterable[Command]) -> bytes:
    return b"".join(command.encode() for command in commands)


def _parse(data: bytes, kinds: Mapping[int, type[Command]]) -> tuple[Command, ...]:
    commands: list[Command] = []
    at = 0
    while at < len(data):
        cid = data[at]
        kind = kinds.get(cid)
        if kind is None:
            whose = "proprietary" if cid >= PROPRIETARY else "unknown"
            raise MacError(f"{whose} MAC command 0x{cid:02x}; nothing after it can be read", tuple(commands))
        body = data[at + 1 : at + 1 + kind.SIZE]
        if len(body) < kind.SIZE:
            words = f"{kind.__name__} is cut short: {len(body)} of {kind.SIZE} bytes"
            raise MacError(words, tuple(commands))
        commands.append(kind.decode(body))
        at += 1 + kind.SIZE
    return tuple(commands)
