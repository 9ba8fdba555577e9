"""The pages as an OAuth client: a sign-in becomes tokens (code with PKCE), which are renewed before they end.

The browser never sees any of them. The session that the sign-in began is kept beside them: it is what signing out ends,
and with it the gateway ends the tokens; and should a refresh token be lost on its way, new ones are had by it. Where a
gateway cannot make tokens, as on a full disk, the session alone does for all of it.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import threading
import time
from urllib.parse import parse_qs, urlencode, urlsplit

from webui.client import Gateway
from webui.errors import GatewayDown, GatewayError, Refused, SignedOut
from webui.oauth_api import Issued, OAuthApi
from webui.sessions import Session, Sessions, Tokens

CLIENT_ID = "fluxgate-webui"
REDIRECT_URI = "urn:fluxgate:webui"  # leads nowhere: the code is in the answer, and no browser carries it
RENEW_AT = 0.6  # of a token's life
LOCKS = 64  # sessions that share one wait for each other's renewal

log = logging.getLogger("webui")


def fetch(gateway: Gateway, sign_in: str, now_s: float) -> Tokens:
    """Tokens for a sign-in. Raises GatewayError."""
    verifier, state = secrets.token_urlsafe(32), secrets.token_urlsafe(16)
    digest = hashlib.sha256(verifier.encode()).digest()
    request = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT_URI,
        "state": state,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    back = OAuthApi(gateway.signed_in(sign_in)).decide(urlencode(request), allow=True)
    given = parse_qs(urlsplit(back).query)
    if given.get("state") != [state] or "code" not in given or not back.startswith(f"{REDIRECT_URI}?"):
        raise GatewayDown("the gateway gave no code for a sign-in")
    fields = {"grant_type": "authorization_code", "code": given["code"][0], "code_verifier": verifier}
    issued = OAuthApi(gateway).token({**fields, "client_id": CLIENT_ID, "redirect_uri": REDIRECT_URI})
    return _tokens(issued, sign_in, now_s)


def begin(gateway: Gateway, sign_in: str, now_s: float) -> Tokens:
    """What a session begins with: tokens, or where there are none to be had the sign-in itself."""
    try:
        return fetch(gateway, sign_in, now_s)
    except GatewayError as error:
        log.warning("signed in without tokens of its own: %s", type(error).__name__)
        return Tokens(sign_in)


def _tokens(issued: Issued, sign_in: str, now_s: float) -> Tokens:
    renew_s = now_s + RENEW_AT * issued.expires_in
    return Tokens(issued.access_token, sign_in, issued.refresh_token, renew_s, now_s + issued.expires_in)


class Renewal:
    """Keeps the tokens of sessions good. Safe to call from any thread; one renews, the others of a session wait."""

    def __init__(self, gateway: Gateway, sessions: Sessions) -> None:
        self._gateway = gateway
        self._sessions = sessions
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    def session(self, session_id: str) -> Session | None:
        """The live session of this id, with tokens that are good for some time."""
        now_s = time.monotonic()
        found = self._sessions.find(session_id, now_s)
        if found is None or now_s < found.tokens.renew_s:
            return found
        lock = self._locks[found.key[0] % LOCKS]
        if not lock.acquire(blocking=now_s >= found.tokens.over_s):
            return found  # another page is at it, and these still work
        try:
            found = self._sessions.find(session_id, now_s)  # as whoever had the lock has left it
            if found is None or time.monotonic() < found.tokens.renew_s:
                return found
            return self._renewed(session_id, found)
        finally:
            lock.release()

    def again(self, session_id: str, refused: str) -> str:
        """Another token in place of one that the gateway refused before its time, "" where there is none.

        That is so after the gateway's clock was set, and after its signing keys were made void.
        """
        found = self._sessions.find(session_id, time.monotonic())
        if found is None:
            return ""
        with self._locks[found.key[0] % LOCKS]:
            found = self._sessions.find(session_id, time.monotonic())
            if found is not None and found.token == refused and found.tokens.refresh:
                found = self._renewed(session_id, found)
        return found.token if found is not None and found.token != refused else ""

    def _renewed(self, session_id: str, session: Session) -> Session | None:
        """The session with new tokens, or as it was where the gateway does not answer just now."""
        old, now_s = session.tokens, time.monotonic()
        try:
            try:
                fields = {"grant_type": "refresh_token", "refresh_token": old.refresh, "client_id": CLIENT_ID}
                made = _tokens(OAuthApi(self._gateway).token(fields), old.sign_in, now_s)
            except Refused:  # an answer with the newest one was lost, or the grant is gone
                made = fetch(self._gateway, old.sign_in, now_s)
        except SignedOut:
            return session  # the page asks with the old token, hears the same, and says so
        except GatewayError as error:
            log.warning("tokens could not be renewed: %s", type(error).__name__)
            return session
        self._sessions.renew(session_id, made)
        return self._sessions.find(session_id, now_s)
