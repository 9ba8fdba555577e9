"""The REST API as a command line sees it: where it is, who asks, and errors as one sentence with an exit status."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

TIMEOUT_S = 30.0
PAGE = 100  # items of one request for a list; the gateway gives no more
REFUSED, USAGE, UNREACHABLE, SIGNED_OUT = 1, 2, 3, 4  # exit statuses


class ApiError(Exception):
    """What went wrong, in a sentence; `status` is what the command exits with."""

    def __init__(
        self,
        message: str,
        status: int = REFUSED,
        http_status: int = 0,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.http_status = status, http_status
        self.problem = dict(problem or {})


class Api:
    """One gateway's API, asked with one credential.

    `ca` is a file with the authority that the gateway's certificate must come from; "" for those of this computer.
    """

    def __init__(self, url: str, token: str = "", *, ca: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        # Proxy variables of the environment must not lead a token away.
        # Reading all authorities of the computer takes longer than a request: only where they are asked.
        trusted = _trusted(ca) if self.url.startswith("https:") else False
        self._client = httpx.Client(timeout=timeout_s, trust_env=False, verify=trusted)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        """The JSON of an answer."""
        return self.send("GET", path, params=given(params))

    def every(
        self, path: str, noun: str, *, limit: int = 0, offset: int = 0, **params: Any
    ) -> tuple[list[Any], int]:
        """Items of a list that comes in pages, `limit` at most or with 0 all; and how many there are."""
        items: list[Any] = []
        while True:
            want = min(PAGE, limit - len(items)) if limit else PAGE
            page = self.get(path, offset=offset + len(items), limit=want, **given(params))
            items += page[noun]
            total = int(page.get("total", offset + len(items)))
            if not page[noun] or offset + len(items) >= total or (limit and len(items) >= limit):
                return items, total

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The JSON of an answer, None where it has no body. Raises ApiError."""
        answer = self._request(method, path, body, params, content, headers)
        if answer.is_success:
            return _json(answer)
        raise self._error(answer)

    def text(self, path: str, **params: Any) -> str:
        """An answer that is no JSON. Raises ApiError."""
        answer = self._request("GET", path, None, given(params), None, None)
        if answer.is_success:
            return answer.text
        raise self._error(answer)

    @contextlib.contextmanager
    def stream(self, path: str, *, params: Mapping[str, Any], accept: str) -> Iterator[httpx.Response]:
        """An answer that is read while it comes; a quiet one may take as long as it likes. Raises ApiError."""
        timeout = httpx.Timeout(TIMEOUT_S, read=None)
        with self._reached():
            headers = {**self._headers, "accept": accept}
            with self._client.stream(
                "GET", self.url + path, params=params, headers=headers, timeout=timeout
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._error(answer)
                yield answer

    def _request(
        self,
        method: str,
        path: str,
        body: Any,
        params: Mapping[str, Any] | None,
        content: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> httpx.Response:
        sent = {**self._headers, **(headers or {})}
        if content is not None:
            sent.setdefault("content-type", "application/json")
        with self._reached():
            return self._client.request(
                method, self.url + path, json=body, params=params, headers=sent, content=content
            )

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """A connection that fails becomes a sentence. Raises ApiError."""
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ApiError(
                    f"the certificate of {self.url} is not from an authority that this computer trusts ({error}); "
                    "`fluxgate gateways add` keeps a gateway with its own authority, --ca names a file with one",
                    UNREACHABLE,
                ) from None
            raise ApiError(
                f"no gateway answers at {self.url} ({error}): is it running? Name another with --url",
                UNREACHABLE,
            ) from None

    def _error(self, answer: httpx.Response) -> ApiError:
        problem = _json(answer)
        problem = problem if isinstance(problem, dict) else {}
        detail = problem.get("detail") or f"the gateway answers {answer.status_code} {answer.reason_phrase}"
        shown = str(answer.request.headers.get("authorization", ""))
        if answer.status_code == 401 and shown.startswith("Thing "):
            detail = f"{detail}: give the thing's key with --key, or a new one with `fluxgate things rekey`"
        elif answer.status_code == 401 and shown:
            detail = f"{detail}; sign in again with `fluxgate login`"
        elif answer.status_code == 401 and answer.request.url.path != "/tokens":
            detail = "you are not signed in: run `fluxgate login`"
        elif answer.status_code == 429 and "retry-after" in answer.headers:
            detail = f"{detail} (wait {answer.headers['retry-after']} s)"
        status = {401: SIGNED_OUT}.get(
            answer.status_code, REFUSED if answer.status_code < 500 else UNREACHABLE
        )
        return ApiError(str(detail), status, answer.status_code, problem)


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those parameters of a query that were given."""
    return {name: value for name, value in params.items() if value not in (None, "")}


def _trusted(ca: str) -> ssl.SSLContext | bool:
    """Whose certificates count. Raises ApiError where the file is none of certificates."""
    if not ca:
        return True
    try:
        context = ssl.create_default_context(cafile=Path(ca).expanduser())
    except OSError as error:  # SSLError is one
        raise ApiError(f"{ca}: not a file of certificates ({error})", USAGE) from None
    # As towards destinations: private authorities often leave out what Python 3.13 began to ask for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _json(answer: httpx.Response) -> Any:
    """The body as JSON; None where it is none."""
    try:
        return json.loads(answer.content) if answer.content else None
    except ValueError:
        return None
