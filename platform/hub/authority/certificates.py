"""The certificates of things: each that was made, whom it names, and whether it still counts.

Part of `registry`. A certificate of our own authority counts only while its very row is here and not on the deny list:
a stolen authority alone makes nobody a thing. Removing a thing denies its certificates in the same transaction. After a
renewal both certificates count; once the new one has been used, the old one has 30 days left, so that a device that
could not keep what it was given still comes in.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hub.errors import Conflict, Invalid, NotFound
from hub.registry_items import Change, ChangeKind
from hub.registry_part import Desk, Directory
from hub.users import Statement

from . import profile
from .deny_list import Denied, sign_list
from .generations import Authority
from .requests import public_key_of

MAX_CERTIFICATES = 20_000  # kept, denied ones included until they are over; some 1.5 KB each in memory
MAX_OF_THING = 10  # that count at one time
MAX_REASON = 200  # characters
MIN_LIFE_S, MAX_LIFE_S = 300.0, 25 * profile.YEAR_S
LISTS_LIFE_S = 3600.0  # for which a deny list is not signed again, as long as nothing is denied
OVERLAP_S = 30 * profile.DAY_S  # of the old certificate, from the first use of the one that renews it
WITH_ITS_THING = "the thing was removed"  # as the trigger of the table writes it


class Certificate(msgspec.Struct, frozen=True):
    """One certificate of a thing. Times are UTC seconds."""

    serial: str  # 32 hex digits
    thing: str
    encoded: bytes  # DER
    issued_s: float
    issued_by: str  # users/<id> or things/<id>
    ends_s: float  # when it stops counting: its own end, or earlier after a renewal
    renews: str = ""  # the serial of the one it follows
    used_s: float = 0.0  # first use; 0 where there was none
    revoked_s: float | None = None
    reason: str = ""  # of the revocation, in words

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.encoded)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER form, hex: what `openssl x509 -fingerprint -sha256` shows."""
        return hashlib.sha256(self.encoded).hexdigest()


class Issued(msgspec.Struct, frozen=True):
    """A certificate that was just made; `key` (PEM) is shown once and kept nowhere."""

    certificate: Certificate
    chain: str  # PEM, as a client sends it: its own, then the issuing authority's
    authority: str  # PEM, what a client trusts: the root
    key: str = ""

    def __repr__(self) -> str:
        return f"Issued({self.certificate.serial})"


