"""One's own account, everybody's sessions and the audit log as the API gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from webui.client import PROOF_S, Gateway, decode

_DISK = (507, 503)  # the gateway says in words what its disk will not take
_PROOF = (401, *_DISK)  # a wrong passphrase is no end of the session


class Me(msgspec.Struct, frozen=True):
    id: str
    email: str
    role: str = "viewer"
    totp: bool = False
    totp_needed: bool = False


class SignIn(msgspec.Struct, frozen=True):
    """Where somebody is signed in."""

    id: str
    user_id: str = ""
    email: str = ""
    address: str = ""
    agent: str = ""
    opened: float = 0.0  # unix seconds
    used: float = 0.0
    current: bool = False


class SignIns(msgspec.Struct, frozen=True):
    sessions: list[SignIn] = []


class Totp(msgspec.Struct, frozen=True):
    on: bool = False
    recovery_codes: int = 0
    time_trusted: bool = True


class Begun(msgspec.Struct, frozen=True):
    """What an authenticator app needs; never to be logged."""

    secret: str
    uri: str

    def __repr__(self) -> str:
        return "Begun(...)"


class Codes(msgspec.Struct, frozen=True):
    recovery_codes: list[str] = []

    def __repr__(self) -> str:
        return "Codes(...)"


class Ended(msgspec.Struct, frozen=True):
    ended: int = 0


class AuditLine(msgspec.Struct, frozen=True):
    n: int
    time: float = 0.0
    quality: str = ""
    kind: str = ""
    outcome: str = ""
    who: str = ""
    email: str = ""
    address: str = ""
    door: str = ""
    resource: str = ""
    detail: str = ""
    count: int = 1


class AuditLines(msgspec.Struct, frozen=True):
    lines: list[AuditLine] = []
    before: int = 0
    lost: int = 0
    problem: str = ""


class Break(msgspec.Struct, frozen=True):
    line: int
    words: str


class Verdict(msgspec.Struct, frozen=True):
    intact: bool
    lines: int = 0
    first: int = 0
    last: int = 0
    removed: int = 0
    head: str = ""
    breaks: list[Break] = []


@dataclass(frozen=True, slots=True)
class PeopleApi:
    """Raises what `Gateway` raises."""

    gateway: Gateway

    def me(self) -> Me:
        return decode(Me, self._answer("GET", "/users/profile"))

    def change_password(self, old: str, new: str) -> None:
        """Ends every session of the account, this one too."""
        self._answer("PATCH", "/password", {"old_password": old, "password": new}, refused=_PROOF)

    def sign_ins(self, user_id: str = "") -> list[SignIn]:
        """One's own, or as an administrator somebody's."""
        params = {"user_id": user_id} if user_id else None
        return decode(SignIns, self._answer("GET", "/sessions", params=params)).sessions

    def end(self, session_id: str) -> None:
        self._answer("DELETE", f"/sessions/{session_id}")

    def end_all(self, user_id: str = "") -> int:
        """All but this one; as an administrator all of somebody's. Returns how many."""
        params = {"user_id": user_id} if user_id else None
        return decode(Ended, self._answer("DELETE", "/sessions", params=params)).ended

    def totp(self) -> Totp:
        return decode(Totp, self._answer("GET", "/users/totp"))

    def begin_totp(self, password: str) -> Begun:
        return decode(Begun, self._answer("POST", "/users/totp", {"password": password}, refused=_PROOF))

    def confirm_totp(self, code: str) -> list[str]:
        """Recovery codes, which are shown once."""
        answer = self._answer("POST", "/users/totp/confirm", {"code": code}, timeout_s=PROOF_S)
        return decode(Codes, answer).recovery_codes

    def new_recovery_codes(self, password: str, code: str) -> list[str]:
        proof = {"password": password, "code": code}
        answer = self._answer("POST", "/users/totp/recovery", proof, timeout_s=PROOF_S, refused=_PROOF)
        return decode(Codes, answer).recovery_codes

    def end_totp(self, password: str, code: str) -> None:
        proof = {"password": password, "code": code}
        self._answer("DELETE", "/users/totp", proof, timeout_s=PROOF_S, refused=_PROOF)

    def audit(self, asked: Mapping[str, str]) -> AuditLines:
        return decode(AuditLines, self._answer("GET", "/audit", params=asked))

    def audit_export(self, asked: Mapping[str, str]) -> httpx.Response:
        """The lines as a file."""
        return self.gateway.answer("GET", "/audit/export", params=asked, timeout_s=60.0, refused=_DISK)

    def verify_audit(self) -> Verdict:
        return decode(Verdict, self._answer("GET", "/audit/verify", timeout_s=60.0))

    def _answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        refused: tuple[int, ...] = _DISK,
    ) -> bytes:
        return self.gateway.answer(method, path, body, params, timeout_s, refused).content
