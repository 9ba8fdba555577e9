"""A device's session as a value, to go on with it at another gateway: no join, no counter used twice.

`exported` and `imported` are the two ends. The value holds keys in clear: whoever writes it down seals it first. Both
downlink counters in it are ahead of every one that the old gateway can have used.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.lorawan.crypto import SessionKeys
from gateway.lorawan.device import Activation, Device, DeviceConfig, ReservedCounter, Session
from gateway.lorawan.errors import OrderError
from gateway.lorawan.frames import MAX_FCNT
from gateway.lorawan.macstate import Agreed
from gateway.lorawan.profile import Profile
from gateway.lorawan.store import JUMP_AFTER_COPY
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI

FORMAT = 1

_Key = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
_MaybeKey = Annotated[str, Meta(pattern="^([0-9a-f]{32})?$")]
_Eui = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
_Counter = Annotated[int, Meta(ge=0, le=MAX_FCNT)]
_Nibble = Annotated[int, Meta(ge=0, le=15)]
_RjCount = Annotated[int, Meta(ge=-1, le=0xFFFF)]


class ExportedSession(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    dev_addr: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
    v1_1: bool = False
    nwk_s_key: _Key  # of 1.1: FNwkSIntKey
    app_s_key: _Key
    s_nwk_s_int_key: _MaybeKey = ""
    nwk_s_enc_key: _MaybeKey = ""
    fcnt_up: _Counter | None = None  # of the last accepted uplink
    fcnt_down: _Counter  # to go on with, as the next one
    fcnt_down_app: _Counter | None = None
    rx1_delay_s: Annotated[int, Meta(ge=1, le=15)]
    rx1_dr_offset: Annotated[int, Meta(ge=0, le=7)]
    rx2_dr: _Nibble
    rx2_freq_hz: int | None = None
    rj_count0: _RjCount = -1
    join_eui: _Eui | None = None
    mac: Agreed = Agreed()


class ExportedDevice(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """All that another gateway needs. Holds keys; its repr does not show them."""

    format: Annotated[int, Meta(ge=FORMAT, le=FORMAT)] = FORMAT
    region: str
    dev_eui: _Eui
    activation: Activation
    name: Annotated[str, Meta(max_length=200)] = ""
    profile: str
    codec: str
    join_eui: _Eui | None = None
    app_key: _MaybeKey = ""
    nwk_key: _MaybeKey = ""
    dev_nonces: dict[
        str, Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    ] = {}  # a Struct copies an empty default
    join_nonce: Annotated[int, Meta(ge=1, le=0x100_0000)] = 1  # the device has seen none from here on
    rj_count1: _RjCount = -1
    uplinks: Annotated[int, Meta(ge=0)] = 0
    last_seen_ns: int | None = None
    battery: int | None = None
    margin_db: int | None = None
    session: ExportedSession | None = None  # None: it has never joined

    def __repr__(self) -> str:
        return f"ExportedDevice(dev_eui={self.dev_eui!r}, keys hidden)"

    def plain(self) -> dict[str, Any]:
        """For JSON or CBOR; holds keys."""
        value: dict[str, Any] = msgspec.to_builtins(self)
        return value


def read(value: object) -> ExportedDevice:
    """What `ExportedDevice.plain` gave, perhaps elsewhere. Raises OrderError, whose words hold no key."""
    try:
        return msgspec.convert(value, ExportedDevice)
    except msgspec.ValidationError as error:
        parts = str(error).rpartition(" - at ")
        where = parts[2] if parts[1] else "all of it"
        raise OrderError(f"this is not an exported device that can be read here: {where} is wrong") from None


def exported(device: Device, region: str, join_nonce: int) -> ExportedDevice:
    """The live session of a device; joins that no uplink has confirmed are left behind."""
    config, session = device.config, device.session
    return ExportedDevice(
        region=region,
        dev_eui=str(device.dev_eui),
        activation=config.activation,
        name=config.name,
        profile=config.profile,
        codec=config.codec,
        join_eui=None if config.join_eui is None else str(config.join_eui),
        app_key=_hex(config.app_key),
        nwk_key=_hex(config.nwk_key),
        dev_nonces={f"{high:02x}": used.hex() for high, used in device.dev_nonces.pages()},
        join_nonce=join_nonce,
        rj_count1=device.rj_count1,
        uplinks=device.uplinks,
        last_seen_ns=device.last_seen_ns,
        battery=device.battery,
        margin_db=device.margin_db,
        session=None if session is None else _exported(session),
    )


def _exported(session: Session) -> ExportedSession:
    keys, app_counter = session.keys, session.fcnt_down_app
    return ExportedSession(
        dev_addr=str(session.dev_addr),
        v1_1=session.v1_1,
        nwk_s_key=_hex(keys.f_nwk_s_int),
        app_s_key=_hex(keys.app_s),
        s_nwk_s_int_key=_hex(keys.s_nwk_s_int if session.v1_1 else None),
        nwk_s_enc_key=_hex(keys.nwk_s_enc if session.v1_1 else None),
        fcnt_up=session.fcnt_up,
        fcnt_down=_ahead(session.fcnt_down),
        fcnt_down_app=None if app_counter is None else _ahead(app_counter),
        rx1_delay_s=session.rx1_delay_s,
        rx1_dr_offset=session.rx1_dr_offset,
        rx2_dr=session.rx2_dr,
        rx2_freq_hz=session.rx2_freq_hz,
        rj_count0=session.rj_count0,
        join_eui=None if session.join_eui is None else str(session.join_eui),
        mac=session.mac.agreed(),
    )


def imported(value: ExportedDevice, profile: Profile, thing_id: str, channel_id: str, number: int) -> Device:
    """The device that `value` describes, with its session under that number. Raises OrderError."""
    session = value.session
    try:
        config = DeviceConfig(
            dev_eui=DevEUI.parse(value.dev_eui),
            activation=value.activation,
            name=value.name,
            join_eui=JoinEUI.parse(value.join_eui) if value.join_eui else None,
            app_key=_maybe_key(value.app_key),
            nwk_key=_maybe_key(value.nwk_key),
            **({} if session is None or value.activation is Activation.OTAA else _abp(session)),
            codec=value.codec,
            thing_id=thing_id,
            channel_id=channel_id,
            profile=profile.name,
        )
    except ValueError as error:
        raise OrderError(str(error)) from None
    device = Device(config, config.dev_eui)
    device.profile = profile
    for high, used in value.dev_nonces.items():
        device.dev_nonces.restore(int(high, 16), bytes.fromhex(used))
    device.rj_count1 = value.rj_count1
    device.uplinks, device.last_seen_ns = value.uplinks, value.last_seen_ns
    device.battery, device.margin_db = value.battery, value.margin_db
    if session is not None:
        device.session = _imported(device, session, number)
    return device


def _imported(device: Device, value: ExportedSession, number: int) -> Session:
    app_counter = value.fcnt_down_app
    if value.v1_1:
        if not (value.s_nwk_s_int_key and value.nwk_s_enc_key) or app_counter is None:
            raise OrderError(
                "a session of LoRaWAN 1.1 has four keys and two downlink counters; some are missing"
            )
        keys = SessionKeys(
            AES128Key.parse(value.nwk_s_key),
            AES128Key.parse(value.s_nwk_s_int_key),
            AES128Key.parse(value.nwk_s_enc_key),
            AES128Key.parse(value.app_s_key),
        )
    else:
        keys = SessionKeys.of_1_0(AES128Key.parse(value.nwk_s_key), AES128Key.parse(value.app_s_key))
    session = Session(
        id=number,
        device=device,
        dev_addr=DevAddr.parse(value.dev_addr),
        keys=keys,
        rx1_delay_s=value.rx1_delay_s,
        rx1_dr_offset=value.rx1_dr_offset,
        rx2_dr=value.rx2_dr,
        rx2_freq_hz=value.rx2_freq_hz,
        fcnt_down=ReservedCounter(value.fcnt_down, value.fcnt_down),
        v1_1=value.v1_1,
        fcnt_down_app=ReservedCounter(app_counter, app_counter)
        if value.v1_1 and app_counter is not None
        else None,
        rj_count0=value.rj_count0,
        join_eui=JoinEUI.parse(value.join_eui) if value.join_eui else None,
        fcnt_up=value.fcnt_up,
    )
    session.mac.take(value.mac)
    return session


def _abp(session: ExportedSession) -> dict[str, Any]:
    return {
        "dev_addr": DevAddr.parse(session.dev_addr),
        "nwk_s_key": AES128Key.parse(session.nwk_s_key),
        "app_s_key": AES128Key.parse(session.app_s_key),
        "s_nwk_s_int_key": _maybe_key(session.s_nwk_s_int_key),
        "nwk_s_enc_key": _maybe_key(session.nwk_s_enc_key),
    }


def _ahead(counter: ReservedCounter) -> int:
    """Beyond all that this gateway has reserved, and may still use where it goes on for a while."""
    return min(MAX_FCNT, max(counter.next, counter.ceiling) + JUMP_AFTER_COPY)


def _hex(key: AES128Key | None) -> str:
    return "" if key is None else key.value.hex()


def _maybe_key(text: str) -> AES128Key | None:
    return AES128Key.parse(text) if text else None
