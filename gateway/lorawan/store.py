"""Devices, sessions, counters and orders in SQLite: the schema, the way in, and writes as values.

The server never touches a database. What has to be kept leaves it as (SQL, parameters) pairs, which the hub's
log commits in one transaction with the messages they belong to: so a counter and the uplink it counts are
stored both or not at all. `load` reads everything back at start.

`lorawan_uplink` is written at every uplink and therefore apart from the keys: many of its small rows share a
page, and a page is what a flash card wears out by.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.lorawan import groupstore, macstore, orderstore
from gateway.lorawan.crypto import SessionKeys
from gateway.lorawan.device import (
    Activation,
    Device,
    DeviceConfig,
    ReservedCounter,
    Session,
)
from gateway.lorawan.errors import LorawanError
from gateway.lorawan.group import Group
from gateway.lorawan.outcome import Writes
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from hub.database import Migration
from hub.log import Write

Seal = Callable[[bytes, bytes], bytes]  # (key bytes, context) -> what is stored, and the reverse

JOIN_NONCE = "join_nonce"  # lorawan_counter


_SCHEMA = (
    """CREATE TABLE lorawan_device (
        dev_eui TEXT PRIMARY KEY,        -- 16 hex digits, as all EUIs here
        activation TEXT NOT NULL,        -- otaa, abp
        name TEXT NOT NULL,
        join_eui TEXT,
        app_key BLOB,                    -- sealed, as all keys here
        codec TEXT NOT NULL,
        thing_id TEXT NOT NULL,
        channel_id TEXT NOT NULL,
        battery INTEGER,                 -- DevStatusAns
        margin_db INTEGER
    ) WITHOUT ROWID""",
    """CREATE TABLE lorawan_session (
        id INTEGER PRIMARY KEY,
        dev_eui TEXT NOT NULL,
        pending INTEGER NOT NULL,        -- 1: joined, no uplink yet
        dev_addr INTEGER NOT NULL,
        nwk_s_key BLOB NOT NULL,
        app_s_key BLOB NOT NULL,
        rx1_delay_s INTEGER NOT NULL,
        rx1_dr_offset INTEGER NOT NULL,
        rx2_dr INTEGER NOT NULL,
        fcnt_down INTEGER NOT NULL,      -- reserved up to here; counting goes on here after a restart
        tx_power INTEGER NOT NULL,
        nb_trans INTEGER NOT NULL,
        channel_plan INTEGER NOT NULL    -- which channels the device has accepted; 0: all
    )""",
    """CREATE TABLE lorawan_uplink (
        session INTEGER PRIMARY KEY,
        fcnt_up INTEGER NOT NULL,        -- last accepted, 32 bits
        last_seen_ns INTEGER NOT NULL,   -- UTC
        uplinks INTEGER NOT NULL         -- of the device, over all its sessions
    )""",
    """CREATE TABLE lorawan_dev_nonce (
        dev_eui TEXT NOT NULL,
        high INTEGER NOT NULL,           -- high byte of the DevNonce
        used BLOB NOT NULL,              -- 256 bits by low byte, least significant first
        PRIMARY KEY (dev_eui, high)
    ) WITHOUT ROWID""",
    """CREATE TABLE lorawan_counter (
        name TEXT PRIMARY KEY,
        ceiling INTEGER NOT NULL         -- reserved up to here
    ) WITHOUT ROWID""",
    """CREATE TABLE lorawan_downlink (
        id TEXT PRIMARY KEY,
        number INTEGER NOT NULL,         -- order of arrival
        dev_eui TEXT NOT NULL,
        fport INTEGER NOT NULL,
        payload BLOB NOT NULL,
        confirmed INTEGER NOT NULL
    ) WITHOUT ROWID""",
)

# Within how many seconds a change is in the copy that outlives a damaged log. Keys and DevNonces soon; frame
# counters of uplinks change with every frame, and a copy is written as a whole.
COPIED = {
    "lorawan_device": 10.0,
    "lorawan_dev_nonce": 10.0,
    "lorawan_session": 300.0,
    "lorawan_counter": 300.0,
    "lorawan_downlink": 300.0,
    "lorawan_uplink": 600.0,
}

# More than a gateway can send to one device, or in all, in the time that a copy may be late. A device takes a
# jump of up to 16,384 (LoRaWAN 1.0.3, MAX_FCNT_GAP); a JoinNonce has 24 bits.
JUMP_AFTER_COPY = 512
AFTER_COPY = (
    f"UPDATE lorawan_session SET fcnt_down = fcnt_down + {JUMP_AFTER_COPY}",
    "UPDATE lorawan_counter SET ceiling = ceiling + 4096",
)

_VERSIONS_SCHEMA = (
    "ALTER TABLE lorawan_device ADD COLUMN profile TEXT NOT NULL DEFAULT 'default'",
    "ALTER TABLE lorawan_device ADD COLUMN nwk_key BLOB",  # 1.1
    "ALTER TABLE lorawan_device ADD COLUMN rj_count1 INTEGER NOT NULL DEFAULT -1",  # last one taken
    # A join may begin the nonces anew until then, UTC; 0: none may.
    "ALTER TABLE lorawan_device ADD COLUMN nonce_restart_ns INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE lorawan_device ADD COLUMN moved INTEGER NOT NULL DEFAULT 0",  # 1: another gateway serves it
    "ALTER TABLE lorawan_session ADD COLUMN v1_1 INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE lorawan_session ADD COLUMN s_nwk_s_int_key BLOB",  # 1.1, as the next two
    "ALTER TABLE lorawan_session ADD COLUMN nwk_s_enc_key BLOB",
    "ALTER TABLE lorawan_session ADD COLUMN fcnt_down_app INTEGER",  # AFCntDown, reserved up to here
    "ALTER TABLE lorawan_session ADD COLUMN rj_count0 INTEGER NOT NULL DEFAULT -1",  # last one taken
    "ALTER TABLE lorawan_session ADD COLUMN join_eui TEXT",  # of the join; NULL: ABP, or joined before
)

_VERSIONS_AFTER_COPY = (
    f"UPDATE lorawan_session SET fcnt_down_app = fcnt_down_app + {JUMP_AFTER_COPY}, rj_count0 = rj_count0 + 4",
)

MIGRATIONS = (
    Migration(
        "lorawan: devices, sessions, counters, DevNonces, downlink orders", _SCHEMA, COPIED, AFTER_COPY
    ),
    Migration("lorawan: profiles, LoRaWAN 1.1", _VERSIONS_SCHEMA, after_copy=_VERSIONS_AFTER_COPY),
)

_UPLINK = "INSERT OR REPLACE INTO lorawan_uplink(session, fcnt_up, last_seen_ns, uplinks) VALUES (?, ?, ?, ?)"


@dataclass(slots=True)
class Stored:
    """What `load` found."""

    devices: list[Device] = field(default_factory=list)
    join_nonce: int = 1  # counting goes on here; devices of 1.0.4 take 0 for a repetition
    last_session: int = 0  # highest id in use, those of unreadable devices included
    groups: list[Group] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # DevEUIs whose keys could not be opened


def uplink(session: Session, last_seen_ns: int) -> Write:
    """The one write of an ordinary uplink."""
    return _UPLINK, (session.id, session.fcnt_up, last_seen_ns, session.device.uplinks)


def dev_nonce(dev_eui: DevEUI, high: int, used: bytes) -> Write:
    return (
        "INSERT OR REPLACE INTO lorawan_dev_nonce(dev_eui, high, used) VALUES (?, ?, ?)",
        (str(dev_eui), high, used),
    )


def dev_nonces_gone(dev_eui: DevEUI) -> Write:
    return "DELETE FROM lorawan_dev_nonce WHERE dev_eui = ?", (str(dev_eui),)


def nonce_restart(device: Device) -> Write:
    return (
        "UPDATE lorawan_device SET nonce_restart_ns = ? WHERE dev_eui = ?",
        (device.nonce_restart_ns, str(device.dev_eui)),
    )


def rj_count0(session: Session) -> Write:
    return "UPDATE lorawan_session SET rj_count0 = ? WHERE id = ?", (session.rj_count0, session.id)


def rj_count1(device: Device) -> Write:
    return "UPDATE lorawan_device SET rj_count1 = ? WHERE dev_eui = ?", (
        device.rj_count1,
        str(device.dev_eui),
    )


def moved(device: Device) -> Write:
    return "UPDATE lorawan_device SET moved = ? WHERE dev_eui = ?", (int(device.moved), str(device.dev_eui))


def counter(name: str, ceiling: int) -> Write:
    return "INSERT OR REPLACE INTO lorawan_counter(name, ceiling) VALUES (?, ?)", (name, ceiling)


def fcnt_down(session: Session) -> Write:
    """Both downlink counters of a session, whichever has moved."""
    app = session.fcnt_down_app
    return (
        "UPDATE lorawan_session SET fcnt_down = ?, fcnt_down_app = ? WHERE id = ?",
        (session.fcnt_down.ceiling, None if app is None else app.ceiling, session.id),
    )


def dev_status(device: Device) -> Write:
    return (
        "UPDATE lorawan_device SET battery = ?, margin_db = ? WHERE dev_eui = ?",
        (device.battery, device.margin_db, str(device.dev_eui)),
    )


def session_active(session: Session) -> Write:
    return "UPDATE lorawan_session SET pending = 0 WHERE id = ?", (session.id,)


def session_gone(session: Session) -> Writes:
    return [
        ("DELETE FROM lorawan_session WHERE id = ?", (session.id,)),
        macstore.gone(session),
        ("DELETE FROM lorawan_uplink WHERE session = ?", (session.id,)),
    ]


def device_gone(dev_eui: DevEUI) -> Writes:
    """Everything about the device, its DevNonces too: adding it again is how one starts from nothing."""
    eui = (str(dev_eui),)
    return [
        orderstore.history_gone(str(dev_eui)),
        orderstore.route_gone(dev_eui),
        *(
            (f"DELETE FROM {table} WHERE session IN (SELECT id FROM lorawan_session WHERE dev_eui = ?)", eui)
            for table in ("lorawan_uplink", macstore.TABLE)
        ),
        *((f"DELETE FROM {table} WHERE dev_eui = ?", eui) for table in _TABLES_OF_DEVICE),
    ]


def from_copy(unreadable: Iterable[str], copied: Mapping[str, Sequence[Mapping[str, Any]]]) -> Writes:
    """Put back what the log's copy still knows of devices whose own rows are damaged: keys and sessions.

    Their DevNonces, orders and uplink counters are left as they are. FCntDown goes on where it cannot have been yet.
    """
    writes: Writes = []
    for eui in unreadable:
        for table in ("lorawan_device", "lorawan_session"):
            for row in copied.get(table, ()):
                if row.get("dev_eui") != eui:
                    continue
                values = dict(row)
                for counter_name in ("fcnt_down", "fcnt_down_app"):
                    if values.get(counter_name) is not None:
                        values[counter_name] = int(values[counter_name]) + JUMP_AFTER_COPY
                names, marks = ", ".join(values), ", ".join("?" * len(values))
                writes.append(
                    (f"INSERT OR REPLACE INTO {table}({names}) VALUES ({marks})", tuple(values.values()))
                )
    return writes


_TABLES_OF_DEVICE = ("lorawan_session", "lorawan_dev_nonce", "lorawan_downlink", "lorawan_device")


class Store:
    """The writes and reads that hold keys. `seal` and `unseal` keep them unreadable at rest."""

    def __init__(self, seal: Seal | None = None, unseal: Seal | None = None) -> None:
        self._seal = seal or _as_it_is
        self._unseal = unseal or _as_it_is
        self.groups = groupstore.GroupStore(self._seal, self._unseal)

    def device_added(self, device: Device) -> Writes:
        """Rows of an earlier device with that DevEUI, left because its keys could not be opened, go first."""
        config = device.config
        added = (
            "INSERT INTO lorawan_device(dev_eui, activation, name, join_eui, app_key, codec, thing_id,"
            " channel_id, profile, nwk_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                str(config.dev_eui),
                config.activation.value,
                config.name,
                None if config.join_eui is None else str(config.join_eui),
                self._sealed(config.app_key, config.dev_eui, "app_key"),
                config.codec,
                config.thing_id,
                config.channel_id,
                config.profile,
                self._sealed(config.nwk_key, config.dev_eui, "nwk_key"),
            ),
        )
        return [*device_gone(config.dev_eui), added]

    def device_changed(self, config: DeviceConfig) -> Write:
        """What a person may change of a registered device."""
        return (
            "UPDATE lorawan_device SET name = ?, join_eui = ?, app_key = ?, codec = ?, thing_id = ?, channel_id = ?,"
            " profile = ?, nwk_key = ? WHERE dev_eui = ?",
            (
                config.name,
                None if config.join_eui is None else str(config.join_eui),
                self._sealed(config.app_key, config.dev_eui, "app_key"),
                config.codec,
                config.thing_id,
                config.channel_id,
                config.profile,
                self._sealed(config.nwk_key, config.dev_eui, "nwk_key"),
                str(config.dev_eui),
            ),
        )

    def session_added(self, session: Session, *, pending: bool) -> Writes:
        """A session and what is agreed with it."""
        eui, keys, app_counter = session.device.dev_eui, session.keys, session.fcnt_down_app
        v1_1 = session.v1_1
        added = (
            "INSERT INTO lorawan_session(id, dev_eui, pending, dev_addr, nwk_s_key, app_s_key, rx1_delay_s,"
            " rx1_dr_offset, rx2_dr, fcnt_down, tx_power, nb_trans, channel_plan, v1_1, s_nwk_s_int_key,"
            " nwk_s_enc_key, fcnt_down_app, rj_count0, join_eui)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                session.id,
                str(eui),
                int(pending),
                int(session.dev_addr),
                self._sealed(keys.f_nwk_s_int, eui, "nwk_s_key"),
                self._sealed(keys.app_s, eui, "app_s_key"),
                session.rx1_delay_s,
                session.rx1_dr_offset,
                session.rx2_dr,
                session.fcnt_down.ceiling,
                session.mac.tx_power,
                session.mac.nb_trans,
                0,
                int(v1_1),
                self._sealed(keys.s_nwk_s_int if v1_1 else None, eui, "s_nwk_s_int_key"),
                self._sealed(keys.nwk_s_enc if v1_1 else None, eui, "nwk_s_enc_key"),
                None if app_counter is None else app_counter.ceiling,
                session.rj_count0,
                None if session.join_eui is None else str(session.join_eui),
            ),
        )
        return [added, *macstore.begun(session)]

    def load(self, conn: sqlite3.Connection) -> Stored:
        """Everything, as it was committed. A device whose keys cannot be opened is listed and left out."""
        stored = Stored()
        for row in conn.execute("SELECT ceiling FROM lorawan_counter WHERE name = ?", (JOIN_NONCE,)):
            stored.join_nonce = row[0]
        for row in conn.execute("SELECT max(id) FROM lorawan_session"):
            stored.last_session = row[0] or 0
        sessions: dict[str, list[dict[str, Any]]] = {}
        for row in _rows(
            conn,
            "SELECT s.*, fcnt_up, last_seen_ns, uplinks FROM lorawan_session s"
            " LEFT JOIN lorawan_uplink ON session = id ORDER BY id",
        ):
            sessions.setdefault(row["dev_eui"], []).append(row)
        devices: dict[str, Device] = {}
        for row in _rows(conn, "SELECT * FROM lorawan_device ORDER BY dev_eui"):
            try:
                devices[row["dev_eui"]] = self._loaded(row, sessions.get(row["dev_eui"], []))
            except (LorawanError, ValueError):
                stored.unreadable.append(row["dev_eui"])
        stored.devices.extend(devices.values())
        for eui, high, used in conn.execute("SELECT dev_eui, high, used FROM lorawan_dev_nonce"):
            if eui in devices:
                devices[eui].dev_nonces.restore(high, used)
        orderstore.load(conn, devices)
        stored.groups = self.groups.load(conn)
        macstore.load(conn, devices.values())
        return stored

    def _loaded(self, row: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]]) -> Device:
        """Raises ValueError or LorawanError where a key cannot be opened or is missing."""
        dev_eui = DevEUI.parse(row["dev_eui"])
        activation = Activation(row["activation"])
        abp = None
        if activation is Activation.ABP and sessions:
            abp = self._keys(sessions[0], dev_eui)
        abp_1_1 = abp is not None and bool(sessions[0]["v1_1"])
        config = DeviceConfig(
            dev_eui=dev_eui,
            activation=activation,
            name=row["name"],
            join_eui=None if row["join_eui"] is None else JoinEUI.parse(row["join_eui"]),
            app_key=self._maybe_opened(row["app_key"], dev_eui, "app_key"),
            nwk_key=self._maybe_opened(row["nwk_key"], dev_eui, "nwk_key"),
            dev_addr=DevAddr(sessions[0]["dev_addr"]) if abp else None,
            nwk_s_key=abp.f_nwk_s_int if abp else None,
            app_s_key=abp.app_s if abp else None,
            s_nwk_s_int_key=abp.s_nwk_s_int if abp and abp_1_1 else None,
            nwk_s_enc_key=abp.nwk_s_enc if abp and abp_1_1 else None,
            codec=row["codec"],
            thing_id=row["thing_id"],
            channel_id=row["channel_id"],
            profile=row["profile"],
        )
        device = Device(config, dev_eui)
        device.battery, device.margin_db = row["battery"], row["margin_db"]
        device.rj_count1 = row["rj_count1"]
        device.nonce_restart_ns = row["nonce_restart_ns"]
        device.moved = bool(row["moved"])
        for values in sessions:
            self._load_session(device, values)
        return device

    def _load_session(self, device: Device, row: Mapping[str, Any]) -> None:
        app_counter = row["fcnt_down_app"]
        session = Session(
            id=row["id"],
            device=device,
            dev_addr=DevAddr(row["dev_addr"]),
            keys=self._keys(row, device.dev_eui),
            rx1_delay_s=row["rx1_delay_s"],
            rx1_dr_offset=row["rx1_dr_offset"],
            rx2_dr=row["rx2_dr"],
            fcnt_down=ReservedCounter(row["fcnt_down"], row["fcnt_down"]),
            v1_1=bool(row["v1_1"]),
            fcnt_down_app=None if app_counter is None else ReservedCounter(app_counter, app_counter),
            rj_count0=row["rj_count0"],
            join_eui=None if row["join_eui"] is None else JoinEUI.parse(row["join_eui"]),
            fcnt_up=row["fcnt_up"],
        )
        if row["pending"]:
            device.pending.append(session)
            return
        device.session = session
        if row["fcnt_up"] is not None:
            device.last_seen_ns, device.uplinks = row["last_seen_ns"], row["uplinks"]

    def _keys(self, row: Mapping[str, Any], dev_eui: DevEUI) -> SessionKeys:
        """Those of a row of lorawan_session. Raises ValueError where one cannot be opened."""
        nwk_s_key = self._opened(row["nwk_s_key"], dev_eui, "nwk_s_key")
        app_s_key = self._opened(row["app_s_key"], dev_eui, "app_s_key")
        if not row["v1_1"]:
            return SessionKeys.of_1_0(nwk_s_key, app_s_key)
        return SessionKeys(
            nwk_s_key,
            self._opened(row["s_nwk_s_int_key"], dev_eui, "s_nwk_s_int_key"),
            self._opened(row["nwk_s_enc_key"], dev_eui, "nwk_s_enc_key"),
            app_s_key,
        )

    def _maybe_opened(self, sealed: object, dev_eui: DevEUI, what: str) -> AES128Key | None:
        return None if sealed is None else self._opened(sealed, dev_eui, what)

    def _sealed(self, key: AES128Key | None, dev_eui: DevEUI, what: str) -> bytes | None:
        return None if key is None else self._seal(key.value, context(dev_eui, what))

    def _opened(self, sealed: object, dev_eui: DevEUI, what: str) -> AES128Key:
        """Raises ValueError where the bytes are not what was sealed for this device and purpose."""
        if not isinstance(sealed, bytes):
            raise ValueError(f"no {what} is stored for {dev_eui}")
        return AES128Key(self._unseal(sealed, context(dev_eui, what)))


def _rows(conn: sqlite3.Connection, query: str) -> Iterator[dict[str, Any]]:
    cursor = conn.execute(query)
    names = [column[0] for column in cursor.description]
    for values in cursor:
        yield dict(zip(names, values, strict=True))


def context(dev_eui: DevEUI, what: str) -> bytes:
    """Bound to the sealed key, so that a row copied to another device or column does not open."""
    return f"lorawan/{dev_eui}/{what}".encode()


def _as_it_is(data: bytes, _: bytes) -> bytes:
    return data
