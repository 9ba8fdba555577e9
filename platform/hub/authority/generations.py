"""The authority's own certificates and keys: a root, issuing authorities one after another, and authorities of others.

Part of `registry`. Keys lie in the database sealed under the gateway's server key and are opened for the moment of a
signature only. The root signs an issuing authority every some years and is not needed otherwise: its key can be
exported and taken from the gateway. An issuing authority that was followed by another signs nothing any more, and what
it has signed stays good.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from hub.errors import Conflict, Invalid, NotFound
from hub.keys import Unreadable
from hub.registry_items import Change, ChangeKind
from hub.registry_part import Desk
from hub.users import Statement

from . import profile
from .deny_list import sign_list
from .profile import Names, Pair

log = logging.getLogger("hub.authority")

MAX_ISSUING = 64  # followed by one another; one lasts for years
MAX_FOREIGN = 16  # authorities of others whose certificates name things
MAX_PEM = 64 * 1024  # characters of certificates that are imported
MIN_PASSPHRASE, MAX_PASSPHRASE = 12, 1024  # characters around an exported root key
ROOT_LIST_LIFE_S = 10 * profile.YEAR_S  # of the root's own deny list, which is made while its key is here
# An issuing authority is followed while it still outlives a new thing's certificate
EARLY_S = profile.THING_LIFE_S

_PURPOSE = "certificate authority"


class Held(msgspec.Struct, frozen=True):
    """One certificate that the authority holds. `role` is root, issuing, server or foreign."""

    id: int
    role: str
    certificate: x509.Certificate
    sealed: bytes  # the key; b"" where it is not here
    made_s: float  # UTC seconds

    @property
    def encoded(self) -> bytes:
        return profile.der(self.certificate)

    def __repr__(self) -> str:
        return f"Held({self.id}, {self.role!r})"


class Authority:
    """Changes are durable transactions: call them in a thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.names = Names(("localhost",), ("127.0.0.1", "::1"))  # of this gateway, for its own certificate
        self.strict = False  # refuse certificates while the clock is not trusted
        self.on_server_change: Callable[[], object] = lambda: None
        self._held: dict[int, Held] = {}
        self._root_lists: dict[int, bytes] = {}  # by root: its own deny list, DER

    # Part

    def load(self, conn: sqlite3.Connection) -> None:
        """Read everything anew. Raises sqlite3.DatabaseError for what can only be damage."""
        self._held, self._root_lists = {}, {}
        rows = conn.execute("SELECT id, role, certificate, key, made_s, list FROM authority ORDER BY id")
        for number, role, encoded, sealed, made_s, root_list in rows:
            try:
                certificate = x509.load_der_x509_certificate(encoded)
            except (ValueError, TypeError) as error:
                raise sqlite3.DatabaseError(f"a certificate of the authority: {error}") from error
            self._held[number] = Held(number, role, certificate, sealed, made_s)
            if root_list:
                self._root_lists[number] = root_list

    def follow(self, change: Change) -> None:
        """Nothing here hangs on things or people."""

    # What is asked

    @property
    def root(self) -> Held | None:
        """The newest; None while nothing has needed an authority."""
        return self._newest("root")

    @property
    def issuing(self) -> Held | None:
        """The one at work."""
        return self._newest("issuing")

    @property
    def server(self) -> Held | None:
        """The certificate of the gateway's own doors."""
        return self._newest("server")

    def generations(self) -> list[Held]:
        """Issuing authorities, the oldest first."""
        return self._all("issuing")

    def own(self) -> list[Held]:
        """All roots and issuing authorities that were ever at work: what they have signed may be known here."""
        return [*self._all("root"), *self._all("issuing")]

    def foreign(self) -> list[Held]:
        """Authorities of others that were imported."""
        return self._all("foreign")

    def trusted(self) -> list[x509.Certificate]:
        """Everything a client certificate may come from, but for the authorities that the settings name."""
        return [held.certificate for held in (*self.own(), *self.foreign())]

    def of_own(self, encoded: bytes) -> bool:
        """Whether this DER certificate is one of our roots."""
        return any(held.encoded == encoded for held in self._all("root"))

    def of_foreign(self, encoded: bytes) -> bool:
        """Whether this DER certificate is that of an authority that was imported."""
        return any(held.encoded == encoded for held in self.foreign())

    def root_key_here(self) -> bool:
        return self.root is not None and bool(self.root.sealed)

    def warnings(self, now_s: float) -> list[str]:
        """What a technician has to do, in sentences."""
        issuing = self.issuing
        if issuing is None or profile.end_of(issuing.certificate) - now_s > EARLY_S:
            return []
        return [
            "the issuing certificate authority ends before a new device certificate would: have it followed by a new "
            "one, on the page Certificates"
        ]

    # What is done

    def ensure(self, now_s: float) -> Held:
        """The issuing authority, made with its root where there is none. Raises Conflict, RegistryFailed."""
        with self._desk.lock:
            issuing = self.issuing
            if issuing is not None and self._key(issuing) is not None:
                return issuing
            root = self.root
            pair = self._pair(root) if root is not None else None
            if pair is None and root is not None and not root.sealed:
                raise Conflict(
                    "the issuing authority's key is lost and the root's key is not on the gateway: bring it back"
                )
            if pair is None:
                if root is not None:
                    log.error("the certificate authority's keys cannot be opened with this server.key: a new root is "
                              "made, which devices must be given")  # fmt: skip
                pair = profile.make_root(profile.new_organisation(), self.names.hosts, now_s)
                self._keep("root", pair, now_s, root_list=self._root_list(pair, now_s))
            return self._issue_next(pair, now_s)

    def signer(self, now_s: float) -> Pair:
        """The issuing authority with its key. Raises Conflict, RegistryFailed."""
        with self._desk.lock:
            held = self.ensure(now_s)
            pair = self._pair(held)
            assert pair is not None  # `ensure` has looked
            return pair

    def key_of(self, held: Held) -> Pair | None:
        """The certificate with its key; None where the key is not here or cannot be opened."""
        return self._pair(held)

    def roll_over(self, now_s: float, root_key: str = "", passphrase: str = "") -> Held:
        """Have the issuing authority followed by a new one; what the old one has signed stays good.

        `root_key` (PEM) where the root's key is not on the gateway. Raises Conflict, Invalid, RegistryFailed.
        """
        with self._desk.lock:
            self.ensure(now_s)
            root = self.root
            assert root is not None
            if root_key:
                pair = Pair(root.certificate, _same_key(root, root_key, passphrase))
                self._root_lists[root.id] = refreshed = self._root_list(pair, now_s)
                self._desk.write([("UPDATE authority SET list = ? WHERE id = ?", (refreshed, root.id))])
            else:
                found = self._pair(root)
                if found is None:
                    raise Conflict("the root's key is not on the gateway: send it with the request")
                pair = found
            if len(self.generations()) >= MAX_ISSUING:
                raise Invalid(f"at most {MAX_ISSUING} issuing authorities")
            return self._issue_next(pair, now_s)

    def export_root(self, passphrase: str) -> str:
        """The root's certificate and its key, encrypted, as PEM. Raises Conflict, Invalid."""
        if not MIN_PASSPHRASE <= len(passphrase) <= MAX_PASSPHRASE:
            raise Invalid(f"the passphrase of an exported key has {MIN_PASSPHRASE} characters or more")
        with self._desk.lock:
            pair = self._pair(self.root) if self.root else None
            if pair is None:
                raise Conflict("the root's key is not on the gateway")
            key = pair.key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode())
            )
            return profile.pem([pair.certificate]) + key.decode()

    def remove_root_key(self) -> None:
        """Take the root's key from the gateway; it must have been exported. Raises Conflict, RegistryFailed."""
        with self._desk.lock:
            root = self.root
            if root is None or not root.sealed:
                raise Conflict("the root's key is not on the gateway")
            self._set_key(root, b"")

    def return_root_key(self, root_key: str, passphrase: str) -> None:
        """Bring the exported key back. Raises Conflict, Invalid, RegistryFailed."""
        with self._desk.lock:
            root = self.root
            if root is None:
                raise Conflict("there is no authority yet")
            key = _same_key(root, root_key, passphrase)
            self._set_key(root, self._seal(key))

    def new_server(self, now_s: float) -> Held:
        """A new certificate for the gateway's doors, with `names`. Raises Conflict, RegistryFailed.

        Where the issuing authority may not name one of the hosts and the root's key is here, it is followed first.
        """
        with self._desk.lock:
            issuing = self.ensure(now_s)
            wanted = [host for host in self.names.hosts if self._may_have(host)]
            if self.root_key_here() and set(wanted) - set(
                profile.nameable(issuing.certificate, self.names).hosts
            ):
                self.roll_over(now_s)
            pair = profile.make_server(self.signer(now_s), self.names, now_s)
            old = self.server
            gone: list[Statement] = [("DELETE FROM authority WHERE id = ?", (old.id,))] if old else []
            held = self._keep("server", pair, now_s, more=gone)
            if old is not None:
                del self._held[old.id]
        self.on_server_change()
        return held

    def server_is_due(self, now_s: float, *, trusted: bool) -> bool:
        """Whether the gateway's own certificate is to be made anew: for other names, another authority, or its end."""
        server, issuing = self.server, self.issuing
        if server is None or issuing is None or self._pair(server) is None:
            return True
        certificate = server.certificate
        if certificate.issuer != issuing.certificate.subject:
            return True
        wanted = Names(tuple(host for host in self.names.hosts if self._may_have(host)), self.names.addresses)
        possible = wanted if self.root_key_here() else profile.nameable(issuing.certificate, self.names)
        private = {address for address in possible.addresses if profile.is_private(address)}
        shown = profile.names_of(certificate)
        if set(shown.hosts) != set(possible.hosts) or private - set(shown.addresses):
            return True
        life_s = profile.SERVER_LIFE_S
        left_s = profile.end_of(certificate) - now_s
        return trusted and (left_s < life_s / 3 or profile.begin_of(certificate) > now_s)

    def add_foreign(self, text: str, now_s: float) -> list[Held]:
        """Trust authorities of others (PEM): their certificates name things.

        Raises Conflict, Invalid, RegistryFailed.
        """
        given = authorities_of(text)
        with self._desk.lock:
            known = {profile.der(certificate) for certificate in self.trusted()}
            new = [certificate for certificate in given if profile.der(certificate) not in known]
            if not new:
                raise Conflict("this authority is trusted already")
            if len(self.foreign()) + len(new) > MAX_FOREIGN:
                raise Invalid(f"at most {MAX_FOREIGN} authorities of others")
            made = [self._keep("foreign", certificate, now_s) for certificate in new]
            self._desk.changed(Change(ChangeKind.GRANTED))
        self.on_server_change()
        return made

    def remove_foreign(self, number: int) -> None:
        """Trust an imported authority no longer; whoever came in with its certificates is asked again.

        Raises NotFound, RegistryFailed.
        """
        with self._desk.lock:
            held = self._held.get(number)
            if held is None or held.role != "foreign":
                raise NotFound("no such imported authority")
            self._desk.write([("DELETE FROM authority WHERE id = ?", (number,))])
            del self._held[number]
            self._desk.changed(Change(ChangeKind.REVOKED))

    def root_lists(self) -> list[bytes]:
        """The deny lists that roots have signed, DER."""
        return list(self._root_lists.values())

    def _may_have(self, host: str) -> bool:
        root = self.root
        return root is not None and host in profile.nameable(root.certificate, Names((host,))).hosts

    def _issue_next(self, root: Pair, now_s: float) -> Held:
        number = len(self.generations()) + 1
        hosts = profile.nameable(root.certificate, self.names).hosts
        held = self._keep("issuing", profile.make_issuing(root, number, hosts, now_s), now_s)
        self._desk.changed(Change(ChangeKind.GRANTED))
        self.on_server_change()
        return held

    def _keep(
        self,
        role: str,
        what: Pair | x509.Certificate,
        now_s: float,
        *,
        root_list: bytes = b"",
        more: Sequence[Statement] = (),
    ) -> Held:
        certificate = what.certificate if isinstance(what, Pair) else what
        sealed = self._seal(what.key) if isinstance(what, Pair) else b""
        number = max(self._held, default=0) + 1
        row = (number, role, profile.der(certificate), sealed, now_s, root_list)
        self._desk.write([*more, ("INSERT INTO authority VALUES (?, ?, ?, ?, ?, ?)", row)])
        self._held[number] = held = Held(number, role, certificate, sealed, now_s)
        if root_list:
            self._root_lists[number] = root_list
        return held

    def _set_key(self, held: Held, sealed: bytes) -> None:
        self._desk.write([("UPDATE authority SET key = ? WHERE id = ?", (sealed, held.id))])
        self._held[held.id] = msgspec.structs.replace(held, sealed=sealed)

    def _all(self, role: str) -> list[Held]:
        return [held for held in list(self._held.values()) if held.role == role]

    def _newest(self, role: str) -> Held | None:
        found = self._all(role)
        return found[-1] if found else None

    def _pair(self, held: Held) -> Pair | None:
        key = self._key(held)
        return None if key is None else Pair(held.certificate, key)

    def _key(self, held: Held) -> ec.EllipticCurvePrivateKey | None:
        if not held.sealed:
            return None
        try:
            return profile.key_of(self._desk.key.unseal(_PURPOSE, held.sealed))
        except (Unreadable, ValueError):
            return None

    def _seal(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        return self._desk.key.seal(_PURPOSE, profile.key_der(key))

    @staticmethod
    def _root_list(root: Pair, now_s: float) -> bytes:
        return sign_list(root, (), now_s, ROOT_LIST_LIFE_S).public_bytes(Encoding.DER)


def authorities_of(text: str) -> list[x509.Certificate]:
    """Certificates of authorities from PEM text. Raises Invalid and nothing else."""
    if len(text) > MAX_PEM:
        raise Invalid(f"the certificates of authorities have at most {MAX_PEM} characters")
    try:
        found = x509.load_pem_x509_certificates(text.encode("utf-8", "replace"))
    except (ValueError, TypeError, x509.InvalidVersion):
        raise Invalid("this holds no certificate in PEM form") from None
    for certificate in found:
        if not _is_authority(certificate):
            raise Invalid(
                "a certificate in it is not that of an authority (basicConstraints without CA:TRUE); give the "
                "authority's certificate, not a device's"
            )
    return found


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError, TypeError):
        return False


def _same_key(root: Held, text: str, passphrase: str) -> ec.EllipticCurvePrivateKey:
    """The root's key from what `export_root` wrote. Raises Invalid."""
    if len(text) > MAX_PEM or len(passphrase) > MAX_PASSPHRASE:
        raise Invalid("this is too long for an exported key")
    try:
        key = load_pem_private_key(text.encode("utf-8", "replace"), passphrase.encode() or None)
    except (ValueError, TypeError):
        raise Invalid("this is no private key in PEM form, or the passphrase is wrong") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (key.public_key() != root.certificate.public_key()):
        raise Invalid("this is not the key of the gateway's root")
    return key
