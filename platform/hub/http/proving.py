"""Proving who one is, as the HTTP door asks for it: in a thread, with a 401 that says whether a code is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from hub.http.auth import address_of, hub_of, session_of
from hub.http.problem import Problem
from hub.registry import User
from hub.sign_in import SignInRefused

T = TypeVar("T")


async def proved(request: Request, prove: Callable[[], T]) -> T:
    """What a check of a password or code gives, in a thread. Raises Problem 401 that says whether a code is needed."""
    try:
        return await hub_of(request).sign_in.in_thread(prove)
    except SignInRefused as error:
        raise Problem(401, error.reason, more={"totp": True} if error.totp else None) from None


async def proved_again(
    request: Request, user: User, password: str, code: str | None, wrong: str = "the password is wrong"
) -> None:
    """Have the caller prove who he is before something that a stolen session must not do. Raises Problem 401, 429.

    His session keeps an allowance of its own, so that nobody else's guesses make him wait.
    """
    hub = hub_of(request)
    session = session_of(request)
    try:
        await hub.sign_in.in_thread(
            lambda: hub.sign_in.prove(
                *(user, password),
                code=code,
                address=address_of(request.scope),
                session=session.id if session else "",
            )
        )
    except SignInRefused as error:
        raise Problem(
            401, error.reason if error.totp else wrong, more={"totp": True} if error.totp else None
        ) from None
