"""Asking a running radio process over its socket."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radio.control import MAX_AT_ONCE, MAX_LINE, ControlError, ControlServer, answer_of, ask
from radio.errors import RadioError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    server = ControlServer(tmp_path / "run" / "radio.sock")
    server.handle("status", lambda args: {"modules": 2, "args": args})
    yield server
    server.close()


def test_a_request_is_answered_with_what_its_handler_returns(server: ControlServer) -> None:
    server.start()
    assert ask(server.path, "status", {"deep": True}) == {"modules": 2, "args": {"deep": True}}
    assert ask(server.path, "status") == {"modules": 2, "args": {}}


def test_what_a_handler_refuses_reaches_the_asker_in_its_words(server: ControlServer) -> None:
    def refuse(args: dict[str, Any]) -> dict[str, Any]:
        raise RadioError("module 2 is down: no power")

    server.handle("scan", refuse)
    server.start()
    with pytest.raises(ControlError, match="module 2 is down: no power"):
        ask(server.path, "scan")


def test_a_handler_that_fails_is_answered_and_the_next_request_is_served(
    server: ControlServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(args: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("secret")

    server.handle("scan", fail)
    server.start()
    with pytest.raises(ControlError, match=r"could not do it: KeyError$"):
        ask(server.path, "scan")
    assert "request scan failed" in caplog.text
    assert ask(server.path, "status")["modules"] == 2


def test_an_unknown_request_is_told_what_there_is(server: ControlServer) -> None:
    server.start()
    with pytest.raises(ControlError, match="there are status"):
        ask(server.path, "reboot")


def test_without_a_radio_process_the_asker_is_told_so(server: ControlServer, tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="not running"):
        ask(tmp_path / "none.sock", "status")


def test_a_socket_left_by_a_killed_process_is_replaced(server: ControlServer) -> None:
    server.path.parent.mkdir()
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(server.path))
    left.close()
    server.start()
    assert ask(server.path, "status")["modules"] == 2


def test_a_second_radio_process_does_not_take_the_socket_of_the_first(server: ControlServer) -> None:
    server.start()
    second = ControlServer(server.path)
    with pytest.raises(ControlError, match="another radio process"):
        second.start()
    second.close()
    assert ask(server.path, "status")["modules"] == 2


def test_a_file_that_is_no_socket_is_left_alone(server: ControlServer) -> None:
    server.path.parent.mkdir()
    server.path.write_text("precious")
    with pytest.raises(ControlError, match="no socket"):
        server.start()
    assert server.path.read_text() == "precious"


def test_the_socket_is_for_its_owner_and_group_and_goes_with_the_server(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "radio.sock")
    server.start()
    assert server.path.stat().st_mode & 0o777 == 0o660
    server.close()
    assert not server.path.exists()


def test_more_requests_than_can_be_answered_are_refused_and_counted(server: ControlServer) -> None:
    begun, release = threading.Semaphore(0), threading.Event()

    def slow(args: dict[str, Any]) -> dict[str, Any]:
        begun.release()
        release.wait(30)
        return {}

    server.handle("scan", slow)
    server.start()
    askers = [
        threading.Thread(target=lambda: ask(server.path, "scan", timeout_s=30)) for _ in range(MAX_AT_ONCE)
    ]
    for asker in askers:
        asker.start()
    for _ in askers:
        assert begun.acquire(timeout=30)
    with pytest.raises(ControlError, match="answering others"):
        ask(server.path, "status")
    release.set()
    for asker in askers:
        asker.join()
    assert server.refused == 1
    assert ask(server.path, "status")["modules"] == 2


def test_damaged_requests_get_one_answer_each_and_no_more(server: ControlServer) -> None:
    server.start()
    rng = random.Random(7)
    whole = b'{"op":"status","args":[1,2,{"a":"b"}]}\n'
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(30)
            peer.connect(str(server.path))
            peer.sendall(damaged)
            peer.shutdown(socket.SHUT_WR)
            answer = b""
            while part := peer.recv(65_536):
                answer += part
        assert answer.count(b"\n") == 1
        assert answer.startswith((b'{"error":', b'{"result":'))


def test_a_request_without_an_end_is_read_no_further_than_the_limit(server: ControlServer) -> None:
    server.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(30)
        peer.connect(str(server.path))
        peer.sendall(b'"' + b"x" * MAX_LINE)
        assert b"not a request" in peer.recv(65_536)


def test_damaged_answers_raise_one_error_type() -> None:
    rng = random.Random(8)
    whole = b'{"result":{"modules":[{"name":"a","faults":{"lost":3}}]}}'
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            answer_of(bytes(damaged))
        except ControlError:
            continue
