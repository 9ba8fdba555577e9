"""The live stream: tells of frames, limits itself, and ends when either side does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.webui.double import EMAIL, PASSPHRASE, GatewayDouble, served
from webui import live
from webui.config import WebuiConfig
from webui.live import Live
from webui.main import make_server
from webui.sessions import form_token

Client = httpx.Client


def until(what: str, holds: object) -> None:
    """Wait for something that happens in another thread; the deadline only ends a broken run."""
    deadline = time.monotonic() + 20
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@contextlib.contextmanager
def signed_in(webui_url: str) -> Iterator[Client]:
    with httpx.Client(base_url=webui_url, timeout=20) as client:
        client.get("/login")
        token = form_token(client.cookies["fluxgate"])
        answer = client.post("/login", data={"email": EMAIL, "password": PASSPHRASE, "form_token": token})
        assert answer.status_code == 303
        yield client


@pytest.fixture
def client(webui_url: str) -> Iterator[Client]:
    with signed_in(webui_url) as client:
        yield client


@contextlib.contextmanager
def stream(client: Client) -> Iterator[Iterator[str]]:
    """Names of the events of one live stream, as they come."""
    with client.stream("GET", live.PATH) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        lines = answer.iter_lines()
        assert next(lines) == f"retry: {live.RETRY_MS}"
        yield (line.removeprefix("event: ") for line in lines if line.startswith("event: "))


def test_a_frame_is_told_once_it_came_and_old_ones_are_not(client: Client, double: GatewayDouble) -> None:
    double.heard("uplink", name="before")
    with stream(client) as events:
        until("the relay follows the gateway", lambda: double.streams == 1)
        double.heard("uplink", name="after")
        assert next(events) == "frames"


def test_a_silent_gateway_is_told_by_a_beat(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BEAT_S", 0.05)
    with stream(client) as events:
        assert next(events) == "beat"


def test_a_burst_is_one_event(client: Client, double: GatewayDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BEAT_S", 0.5)
    with stream(client) as events:
        until("the relay follows the gateway", lambda: double.streams == 1)
        for _ in range(200):
            double.heard("uplink")
        told = 0
        for event in events:  # beats before the burst say nothing: the one after it ends the counting
            if event == "frames":
                told += 1
            elif told:
                break
        assert 1 <= told < 10


def test_a_third_stream_of_a_session_ends_the_oldest(client: Client, double: GatewayDouble) -> None:
    with stream(client) as first, stream(client), stream(client):
        assert list(first)[-1] == "bye"
        until("two are left", lambda: double.streams == 2)


def test_a_browser_that_goes_frees_its_stream(client: Client, double: GatewayDouble) -> None:
    with stream(client):
        until("the relay follows the gateway", lambda: double.streams == 1)
    until("the gateway's stream is closed", lambda: double.streams == 0)


def test_strangers_get_no_stream(client: Client, double: GatewayDouble) -> None:
    stranger = httpx.get(client.base_url.join(live.PATH), trust_env=False)
    assert (stranger.status_code, stranger.content) == (401, b"")
    assert client.get(live.PATH, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 401
    assert client.post(live.PATH).status_code == 405
    assert double.streams == 0


def test_a_gateway_that_is_down_is_told_as_unavailable(client: Client, double: GatewayDouble) -> None:
    double.broken = True
    assert client.get(live.PATH).status_code == 503


def test_who_asks_while_the_pages_close_is_told_to_come_again(
    config: WebuiConfig,
    double: GatewayDouble,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made: list[live.Live] = []
    monkeypatch.setattr("webui.main.live.Live", lambda *parts: made.append(Live(*parts)) or made[0])
    with served(make_server(config)) as url, signed_in(url) as client:
        made[0]._closed = True  # as `close` says first, on the loop of the pages
        assert client.get(live.PATH).status_code == 503
    assert double.streams == 0
    assert "Traceback" not in caplog.text


def test_a_token_that_was_revoked_is_told_as_signed_out(client: Client, double: GatewayDouble) -> None:
    double.tokens.clear()
    assert client.get(live.PATH).status_code == 401


def test_pages_answer_while_streams_are_open(client: Client, site: GatewayDouble) -> None:
    with stream(client), stream(client):
        for path in ("/", "/radio", "/devices", "/upstream", "/more") * 2:
            assert client.get(path).status_code == 200


def test_slow_senders_hold_no_page_thread(client: Client, webui_url: str) -> None:
    """Eight half-sent forms, twice the page threads: pages still come."""
    import socket

    host, port = webui_url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(8)]
    try:
        for sender in slow:
            sender.sendall(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nemail=")
        assert client.get("/more").status_code == 200
    finally:
        for sender in slow:
            sender.close()
