"""Observations (RFC 7641): who is told of each message, and when an observer is taken to be gone.

A notification is one committed message. Most go unconfirmed; every so many one is confirmable, and until the
client has acknowledged it the next ones wait in a short queue, so a client that has left is noticed and a slow one
is not flooded. Access is asked for each notification; a right that is taken away ends the observation.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence

from hub.access import Access, Action, Circumstances, Decision, Principal, Resource
from hub.coap.admission import Address
from hub.coap.blocks import Downloads, Shown
from hub.coap.endpoint import Endpoint, Exchange, Response
from hub.coap.formats import show
from hub.coap.limits import Limits
from hub.coap.oscore import Secured
from hub.coap.outgoing import Answer
from hub.coap.packets import CON, NON, Code, encode, encode_empty
from hub.coap.showing import STALE, first_block
from hub.message import Message
from hub.router import Router
from hub.topics import Filter

_TOKEN_OVER = Decision(False, "the access token is over: observe again with a new one")
# After the time when a silent observer is asked, until it is given up: MAX_TRANSMIT_WAIT (RFC 7252, 4.8.2).
ASKING_S = 93
REMEMBERED_MIDS = 32  # of unconfirmed notifications, to know what a Reset means


class Observer:
    """One observation: an endpoint and a token (RFC 7641, 4.1)."""

    __slots__ = (
        "address",
        "content_format",
        "ends_s",
        "gone",
        "heard_s",
        "mids",
        "principal",
        "queue",
        "real",
        "secured",
        "token",
        "unconfirmed",
        "waiting",
        "wanted",
    )

    def __init__(self, exchange: Exchange, wanted: Filter, content_format: int | None, now: float) -> None:
        assert exchange.principal is not None
        self.address: Address = exchange.address
        self.token: bytes = exchange.outer.token
        self.principal: Principal = exchange.principal
        self.secured: Secured | None = exchange.secured
        self.wanted = wanted
        self.content_format = content_format  # all notifications are in one format (4.2); None: none sent yet
        self.queue: deque[Message] = deque()
        self.mids: deque[int] = deque(maxlen=REMEMBERED_MIDS)
        self.unconfirmed = 0
        self.ends_s: float | None = None  # UTC seconds when the signed token that it was begun with is over
        self.waiting = False  # for an answer to something confirmable
        self.heard_s = now  # when it last answered
        self.real = False  # has answered something of ours
        self.gone = False

    @property
    def key(self) -> tuple[Address, bytes]:
        return self.address, self.token


class Observers:
    """All observations of one door."""

    def __init__(
        self,
        endpoint: Endpoint,
        access: Access,
        downloads: Downloads,
        last: Callable[[Filter], Message | None],
        valid: Callable[[Secured], bool],
        now_s: Callable[[], float],
        limits: Limits,
        counters: dict[str, int],
    ) -> None:
        self._endpoint = endpoint
        self._access = access
        self._downloads = downloads
        self._last = last
        self._valid = valid
        self._now_s = now_s  # UTC
        self._limits = limits
        self._counters = counters
        self._router: Router[Observer] = Router()
        self._observers: dict[tuple[Address, bytes], Observer] = {}
        self._per_thing: Counter[str] = Counter()
        self._per_address: dict[Address, list[Observer]] = {}

    def __len__(self) -> int:
        return len(self._observers)

    @property
    def holds_s(self) -> int:
        """Max-Age of a notification: the next one comes before that is over, or the observation has ended (4.3.1)."""
        return math.ceil(self._limits.observer_check_s) + ASKING_S

    def add(self, observer: Observer) -> bool:
        """Begin an observation; False where there are too many. One with the same token is replaced (4.1)."""
        self.remove(observer.address, observer.token)
        limits = self._limits
        if (
            len(self._observers) >= limits.observers
            or self._per_thing[observer.principal.id] >= limits.observers_per_thing
            or len(self._per_address.get(observer.address, ())) >= limits.observers_per_address
        ):
            self._counters["refused_observers"] += 1
            return False
        self._observers[observer.key] = observer
        self._per_thing[observer.principal.id] += 1
        self._per_address.setdefault(observer.address, []).append(observer)
        self._router.add(observer.wanted, observer)
        self._counters["observers_now"] = len(self._observers)
        return True

    def challenge(self, observer: Observer) -> None:
        """Have an unproven address answer a ping before it is sent more than it asked for."""
        if not observer.gone and not observer.real:
            mid = self._endpoint.new_mid()
            self._confirm(observer, mid, encode_empty(CON, mid), self._endpoint.clock())

    def remove(self, address: Address, token: bytes) -> None:
        """End an observation without a word, if there is one."""
        observer = self._observers.pop((address, token), None)
        if observer is None:
            return
        observer.gone = True
        observer.queue.clear()
        self._per_thing[observer.principal.id] -= 1
        if not self._per_thing[observer.principal.id]:
            del self._per_thing[observer.principal.id]
        here = self._per_address[address]
        here.remove(observer)
        if not here:
            del self._per_address[address]
        self._router.remove(observer.wanted, observer)
        self._counters["observers_now"] = len(self._observers)

    def on_reset(self, address: Address, mid: int) -> bool:
        """A Reset that answers a notification ends the observation (3.6)."""
        for observer in self._per_address.get(address, ()):
            if mid in observer.mids:
                self.remove(address, observer.token)
                return True
        return False

    def on_commit(self, messages: Sequence[Message]) -> None:
        """Tell those who want to know."""
        if not self._observers:
            return
        for message in messages:
            for observer in self._router.match(message.channel, message.subtopic, message.content_type):
                self._offer(observer, message)

    def recheck(self) -> None:
        """A right was taken away: ask for every observation again."""
        for observer in list(self._observers.values()):
            decision = self._decide(observer, observer.wanted.channel, observer.wanted.subtopic)
            if not decision.allowed:
                self._end(observer, decision)

    def tick(self) -> None:
        """Ask observers that have been silent for long whether they still want to know (4.5)."""
        now = self._endpoint.clock()
        for observer in list(self._observers.values()):
            if self._over(observer):
                self._end(observer, _TOKEN_OVER)
                continue
            if observer.waiting or now - observer.heard_s < self._limits.observer_check_s:
                continue
            message = self._last(observer.wanted)
            shown = show(message, observer.content_format) if message is not None else None
            if message is not None and shown is not None:
                self._notify(observer, message, shown, now, confirmable=True)
            else:
                mid = self._endpoint.new_mid()
                self._confirm(observer, mid, encode_empty(CON, mid), now)

    def _offer(self, observer: Observer, message: Message) -> None:
        if observer.waiting:
            if len(observer.queue) >= self._limits.notifications_ahead:
                observer.queue.popleft()
                self._counters["dropped_notifications"] += 1
            observer.queue.append(message)
            return
        decision = self._decide(observer, message.channel, message.subtopic)
        if not decision.allowed:
            self._end(observer, decision)
            return
        shown = show(message, observer.content_format)
        if shown is None:
            self._counters["not_shown"] += 1
            return
        confirmable = observer.unconfirmed + 1 >= self._limits.notifications_ahead
        self._notify(observer, message, shown, self._endpoint.clock(), confirmable=confirmable)

    def _notify(
        self, observer: Observer, message: Message, shown: Shown, now: float, *, confirmable: bool
    ) -> None:
        observer.content_format = shown.content_format
        self._counters["notifications"] += 1
        options, payload = first_block(shown, observe=(message.seq, self.holds_s))
        if len(payload) < len(shown.payload):
            self._downloads.keep(download_key(observer.address, observer.wanted, shown.content_format), shown)
        response = Response(Code.CONTENT, options, payload)
        mid = self._endpoint.new_mid()
        wire = self._frame(observer, CON if confirmable else NON, mid, response)
        if wire is None:
            self._counters["oscore_refused"] += 1
        elif confirmable:
            self._confirm(observer, mid, wire, now)
        else:
            observer.unconfirmed += 1
            observer.mids.append(mid)
            self._endpoint.send(wire, observer.address)

    def _confirm(self, observer: Observer, mid: int, wire: bytes, now: float) -> None:
        observer.waiting = True

        def done(answer: Answer) -> None:
            self._answered(observer, answer, ping=len(wire) == 4)

        self._endpoint.outgoing.confirm(observer.address, mid, wire, now, done)

    def _answered(self, observer: Observer, answer: Answer, *, ping: bool) -> None:
        if observer.gone:
            return
        if answer is Answer.LOST or (answer is Answer.RESET and not ping):
            self._counters["lost_observers"] += answer is Answer.LOST
            self.remove(observer.address, observer.token)
            return
        observer.waiting = False
        observer.real = True
        observer.unconfirmed = 0
        observer.heard_s = self._endpoint.clock()
        while observer.queue and not observer.waiting and not observer.gone:
            self._offer(observer, observer.queue.popleft())

    def _end(self, observer: Observer, decision: Decision) -> None:
        """Tell an observer that it may not any more (4.2), and forget it."""
        self.remove(observer.address, observer.token)
        self._counters["revoked"] += 1
        response = denial(self._access, observer.principal, decision)
        if self._over(observer) or (observer.secured is not None and not self._valid(observer.secured)):
            response = response._replace(code=Code.UNAUTHORIZED)
        mid = self._endpoint.new_mid()
        wire = self._frame(observer, CON, mid, response)
        if wire is not None and observer.real:
            self._endpoint.outgoing.confirm(
                observer.address, mid, wire, self._endpoint.clock(), lambda _answer: None
            )

    def _decide(self, observer: Observer, channel: str, subtopic: str) -> Decision:
        if observer.secured is not None and not self._valid(observer.secured):
            return Decision(False, "the OSCORE context was removed")
        if self._over(observer):
            return _TOKEN_OVER
        context = Circumstances("coap", observer.address.ip)
        return self._access.decide(observer.principal, Action.DELIVER, Resource(channel, subtopic), context)

    def _over(self, observer: Observer) -> bool:
        return observer.ends_s is not None and self._now_s() >= observer.ends_s

    @staticmethod
    def _frame(observer: Observer, kind: int, mid: int, response: Response) -> bytes | None:
        if observer.secured is not None:
            protected = observer.secured.protect(response)
            if protected is None:
                return None
            response = protected
        return encode(kind, response.code, mid, observer.token, response.options, response.payload)


def denial(access: Access, principal: Principal, decision: Decision) -> Response:
    """4.01 for a credential that is not valid any more, else 4.03."""
    valid = access.decide(principal, Action.CONNECT, Resource()).allowed
    code = Code.FORBIDDEN if valid else Code.UNAUTHORIZED
    return Response(code, (STALE,), decision.reason.encode())


def download_key(address: Address, wanted: Filter, content_format: int) -> tuple[Address, Filter, int]:
    return address, wanted, content_format
