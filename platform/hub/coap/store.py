"""The rows of the CoAP door in the log's database: requests that were stored, and OSCORE contexts.

Statements only; the log's writer runs them.
"""

from __future__ import annotations

from hub.database import Migration
from hub.log import Write

MIGRATIONS = (
    Migration(
        "coap: stored requests and OSCORE contexts",
        (
            # A ring: slot = how many were stored, modulo its length. fingerprint: of endpoint and datagram.
            "CREATE TABLE coap_exchange(slot INTEGER PRIMARY KEY, fingerprint INTEGER NOT NULL, at_s REAL NOT NULL)",
            # kid: the thing's sender ID. sealed: master secret and salt under the gateway's key.
            # reserved: sender sequence numbers below this may have been used.
            "CREATE TABLE coap_oscore(kid BLOB PRIMARY KEY, thing TEXT NOT NULL, sealed BLOB NOT NULL, "
            "reserved INTEGER NOT NULL) WITHOUT ROWID",
        ),
        # Contexts outlive a damaged log in the copy beside it. Their numbers jump by far more than can have been used
        # since that was made: there are 2^40 (RFC 8613, 7.2.1), and none may be used twice.
        copied={"coap_oscore": 10.0},
        after_copy=(f"UPDATE coap_oscore SET reserved = reserved + {1 << 24}",),
    ),
)

SELECT_EXCHANGES = "SELECT slot, fingerprint, at_s FROM coap_exchange"
SELECT_CONTEXTS = "SELECT kid, thing, sealed, reserved FROM coap_oscore"


def keep_exchange(slot: int, fingerprint: int, at_s: float) -> Write:
    """A request that was stored, in place of the one that had this slot."""
    return (
        "INSERT OR REPLACE INTO coap_exchange(slot, fingerprint, at_s) VALUES (?, ?, ?)",
        (slot, fingerprint, at_s),
    )


def keep_context(kid: bytes, thing: str, sealed: bytes, reserved: int) -> Write:
    """A new context."""
    return (
        "INSERT INTO coap_oscore(kid, thing, sealed, reserved) VALUES (?, ?, ?, ?)",
        (kid, thing, sealed, reserved),
    )


def reserve_numbers(kid: bytes, below: int) -> Write:
    """Numbers below `below` may be used from now on; the mark never falls."""
    return "UPDATE coap_oscore SET reserved = max(reserved, ?) WHERE kid = ?", (below, kid)


def drop_context(kid: bytes) -> Write:
    return "DELETE FROM coap_oscore WHERE kid = ?", (kid,)
