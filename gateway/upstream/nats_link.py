"""One connection to a NATS server, from CONNECT to its end.

nats-py moves the bytes. It may not reconnect by itself: what is sent again is read from the log again, and when,
the relay decides. A link is opened once and closed once.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from . import nats_words
from .errors import SinkError, SinkOffline, SinkRefused
from .nats_api import ApiDenied, ApiError, decode_reply
from .nats_config import NatsServers
from .nats_keys import NatsKey, read_creds, read_seed
from .tls import client_context

CONNECT_TIMEOUT_S = 10  # for each of: TCP, TLS, the server's first words, its answer
OPEN_TIMEOUT_S = 30.0  # for all of it
API_TIMEOUT_S = 10.0  # for one answer of JetStream's API; a cluster may have to elect first
CLOSE_TIMEOUT_S = 2.0  # to say goodbye; a server that stands still is left without

CANCELS = 3  # nats-py lets a cancellation pass by where it flushes

_T = TypeVar("_T")

_DENIED = re.compile(r"permissions violation for (?:publish|subscription) to \"([^\"]*)\"")


class _Client(Client):
    """nats-py's client, with three things it does not offer: told at once, never without TLS, cut off."""

    def __init__(self, secure: bool, key: NatsKey | None, on_end: Callable[[Exception], None]) -> None:
        super().__init__()
        self._secure = secure
        self._on_end = on_end
        if key is not None:
            self._public_nkey = key.public

    def _connect_command(self) -> bytes:
        """CONNECT, which carries the password. The library would send it in clear where the server asks for no TLS."""
        if self._secure and not self._is_encrypted():
            raise NatsError("nats: the server offers no TLS")
        return super()._connect_command()

    def _is_encrypted(self) -> bool:
        writer = getattr(self._transport, "_io_writer", None)
        return writer is not None and writer.get_extra_info("ssl_object") is not None

    async def _process_op_err(self, e: Exception) -> None:
        """The connection broke; closing it may take long where the other side stands still."""
        self._on_end(e)
        await super()._process_op_err(e)

    async def _process_err(self, err_msg: str) -> None:
        """The server's -ERR."""
        if "permissions violation" not in err_msg:
            self._on_end(NatsError(f"nats: {err_msg}"))
        await super()._process_err(err_msg)

    def cut(self) -> None:
        """End the connection without waiting for what is still to be written."""
        for name in ("_io_writer", "_bare_io_writer"):
            writer = getattr(self._transport, name, None)
            if writer is not None:
                writer.transport.abort()


