"""The table of findings: the schema, writes as values, and reading it back at start."""

from __future__ import annotations

import sqlite3

import msgspec

from gateway.diagnosis.finding import Finding
from gateway.diagnosis.reasons import Kind
from hub.database import Migration
from hub.log import Write

_SCHEMA = (
    """CREATE TABLE lorawan_finding (
        subject TEXT NOT NULL,           -- DevEUI or DevAddr in hex; empty: the gateway
        kind TEXT NOT NULL,              -- gateway.diagnosis.reasons
        words TEXT NOT NULL,
        evidence TEXT NOT NULL,          -- JSON
        first_ns INTEGER NOT NULL,       -- UTC, as the next two
        last_ns INTEGER NOT NULL,
        resolved_ns INTEGER,             -- NULL: still open
        count INTEGER NOT NULL,
        PRIMARY KEY (subject, kind)
    ) WITHOUT ROWID""",
)

MIGRATIONS = (Migration("diagnosis: findings of devices and strangers", _SCHEMA),)


def kept(finding: Finding) -> Write:
    return (
        "INSERT OR REPLACE INTO lorawan_finding VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            finding.subject,
            finding.kind.value,
            finding.words,
            msgspec.json.encode(finding.evidence).decode(),
            finding.first_ns,
            finding.last_ns,
            finding.resolved_ns,
            finding.count,
        ),
    )


def gone(subject: str, kind: Kind) -> Write:
    return "DELETE FROM lorawan_finding WHERE subject = ? AND kind = ?", (subject, kind.value)


def load(connection: sqlite3.Connection) -> list[Finding]:
    """Everything, the oldest first. Rows of a kind that this version does not know, or damaged, are left out."""
    found = []
    for subject, kind, words, evidence, first_ns, last_ns, resolved_ns, count in connection.execute(
        "SELECT subject, kind, words, evidence, first_ns, last_ns, resolved_ns, count FROM lorawan_finding"
        " ORDER BY last_ns"
    ):
        try:
            known = Kind(kind)
            read = msgspec.json.decode(evidence, type=dict)
        except (ValueError, msgspec.MsgspecError):
            continue
        found.append(Finding(subject, known, words, read, first_ns, last_ns, count, resolved_ns))
    return found