class Certificates:
    """Changes are durable transactions: call them in a thread."""

    def __init__(self, desk: Desk, directory: Directory, authority: Authority) -> None:
        self._desk = desk
        self._directory = directory
        self._authority = authority
        self._clear()

    def _clear(self) -> None:
        self._certificates: dict[str, Certificate] = {}
        self._of_thing: dict[str, dict[str, None]] = {}
        self._over: frozenset[str] = frozenset()  # whose end a trusted clock has seen
        self._lists: list[bytes] = []  # the deny list as it was signed last
        self._lists_s = 0.0

    # Part

    def load(self, conn: sqlite3.Connection) -> None:
        """Read everything anew. Raises sqlite3.DatabaseError for what can only be damage."""
        self._clear()
        rows = conn.execute(
            "SELECT serial, thing, certificate, issued_s, issued_by, ends_s, renews, used_s, revoked_s, reason "
            "FROM certificate ORDER BY rowid"
        )
        for row in rows:
            self._keep(Certificate(*row))

    def follow(self, change: Change) -> None:
        """Deny what named things that are gone, as the schema has done in the file."""
        for thing_id in change.things:
            if thing_id in self._of_thing and self._directory.thing(thing_id) is None:
                for serial in self._of_thing[thing_id]:
                    one = self._certificates[serial]
                    if one.revoked_s is None:
                        self._keep(
                            msgspec.structs.replace(one, revoked_s=one.issued_s, reason=WITH_ITS_THING)
                        )

    # What is asked

    def get(self, serial: str) -> Certificate | None:
        return self._certificates.get(serial)

    def of(self, thing_id: str) -> list[Certificate]:
        """A thing's, in the order they were made."""
        return [self._certificates[serial] for serial in list(self._of_thing.get(thing_id, ()))]

    def all(self) -> list[Certificate]:
        """In the order they were made."""
        return list(self._certificates.values())

    def refusal(self, serial: str) -> str:
        """Why a certificate counts no more, in words; "" where it does. Live sessions ask it again and again."""
        one = self._certificates.get(serial)
        if one is None:
            return "the certificate is not known here"
        if one.revoked_s is not None:
            return (
                f"the certificate was revoked: {one.reason}" if one.reason else "the certificate was revoked"
            )
        if serial in self._over:
            return "the certificate is over" if not self._followed(one) else "the certificate was renewed"
        return ""

    def state(self, one: Certificate, now_s: float | None) -> str:
        """`good`, `revoked` or `over`; the last only where `now_s` is given, from a trusted clock."""
        if one.revoked_s is not None:
            return "revoked"
        if now_s is not None and one.ends_s < now_s:
            return "over"
        return "good"

    # What is done

    def issue(
        self,
        thing_id: str,
        now_s: float,
        by: str,
        *,
        request: str = "",
        life_s: float | None = None,
        renews: str = "",
    ) -> Issued:
        """A certificate that names a thing, for the key of `request` (PEM) or for a new one.

        Raises NotFound, Conflict, Invalid, RegistryFailed.
        """
        life_s = profile.THING_LIFE_S if life_s is None else life_s
        if not MIN_LIFE_S <= life_s <= MAX_LIFE_S:
            raise Invalid(f"a certificate is for {MIN_LIFE_S:.0f} to {MAX_LIFE_S:.0f} s")
        key: ec.EllipticCurvePrivateKey | None = None
        if request:
            public = public_key_of(request)
        else:
            key = profile.new_key()
            public = key.public_key()
        with self._desk.lock:
            if self._directory.thing(thing_id) is None:
                raise NotFound("there is no such thing")
            if len([one for one in self.of(thing_id) if self.state(one, now_s) == "good"]) >= MAX_OF_THING:
                raise Conflict(f"the thing has {MAX_OF_THING} certificates: revoke one first")
            self._make_room(now_s)
            issuing = self._authority.signer(now_s)
            made = profile.make_thing(issuing, thing_id, public, life_s, now_s)
            one = Certificate(
                profile.serial_text(made.serial_number),
                *(thing_id, profile.der(made), now_s, by, profile.end_of(made), renews),
            )
            row = (*(getattr(one, name) for name in one.__struct_fields__),)
            self._desk.write([("INSERT INTO certificate VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)])
            self._keep(one)
            self._desk.changed(Change(ChangeKind.GRANTED, things=frozenset({thing_id})))
            root = self._authority.root
            assert root is not None  # `signer` has seen to it
            return Issued(
                one,
                profile.pem([made, issuing.certificate]),
                profile.pem([root.certificate]),
                profile.key_pem(key) if key is not None else "",
            )

    def renew(self, serial: str, request: str, now_s: float) -> Issued:
        """A further certificate for the thing that has shown `serial`, with the key of its request.

        It is for as long as the one before was. Raises NotFound, Conflict, Invalid, RegistryFailed.
        """
        old = self._certificates.get(serial)
        if old is None or self.refusal(serial):
            raise NotFound("only a certificate of this gateway's authority that counts can be renewed")
        life_s = profile.end_of(old.certificate) - old.issued_s
        life_s = min(MAX_LIFE_S, max(MIN_LIFE_S, life_s))
        return self.issue(
            old.thing, now_s, f"things/{old.thing}", request=request, life_s=life_s, renews=serial
        )

    def revoke(self, serials: Iterable[str], now_s: float, reason: str = "") -> list[Certificate]:
        """Deny certificates; sessions that came in with them end. What was denied before stays as it was.

        Raises NotFound, Invalid, RegistryFailed.
        """
        if len(reason) > MAX_REASON:
            raise Invalid(f"a reason has at most {MAX_REASON} characters")
        with self._desk.lock:
            found = []
            for serial in serials:
                one = self._certificates.get(serial)
                if one is None:
                    raise NotFound("no such certificate")
                if one.revoked_s is None:
                    found.append(msgspec.structs.replace(one, revoked_s=now_s, reason=reason))
            self._write_changed(found)
            if found:
                self._desk.changed(Change(ChangeKind.REVOKED, things=frozenset(one.thing for one in found)))
            return found

    def note_use(self, serial: str, now_s: float, *, trusted: bool) -> None:
        """A certificate came in for the first time: what it renews has OVERLAP_S left, by a trusted clock.

        Raises RegistryFailed.
        """
        with self._desk.lock:
            one = self._certificates.get(serial)
            if one is None or one.used_s:
                return
            changed = [msgspec.structs.replace(one, used_s=now_s)]
            old = self._certificates.get(one.renews)
            if old is not None and old.revoked_s is None and trusted:
                changed.append(msgspec.structs.replace(old, ends_s=min(old.ends_s, now_s + OVERLAP_S)))
            self._write_changed(changed)

    def look(self, now_s: float | None) -> bool:
        """See whose end has come, by a trusted clock; None: the clock is not, and nobody's has.

        True where that changed; sessions that came in with one of them are then asked again.
        """
        over = frozenset[str]()
        if now_s is not None:
            over = frozenset(one.serial for one in self.all() if one.ends_s < now_s)
        if over == self._over:
            return False
        with self._desk.lock:
            things = frozenset(
                one.thing for serial in over ^ self._over if (one := self._certificates.get(serial))
            )
            self._over = over
            self._desk.changed(Change(ChangeKind.REVOKED, things=things))
        return True

    def lists(self, now_s: float) -> list[bytes]:
        """The deny list as CRLs in DER, one for each issuing authority whose key is here, and those of the roots."""
        with self._desk.lock:
            age_s = now_s - self._lists_s
            generations = self._authority.generations()
            signed = len(generations) + len(self._authority.root_lists())
            if len(self._lists) == signed and 0 <= age_s < LISTS_LIFE_S:
                return self._lists
            denied = [one for one in self.all() if one.revoked_s is not None]
            by_issuer: dict[bytes, list[Denied]] = {}
            for one in denied:
                issuer = one.certificate.issuer.public_bytes()
                by_issuer.setdefault(issuer, []).append(Denied(int(one.serial, 16), one.revoked_s or 0.0))
            made = []
            for held in generations:
                pair = self._authority.key_of(held)
                if pair is not None:
                    mine = by_issuer.get(pair.certificate.subject.public_bytes(), ())
                    made.append(sign_list(pair, mine, now_s).public_bytes(Encoding.DER))
            self._lists, self._lists_s = [*made, *self._authority.root_lists()], now_s
            return self._lists

    def _make_room(self, now_s: float) -> None:
        """Forget what is long over, where there is no room otherwise: its own dates refuse it."""
        if len(self._certificates) < MAX_CERTIFICATES:
            return
        over = [one for one in self.all() if profile.end_of(one.certificate) < now_s]
        if not over:
            raise Invalid(f"at most {MAX_CERTIFICATES} certificates")
        self._desk.write([("DELETE FROM certificate WHERE serial = ?", (one.serial,)) for one in over])
        for one in over:
            del self._certificates[one.serial]
            del self._of_thing[one.thing][one.serial]

    def _write_changed(self, changed: Sequence[Certificate]) -> None:
        writes: list[Statement] = [
            (
                "UPDATE certificate SET ends_s = ?, used_s = ?, revoked_s = ?, reason = ? WHERE serial = ?",
                (one.ends_s, one.used_s, one.revoked_s, one.reason, one.serial),
            )
            for one in changed
        ]
        self._desk.write(writes)
        for one in changed:
            self._keep(one)

    def _keep(self, one: Certificate) -> None:
        if one.revoked_s is not None:
            self._lists = []
        self._certificates[one.serial] = one
        self._of_thing.setdefault(one.thing, {})[one.serial] = None

    def _followed(self, one: Certificate) -> bool:
        return any(other.renews == one.serial for other in self.of(one.thing))
