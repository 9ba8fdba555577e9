"""Applications: programs that use the gateway for people who agree, or for themselves.

Each is a thing of the same id besides, so that its name, its key (the client secret), its connections and its rights to
messages are a thing's; here is what only an application has. Removing either removes the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Protocol

import msgspec

from .errors import Conflict, Invalid, NotFound
from .keys import new_secret
from .oauth.uris import MAX_URIS, checked_uri
from .registry_items import Change, ChangeKind, Metadata, Page, Thing, page
from .registry_part import Desk
from .tokens.grants import MAX_GRANTS, Grant, Grants
from .tokens.scopes import EVERYTHING, MESSAGES, OPENID, ScopeError, Scopes, checked, parse
from .users import ADMIN, TECHNICIAN, VIEWER, Statement, User

MAX_APPLICATIONS = 1000
MAX_TITLE = 128  # characters of an application's name: a person reads it on the consent page

CODE, REFRESH, ITSELF = GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
ROLES = ("", VIEWER, TECHNICIAN, ADMIN)
METADATA_TYPE = "app"  # of the thing, under "type"
# The gateway's own pages. They sign people in as any application would, and run no redirect: a URN leads nowhere.
PAGES_ID = "fluxgate-webui"
PAGES_URI = "urn:fluxgate:webui"


class Application(msgspec.Struct, frozen=True):
    """One application. What it may at most is its scopes; `role` says what it may manage when it acts for itself."""

    id: str
    name: str = ""
    metadata: Metadata = {}
    role: str = ""  # "" viewer technician admin
    scopes: Scopes = Scopes()
    redirect_uris: tuple[str, ...] = ()
    grant_types: tuple[str, ...] = ()
    public: bool = False  # runs on people's devices, so it can keep no secret
    first_party: bool = False  # the gateway's own pages: people are not asked to agree
    made_s: float = 0.0  # UTC seconds


PAGES = Application(
    PAGES_ID,
    "Fluxgate's pages",
    scopes=Scopes(EVERYTHING | {"account:read", "account:write", "openid"}),
    redirect_uris=(PAGES_URI,),
    grant_types=(CODE, REFRESH),
    public=True,
    first_party=True,
)


class Things(Protocol):
    """What applications need of the registry."""

    def thing(self, thing_id: str) -> Thing | None: ...
    def thing_by_key(self, key: str) -> Thing | None: ...
    def create_thing(
        self,
        name: str = "",
        metadata: Metadata | None = None,
        id: str | None = None,  # noqa: A002
        key: str | None = None,
        *,
        more: Sequence[Statement] = (),
    ) -> tuple[Thing, str]: ...
    def update_thing(
        self, thing_id: str, name: str | None = None, metadata: Metadata | None = None
    ) -> Thing: ...
    def rotate_key(self, thing_id: str, key: str | None = None) -> str: ...
    def remove_thing(self, thing_id: str) -> None: ...


class Wanted(msgspec.Struct, frozen=True):
    """What somebody asks an application to be; None leaves it as it is, or takes the default of a new one."""

    name: str | None = None
    metadata: Metadata | None = None
    role: str | None = None
    scopes: tuple[str, ...] | None = None
    redirect_uris: tuple[str, ...] | None = None
    grant_types: tuple[str, ...] | None = None


class Applications:
    """A part of the registry; changes block for a commit."""

    def __init__(self, desk: Desk, things: Things, grants: Grants) -> None:
        self._desk = desk
        self._things = things
        self._grants = grants
        self._kept: dict[str, Application] = {}  # with the name and metadata of the thing at load; see `get`

    # The registry's part

    def load(self, conn: sqlite3.Connection) -> None:
        self._kept = {}
        for row in conn.execute(
            "SELECT id, role, scopes, redirect_uris, grant_types, public, made_s FROM application ORDER BY rowid"
        ):
            app_id, role, scopes, uris, grants, public, made_s = row
            try:
                self._kept[app_id] = Application(
                    app_id,
                    role=role,
                    scopes=parse(scopes),
                    redirect_uris=tuple(uris.split()),
                    grant_types=tuple(grants.split()),
                    public=bool(public),
                    made_s=made_s,
                )
            except (ScopeError, AttributeError, TypeError) as error:  # a damaged row has other types
                raise sqlite3.DatabaseError(f"application {app_id}: {error}") from error

    def follow(self, change: Change) -> None:
        for gone in [each for each in change.things if each in self._kept and not self._things.thing(each)]:
            del self._kept[gone]

    # Asking

    def get(self, application_id: str) -> Application | None:
        if application_id == PAGES_ID:
            return PAGES
        kept, thing = self._kept.get(application_id), self._things.thing(application_id)
        return (
            msgspec.structs.replace(kept, name=thing.name, metadata=thing.metadata)
            if kept and thing
            else None
        )

    def by_secret(self, application_id: str, secret: str) -> Application | None:
        """The application, where this is its secret. The look-up is by keyed hash: its time tells nothing."""
        thing = self._things.thing_by_key(secret)
        application = self.get(application_id)
        if thing is None or application is None or application.public or application.first_party:
            return None
        return application if thing.id == application_id else None

    def acting(self, application_id: str) -> User | None:
        """Who an application is that manages for itself: as somebody of its role. None for one without a role."""
        application = self._kept.get(application_id)
        if application is None or not application.role:
            return None
        thing = self._things.thing(application_id)
        return User(application_id, thing.name if thing else "", application.role)

    def page(
        self,
        *,
        offset: int = 0,
        limit: int = 10,
        name: str = "",
        metadata: Metadata | None = None,
        order: str = "",
        descending: bool = False,
    ) -> tuple[int, list[Application]]:
        """How many match in all, and one page of them; as `Registry.things`."""
        things = [thing for each in list(self._kept) if (thing := self._things.thing(each))]
        found: Page[Thing] = page(things, offset, limit, name, metadata, order, descending)
        return found.total, [one for thing in found.items if (one := self.get(thing.id))]

    # Changing

    def create(
        self,
        wanted: Wanted,
        now_s: float,
        *,
        public: bool = False,
        id: str | None = None,  # noqa: A002
    ) -> tuple[Application, str]:
        """Add an application and its thing; returns its secret, which cannot be read again: "" for a public one.

        Raises Invalid, Conflict where the id is taken.
        """
        made = _changed(Application("", public=public, made_s=now_s), wanted, new=True)
        _check_name(wanted.name or "")
        with self._desk.lock:
            if id == PAGES_ID:
                raise Conflict("the gateway's own pages have that id")
            if len(self._kept) >= MAX_APPLICATIONS:
                raise Invalid(f"at most {MAX_APPLICATIONS} applications")
            thing, secret = self._with_thing(made, wanted, id)
            made = msgspec.structs.replace(made, id=thing.id, name=thing.name, metadata=thing.metadata)
            self._kept[thing.id] = made
            self._desk.changed(Change(ChangeKind.GRANTED, things=frozenset({thing.id})))
        return made, "" if public else secret

    def _with_thing(self, made: Application, wanted: Wanted, app_id: str | None) -> tuple[Thing, str]:
        """Both rows in one transaction. The thing of a public application has a key that nobody is told."""
        app_id = app_id if app_id is not None else new_id()
        row = (app_id, *_row(made), made.public, made.made_s)
        return self._things.create_thing(
            wanted.name or "",
            {**(wanted.metadata or {}), "type": METADATA_TYPE},
            app_id,
            more=[("INSERT INTO application VALUES (?, ?, ?, ?, ?, ?, ?)", row)],
        )

    def change(self, application_id: str, wanted: Wanted) -> Application:
        """Give an application other properties; what it may no longer ends at once. Raises NotFound, Invalid."""
        with self._desk.lock:
            before = self._found(application_id)
            after = _changed(before, wanted)
            if wanted.name is not None:
                _check_name(wanted.name)
            if wanted.name is not None or wanted.metadata is not None:
                metadata = None if wanted.metadata is None else {**wanted.metadata, "type": METADATA_TYPE}
                self._things.update_thing(application_id, wanted.name, metadata)
            if _row(after) != _row(before):
                self._desk.write(
                    [
                        (
                            "UPDATE application SET role = ?, scopes = ?, redirect_uris = ?, grant_types = ?"
                            " WHERE id = ?",
                            (*_row(after), application_id),
                        )
                    ]
                )
                self._kept[application_id] = after
                self._end([grant for grant in self.granted(application_id) if not _still(grant, after)])
                self._desk.changed(Change(ChangeKind.REVOKED, things=frozenset({application_id})))
            return self._found(application_id)

    def new_secret(self, application_id: str) -> str:
        """Replace the secret; the old one, and tokens it got for itself, are void at once.

        Raises NotFound, Invalid for a public application.
        """
        with self._desk.lock:
            if self._found(application_id).public:
                raise Invalid("a public application has no secret: it proves itself by PKCE")
            secret = self._things.rotate_key(application_id, new_secret())
            self._end([grant for grant in self.granted(application_id) if grant.owner_kind == "thing"])
            return secret

    def granted(self, application_id: str) -> list[Grant]:
        """What people, and itself, have granted to it."""
        return self._grants.of_application(application_id, limit=MAX_GRANTS).grants

    def _end(self, grants: Sequence[Grant]) -> None:
        if grants:
            self._grants.remove(*(grant.id for grant in grants))

    def remove(self, application_id: str) -> None:
        """Remove an application and its thing. Raises NotFound."""
        with self._desk.lock:
            self._found(application_id)
            self._things.remove_thing(application_id)

    def _found(self, application_id: str) -> Application:
        found = self.get(application_id)
        if found is None or found.first_party:
            raise NotFound("no such application")
        return found


def new_id() -> str:
    """An id that says in logs what it is of."""
    return f"app-{new_secret()[:22].replace('_', '-')}"


def _still(grant: Grant, application: Application) -> bool:
    """Whether what was granted is within what the application may ask for now."""
    kind = ITSELF if grant.owner_kind == "thing" else CODE
    return kind in application.grant_types and application.scopes.cover(grant.scopes)


def _row(application: Application) -> tuple[str, str, str, str]:
    return (
        application.role,
        str(application.scopes),
        "\n".join(application.redirect_uris),
        " ".join(application.grant_types),
    )


def _changed(before: Application, wanted: Wanted, *, new: bool = False) -> Application:
    """`before` with what is wanted. Raises Invalid, ScopeError."""
    uris = before.redirect_uris if wanted.redirect_uris is None else wanted.redirect_uris
    grants = before.grant_types if wanted.grant_types is None else wanted.grant_types
    scopes = before.scopes if wanted.scopes is None else checked(wanted.scopes)
    if new and wanted.grant_types is None:
        grants = (CODE, REFRESH) if uris else (ITSELF,)
    if new and wanted.scopes is None:
        scopes = Scopes(MESSAGES | (OPENID if CODE in grants else frozenset()))
    after = msgspec.structs.replace(
        before,
        role=before.role if wanted.role is None else wanted.role,
        scopes=scopes,
        redirect_uris=tuple(dict.fromkeys(uris)),
        grant_types=tuple(name for name in GRANT_TYPES if name in grants),
    )
    _check(after, grants)
    return after


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= MAX_TITLE or not name.isprintable() or name != name.strip():
        raise Invalid(f"an application has a name of 1 to {MAX_TITLE} characters that can be printed")


def _check(application: Application, asked: Sequence[str]) -> None:
    if unknown := [name for name in asked if name not in GRANT_TYPES]:
        raise Invalid(f"{unknown[0][:40]!r} is no grant type of this gateway: {', '.join(GRANT_TYPES)}")
    if application.role not in ROLES:
        raise Invalid("a role is one of viewer, technician, admin, or empty for none")
    if application.scopes.reaches("account"):
        raise Invalid("no application gets the scopes of an account itself: account:read, account:write")
    if len(application.redirect_uris) > MAX_URIS:
        raise Invalid(f"at most {MAX_URIS} redirect URIs")
    for uri in application.redirect_uris:
        checked_uri(uri, public=application.public)
    if CODE in application.grant_types and not application.redirect_uris:
        raise Invalid("an application that people sign in to needs a redirect URI")
    if REFRESH in application.grant_types and CODE not in application.grant_types:
        raise Invalid("refresh_token goes with authorization_code: an application for itself just asks again")
    if application.public and (ITSELF in application.grant_types or application.role):
        raise Invalid(
            "a public application has no secret, so it cannot act for itself: no client_credentials, no role"
        )
