"""The REST API as a command line sees it: where it is, who asks, and errors as one sentence with an exit status."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

TIMEOUT_S = 30.0
REFUSED, USAGE, UNREACHABLE, SIGNED_OUT = 1, 2, 3, 4  # exit statuses


class ApiError(Exception):
    """What went wrong, in a sentence; `status` is what the command exits with."""

    def __init__(self, message: str, status: int = REFUSED, http_status: int = 0) -> None:
        super().__init__(message)
        self.status, self.http_status = status, http_status


class Tokens:
    """Tokens of signed-in people by address of the gateway, in a file that its owner alone can read."""

    def __init__(self, path: Path | None = None) -> None:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self.path = path or folder / "fluxgate" / "tokens.json"

    def get(self, url: str) -> str:
        """The token for that gateway; "" where there is none."""
        return self._all().get(url, "")

    def put(self, url: str, token: str) -> None:
        """Keep a token, or with "" forget it. Raises ApiError where the file cannot be written."""
        tokens = {**self._all(), url: token}
        kept = {each: value for each, value in tokens.items() if value}
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self.path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_text(json.dumps(kept))
            fresh.replace(self.path)
        except OSError as error:
            raise ApiError(f"the token cannot be kept: {error}") from None

    def _all(self) -> dict[str, str]:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self.path.read_text())
            if isinstance(found, dict):
                return {str(url): str(token) for url, token in found.items()}
        return {}


class Api:
    """One gateway's API."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        # Proxy variables of the environment must not lead a token away.
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        """The JSON of an answer."""
        given = {name: value for name, value in params.items() if value not in (None, "")}
        return self.send("GET", path, params=given)

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
        sent = {**self._headers, **(headers or {})}
        if content is not None:
            sent.setdefault("content-type", "application/json")
        try:
            answer = self._client.request(
                method,
                self.url + path,
                json=body,
                params=params,
                headers=sent,
                content=content,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ApiError(
                f"no gateway answers at {self.url} ({error}): is it running? Name another with --url",
                UNREACHABLE,
            ) from None
        if answer.is_success:
            return _json(answer)
        raise self._error(answer)

    def _error(self, answer: httpx.Response) -> ApiError:
        problem = _json(answer)
        detail = problem.get("detail") if isinstance(problem, dict) else None
        detail = detail or f"the gateway answers {answer.status_code} {answer.reason_phrase}"
        if answer.status_code == 401 and "authorization" in answer.request.headers:
            detail += "; sign in again with `fluxgate login`"
        elif answer.status_code == 401:
            detail = "you are not signed in: run `fluxgate login`"
        status = {401: SIGNED_OUT}.get(
            answer.status_code, REFUSED if answer.status_code < 500 else UNREACHABLE
        )
        return ApiError(str(detail), status, answer.status_code)


def _json(answer: httpx.Response) -> Any:
    """The body as JSON; None where it is none."""
    try:
        return answer.json() if answer.content else None
    except ValueError:
        return None
