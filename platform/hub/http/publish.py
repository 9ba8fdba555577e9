"""The hot path: POST of one message, from the ASGI scope to the durable log, without a framework between.

In: `POST /channels/<id>/messages[/<subtopic>...]` with a thing's key. Out: 202 when the message is on the disk, or a
problem document. Everything else about a message (its content, who may publish where) is the hub's to say.
"""

from __future__ import annotations

import logging
from collections import Counter

from starlette.types import Receive, Scope, Send

from hub.errors import HubError, TopicError
from hub.http.auth import Credentials
from hub.http.body import ClientGone, read_rest
from hub.http.problem import PROBLEM_JSON, Problem, of_hub_error, problem_body
from hub.hub import Hub
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON
from hub.topics import Address, parse_topic

PROTOCOL = "http"
CONTENT_TYPES = {name.encode(): name for name in (SENML_JSON, SENML_CBOR, JSON, OCTET_STREAM)}
MAX_ADDRESSES = 1024  # parsed paths kept: a gateway's channels times their subtopics

# The words of 2017, in the 202 that Mainflux sends without a body: clients of either generation are content.
SENT = b'{"response":"message sent"}'
_ACCEPTED = {
    "type": "http.response.start",
    "status": 202,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(SENT)).encode())],
}
_SENT = {"type": "http.response.body", "body": SENT}

log = logging.getLogger("hub.http")


class Publisher:
    """ASGI app for publishing. `counts` is answers by status."""

    def __init__(self, hub: Hub, credentials: Credentials, max_body: int) -> None:
        self._hub = hub
        self._credentials = credentials
        self._max_body = max_body
        self._addresses: dict[str, Address] = {}
        self.counts: Counter[int] = Counter()

    @staticmethod
    def wants(method: str, path: str) -> bool:
        """Whether a request is one to publish; `path` without the `/http` prefix."""
        if method != "POST" or not path.startswith("/channels/"):
            return False
        rest = path.find("/", len("/channels/"))
        return path.startswith("/messages", rest) or path[rest:] == "/msg"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST (ASGI). The shallow call chain is worth 5 us a request: each await below adds a frame."""
        authorization = content_type = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"content-type":
                content_type = value
        try:
            principal = self._credentials.principal(authorization)
            if principal is None:
                raise Credentials.refusal(authorization)
            path = scope["path"]
            channel, subtopic, named = self._addresses.get(path) or self._address(path)
            if named is None:  # the path says nothing, as usual
                named = CONTENT_TYPES.get(content_type) or content_type.decode("latin-1")
            message = await receive()
            if message.get("more_body") or message["type"] != "http.request":
                payload = await read_rest(message, receive, self._max_body)
            else:
                payload = message["body"]
            await self._hub.publish(principal, PROTOCOL, channel, subtopic, named, payload)
        except Problem as refusal:
            await self._refuse(send, refusal)
        except HubError as error:
            await self._refuse(send, of_hub_error(error))
        except ClientGone:
            return
        except Exception:
            log.exception("publishing failed")
            await self._refuse(send, Problem(500, "this is our fault; the message was not acknowledged"))
        else:
            self.counts[202] += 1
            await send(_ACCEPTED)
            await send(_SENT)

    def _address(self, path: str) -> Address:
        """Parse a path and remember it. Raises TopicError."""
        if "\ufffd" in path:  # what percent-encoded bytes become that are not UTF-8
            raise TopicError("the path is not UTF-8")
        topic = path.removesuffix("/msg") + "/messages" if path.endswith("/msg") else path  # the form of 2016
        address = parse_topic(topic)
        if len(self._addresses) >= MAX_ADDRESSES:
            self._addresses.clear()
        self._addresses[path] = address
        return address

    async def _refuse(self, send: Send, refusal: Problem) -> None:
        self.counts[refusal.status] += 1
        body = problem_body(refusal.status, refusal.detail)
        headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
        headers += [(name.encode(), value.encode()) for name, value in (refusal.headers or {}).items()]
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
