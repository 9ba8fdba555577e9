"""Grants: rows that let somebody act for an account or a thing within scopes, until they are taken away.

An API key is a grant whose secret its holder shows; what an account has consented to for an application is one without
a secret, named in the tokens made under it. All are rows of one table, so one removal ends a key, its tokens and every
session opened with them: `hub.access` refuses a principal whose grant is gone or over.
"""

from __future__ import annotations

import logging
import sqlite3
import uuid
from typing import Literal, NamedTuple

import msgspec

from hub.errors import HubError, Invalid, NotFound
from hub.keys import new_secret
from hub.registry_items import Change, ChangeKind, checked_name
from hub.registry_part import Desk, Directory
from hub.tokens.scopes import MESSAGES, ScopeError, Scopes, parse
from hub.users import Statement

MAX_GRANTS = 100_000
MAX_OF_OWNER = 256  # grants of one account or thing
MAX_DURATION_S = 100 * 365 * 24 * 3600.0
MAX_OVERLAP_S = 30 * 24 * 3600.0  # that a replaced key may go on working
PREFIX = "fgk_"  # of API keys, so that a secret scanner and a reader know what they see

log = logging.getLogger("hub.tokens")

Kind = Literal["key", "oauth"]
OwnerKind = Literal["user", "thing"]


class Grant(msgspec.Struct, frozen=True):
    """One grant. Times are UTC seconds; `used_s` is kept when the gateway ends, and so may be some hours old."""

    id: str
    kind: Kind
    owner_kind: OwnerKind
    owner_id: str
    name: str
    scopes: Scopes
    issued_s: float
    expires_s: float | None = None
    used_s: float | None = None
    application_id: str = ""  # through which it acts; with an OAuth grant only
    parent: str = ""  # the grant through which this key was made, and with which it ends
    version: int = 1  # rises with each new secret
    overlap_s: float = 0.0  # until when (UTC) the secret before this one still works

    def over(self, now_s: float) -> bool:
        """Whether its time has passed."""
        return self.expires_s is not None and now_s >= self.expires_s

    def good(self, version: int | None, now_s: float) -> bool:
        """Whether a secret of that version still stands for it; None where it was reached without one."""
        if self.over(now_s):
            return False
        return version in (None, self.version) or (version == self.version - 1 and now_s < self.overlap_s)


class Shown(NamedTuple):
    """What a secret stands for."""

    grant: Grant
    version: int  # of the secret


class GrantPage(NamedTuple):
    total: int
    grants: list[Grant]


