"""The simulator as a process: every gateway of a scenario speaks to the server, each with an EUI of its own."""

import signal
import socket
import subprocess
import sys
import time

PULL_DATA, PUSH_DATA = 2, 0
EUI = 0x02F10F6A7E000001


def test_each_gateway_of_a_scenario_speaks_for_itself() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        command = [sys.executable, "-m", "hw_sim", "run", "--scenario", "roofs", "--speed", "50"]
        command += ["--server", f"127.0.0.1:{server.getsockname()[1]}", "--eui", f"{EUI:016x}"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        heard: dict[int, set[int]] = {}
        deadline = time.monotonic() + 60
        try:
            while set(heard) != {PULL_DATA, PUSH_DATA} or any(len(euis) < 2 for euis in heard.values()):
                assert time.monotonic() < deadline
                data = server.recv(65_535)
                heard.setdefault(data[3], set()).add(int.from_bytes(data[4:12]))
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
    assert heard == {PULL_DATA: {EUI, EUI + 1}, PUSH_DATA: {EUI, EUI + 1}}
    assert process.returncode == 0, errors.decode()
