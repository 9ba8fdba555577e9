"""What is agreed by MAC commands, in SQLite: one row a session, written when something is agreed, never per uplink."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from gateway.lorawan.device import Device, Session
from gateway.lorawan.macstate import Agreed
from gateway.lorawan.outcome import Writes
from hub.database import Migration
from hub.log import Write

_SCHEMA = (
    """CREATE TABLE lorawan_mac (
        session INTEGER PRIMARY KEY,     -- of lorawan_session
        agreed TEXT NOT NULL             -- JSON of macstate.Agreed
    )""",
    # What earlier versions have kept beside the session. Which channels a plan stood for is not known any more:
    # such a device counts as one without channels, and is told again.
    """INSERT INTO lorawan_mac
        SELECT id, CASE channel_plan WHEN 0
            THEN json_object('tx_power', tx_power, 'nb_trans', nb_trans)
            ELSE json_object('tx_power', tx_power, 'nb_trans', nb_trans, 'enabled', '0') END
        FROM lorawan_session WHERE tx_power != 0 OR nb_trans != 1 OR channel_plan != 0""",
)
TABLE = "lorawan_mac"
MIGRATIONS = (Migration("lorawan: what MAC commands have settled", _SCHEMA, {TABLE: 300.0}),)

_NOTHING = Agreed()
_DECODER = msgspec.json.Decoder(Agreed)


def agreed(session: Session) -> Write:
    """The row of a session as it is now."""
    rx = session.rx1_delay_s, session.rx1_dr_offset, session.rx2_dr, session.rx2_freq_hz
    text = msgspec.json.encode(session.mac.agreed(rx)).decode()
    return f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?)", (session.id, text)


def gone(session: Session) -> Write:
    return f"DELETE FROM {TABLE} WHERE session = ?", (session.id,)


def begun(session: Session) -> Writes:
    """For a session that has just begun: its row, where there is more to say than the region does."""
    return [] if session.mac.agreed() == _NOTHING else [agreed(session)]


def load(connection: sqlite3.Connection, devices: Iterable[Device]) -> None:
    """Give sessions from the store what was agreed with them.

    A row that cannot be read is passed over: its device counts as one that was told nothing, and is told again.
    """
    found: dict[int, Agreed] = {}
    for number, text in connection.execute(f"SELECT session, agreed FROM {TABLE}"):
        try:
            found[number] = _DECODER.decode(text)
        except (msgspec.MsgspecError, TypeError):
            continue
    for device in devices:
        for session in filter(None, (device.session, *device.pending)):
            if session.id in found:
                _put_back(session, found[session.id])


def _put_back(session: Session, row: Agreed) -> None:
    session.mac.take(row)
    if row.rx is not None:
        session.rx1_delay_s, session.rx1_dr_offset, session.rx2_dr, session.rx2_freq_hz = row.rx
