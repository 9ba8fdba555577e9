"""The one resource, `channels/<id>/messages[/<subtopic>]`: POST and PUT publish, GET shows, GET with Observe tells.

In: exchanges of the endpoint. Out: their answers, now or when the log has committed. Everything about a message
(its content, who may publish where) is the hub's to say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from hub import content
from hub.access import Action, Circumstances, Principal, Resource
from hub.coap.admission import MAX_HEADS, Rates
from hub.coap.blocks import MAX_SZX, Block, Downloads, UploadFault, Uploads
from hub.coap.endpoint import Endpoint, Exchange, Response
from hub.coap.formats import CONTENT_TYPES, LINK_FORMAT, show
from hub.coap.limits import Limits
from hub.coap.observers import Observer, Observers, denial, download_key
from hub.coap.oscore import Contexts, OscoreFault
from hub.coap.outgoing import TRANSMISSIONS
from hub.coap.packets import NON, Code, Opt, Option, Packet, uint
from hub.coap.pages import asks_history, history_query, page
from hub.coap.request import (
    BUSY_S,
    WELL_KNOWN,
    Addresses,
    BadAddress,
    Refusal,
    Request,
    read_request,
    refusal_of,
    unavailable,
)
from hub.coap.showing import OBSERVE_MASK, STALE, answer
from hub.coap.values import LastValues
from hub.errors import BadMessage, HubError
from hub.hub import Hub
from hub.message import JSON, OCTET_STREAM, Message
from hub.reading import last_message
from hub.topics import Filter

PROTOCOL = "coap"
LINKS = b'</channels>;ct="42 50 110 112";obs'  # RFC 6690; which channels there are is told to nobody
MAX_KEYS = 4096  # right keys remembered, until the registry changes
PINGS_BYTES = 4 * TRANSMISSIONS  # an observer from an unproven address is sent these beside its answer

CHANGED = Response(Code.CHANGED)
_JSON_STARTS = frozenset((b"[", b"{", b" ", b"\t", b"\r", b"\n"))
_TOO_MANY = Refusal(
    Code.TOO_MANY_REQUESTS, "too many requests of this thing", "refused_rate", ((int(Opt.MAX_AGE), uint(1)),)
)

_NO_MESSAGE = "there is no message here yet"

log = logging.getLogger("hub.coap")


class Messages:
    """Handles requests for one hub."""

    def __init__(
        self,
        hub: Hub,
        limits: Limits,
        counters: dict[str, int],
        contexts: Contexts,
        secret: bytes,
        complain: Callable[..., None],
    ) -> None:
        self.observers: Observers
        self.downloads = Downloads(limits)
        self.values = LastValues(hub.log, partial(last_message, hub), limits)
        self.tasks: set[asyncio.Task[None]] = set()
        self._endpoint: Endpoint
        self._hub = hub
        self._limits = limits
        self._counters = counters
        self._contexts = contexts
        self._complain = complain
        self._max_payload = hub.settings.max_payload
        self._uploads = Uploads(limits, self._max_payload)
        self._addresses = Addresses()
        self._rates = Rates(limits.thing_rate, limits.thing_burst, secret)
        self._keys: dict[str, Principal] = {}
        # What the options of things' requests say: key, where to, content type.
        self._learnt: dict[tuple[Option, ...], tuple[str, Filter, str | None]] = {}
        self._epoch = 0
        self._unanswered = 0

    def attach(self, endpoint: Endpoint) -> None:
        """Meet the endpoint that hands requests in."""
        self._endpoint = endpoint
        self.observers = Observers(
            endpoint,
            self._hub.access,
            self.downloads,
            self.values.find,
            self._contexts.valid,
            self._hub.now_s,
            self._limits,
            self._counters,
        )

    def handle(self, exchange: Exchange) -> None:
        """Take one request; it is answered here, or after the commit."""
        try:
            self._handle(exchange)
        except Refusal as refusal:
            self._refuse(exchange, refusal)
        except OscoreFault as fault:
            self._counters["oscore_refused"] += 1
            exchange.reply(fault.response)

    def tick(self) -> None:
        """Forget what is too old, ask silent observers."""
        self._uploads.expire(self._endpoint.clock())
        self.observers.tick()

    def _handle(self, exchange: Exchange) -> None:
        packet = exchange.packet
        stored = self._endpoint.exchanges.stored_before(exchange.address, exchange.data)
        if packet.first(Opt.OSCORE) is not None:
            self._counters["oscore_requests"] += 1
            packet, exchange.secured = self._contexts.open(packet, again=stored)
            exchange.principal = Principal("thing", exchange.secured.context.thing)
            exchange.packet = packet
            exchange.remember()  # a copy would be taken for a replay
            inner_echo = packet.first(Opt.ECHO)
            if inner_echo is not None:
                self._endpoint.check_echo(inner_echo, exchange.address)
        if stored:
            exchange.principal = exchange.principal or Principal("internal", "")
            self._counters["duplicates"] += 1
            exchange.remember()
            exchange.reply(CHANGED)
            return
        learnt = self._learnt.get(packet.options)
        if learnt is not None and packet.code in (Code.POST, Code.PUT) and exchange.secured is None:
            key, wanted, content_type = learnt
            self._authenticate(exchange, key)
            exchange.remember()
            self._store(exchange, wanted, content_type, packet.payload, CHANGED)
            return
        request = read_request(packet)
        if request.path == WELL_KNOWN and request.code == Code.GET:
            self._show_links(exchange, request)
            return
        if request.code in (Code.POST, Code.PUT):
            wanted = self._where(exchange, request, self._addresses.publish)
            self._authenticate(exchange, request.key)
            self._publish(exchange, request, wanted)
        elif request.code == Code.GET:
            wanted = self._where(exchange, request, self._addresses.read)
            self._authenticate(exchange, request.key)
            self._read(exchange, request, wanted)
        else:
            raise Refusal(Code.METHOD_NOT_ALLOWED, "GET, POST or PUT")

    def _where(
        self, exchange: Exchange, request: Request, read: Callable[[tuple[str, ...]], Filter]
    ) -> Filter:
        """The channel and subtopic of a path. Raises Refusal, for whoever shows a key as his."""
        try:
            return read(request.path)
        except Refusal:
            if request.key is not None and exchange.principal is None:
                exchange.principal = self._of_key(request.key)
            raise

    def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        self._counters[refusal.counter] += 1
        if refusal.response.code == Code.BAD_OPTION and exchange.outer.type == NON:
            exchange.over = True  # rejected without a word (RFC 7252, 5.4.1)
            return
        if refusal.counter == "refused_credentials" or isinstance(refusal, BadAddress):
            self._hub.note_refusal(
                *(PROTOCOL, str(refusal)),
                principal=exchange.principal,
                address=exchange.address.ip,
                resource=_path(exchange.packet),
            )
        if exchange.principal is not None:  # what a stranger does wrong is no news
            self._complain("%s of %s: %s", exchange.address.text, exchange.principal.id, refusal)
        response = refusal.response
        if exchange.packet.code == Code.GET and not response.options:
            response = response._replace(options=(STALE,))  # may be right a moment later; else kept for 60 s
        exchange.reply(response)

    def _authenticate(self, exchange: Exchange, key: str | None) -> None:
        """Whose request it is: the OSCORE context's thing, or the one whose key it shows. Raises Refusal."""
        principal = exchange.principal
        if principal is None:
            if key is None:
                raise Refusal(
                    Code.UNAUTHORIZED, "show a thing's key or an API key: ?auth=<key>", "refused_credentials"
                )
            principal = self._of_key(key)
            if principal is None:
                raise Refusal(
                    Code.UNAUTHORIZED, "the key is not valid: wrong, or replaced", "refused_credentials"
                )
            exchange.principal = principal
        if not self._rates.take(principal.id.encode(), self._endpoint.clock()):
            raise _TOO_MANY

    def _of_key(self, key: str) -> Principal | None:
        epoch = self._hub.registry.epoch
        if epoch != self._epoch or len(self._keys) >= MAX_KEYS:
            self._keys.clear()
            self._epoch = epoch
        principal = self._keys.get(key)
        if principal is None and key.count(".") == 2:  # a signed token: it may be over with the next request
            return self._hub.bearers.of_token(key, self._hub.now_s())
        if principal is None:
            principal = self._hub.authenticate_thing(key) or self._hub.bearers.of_key(key, self._hub.now_s())
            if principal is not None:  # only who holds a key can put anything here
                self._keys[key] = principal
        return principal

    # POST and PUT

    def _publish(self, exchange: Exchange, request: Request, wanted: Filter) -> None:
        if exchange.seen is None:
            exchange.remember()
        payload = request.payload
        ok = CHANGED
        if request.block1 is not None:
            body = self._gather(exchange, request, wanted, request.block1)
            if body is None:
                return
            payload = body
            ok = Response(Code.CHANGED, ((int(Opt.BLOCK1), request.block1._replace(more=False).encode()),))
        named = wanted.content_type or _named(request)
        self._store(exchange, wanted, named, payload, ok)
        if request.block1 is None and exchange.secured is None and exchange.packet.first(Opt.ECHO) is None:
            self._learn(exchange, request, wanted, named)

    def _learn(self, exchange: Exchange, request: Request, wanted: Filter, named: str | None) -> None:
        """Remember what these options say: a node's requests differ in message ID, token and payload only."""
        if self._endpoint.admission.learn(exchange.data, exchange.packet) and request.key is not None:
            if len(self._learnt) >= MAX_HEADS:
                self._learnt.clear()
            self._learnt[exchange.packet.options] = request.key, wanted, named

    def _store(
        self, exchange: Exchange, wanted: Filter, named: str | None, payload: bytes, ok: Response
    ) -> None:
        """Hand a message to the hub; the answer comes with the commit. Raises Refusal."""
        principal = _principal(exchange)
        if self._unanswered >= self._limits.unanswered:
            raise unavailable("too many requests are waiting for the disk", BUSY_S)
        wall_s = self._hub.clock()[0] / 1e9
        also = self._endpoint.exchanges.row(exchange.address, exchange.data, wall_s)
        content_type = named or _looks_like(payload, wall_s)

        def done(error: HubError | None) -> None:
            self._unanswered -= 1
            if error is None:
                self._counters["published"] += 1
                exchange.reply(ok)
            else:
                self._failed(exchange, refusal_of(error, self._max_payload))

        try:
            self._hub.submit(
                principal,
                PROTOCOL,
                wanted.channel,
                wanted.subtopic,
                content_type,
                payload,
                done,
                also=(also,),
                source_ip=exchange.address.ip,
            )
        except HubError as error:
            raise self._passing(exchange, refusal_of(error, self._max_payload)) from None
        self._unanswered += 1

    def _failed(self, exchange: Exchange, refusal: Refusal) -> None:
        self._refuse(exchange, self._passing(exchange, refusal))

    def _passing(self, exchange: Exchange, refusal: Refusal) -> Refusal:
        """A refusal that passes is not remembered: the same request may succeed when it comes again."""
        if exchange.seen is not None and refusal.response.code == Code.UNAVAILABLE and not exchange.secured:
            self._endpoint.exchanges.forget(exchange.address, exchange.outer.mid)
            exchange.seen = None
        return refusal

    def _gather(self, exchange: Exchange, request: Request, wanted: Filter, block: Block) -> bytes | None:
        """One block of an upload (RFC 7959, 2.5); the body with the last. Raises Refusal."""
        principal = _principal(exchange)
        decision = self._hub.access.decide(
            principal,
            Action.PUBLISH,
            Resource(wanted.channel, wanted.subtopic),
            Circumstances(PROTOCOL, exchange.address.ip),
        )
        if not decision.allowed:
            raise Refusal(Code.FORBIDDEN, decision.reason, "refused_rights")
        if request.size1 > self._max_payload:
            raise self._too_large(f"a payload has at most {self._max_payload} bytes")
        key = (
            exchange.address,
            principal.id,
            exchange.secured is not None,
            wanted,
            request.request_tags,
            request.content_format,
        )
        try:
            body = self._uploads.take(key, principal.id, block, request.payload, self._endpoint.clock())
        except UploadFault as fault:
            if fault.too_large:
                raise self._too_large(fault.reason) from None
            self._counters["refused_uploads"] += 1
            if fault.too_many:
                raise unavailable(fault.reason, BUSY_S) from None
            raise Refusal(Code.INCOMPLETE, fault.reason) from None
        if body is None:
            exchange.reply(Response(Code.CONTINUE, ((int(Opt.BLOCK1), block.encode()),)))
        return body

    def _too_large(self, words: str) -> Refusal:
        size1 = ((int(Opt.SIZE1), uint(self._max_payload)),)
        return Refusal(Code.TOO_LARGE, words, "refused_size", size1)

    # GET

    def _show_links(self, exchange: Exchange, request: Request) -> None:
        if request.accept not in (None, LINK_FORMAT):
            raise Refusal(Code.NOT_ACCEPTABLE, "links come as link-format")
        exchange.reply(Response(Code.CONTENT, ((int(Opt.CONTENT_FORMAT), uint(LINK_FORMAT)),), LINKS))

    def _read(self, exchange: Exchange, request: Request, wanted: Filter) -> None:
        principal = _principal(exchange)
        decision = self._hub.access.decide(
            principal,
            Action.SUBSCRIBE,
            Resource(wanted.channel, wanted.subtopic),
            Circumstances(PROTOCOL, exchange.address.ip),
        )
        if not decision.allowed:
            self._counters["refused_rights"] += 1
            exchange.reply(denial(self._hub.access, principal, decision))
            return
        if request.observe == 1:
            self.observers.remove(exchange.address, exchange.outer.token)
        self._counters["reads"] += 1
        if asks_history(request.queries):
            self._show_page(exchange, request, wanted)
            return
        if request.accept is not None and request.accept not in CONTENT_TYPES:
            raise Refusal(Code.NOT_ACCEPTABLE, "messages come as 110, 112, 50, 42 or 0")
        if self.values.known(wanted):
            self._show(exchange, request, wanted, self.values.find(wanted))
            return
        self._look(exchange, self._search(exchange, request, wanted))

    def _look(self, exchange: Exchange, search: Coroutine[Any, Any, None]) -> None:
        """Answer later, when something has been looked for. Raises Refusal."""
        if len(self.tasks) >= self._limits.searches:
            search.close()
            raise unavailable("too many values and pages are being looked for", BUSY_S)
        task = asyncio.get_running_loop().create_task(self._found(exchange, search), name="coap: search")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _found(self, exchange: Exchange, search: Coroutine[Any, Any, None]) -> None:
        try:
            await search
        except Refusal as refusal:
            self._refuse(exchange, refusal)
        except HubError as error:
            self._refuse(exchange, refusal_of(error, self._max_payload))
        except Exception:
            log.exception("looking for what was asked failed")
            self._refuse(exchange, Refusal(Code.INTERNAL, "this is our fault"))

    async def _search(self, exchange: Exchange, request: Request, wanted: Filter) -> None:
        self._show(exchange, request, wanted, await self.values.search(wanted))

    def _show_page(self, exchange: Exchange, request: Request, wanted: Filter) -> None:
        """Answer with a page of the history, or go on with one that is being fetched. Raises Refusal."""
        principal = _principal(exchange)
        # The page is of who asked for it: another one at the same address begins anew.
        key = exchange.address, principal, wanted, request.queries, request.accept
        block = request.block2 or Block(0, False, MAX_SZX)
        kept = self.downloads.find(key) if block.num else None
        if kept is not None:
            answer(exchange, self.downloads, key, kept, block)
            return
        try:
            asked = history_query(wanted, request.queries)
        except HubError as error:
            raise refusal_of(error, self._max_payload) from None

        async def search() -> None:
            context = Circumstances(PROTOCOL, exchange.address.ip)
            shown = await page(self._hub, principal, asked, context, request.accept, self._limits.page_bytes)
            if shown.etag in request.etags:
                exchange.reply(Response(Code.VALID, ((int(Opt.ETAG), shown.etag), STALE)))
            else:
                answer(exchange, self.downloads, key, shown, block)

        self._look(exchange, search())

    def _may_see(self, exchange: Exchange, message: Message) -> bool:
        """A filter may have found what only a part of its subscribers is given."""
        context = Circumstances(PROTOCOL, exchange.address.ip)
        where = Resource(message.channel, message.subtopic)
        return self._hub.access.decide(_principal(exchange), Action.DELIVER, where, context).allowed

    def _show(self, exchange: Exchange, request: Request, wanted: Filter, message: Message | None) -> None:
        """Answer a GET with the last value (RFC 7252, 5.8.1), and begin to observe where that is asked for."""
        accept = request.accept
        if message is not None and not self._may_see(exchange, message):
            message = None
        shown = show(message, accept) if message is not None else None
        observer = self._observer(exchange, request, wanted, accept)
        if shown is None:
            if observer is not None:  # nothing yet, or nothing in that format: the first one is still to come
                self._answer_empty(exchange, observer)
                return
            if message is None:
                raise Refusal(Code.NOT_FOUND, _NO_MESSAGE)
            raise Refusal(Code.NOT_ACCEPTABLE, f"the last message is {message.content_type}")
        if observer is not None:
            observer.content_format = shown.content_format
        observe = (self._hub.log.committed_seq, self.observers.holds_s) if observer is not None else None
        if shown.etag in request.etags and observer is None:
            exchange.reply(Response(Code.VALID, ((int(Opt.ETAG), shown.etag), STALE)))
            return
        block = request.block2 or Block(0, False, MAX_SZX)
        key = download_key(exchange.address, wanted, shown.content_format)
        answer(exchange, self.downloads, key, shown, block, observe)
        if observer is not None:
            self.observers.challenge(observer)

    def _observer(
        self, exchange: Exchange, request: Request, wanted: Filter, accept: int | None
    ) -> Observer | None:
        """The new observation, or None where none was asked for or there are too many (RFC 7641, 4.1)."""
        if request.observe != 0 or (request.block2 is not None and request.block2.num):
            return None
        now = self._endpoint.clock()
        observer = Observer(exchange, wanted, accept, now)
        if not self.observers.add(observer):
            return None
        if exchange.secured is None and request.key is not None:
            observer.ends_s = self._hub.bearers.ends_s(request.key, self._hub.now_s())
        observer.real = self._endpoint.admission.proven(exchange.address, now)
        if not observer.real:
            exchange.budget -= PINGS_BYTES
        return observer

    def _answer_empty(self, exchange: Exchange, observer: Observer) -> None:
        observe = (int(Opt.OBSERVE), uint(self._hub.log.committed_seq & OBSERVE_MASK))
        holds = (int(Opt.MAX_AGE), uint(self.observers.holds_s))
        exchange.reply(Response(Code.CONTENT, (observe, holds)))
        self.observers.challenge(observer)


def _path(packet: Packet) -> str:
    return "/".join(
        value.decode(errors="replace") for number, value in packet.options if number == Opt.URI_PATH
    )


def _principal(exchange: Exchange) -> Principal:
    assert exchange.principal is not None
    return exchange.principal


def _named(request: Request) -> str | None:
    """The content type that a request names, None where it does not say. Raises Refusal."""
    if request.content_format is None:
        return None
    named = CONTENT_TYPES.get(request.content_format)
    if named is None:
        words = "the content format is 110, 112, 50, 42 or 0"
        raise Refusal(Code.UNSUPPORTED_FORMAT, words, "refused_contents")
    return named


def _looks_like(payload: bytes, now_s: float) -> str:
    """The content type of a payload that comes without one, as over MQTT."""
    if payload[:1] not in _JSON_STARTS:
        return OCTET_STREAM
    try:
        return content.check(JSON, payload, now_s)
    except BadMessage:
        return OCTET_STREAM
