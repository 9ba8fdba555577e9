"""People and policies as the API gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from webui.client import Gateway, decode

_DISK = (507, 503)  # the gateway says in words what its disk will not take


class Person(msgspec.Struct, frozen=True):
    id: str
    email: str
    role: str = "viewer"
    totp: bool = False  # signing in takes a code
    totp_needed: bool = False  # and the role counts only once it does


class People(msgspec.Struct, frozen=True):
    users: list[Person] = []


class Policy(msgspec.Struct, frozen=True):
    name: str
    updated: float = 0.0  # unix seconds
    statements: int = 0


class Policies(msgspec.Struct, frozen=True):
    policies: list[Policy] = []


class Statement(msgspec.Struct, frozen=True):
    name: str
    effect: str
    line: int = 0
    subjects: list[str] = []
    actions: list[str] = []
    resources: list[str] = []
    conditions: list[str] = []


class Document(msgspec.Struct, frozen=True):
    name: str
    document: str = ""
    updated: float = 0.0
    statements: list[Statement] = []


class Other(msgspec.Struct, frozen=True):
    """A statement that did not decide."""

    name: str
    effect: str
    line: int = 0
    reasons: list[str] = []


class Answer(msgspec.Struct, frozen=True):
    allowed: bool
    reason: str
    decided_by: str | None = None
    policies: str = ""
    others: list[Other] = []


@dataclass(frozen=True, slots=True)
class Rights:
    """The part of the API that is about people and policies; raises what `Gateway` raises."""

    gateway: Gateway

    def people(self) -> list[Person]:
        return decode(People, self._answer("GET", "/users")).users

    def me(self) -> Person:
        return decode(Person, self._answer("GET", "/users/profile"))

    def add_person(self, email: str, password: str, role: str) -> None:
        self._answer("POST", "/users", {"email": email, "password": password, "role": role})

    def change_person(self, user_id: str, change: Mapping[str, str | bool]) -> None:
        """`role`, `password`, or `totp` false."""
        self._answer("PATCH", f"/users/{user_id}", change)

    def remove_person(self, user_id: str) -> None:
        self._answer("DELETE", f"/users/{user_id}")

    def policies(self) -> list[Policy]:
        return decode(Policies, self._answer("GET", "/policies")).policies

    def policy(self, name: str) -> Document:
        return decode(Document, self._answer("GET", f"/policies/{name}"))

    def put_policy(self, name: str, document: str) -> None:
        """The text is kept as it is, so that the lines in messages are those of the page."""
        self.gateway.answer(
            "PUT",
            f"/policies/{name}",
            content=document.encode(),
            content_type="application/json",
            refused=_DISK,
        )

    def remove_policy(self, name: str) -> None:
        self._answer("DELETE", f"/policies/{name}")

    def explain(self, question: Mapping[str, Any]) -> Answer:
        return decode(Answer, self._answer("POST", "/policies/explain", question))

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        return self.gateway.answer(method, path, body, refused=_DISK).content