class Grants:
    """All grants. Whoever writes holds the registry's lock; reading takes none."""

    def __init__(self, desk: Desk, directory: Directory) -> None:
        self._desk = desk
        self._directory = directory
        self._grants: dict[str, Grant] = {}
        self._of: dict[
            tuple[str, str], dict[str, None]
        ] = {}  # by kind and id of owner, application and parent
        self._by_digest: dict[bytes, tuple[str, int]] = {}  # to id and version of the secret
        self._digests: dict[str, list[bytes]] = {}  # by id: the secret's now, and the one before
        self._used: dict[str, float] = {}  # since the start
        self._next_over: float | None = None  # UTC: when the first of them has its time passed

    # Part

    def load(self, conn: sqlite3.Connection) -> None:
        self._grants, self._of, self._by_digest, self._digests = {}, {}, {}, {}
        rows = conn.execute(
            "SELECT id, kind, user, thing, name, scopes, issued_s, expires_s, used_s, application, parent, version,"
            " overlap_s, hash, old_hash FROM grants ORDER BY rowid"
        )
        for (
            id_,
            kind,
            user,
            thing,
            name,
            scopes,
            issued,
            expires,
            used,
            app,
            parent,
            version,
            until,
            *digests,
        ) in rows:
            try:
                known = parse(scopes)
            except ScopeError as error:
                raise sqlite3.DatabaseError(f"grants: {error.reason}") from error
            owner_kind: OwnerKind = "thing" if thing else "user"
            grant = Grant(
                *(id_, kind, owner_kind, thing or user or "", name, known, issued, expires, used),
                application_id=app or "",
                parent=parent or "",
                version=version,
                overlap_s=until,
            )
            self._keep(grant, [digest for digest in digests if digest])
        self._look_ahead()

    def follow(self, change: Change) -> None:
        if change.kind is not ChangeKind.REVOKED or not self._grants:
            return
        owners = [("user", user) for user in change.users] + [("thing", thing) for thing in change.things]
        gone = [owner for owner in owners if not self._exists(*owner)]
        gone += [("application", id_) for kind, id_ in gone if kind == "thing"]
        for id_ in [id_ for owner in gone for id_ in self._of.get(owner, ())]:
            self._drop(id_)

    # Reading

    def get(self, grant_id: str) -> Grant | None:
        return self._grants.get(grant_id)

    def last_used_s(self, grant: Grant) -> float | None:
        """UTC seconds; None for one that was never used."""
        return self._used.get(grant.id, grant.used_s)

    def of_owner(
        self,
        owner_kind: OwnerKind,
        owner_id: str,
        *,
        kind: Kind | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> GrantPage:
        """Grants of one account or thing in the order they were made, of one kind where it is given."""
        found = [grant for grant in self._listed(owner_kind, owner_id) if kind in (None, grant.kind)]
        return GrantPage(len(found), found[offset : offset + limit])

    def of_application(self, application_id: str, *, offset: int = 0, limit: int = 100) -> GrantPage:
        """Grants through which an application acts."""
        found = self._listed("application", application_id)
        return GrantPage(len(found), found[offset : offset + limit])

    def by_secret(self, value: str, now_s: float) -> Shown | None:
        """The key that `value` is, unless its time has passed; notes that it was used."""
        if not value.startswith(PREFIX) or len(value) > 2 * len(PREFIX) + 64:
            return None
        found = self._by_digest.get(self._desk.key.digest("grant", value))
        grant = self._grants.get(found[0]) if found else None
        if found is None or grant is None or not grant.good(found[1], now_s):
            return None
        self._used[grant.id] = now_s
        return Shown(grant, found[1])

    def use(self, grant_id: str, now_s: float) -> None:
        """Note that a token of a grant was used."""
        if grant_id in self._grants:
            self._used[grant_id] = now_s

    @property
    def next_over(self) -> float | None:
        """UTC seconds when a grant or a replaced secret ends by itself; None where all last."""
        return self._next_over

    # Changing

    def add(
        self,
        owner_kind: OwnerKind,
        owner_id: str,
        *,
        name: str,
        scopes: Scopes,
        now_s: float,
        expires_s: float | None = None,
        kind: Kind = "key",
        application_id: str = "",
        parent: str = "",
    ) -> tuple[Grant, str]:
        """A new grant, and for an API key its value, which can never be read again ("" for an OAuth grant).

        Blocks: call it in a thread. Raises Invalid, NotFound where the owner is gone, RegistryFailed.
        """
        _check_scopes(kind, owner_kind, scopes)
        if expires_s is not None and not now_s < expires_s <= now_s + MAX_DURATION_S:
            raise Invalid("it must end in the future, and within a hundred years")
        value = PREFIX + new_secret() if kind == "key" else ""
        digest = self._desk.key.digest("grant", value) if value else None
        with self._desk.lock:
            if not self._exists(owner_kind, owner_id):
                raise NotFound(f"no such {owner_kind}")
            if parent and parent not in self._grants:
                raise NotFound("the key through which this was asked is gone")
            if len(self._grants) >= MAX_GRANTS:
                raise Invalid(f"at most {MAX_GRANTS} keys and consents")
            if len(self._of.get((owner_kind, owner_id), ())) >= MAX_OF_OWNER:
                raise Invalid(
                    f"at most {MAX_OF_OWNER} keys and consents of one {owner_kind}: remove one first"
                )
            grant = Grant(
                *(
                    str(uuid.uuid4()),
                    kind,
                    owner_kind,
                    owner_id,
                    checked_name(name),
                    scopes,
                    now_s,
                    expires_s,
                ),
                application_id=application_id,
                parent=parent,
            )
            self._desk.write([_insertion(grant, digest)])
            self._keep(grant, [digest] if digest else [])
            self._look_ahead()
            self._tell(ChangeKind.GRANTED, grant)
        return grant, value

    def rotate(self, grant_id: str, now_s: float, overlap_s: float = 0.0) -> tuple[Grant, str]:
        """Give an API key another value; the one before works for `overlap_s` more, and no earlier one at all.

        Blocks. Raises NotFound, Invalid, RegistryFailed.
        """
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise Invalid(f"the old value may go on working for 0 to {MAX_OVERLAP_S:.0f} s")
        value = PREFIX + new_secret()
        digest = self._desk.key.digest("grant", value)
        with self._desk.lock:
            grant = self._found(grant_id)
            if grant.kind != "key":
                raise Invalid("only an API key has a value to replace")
            until_s = now_s + overlap_s if overlap_s else 0.0
            grant = msgspec.structs.replace(grant, version=grant.version + 1, overlap_s=until_s)
            old = self._digests[grant_id][0] if overlap_s else None
            self._desk.write(
                [
                    (
                        "UPDATE grants SET version = ?, overlap_s = ?, hash = ?, old_hash = ? WHERE id = ?",
                        (grant.version, until_s, digest, old, grant_id),
                    )
                ]
            )
            self._forget_secrets(grant_id)
            self._keep(grant, [digest, old] if old else [digest])
            self._look_ahead()
            self._tell(ChangeKind.REVOKED, grant)
        return grant, value

    def narrow(self, grant_id: str, scopes: Scopes) -> Grant:
        """Let a grant have other scopes, more or fewer: whoever calls has asked its owner.

        Keys made through it that are for more end. Blocks. Raises NotFound, Invalid, RegistryFailed.
        """
        with self._desk.lock:
            grant = self._found(grant_id)
            _check_scopes(grant.kind, grant.owner_kind, scopes)
            grant = msgspec.structs.replace(grant, scopes=scopes)
            beyond = [child for child in self._listed("parent", grant_id) if not scopes.cover(child.scopes)]
            self._desk.write(
                [
                    ("UPDATE grants SET scopes = ? WHERE id = ?", (str(scopes), grant_id)),
                    *(("DELETE FROM grants WHERE id = ?", (child.id,)) for child in beyond),
                ]
            )
            self._grants[grant_id] = grant
            for child in beyond:
                self._drop(child.id)
            self._look_ahead()
            self._tell(ChangeKind.REVOKED, grant, *beyond)
        return grant

    def remove(self, *grant_ids: str) -> None:
        """End grants, and keys that were made through them, with all that lives by them. Blocks.

        Raises NotFound where one is not there, RegistryFailed.
        """
        with self._desk.lock:
            grants = [self._found(grant_id) for grant_id in grant_ids]
            self._desk.write([("DELETE FROM grants WHERE id = ?", (grant.id,)) for grant in grants])
            for grant in grants:
                self._drop(grant.id)
            self._look_ahead()
            self._tell(ChangeKind.REVOKED, *grants)

    def forget(self, *grant_ids: str) -> None:
        """Drop grants whose rows went by the schema. The lock is held, and the change was told."""
        for grant_id in grant_ids:
            self._drop(grant_id)
        self._look_ahead()

    def end_over(self, now_s: float) -> list[Grant]:
        """Forget grants whose time has passed, which are returned, and replaced values that worked on until now.

        Blocks.
        Access refuses them at that second anyway; this has what is open ended too. Where the disk takes nothing their
        rows stay, and go after the next start.
        """
        with self._desk.lock:
            over = [grant for grant in self._grants.values() if grant.over(now_s)]
            replaced = [g for g in self._grants.values() if 0 < g.overlap_s <= now_s and not g.over(now_s)]
            try:
                self._desk.write(
                    [("DELETE FROM grants WHERE id = ?", (grant.id,)) for grant in over]
                    + [
                        ("UPDATE grants SET overlap_s = 0, old_hash = NULL WHERE id = ?", (g.id,))
                        for g in replaced
                    ]
                )
            except HubError as error:
                log.warning("the rows of %d keys that are over stay for now: %s", len(over), error.reason)
            for grant in over:
                self._drop(grant.id)
            for grant in replaced:
                digest = self._digests[grant.id][0]
                self._forget_secrets(grant.id)
                self._keep(msgspec.structs.replace(grant, overlap_s=0.0), [digest])
            self._look_ahead()
            if over or replaced:
                self._tell(ChangeKind.REVOKED, *over, *replaced)
            return over

    def last_uses(self) -> list[Statement]:
        """What keeps, at the end, when grants were last used."""
        return [
            ("UPDATE grants SET used_s = ? WHERE id = ?", (at_s, id_)) for id_, at_s in self._used.items()
        ]

    # Memory

    def _exists(self, owner_kind: str, owner_id: str) -> bool:
        directory = self._directory
        known = directory.thing(owner_id) if owner_kind == "thing" else directory.user(owner_id)
        return known is not None

    def _listed(self, noun: str, of: str) -> list[Grant]:
        return [grant for id_ in list(self._of.get((noun, of), ())) if (grant := self._grants.get(id_))]

    def _found(self, grant_id: str) -> Grant:
        grant = self._grants.get(grant_id)
        if grant is None:
            raise NotFound("no such key")
        return grant

    def _keep(self, grant: Grant, digests: list[bytes]) -> None:
        """`digests` begins with that of the secret of now."""
        self._grants[grant.id] = grant
        for place in _places(grant):
            self._of.setdefault(place, {})[grant.id] = None
        self._digests[grant.id] = digests
        for age, digest in enumerate(digests):
            self._by_digest[digest] = (grant.id, grant.version - age)

    def _forget_secrets(self, grant_id: str) -> None:
        for digest in self._digests.pop(grant_id, ()):
            self._by_digest.pop(digest, None)

    def _drop(self, grant_id: str) -> None:
        grant = self._grants.pop(grant_id, None)
        if grant is None:
            return
        self._forget_secrets(grant_id)
        self._used.pop(grant_id, None)
        for place in _places(grant):
            self._of[place].pop(grant_id)
            if not self._of[place]:
                del self._of[place]
        for child in self._listed("parent", grant_id):
            self._drop(child.id)

    def _look_ahead(self) -> None:
        ends = [grant.expires_s for grant in self._grants.values() if grant.expires_s is not None]
        ends += [grant.overlap_s for grant in self._grants.values() if grant.overlap_s]
        self._next_over = min(ends, default=None)

    def _tell(self, kind: ChangeKind, *grants: Grant) -> None:
        self._desk.changed(Change(kind, grants=frozenset(grant.id for grant in grants)))


def _places(grant: Grant) -> list[tuple[str, str]]:
    """Where it is listed."""
    others = (("application", grant.application_id), ("parent", grant.parent))
    return [(grant.owner_kind, grant.owner_id), *(place for place in others if place[1])]


def _check_scopes(kind: Kind, owner_kind: OwnerKind, scopes: Scopes) -> None:
    if not scopes:
        raise Invalid("name at least one scope: without any it would be good for nothing")
    if kind == "key" and scopes.reaches("account"):
        raise Invalid("no API key changes its owner's password, second factor or sessions")
    if kind == "key" and owner_kind == "thing" and not MESSAGES.cover(scopes):
        raise Invalid("a thing's key has scopes of messages only")


def _insertion(grant: Grant, digest: bytes | None) -> Statement:
    mine = {"user": None, "thing": None, grant.owner_kind: grant.owner_id}
    return (
        "INSERT INTO grants(id, kind, user, thing, name, scopes, issued_s, expires_s, application, parent, version,"
        " overlap_s, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(grant.id, grant.kind, mine["user"], mine["thing"], grant.name, str(grant.scopes)),
            *(grant.issued_s, grant.expires_s, grant.application_id or None, grant.parent or None),
            *(grant.version, grant.overlap_s, digest),
        ),
    )
