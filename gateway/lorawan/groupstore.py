"""Multicast groups and their orders in SQLite: schema, writes as values, and the way back in. Keys are sealed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

from gateway.lorawan.device import ReservedCounter
from gateway.lorawan.errors import LorawanError
from gateway.lorawan.group import Group, GroupConfig, GroupOrder
from gateway.lorawan.orderstore import history_gone
from gateway.lorawan.outcome import Writes
from gateway.lorawan.profile import DeviceClass
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI
from hub.database import Migration
from hub.log import Write

log = logging.getLogger(__name__)

Seal = Callable[[bytes, bytes], bytes]  # (key bytes, context) -> what is stored, and the reverse

MIGRATIONS = (
    Migration(
        "lorawan: multicast groups",
        (
            """CREATE TABLE lorawan_group (
                name TEXT PRIMARY KEY,
                mc_addr INTEGER NOT NULL,
                nwk_s_key BLOB NOT NULL,         -- sealed, as the next one
                app_s_key BLOB NOT NULL,
                class TEXT NOT NULL,             -- B, C
                freq_hz INTEGER,                 -- null: the region's RX2, as the next one
                dr INTEGER,
                ping_period INTEGER NOT NULL,
                gateways TEXT NOT NULL,          -- EUIs, space between
                thing_id TEXT NOT NULL,
                channel_id TEXT NOT NULL,
                fcnt_down INTEGER NOT NULL       -- reserved up to here
            ) WITHOUT ROWID""",
            """CREATE TABLE lorawan_group_member (
                name TEXT NOT NULL,
                dev_eui TEXT NOT NULL,
                PRIMARY KEY (name, dev_eui)
            ) WITHOUT ROWID""",
            """CREATE TABLE lorawan_group_downlink (
                id TEXT PRIMARY KEY,
                number INTEGER NOT NULL,         -- order of arrival
                name TEXT NOT NULL,              -- of the group
                fport INTEGER NOT NULL,
                payload BLOB NOT NULL,
                priority INTEGER NOT NULL,
                queued_ns INTEGER NOT NULL,      -- UTC
                expires_ns INTEGER,              -- UTC; null: never
                phy BLOB NOT NULL,               -- the frame, once it has a counter
                fcnt INTEGER,
                gateways_left TEXT NOT NULL,     -- EUIs that have not sent it yet
                sent INTEGER NOT NULL            -- gateways that have
            ) WITHOUT ROWID""",
        ),
        {"lorawan_group": 10.0, "lorawan_group_member": 60.0},
        ("UPDATE lorawan_group SET fcnt_down = fcnt_down + 512",),
    ),
)


def member_added(name: str, dev_eui: DevEUI) -> Write:
    return "INSERT OR IGNORE INTO lorawan_group_member(name, dev_eui) VALUES (?, ?)", (name, str(dev_eui))


def member_gone(name: str, dev_eui: DevEUI) -> Write:
    return "DELETE FROM lorawan_group_member WHERE name = ? AND dev_eui = ?", (name, str(dev_eui))


def fcnt_down(group: Group) -> Write:
    ceiling = group.fcnt_down.ceiling
    return "UPDATE lorawan_group SET fcnt_down = ? WHERE name = ?", (ceiling, group.config.name)


def queued(name: str, order: GroupOrder) -> Write:
    return (
        "INSERT INTO lorawan_group_downlink(id, number, name, fport, payload, priority, queued_ns, expires_ns, phy,"
        " gateways_left, sent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, x'', '', 0)",
        (
            order.id,
            order.number,
            name,
            order.fport,
            order.payload,
            order.priority,
            order.queued_ns,
            order.expires_ns,
        ),
    )


def progress(order: GroupOrder) -> Write:
    return (
        "UPDATE lorawan_group_downlink SET phy = ?, fcnt = ?, gateways_left = ?, sent = ? WHERE id = ?",
        (order.phy, order.fcnt, _text(order.left), order.sent, order.id),
    )


def done(order_id: str) -> Write:
    return "DELETE FROM lorawan_group_downlink WHERE id = ?", (order_id,)


def gone(name: str) -> Writes:
    tables = ("lorawan_group", "lorawan_group_member", "lorawan_group_downlink")
    return [history_gone(name), *((f"DELETE FROM {table} WHERE name = ?", (name,)) for table in tables)]


class GroupStore:
    """The writes and reads that hold keys."""

    def __init__(self, seal: Seal, unseal: Seal) -> None:
        self._seal = seal
        self._unseal = unseal

    def kept(self, group: Group) -> Write:
        """A group, new or changed."""
        config = group.config
        return (
            "INSERT OR REPLACE INTO lorawan_group(name, mc_addr, nwk_s_key, app_s_key, class, freq_hz, dr,"
            " ping_period, gateways, thing_id, channel_id, fcnt_down) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                config.name,
                int(config.mc_addr),
                self._seal(config.nwk_s_key.value, context(config.name, "nwk_s_key")),
                self._seal(config.app_s_key.value, context(config.name, "app_s_key")),
                config.device_class.value,
                config.freq_hz,
                config.dr,
                config.ping_period,
                _text(config.gateways),
                config.thing_id,
                config.channel_id,
                group.fcnt_down.ceiling,
            ),
        )

    def load(self, conn: sqlite3.Connection) -> list[Group]:
        """Every group whose keys can be opened, with its orders; the others are told of in the log."""
        groups: dict[str, Group] = {}
        for row in conn.execute(
            "SELECT name, mc_addr, nwk_s_key, app_s_key, class, freq_hz, dr, ping_period, gateways, thing_id,"
            " channel_id, fcnt_down FROM lorawan_group ORDER BY name"
        ):
            name, addr, nwk_s_key, app_s_key, device_class, freq_hz, dr, period, gateways, *rest = row
            thing_id, channel_id, counter = rest
            try:
                config = GroupConfig(
                    name=name,
                    mc_addr=DevAddr(addr),
                    nwk_s_key=AES128Key(self._unseal(nwk_s_key, context(name, "nwk_s_key"))),
                    app_s_key=AES128Key(self._unseal(app_s_key, context(name, "app_s_key"))),
                    device_class=DeviceClass(device_class),
                    freq_hz=freq_hz,
                    dr=dr,
                    ping_period=period,
                    gateways=_euis(gateways),
                    thing_id=thing_id,
                    channel_id=channel_id,
                )
            except (LorawanError, ValueError):
                log.error("the keys of multicast group %s cannot be opened: set it up again", name)
                continue
            groups[name] = Group(config, ReservedCounter(counter, counter))
        for name, dev_eui in conn.execute("SELECT name, dev_eui FROM lorawan_group_member"):
            if name in groups:
                groups[name].members.add(DevEUI.parse(dev_eui))
        self._load_orders(conn, groups)
        return list(groups.values())

    def _load_orders(self, conn: sqlite3.Connection, groups: dict[str, Group]) -> None:
        for row in conn.execute(
            "SELECT name, id, fport, payload, number, priority, queued_ns, expires_ns, phy, fcnt, gateways_left, sent"
            " FROM lorawan_group_downlink ORDER BY (phy = x''), priority DESC, number"
        ):
            name, order_id, fport, payload, number, priority, queued_ns, expires_ns, phy, fcnt, left, sent = (
                row
            )
            if name in groups:
                order = GroupOrder(order_id, fport, payload, number, priority, queued_ns, expires_ns)
                order.phy, order.fcnt, order.left, order.sent = phy, fcnt, list(_euis(left)), sent
                groups[name].orders.append(order)


def context(name: str, what: str) -> bytes:
    return f"lorawan/group/{name}/{what}".encode()


def _text(gateways: list[bytes] | tuple[bytes, ...]) -> str:
    return " ".join(eui.hex() for eui in gateways)


def _euis(text: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(each) for each in text.split())
