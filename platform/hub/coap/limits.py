"""The bounds of the CoAP door, and the counters that show where one was reached.

`docs/coap.md` lists the same table for integrators.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one door. What happens at each is said beside it, with the counter that rises."""

    datagram_bytes: int = 4096  # longest request; 4.13 with a Block1 hint: refused_size
    address_rate: float = 2000.0  # datagrams a second from one address (/64 in IPv6); dropped: dropped_rate
    address_burst: float = 4000.0  # ahead of that rate
    stranger_rate: float = 10.0  # answers a second to one address that shows no valid key: dropped_strangers
    stranger_burst: float = 50.0  # ahead of that rate
    thing_rate: float = 1000.0  # requests a second of one thing; 4.29 with Max-Age: refused_rate
    thing_burst: float = 2000.0  # ahead of that rate
    proven_addresses: int = 4096  # addresses remembered as real; the oldest is asked again
    exchanges: int = 65_536  # requests remembered to recognise their retransmission: forgotten_exchanges
    exchanges_bytes: int = 16 << 20  # of the answers remembered with them: forgotten_exchanges
    restored_exchanges: int = 4096  # of them kept on disk for the next start
    unanswered: int = 4096  # requests waiting for the disk or a search; 5.03: refused_busy
    searches: int = 8  # searches for a last value or a page at a time; 5.03: refused_busy
    page_bytes: int = 65_536  # of a page of the history; it ends sooner, and says how to go on
    search_messages: int = 8192  # newest messages looked through for a last value; then the history
    last_values: int = 1024  # last values kept in memory; the longest unused goes
    last_values_bytes: int = 8 << 20  # the same, by payload
    observers: int = 1024  # observations; answered as a plain GET: refused_observers
    observers_per_thing: int = 32  # the same, of one thing
    observers_per_address: int = 64  # the same, of one address
    notifications_ahead: int = 16  # unconfirmed, and waiting, for one observer: dropped_notifications
    observer_check_s: float = 3600.0  # an observer that hears nothing is asked this often: lost_observers
    uploads: int = 64  # block-wise uploads at a time; 5.03: refused_uploads
    uploads_per_thing: int = 2  # the same, of one thing; its oldest goes
    upload_bytes: int = 4 << 20  # of all uploads together; 5.03: refused_uploads
    upload_timeout_s: float = 93.0  # after the last block (MAX_TRANSMIT_WAIT); the next one gets 4.08
    downloads: int = 128  # representations kept while they are fetched block by block; the oldest goes
    downloads_bytes: int = 8 << 20  # the same, by payload
    oscore_contexts: int = 10_000  # Invalid when one more is made


COUNTERS: tuple[str, ...] = (
    "datagrams",
    "malformed",
    "dropped_group",
    "dropped_rate",
    "dropped_strangers",
    "dropped_amplification",
    "echo_challenges",
    "addresses_proven",
    "duplicates",
    "forgotten_exchanges",
    "published",
    "reads",
    "refused_credentials",
    "refused_rights",
    "refused_contents",
    "refused_requests",
    "refused_rate",
    "refused_size",
    "refused_busy",
    "refused_observers",
    "refused_uploads",
    "oscore_requests",
    "oscore_refused",
    "observers_now",
    "notifications",
    "not_shown",
    "dropped_notifications",
    "lost_observers",
    "revoked",
    "resent",
    "send_errors",
    "log_failures",
    "log_lines_held",
)
