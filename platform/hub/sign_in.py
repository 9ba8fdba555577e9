"""Signing in: password, second factor, how often one may try, the session that comes of it, its line in the audit.

Every call takes tens of ms for argon2: make it in a thread. An address without an account costs the same work, waits
the same pauses and gets the same words as one with a wrong password.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from .audit import Audit, Clock
from .errors import Busy, Conflict, HubError, TooManyTries
from .lockout import Lockout, Try, network_of
from .passwords import MAX_HASHES, MAX_WAITING
from .registry import Registry
from .timekeeping import TRUSTED
from .users import User, WrongCode

T = TypeVar("T")

MAX_UNDER_WAY = MAX_HASHES + MAX_WAITING  # sign-ins and changes of passwords at a time, hashing or in line
WRONG = "e-mail address or password is wrong"
CODE_NEEDED = "type the code of your authenticator app as well"
CODE_WRONG = "the code is wrong, or was used already"
NO_TIME = (
    "the code does not fit, and the gateway does not know the time: wait for the app's next code and type both, the"
    " earlier one first, or a recovery code"
)


class SignInRefused(HubError):
    """A wrong password or code. `totp`: the password was right, and a code is what is missing."""

    http_status = 401

    def __init__(self, reason: str, *, totp: bool = False) -> None:
        super().__init__(reason)
        self.totp = totp


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who, the secret of the session, and what makes the device known the next time; "" where it is known already."""

    user: User
    token: str = field(repr=False)
    device: str = field(default="", repr=False)


class SignIn:
    """The one place where people prove who they are. May be called from any thread."""

    def __init__(
        self,
        registry: Registry,
        audit: Audit,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.monotonic = monotonic
        self.lockout = Lockout()
        self._registry, self._audit, self._clock = registry, audit, clock
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(MAX_UNDER_WAY, thread_name_prefix="hub-sign-in")
        self._under_way = 0

    def sign_in(
        self,
        email: str,
        password: str,
        *,
        code: str = "",
        device: str = "",
        address: str = "",
        agent: str = "",
    ) -> SignedIn:
        """Begin a session. `device` is what an earlier sign-in on the same device returned.

        Raises SignInRefused, TooManyTries while a pause lasts, Busy where too many sign in at once.
        """
        account = self._registry.user_by_email(email)
        user_id = account.id if account else ""
        who = f"users/{user_id}" if user_id else named(email)
        now_s = self._clock()[0] / 1e9
        name = self._registry.sessions.device(user_id, device, now_s) if user_id else ""
        one = self._begin(who, address, user_id, email, name)
        user = self._password(who, one, address, email, password)
        how = "password"
        if self._registry.totp.on(user.id):
            if not code:
                self._end(one, right=None)
                self._audit.record(
                    "sign-in", "done", who=who, address=address, detail="password right, code asked for"
                )
                raise SignInRefused(CODE_NEEDED, totp=True)
            self._code(who, one, address, user.id, code)
            how = "password and code"
        self._end(one, right=True)
        return self.admit(user, address=address, agent=agent, device=device if name else "", how=how)

    def admit(
        self, user: User, *, address: str = "", agent: str = "", device: str = "", how: str = ""
    ) -> SignedIn:
        """Begin a session for somebody who has proved who he is."""
        now_s = self._clock()[0] / 1e9
        token = self._registry.issue_token(user.id, now_s, address=address, agent=agent)
        made = ""
        if device:
            self._registry.sessions.use_device(device, now_s)
        else:
            made = self._registry.sessions.remember_device(user.id, now_s)
        self._audit.record("sign-in", "allowed", who=f"users/{user.id}", address=address, detail=how)
        return SignedIn(user, token, made)

    def prove(
        self, user: User, password: str, *, code: str | None = None, address: str = "", session: str = ""
    ) -> None:
        """Let somebody who is signed in prove it again: by his password, and by a code unless `code` is None.

        `session` names what has an allowance of its own. Raises as `sign_in`.
        """
        who = f"users/{user.id}"
        one = self._begin(who, address, user.id, user.email, session)
        self._password(who, one, address, user.email, password)
        if code is not None and self._registry.totp.on(user.id):
            self._code(who, one, address, user.id, code)
        self._end(one, right=True)

    def claim(self, code: str, email: str, password: str, *, address: str = "", agent: str = "") -> SignedIn:
        """Make the first account and sign it in. Raises Conflict once claimed, Invalid, TooManyTries, Busy."""
        try:
            with self._lock:
                one = self.lockout.begin(self.monotonic(), address, name=f"claim from {network_of(address)}")
            try:
                user = self._registry.claim(code, email, password)
            except WrongCode:
                self._audit.record("claim", "refused", address=address, detail="wrong code")
                raise
            except HubError:
                self._end(one, right=None)
                raise
        except (TooManyTries, Conflict) as error:
            self._audit.record("claim", "refused", address=address, detail=error.reason)
            raise
        self._end(one, right=True)
        self._audit.record(
            "claim", "done", who=f"users/{user.id}", address=address, resource=f"users/{user.id}"
        )
        return self.admit(user, address=address, agent=agent, how="claim code")

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What `work` gives, which hashes a password, in a thread that nobody else waits for. Raises Busy.

        So a flood of sign-ins holds up neither changes of the registry nor questions to the history.
        """
        if self._under_way >= MAX_UNDER_WAY:
            raise Busy("too many people sign in at once; try again")
        self._under_way += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, contextvars.copy_context().run, work)
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def time_is_trusted(self) -> bool:
        """Whether codes can be held against the gateway's clock."""
        return self._clock()[1] in TRUSTED

    def lift(self, user_id: str = "") -> None:
        """End the pauses of an account, or of everybody, and those of all addresses."""
        with self._lock:
            self.lockout.lift(user_id)

    def _begin(self, who: str, address: str, user_id: str, email: str, device: str) -> Try:
        now_s = self._clock()[0] / 1e9
        network = network_of(address)
        known = bool(user_id and address) and self._registry.sessions.knows_address(
            user_id, network, now_s, network_of
        )
        try:
            with self._lock:
                return self.lockout.begin(
                    self.monotonic(), address, account=user_id, name=email, device=device, known=known
                )
        except TooManyTries:
            self._audit.record("sign-in", "refused", who=who, address=address, detail="too many tries")
            raise

    def _password(self, who: str, one: Try, address: str, email: str, password: str) -> User:
        try:
            user = self._registry.verify_password(email, password)
        except Busy:
            self._end(one, right=None)
            raise
        if user is None:
            self._audit.record("sign-in", "refused", who=who, address=address, detail=WRONG)
            raise SignInRefused(WRONG)
        return user

    def _code(self, who: str, one: Try, address: str, user_id: str, code: str) -> None:
        trusted = self.time_is_trusted
        if not self._registry.totp.check(user_id, code, self._clock()[0] / 1e9, trusted):
            self._audit.record("totp", "refused", who=who, address=address, detail="wrong code")
            raise SignInRefused(CODE_WRONG if trusted else NO_TIME, totp=True)

    def _end(self, one: Try, *, right: bool | None) -> None:
        with self._lock:
            if right:
                self.lockout.right(one)
            else:
                self.lockout.take_back(one)


def named(email: str) -> str:
    """How somebody without an account stands in the audit log; what may be a password in the wrong field does not."""
    return email[:254].lower() if "@" in email[1:-1] else "an unknown name"
