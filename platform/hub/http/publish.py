"""The hot path: POST of one message, from the request to the durable log, without a framework between.

In: `POST /channels/<id>/messages[/<subtopic>...]` with a thing's key. Out: 202 when the message is on the disk, or a
problem document. Everything else about a message (its content, who may publish where) is the hub's to say.

Two ways lead here. The ASGI app below serves any request. What a connection has sent before with the same head it
may hand over directly (`hub.http.connection`): `known_head` is what was learnt of that head.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct
from starlette.types import Receive, Scope, Send

from hub.access import Principal
from hub.errors import HubError, TopicError
from hub.http.auth import Credentials, address_of, certified_thing
from hub.http.body import ClientGone, read_rest
from hub.http.idempotency import Done, Keys, digest_of, parse_key
from hub.http.limits import Limits
from hub.http.problem import PROBLEM_JSON, Problem, of_hub_error, problem_body
from hub.http.proxies import ForwardingError, vouched
from hub.hub import Hub
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON, Message
from hub.rates import Rates
from hub.topics import Address, parse_topic

PROTOCOL = "http"
NO_CREDENTIAL = "no credential, or one that is not valid"
CONTENT_TYPES = {name.encode(): name for name in (SENML_JSON, SENML_CBOR, JSON, OCTET_STREAM)}
MAX_ADDRESSES = 1024  # parsed paths kept: a gateway's channels times their subtopics
MAX_HEADS = 1024  # heads kept, of things that have published: a thing sends few, by the length of its body
MAX_LEARNT = 2048  # bytes of a head worth keeping

# The words of 2017, in the 202 that Mainflux sends without a body: clients of either generation are content.
SENT = b'{"response":"message sent"}'
SEQ_HEADER = b"fluxgate-seq"
ACCEPTED = (
    b"content-type: application/json\r\ncontent-length: %d\r\n" % len(SENT)
    + SEQ_HEADER
    + b": %d\r\n\r\n"
    + SENT
)
_ACCEPTED_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(SENT)).encode()),
]
_SENT = {"type": "http.response.body", "body": SENT}

log = logging.getLogger("hub.http")


class Head(Struct):
    """What one head of a request to publish says, and who was allowed to with it."""

    authorization: bytes
    channel: str
    subtopic: str
    content_type: str
    length: int  # bytes of the body that follows
    caller: str = ""  # address that a proxy has named, if it is a trusted one that sends it
    principal: Principal | None = None
    epoch: int = -1  # of the registry, as long as which `principal` is who it is and may publish there


class Publisher:
    """ASGI app for publishing. `counts` is answers by status."""

    def __init__(self, hub: Hub, credentials: Credentials, limits: Limits) -> None:
        self._hub = hub
        self._credentials = credentials
        self._max_body = hub.settings.max_payload
        self._rates = Rates(limits.publish_rate, limits.publish_burst) if limits.publish_rate else None
        self._addresses: dict[str, Address] = {}
        self._heads: dict[bytes, Head] = {}
        self.keys = Keys(hub.log)
        self.counts: Counter[int] = Counter()
        self.known_head = self._heads.get  # bytes up to and with the empty line, to what they say

    @staticmethod
    def wants(method: str, path: str) -> bool:
        """Whether a request is one to publish; `path` without the `/http` prefix."""
        if method != "POST" or not path.startswith("/channels/"):
            return False
        rest = path.find("/", len("/channels/"))
        return path.startswith("/messages", rest) or path[rest:] == "/msg"

    def learn(self, head: bytes, path: str, headers: Iterable[tuple[bytes, bytes]], caller: str = "") -> None:
        """Remember what `head` says, where a thing published with it and nothing in it asks for more care.

        Only who holds a key can put anything here, so what is remembered is bounded and theirs.
        """
        if len(head) > MAX_LEARNT:
            return
        said = {b"content-length": b"", b"authorization": b"", b"content-type": b""}
        for name, value in headers:
            if name in _NEEDS_CARE or said.get(name):
                return
            said[name] = value
        length, authorization = said[b"content-length"], said[b"authorization"]
        if not length.isdigit() or int(length) > self._max_body:
            return
        principal = self._credentials.principal(authorization)
        if principal is None or principal.kind != "thing":
            return
        try:
            address, named = self._read_address(path, said[b"content-type"])
        except HubError:
            return
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        self._heads[head] = Head(authorization, address.channel, address.subtopic, named, int(length), caller)

    def admit(self, head: Head, payload: bytes, source_ip: str) -> Message:
        """The message that came with a head that is known, to be given to `submit`. Raises Problem, HubError."""
        hub = self._hub
        channel, subtopic, content_type = head.channel, head.subtopic, head.content_type
        epoch = hub.registry.epoch  # first: changes are made in other threads, too
        if head.epoch == epoch:
            assert head.principal is not None
            if self._rates is not None:
                self._limit(head.principal)
            return hub.check(head.principal.id, PROTOCOL, channel, subtopic, content_type, payload)
        principal = self._credentials.principal(head.authorization)
        if principal is None:  # the key was replaced since the head was learnt
            where = f"publish channels/{channel}/messages"
            hub.note_refusal(PROTOCOL, NO_CREDENTIAL, address=source_ip, resource=where)
            raise Credentials.refusal(head.authorization)
        self._limit(principal)
        message = hub.admit(
            principal, PROTOCOL, channel, subtopic, content_type, payload, source_ip=source_ip
        )
        head.principal = principal
        head.epoch = epoch if hub.access.lasting_for(principal) else -1
        return message

    def submit(self, messages: Sequence[Message], done: Callable[[HubError | None], None]) -> None:
        """Give messages of `admit` to the log, all or none; `done` is called when they are durable. Raises HubError."""
        self._hub.log.submit(messages, (), done)

    def refusal(self, error: Exception) -> Problem:
        """The answer to what `admit` or `submit` raised or handed to `done`; counts it."""
        if isinstance(error, Problem):
            answer = error
        elif isinstance(error, HubError):
            answer = of_hub_error(error)
        else:
            log.error("publishing failed", exc_info=error)
            answer = Problem(500, "this is our fault; the message was not acknowledged")
        self.counts[answer.status] += 1
        return answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST (ASGI)."""
        try:
            seq = await self._publish(scope, receive)
        except ClientGone:
            return
        except Exception as error:
            self._note(error, scope)
            await self._refuse(send, self.refusal(error))
        else:
            self.counts[202] += 1
            headers = [*_ACCEPTED_HEADERS, (SEQ_HEADER, b"%d" % seq)]
            await send({"type": "http.response.start", "status": 202, "headers": headers})
            await send(_SENT)

    def _note(self, error: Exception, scope: Scope) -> None:
        """Audit what the access seam was never asked."""
        if isinstance(error, TopicError):
            why, principal = error.reason, self._credentials.of_scope(scope)
        elif isinstance(error, Problem) and error.status == 401:
            why, principal = NO_CREDENTIAL, None
        else:
            return
        where = f"publish {scope['path']}"
        address = address_of(scope)
        self._hub.note_refusal(PROTOCOL, why, principal=principal, address=address, resource=where)

    async def _publish(self, scope: Scope, receive: Receive) -> int:
        said = {
            b"authorization": b"",
            b"content-type": b"",
            b"idempotency-key": b"",
            b"content-encoding": b"",
        }
        for name, value in scope["headers"]:
            if name in said:
                said[name] = value
        if said[b"content-encoding"].lower() not in (b"", b"identity"):
            raise Problem(
                415, "send the body as it is, without Content-Encoding", headers={"connection": "close"}
            )
        principal = self._sender(scope, said[b"authorization"])
        address, named = self._read_address(scope["path"], said[b"content-type"])
        key = parse_key(said[b"idempotency-key"]) if said[b"idempotency-key"] else ""
        message = await receive()
        if message.get("more_body") or message["type"] != "http.request":
            payload = await read_rest(message, receive, self._max_body)
        else:
            payload = message["body"]
        durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(seq: int, error: HubError | None) -> None:
            if durable.done():
                return
            if error is None:
                durable.set_result(seq)
            else:
                durable.set_exception(error)

        where = Address(address.channel, address.subtopic, named)
        self.store(principal, PROTOCOL, where, payload, done, key=key, source_ip=address_of(scope))
        return await durable

    def _sender(self, scope: Scope, header: bytes) -> Principal:
        """Who publishes: whom the credential or certificate shows, or without either whom a trusted proxy names.

        Raises Problem 401, ForwardingError where the proxy names somebody else than the credential.
        """
        certified = certified_thing(scope)
        found = self._credentials.of_request(header, certified)
        word = vouched(scope)
        if word is None or not word.publisher:
            if found is None:
                raise Credentials.refusal(header)
            return found
        if not header and certified is None:
            found = self._hub.authenticate_certificate(word.publisher)
        if found is None or found.id != word.publisher:
            why = "Client-ID names no thing, or another than the credential"
            self._hub.audit.record(
                *("proxy", "refused"),
                address=address_of(scope),
                door=PROTOCOL,
                resource=scope["path"],
                detail=why,
            )
            raise ForwardingError(why)
        return found

    def store(
        self,
        principal: Principal,
        protocol: str,
        where: Address,
        payload: bytes,
        done: Done,
        *,
        key: str = "",
        source_ip: str = "",
    ) -> None:
        """Give one message to the log; `done` is called with its number when it is durable, or with the error.

        With `key`, a message that the thing has sent with this key before is not stored again. `where` names the
        content type, too. Raises Problem, HubError.
        """
        self._limit(principal)
        if key:
            self._store_once(principal, protocol, where, payload, done, key, source_ip)
            return
        seq = self._hub.submit(
            principal,
            protocol,
            where.channel,
            where.subtopic,
            where.content_type or "",
            payload,
            lambda error: done(seq, error),
            source_ip=source_ip,
        )

    def _store_once(
        self,
        principal: Principal,
        protocol: str,
        where: Address,
        payload: bytes,
        done: Done,
        key: str,
        source_ip: str,
    ) -> None:
        hub, keys, now_s = self._hub, self.keys, self._credentials.now_s()
        channel, subtopic, content_type = where.channel, where.subtopic, where.content_type or ""
        digest = digest_of(channel, subtopic, content_type, payload)
        if not keys.begin(principal.id, key, digest, now_s, done):
            return
        seq = hub.log.next_seq

        def committed(error: HubError | None) -> None:
            keys.end(principal.id, key, seq, error)
            done(seq, error)

        also = keys.row(principal.id, key, digest, seq, now_s)
        try:
            hub.submit(
                principal,
                protocol,
                channel,
                subtopic,
                content_type,
                payload,
                committed,
                also=also,
                source_ip=source_ip,
            )
        except HubError as error:
            keys.end(principal.id, key, seq, error)
            raise

    def _limit(self, principal: Principal) -> None:
        if self._rates is None:
            return
        wait_s = self._rates.wait_s(principal.id, time.monotonic())
        if wait_s:
            raise Problem(
                429,
                "this thing publishes faster than it may; send more records in one message, or wait",
                headers={"retry-after": str(math.ceil(wait_s))},
            )

    def _read_address(self, path: str, content_type: bytes) -> tuple[Address, str]:
        """Where a message goes, and the content type that its path or else its header names. Raises TopicError."""
        address = self._addresses.get(path) or self._address(path)
        # The path says nothing of the type, as a rule.
        named = address.content_type or CONTENT_TYPES.get(content_type) or content_type.decode("latin-1")
        return address, named

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

    @staticmethod
    async def _refuse(send: Send, refusal: Problem) -> None:
        body = problem_body(refusal.status, refusal.detail)
        headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
        headers += wire_headers((refusal.headers or {}).items())
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


# Headers that change what a request means; one that has them is read anew each time.
_NEEDS_CARE = frozenset(
    {b"idempotency-key", b"expect", b"transfer-encoding", b"upgrade", b"content-encoding"}
)


def wire_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI sends them."""
    return [(name.encode(), value.encode()) for name, value in headers]
