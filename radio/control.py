"""Asking a running radio process: a Unix stream socket, one line of JSON each way.

The radio process alone may touch SPI and GPIO, so whoever wants to know how its modules are, or wants the band
scanned, asks it here: the gateway for its pages, and `fluxgate radio` on the same machine. Who may is decided by
the rights on the socket's folder.

    {"op": "scan", "start_hz": 868000000}      ->   {"result": {...}}   or   {"error": "what to mend"}
"""

import contextlib
import logging
import os
import selectors
import socket
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from radio.errors import RadioError

log = logging.getLogger(__name__)

MAX_LINE: Final = 1 << 16  # bytes of a request
MAX_REPLY: Final = 1 << 22
MAX_AT_ONCE: Final = 4  # a scan occupies one for seconds; the status must still be had
REQUEST_WAIT_S: Final = 5.0  # for the request to be complete
REFUSAL_WAIT_S: Final = 0.5
SOCKET_MODE: Final = 0o660

Handler = Callable[[dict[str, Any]], Mapping[str, Any]]


class ControlError(RadioError):
    """A request that could not be asked or was refused; the text says what to mend."""


class ControlServer:
    """Answers requests on `path`, each in a thread of its own, at most a few at once.

    A handler gets the request's arguments and returns plain values. A RadioError or ValueError it raises becomes the
    answer; anything else is logged and answered as a fault of the radio process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused = 0  # came while too many were being answered
        self._handlers: dict[str, Handler] = {}
        self._socket: socket.socket | None = None
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        self._room = threading.BoundedSemaphore(MAX_AT_ONCE)

    def handle(self, op: str, handler: Handler) -> None:
        """Let `handler` answer the requests of this name; before `start`."""
        self._handlers[op] = handler

    def start(self) -> None:
        """Listen. Raises ControlError where the socket cannot be made."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _make_way(self.path)
            bound.bind(str(self.path))
            self.path.chmod(SOCKET_MODE)
            bound.listen(MAX_AT_ONCE)
        except OSError as error:
            bound.close()
            raise ControlError(
                f"{self.path}: {error.strerror or error}; the radio runs, but cannot be asked"
            ) from error
        bound.setblocking(False)
        self._socket = bound
        self._thread = threading.Thread(target=self._run, args=(bound,), name="radio control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and take the socket away; requests being answered are left to end by themselves."""
        if self._socket is not None and self._thread is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            self._socket.close()
            with contextlib.suppress(OSError):
                self.path.unlink()
            self._socket = None
        os.close(self._wake)

    def _run(self, bound: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(bound, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._wake in ready:
                    return
                with contextlib.suppress(OSError):  # the other side has gone again
                    peer, _ = bound.accept()
                    self._take(peer)

    def _take(self, peer: socket.socket) -> None:
        if not self._room.acquire(blocking=False):
            self.refused += 1
            with peer, contextlib.suppress(OSError):
                peer.settimeout(REFUSAL_WAIT_S)
                peer.recv(MAX_LINE)  # what is closed with something unread takes the answer back as well
                peer.sendall(_line({"error": "the radio process is answering others: try again in a second"}))
            return
        threading.Thread(target=self._serve, args=(peer,), name="radio control request", daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer:
                peer.settimeout(REQUEST_WAIT_S)
                with contextlib.suppress(OSError):  # it did not wait for its answer
                    peer.sendall(_line(self._answer(_read_line(peer, MAX_LINE))))
        finally:
            self._room.release()

    def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
            op = request.pop("op", None)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            return {"error": f"not a request: {error}"}
        handler = self._handlers.get(op) if isinstance(op, str) else None
        if handler is None:
            return {"error": f"no such request; there are {', '.join(sorted(self._handlers))}"}
        try:
            return {"result": handler(request)}
        except (RadioError, ValueError) as error:
            return {"error": str(error)}
        except Exception as error:
            log.exception("radio control: request %s failed", op)
            return {"error": f"the radio process could not do it: {type(error).__name__}"}


def ask(path: Path, op: str, args: Mapping[str, Any] | None = None, timeout_s: float = 5.0) -> dict[str, Any]:
    """One request to the radio process. Raises ControlError saying what is wrong."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(timeout_s)
            peer.connect(str(path))
            peer.sendall(_line({"op": op, **(args or {})}))
            peer.shutdown(socket.SHUT_WR)
            line = _read_line(peer, MAX_REPLY)
    except PermissionError as error:
        raise ControlError(f"{path} may only be used by root and the gateway: put `sudo` in front") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ControlError("the radio process is not running: `systemctl status fluxgate-radio`") from error
    except TimeoutError as error:
        raise ControlError(f"the radio process did not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}") from error
    return answer_of(line)


def answer_of(line: bytes) -> dict[str, Any]:
    """The result in an answer. Raises ControlError with the refusal in it, or where it is none."""
    try:
        answer = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ControlError(f"the radio process answered with no JSON object: {error}") from error
    result = answer.get("result")
    if isinstance(result, dict):
        return result
    refusal = answer.get("error")
    raise ControlError(refusal if isinstance(refusal, str) else "the radio process answered nothing")


def _make_way(path: Path) -> None:
    """Remove a socket that a process which is gone has left. Raises OSError where somebody listens."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(None, "there is a file of that name that is no socket")
    except FileNotFoundError:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(None, "another radio process answers there")


def _line(value: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _read_line(peer: socket.socket, limit: int) -> bytes:
    """Up to the first line feed, the end, or the limit."""
    data = bytearray()
    while b"\n" not in data and len(data) < limit:
        with contextlib.suppress(InterruptedError):
            part = peer.recv(65_536)
            if not part:
                break
            data += part
    return bytes(data.split(b"\n", 1)[0])
