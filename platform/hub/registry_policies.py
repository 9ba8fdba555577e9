"""The policy documents of the registry: their texts as they were written, and what they come to together."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping

import msgspec

from .errors import Invalid
from .policy.documents import read
from .policy.engine import PolicySet
from .policy.errors import PolicyError
from .policy.statement import Statement
from .users import Statement as Write

MAX_POLICIES = 1000
MAX_STATEMENTS = 20_000  # of all of them together

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Policy(msgspec.Struct, frozen=True):
    """One document."""

    name: str
    document: str  # as it was given, so that lines in messages are those of its author
    updated_s: float  # UTC seconds


class Policies:
    """All documents and the statements they hold; the registry's lock is held by whoever changes them."""

    def __init__(self) -> None:
        self._policies: dict[str, Policy] = {}
        self._statements: dict[str, tuple[Statement, ...]] = {}
        self.set = PolicySet()  # replaced as a whole, so that a question is answered by one state

    def load(self, conn: sqlite3.Connection) -> None:
        """Raises PolicyError for a document that cannot be read, which only damage explains."""
        rows = conn.execute("SELECT name, document, updated_s FROM policy ORDER BY name").fetchall()
        self.take({name: Policy(name, document, updated_s) for name, document, updated_s in rows})

    def get(self, name: str) -> Policy | None:
        return self._policies.get(name)

    def all(self) -> list[Policy]:
        """By name."""
        return [self._policies[name] for name in sorted(self._policies)]

    def statements(self, name: str) -> tuple[Statement, ...]:
        return self._statements.get(name, ())

    def checked(self, changes: Mapping[str, str | None], now_s: float, *, whole: bool) -> dict[str, Policy]:
        """The documents as they would be after `changes` (None removes); `whole`: with nothing but those.

        Raises PolicyError, Invalid.
        """
        after = {} if whole else dict(self._policies)
        for name, document in changes.items():
            if document is None:
                after.pop(name, None)
                continue
            if not _NAME.fullmatch(name):
                raise Invalid(
                    "a policy's name has 1 to 64 letters, digits, dots, - or _, and begins with one of the first two"
                )
            try:
                read(name, document)
            except PolicyError as error:
                raise PolicyError(f"policy {name}: {error.reason}", error.path, error.line) from None
            known = self._policies.get(name)
            same = known is not None and known.document == document
            after[name] = known if known is not None and same else Policy(name, document, now_s)
        if len(after) > MAX_POLICIES:
            raise Invalid(f"at most {MAX_POLICIES} policies")
        if sum(len(read(policy.name, policy.document)) for policy in after.values()) > MAX_STATEMENTS:
            raise Invalid(f"at most {MAX_STATEMENTS} statements in all policies together")
        return after

    def writes(self, after: Mapping[str, Policy]) -> list[Write]:
        """What makes the stored documents those of `after`."""
        gone = [
            ("DELETE FROM policy WHERE name = ?", (name,)) for name in self._policies if name not in after
        ]
        put = [
            (
                "INSERT INTO policy(name, document, updated_s) VALUES (?, ?, ?) ON CONFLICT(name)"
                " DO UPDATE SET document = excluded.document, updated_s = excluded.updated_s",
                (name, policy.document, policy.updated_s),
            )
            for name, policy in after.items()
            if self._policies.get(name) != policy
        ]
        return [*gone, *put]

    def take(self, after: Mapping[str, Policy]) -> None:
        """Let `after` be in force."""
        self._policies = dict(after)
        self._statements = {name: read(name, after[name].document) for name in sorted(after)}
        self.set = PolicySet(each for found in self._statements.values() for each in found)
