"""Downlink orders and their receipts in SQLite: schema, writes as values, and the way back in.

Receipts are kept as a short history of each device: they are written in the transaction that publishes them, so
the page and the device's channel tell the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from gateway.lorawan.device import Device, Order, OrderState
from gateway.lorawan.outcome import Receipt, Writes
from gateway.lorawan.types import DevEUI
from hub.database import Migration
from hub.log import Write

HISTORY = 64  # receipts kept of each device or group; about 100 bytes each

MIGRATIONS = (
    Migration(
        "lorawan: priority, expiry and state of downlink orders; receipts",
        (
            "ALTER TABLE lorawan_downlink ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE lorawan_downlink ADD COLUMN queued_ns INTEGER NOT NULL DEFAULT 0",  # UTC
            "ALTER TABLE lorawan_downlink ADD COLUMN expires_ns INTEGER",  # UTC; null: never
            "ALTER TABLE lorawan_downlink ADD COLUMN state INTEGER NOT NULL DEFAULT 1",  # OrderState
            "ALTER TABLE lorawan_downlink ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE lorawan_downlink ADD COLUMN fcnt INTEGER",  # FCntDown of the last attempt
            """CREATE TABLE lorawan_receipt (
                number INTEGER PRIMARY KEY,
                about TEXT NOT NULL,             -- DevEUI, or the name of a multicast group
                order_id TEXT NOT NULL,
                state TEXT NOT NULL,             -- queued, sent, acknowledged, failed
                reason TEXT NOT NULL,
                at_ns INTEGER NOT NULL,          -- UTC
                sent_in TEXT NOT NULL,           -- RX1, RX2, RXC, ping slot
                fcnt INTEGER,
                gateway TEXT NOT NULL,           -- EUI, of what was sent
                attempt INTEGER NOT NULL
            )""",
            "CREATE INDEX lorawan_receipt_about ON lorawan_receipt(about, number)",
        ),
    ),
    Migration(
        "lorawan: the gateway that reaches a device which needs no uplink to listen",
        (
            """CREATE TABLE lorawan_route (
                dev_eui TEXT PRIMARY KEY,
                gateway TEXT NOT NULL            -- EUI
            ) WITHOUT ROWID""",
        ),
    ),
)

_KEPT = (
    "DELETE FROM lorawan_receipt WHERE about = ? AND number <="
    " (SELECT number FROM lorawan_receipt WHERE about = ? ORDER BY number DESC LIMIT 1 OFFSET ?)"
)


def queued(dev_eui: DevEUI, order: Order) -> Write:
    return (
        "INSERT INTO lorawan_downlink(id, number, dev_eui, fport, payload, confirmed, priority, queued_ns, expires_ns)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            order.id,
            order.number,
            str(dev_eui),
            order.fport,
            order.payload,
            int(order.confirmed),
            order.priority,
            order.queued_ns,
            order.expires_ns,
        ),
    )


def state(order: Order) -> Write:
    return (
        "UPDATE lorawan_downlink SET state = ?, attempts = ?, fcnt = ? WHERE id = ?",
        (order.state.value, order.attempts, order.fcnt, order.id),
    )


def done(order_id: str) -> Write:
    return "DELETE FROM lorawan_downlink WHERE id = ?", (order_id,)


def kept(receipt: Receipt) -> Writes:
    """The receipt in its device's or group's history; the oldest gives way."""
    about = receipt.group or str(receipt.dev_eui)
    added = (
        "INSERT INTO lorawan_receipt(about, order_id, state, reason, at_ns, sent_in, fcnt, gateway, attempt)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            about,
            receipt.order_id,
            receipt.state.value,
            receipt.reason,
            receipt.at.wall_ns,
            receipt.window,
            receipt.fcnt,
            "" if receipt.gateway is None else receipt.gateway.hex(),
            receipt.attempt,
        ),
    )
    return [added, (_KEPT, (about, about, HISTORY))]


def history_gone(about: str) -> Write:
    return "DELETE FROM lorawan_receipt WHERE about = ?", (about,)


def route(device: Device) -> Write:
    """Where a device of class B or C is reached; written when that changes."""
    return (
        "INSERT OR REPLACE INTO lorawan_route(dev_eui, gateway) VALUES (?, ?)",
        (str(device.dev_eui), device.gateways[0].hex()),
    )


def route_gone(dev_eui: DevEUI) -> Write:
    return "DELETE FROM lorawan_route WHERE dev_eui = ?", (str(dev_eui),)


def load(conn: sqlite3.Connection, devices: Mapping[str, Device]) -> None:
    """Give `devices`, by DevEUI in hex, back their orders.

    Those of class B and C are told where they are reached. What was under way when the process ended: a confirmed
    order may still be acknowledged, an unconfirmed one is sent again, as nobody knows whether it was.
    """
    for eui, gateway in conn.execute("SELECT dev_eui, gateway FROM lorawan_route"):
        if eui in devices:
            devices[eui].gateways = (bytes.fromhex(gateway),)
    for row in conn.execute(
        "SELECT dev_eui, id, number, fport, payload, confirmed, priority, queued_ns, expires_ns, state, attempts, fcnt"
        " FROM lorawan_downlink ORDER BY priority DESC, number"
    ):
        (
            eui,
            order_id,
            number,
            fport,
            payload,
            confirmed,
            priority,
            queued_ns,
            expires_ns,
            stored,
            attempts,
            fcnt,
        ) = row
        device = devices.get(eui)
        if device is None:
            continue
        under_way = bool(confirmed) and stored != OrderState.QUEUED.value
        device.orders.append(
            Order(
                order_id,
                fport,
                payload,
                bool(confirmed),
                number,
                OrderState.AWAITING_ACK if under_way else OrderState.QUEUED,
                attempts,
                priority=priority,
                queued_ns=queued_ns,
                expires_ns=expires_ns,
                fcnt=fcnt,
            )
        )


def history(conn: sqlite3.Connection, about: str) -> list[tuple[Any, ...]]:
    """(order id, state, reason, UTC ns, window, FCntDown, gateway, attempt), the newest first."""
    return conn.execute(
        "SELECT order_id, state, reason, at_ns, sent_in, fcnt, gateway, attempt FROM lorawan_receipt"
        " WHERE about = ? ORDER BY number DESC",
        (about,),
    ).fetchall()
