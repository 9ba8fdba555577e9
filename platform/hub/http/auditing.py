"""What requests leave in the audit log: each change that was made, and each refusal, once.

A handler that knows better what happened records it itself (`hub.audit.record`); then nothing is added here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from hub.audit import Attempt, attempting
from hub.errors import HubError, TopicError
from hub.http.auth import address_of, hub_of, principal_of
from hub.http.problem import Problem

_READS = frozenset({"GET", "HEAD"})
_REFUSALS = frozenset({401, 403, 429})
# First segment of a path to the kind of line; whatever is the gateway's own is its configuration.
_KINDS = {
    **dict.fromkeys(("things", "devices"), "thing"),
    "channels": "channel",
    **dict.fromkeys(("connect", "disconnect"), "connection"),
    **dict.fromkeys(("users", "password", "members"), "account"),
    "groups": "group",
    "policies": "policy",
    **dict.fromkeys(("keys", "api-keys"), "key"),
    "certs": "certificate",
    "oauth": "oauth",
    "applications": "application",
    "tokens": "token",
    "claim": "claim",
    "sessions": "sign-out",
    "audit": "audit",
}
_LINKS = frozenset({"things", "channels", "plug", "unplug", "connect", "disconnect"})
# Last segments of what asks by POST and changes nothing, and of messages and commands, which have a log of their own.
_NO_CHANGE = frozenset(
    {
        "explain",
        "check",
        "try",
        "scan",
        "identify",
        "access-by-key",
        "access-by-id",
        "access-checks",
        "introspect",
    }
    | {"messages", "downlinks", "search"}
)


class Watch:
    """One request, as far as the audit log is concerned."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.attempt = Attempt("", address_of(request.scope), "http", f"{request.method} {request.url.path}")

    def answered(self, response: Response) -> None:
        """Note what came of it."""
        if response.status_code in _REFUSALS:
            self.refused("")
        elif (
            response.status_code < 400
            and self._request.method not in _READS
            and not self.attempt.lines
            and not is_question(self._request.url.path)
        ):
            made = response.headers.get("location", "")
            hub = hub_of(self._request)
            hub.audit.record(kind_of(self._request.url.path), "done", who=self._who(), detail=made)

    def refused(self, detail: str) -> None:
        """Note that it was refused, unless whoever refused it did."""
        if not self.attempt.lines:
            hub_of(self._request).audit.record("access", "refused", who=self._who(), detail=detail)

    def identify(self) -> None:
        """Find out who asks before the request is worked on: afterwards his credential may be gone."""
        self.attempt.who = self._who()

    def _who(self) -> str:
        if self.attempt.who:
            return self.attempt.who
        principal = principal_of(self._request)
        return f"{principal.kind}s/{principal.id}" if principal else ""


@contextlib.contextmanager
def watched(request: Request) -> Iterator[Watch]:
    """What happens inside belongs to `request`; a refusal that is raised is noted."""
    watch = Watch(request)
    with attempting(watch.attempt):
        if request.method not in _READS:
            watch.identify()
        try:
            yield watch
        except Problem as problem:
            if problem.status in _REFUSALS:
                watch.refused(problem.detail)
            raise
        except HubError as error:
            if error.http_status in _REFUSALS or isinstance(error, TopicError):
                watch.refused(error.reason)
            raise


def kind_of(path: str) -> str:
    """The kind of line that a change at this path makes."""
    parts = path.strip("/").split("/")
    if parts[0] in ("channels", "devices", "things") and len(parts) > 2 and parts[2] in _LINKS:
        return "connection"
    if parts[:2] == ["users", "totp"]:
        return "totp"
    return _KINDS.get(parts[0], "configuration")


def is_question(path: str) -> bool:
    """Whether a POST to this path changes nothing that is audited."""
    parts = path.strip("/").split("/")
    return parts[-1] in _NO_CHANGE or "messages" in parts