class NatsLink:
    """Open once, use, close. `on_lost()` is called on the loop, `on_denied(subject)` for a right that is missing.

    Servers repeat subjects in lower case when they deny them.
    """

    def __init__(
        self,
        cluster: NatsServers,
        gateway: str,
        *,
        on_lost: Callable[[], None],
        on_denied: Callable[[str], None] = lambda subject: None,
    ) -> None:
        self.lost: SinkError | None = None
        self._cluster = cluster
        self._gateway = gateway
        self._on_lost = on_lost
        self._on_denied = on_denied
        self._connecting = False
        self._open = False
        self._client: _Client | None = None
        self._denied: dict[str, asyncio.Future[None]] = {}
        self._prefix = f"$JS.{cluster.domain}.API" if cluster.domain else "$JS.API"

    @property
    def client(self) -> Client:
        """The open connection. Raises the SinkError that ended it."""
        self.check()
        assert self._client is not None
        return self._client

    def check(self) -> None:
        """Raises the SinkError that ended the connection, if it has ended."""
        if self.lost is not None:
            raise self.lost
        if self._client is None or not self._open:
            raise SinkOffline("not connected")

    async def open(self, host: str, port: int) -> None:
        """Connect to one server and log in. Raises SinkError."""
        options = self._options()
        key = options.pop("key", None)
        self._client = client = _Client(self._cluster.tls, key, self._ended)
        where = f"[{host}]" if ":" in host else host
        self._connecting = True
        try:
            await bounded(client.connect(f"nats://{where}:{port}", **options), OPEN_TIMEOUT_S)
        except (OSError, NatsError, ssl.SSLError, ValueError) as error:
            today = datetime.datetime.now(datetime.UTC).date()
            if "offers no TLS" in str(error):
                found: SinkError = SinkRefused(f"{host} port {port} does not speak TLS")
            else:
                found = nats_words.of_connect_error(error, host, port, today)
            self.end(found)
            await self.close()
            raise found from error
        except BaseException:
            await self.close()
            raise
        finally:
            self._connecting = False
        self._open = True
        self.check()

    async def close(self) -> None:
        """End the connection; never raises, never waits long."""
        self.end(SinkOffline("closed"))
        client, self._client = self._client, None
        if client is None:
            return
        try:
            # It is over either way; the library trips over what it never had.
            with contextlib.suppress(OSError, NatsError, RuntimeError, AttributeError):
                await bounded(client.close(), CLOSE_TIMEOUT_S)
        finally:
            client.cut()

    def end(self, reason: SinkError) -> None:
        """The connection is over, for this reason; the first one counts."""
        if self.lost is None:
            self.lost = reason
            self._on_lost()

    async def api(self, call: str, kind: type[_T], body: object = None) -> _T:
        """Ask JetStream's API, `STREAM.INFO.x` and the like; its answer as `kind`.

        Raises ApiError, ApiDenied, SinkError.
        """
        subject = f"{self._prefix}.{call}"
        denied = self._denied.setdefault(subject.lower(), asyncio.get_running_loop().create_future())
        request = b"" if body is None else msgspec.json.encode(body)
        answering = self.client.request(subject, request, timeout=API_TIMEOUT_S)
        try:
            answer = await bounded(answering, API_TIMEOUT_S, unless=denied)
        except NoRespondersError:
            raise ApiError(10076, "nobody answers for JetStream") from None
        except (NatsError, OSError) as error:
            self.check()
            raise SinkOffline(
                f"JetStream does not answer {call.partition('.')[0].lower()} requests"
            ) from error
        finally:
            self._denied.pop(subject.lower(), None)
        if answer is None:
            raise ApiDenied(call)
        return decode_reply(answer.data, kind)

    async def subscribe(self, handler: Callable[[Msg], Coroutine[Any, Any, None]]) -> str:
        """Have what is sent below a new inbox handed to `handler`; the inbox. Raises SinkError."""
        inbox = self.client.new_inbox()
        try:
            await bounded(self.client.subscribe(f"{inbox}.*", cb=handler), API_TIMEOUT_S)
        except (NatsError, OSError) as error:
            self.check()
            raise SinkOffline("the connection was lost") from error
        return inbox

    async def publish_api(self, call: str, body: object, *, reply: str) -> None:
        """Call JetStream's API with the answers going to `reply`. Raises what the library raises, and SinkError."""
        await self.client.publish(f"{self._prefix}.{call}", msgspec.json.encode(body), reply)

    def _options(self) -> dict[str, Any]:
        """What nats-py is to be told. Raises SinkRefused: a file does not serve."""
        cluster = self._cluster
        options: dict[str, Any] = {
            "name": f"fluxgate-{self._gateway}",
            "inbox_prefix": f"_INBOX.{self._gateway}",  # so that rights can keep gateways' answers apart
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "connect_timeout": CONNECT_TIMEOUT_S,
            # a ping after 3/4 of the keepalive, given up when the next is due
            "ping_interval": cluster.keepalive_s * 3 / 4,
            "max_outstanding_pings": 1,
            "error_cb": self._error,
            "closed_cb": self._closed,
            "skip_subject_validation": True,  # `subject_for` makes them
        }
        if cluster.tls:
            options["tls"] = client_context(cluster.ca_file, cluster.cert_file, cluster.key_file)
            options["tls_handshake_first"] = cluster.tls_first
        if cluster.username:
            options |= {"user": cluster.username, "password": cluster.password}
        if cluster.token:
            options["token"] = cluster.token
        path = cluster.nkey_file or cluster.creds_file
        try:
            if cluster.nkey_file:
                options["key"] = read_seed(path)
            elif cluster.creds_file:
                jwt, options["key"] = read_creds(path)
                options["user_jwt_cb"] = jwt.encode
        except (OSError, ValueError) as error:
            raise SinkRefused(f"{path} cannot be used: {error}") from error
        if "key" in options:
            options["signature_cb"] = options["key"].sign
        return options

    def _ended(self, error: Exception) -> None:
        text = str(error)
        if not self._open:
            return  # `open` raises it
        if "expired" in text or "authorization" in text or "revoked" in text:
            self.end(SinkRefused("the server no longer accepts this user: expired or taken away"))
        elif "stale" in text:
            self.end(SinkOffline("the server stopped answering"))
        elif "slow consumer" in text:
            self.end(SinkOffline("the server found this gateway too slow and closed the connection"))
        else:
            self.end(SinkOffline("the connection was lost"))

    async def _error(self, error: Exception) -> None:
        """Called for what the library would otherwise only print."""
        if self._connecting:
            raise error  # the first one is final: the library would try again, then blame something else
        found = _DENIED.search(str(error))
        if found is None:
            return
        subject = found.group(1)
        denied = self._denied.get(subject)
        if denied is not None and not denied.done():
            denied.set_result(None)
        else:
            self._on_denied(subject)

    async def _closed(self) -> None:
        if self._open:
            self.end(SinkOffline("the connection was lost"))


async def bounded(
    work: Coroutine[Any, Any, _T], timeout_s: float, *, unless: asyncio.Future[None] | None = None
) -> _T | None:
    """The result of `work`; None where `unless` is done first. Raises what it raises, or TimeoutError.

    Unlike asyncio.timeout it does not wait for work that passes over its cancellation.
    """
    task = asyncio.ensure_future(work)
    waiting: set[asyncio.Future[Any]] = {task} if unless is None else {task, unless}
    try:
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if unless is not None and unless.done():
            return None
        raise TimeoutError
    finally:
        for _ in range(CANCELS):
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=0.01)
        if task.done() and not task.cancelled():
            task.exception()  # marked as seen
