"""The `fluxgate` command: what it prints, and that what goes wrong is a sentence and never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from gateway import __version__, cli_processes
from gateway.__main__ import main


def fluxgate(*arguments: str) -> tuple[int, str, str]:
    answer = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return answer.returncode, answer.stdout, answer.stderr


def test_version() -> None:
    assert fluxgate("version") == (0, f"fluxgate {__version__}\n", "")


def test_documented_defaults_are_a_valid_configuration(tmp_path: Path) -> None:
    code, text, _ = fluxgate("config", "show", "--defaults")
    assert code == 0
    (tmp_path / "fluxgate.toml").write_text(text)
    assert fluxgate("config", "check", "--config", str(tmp_path / "fluxgate.toml"))[0] == 0


@pytest.mark.parametrize("process", ["gateway", "radio", "run", "status"])
def test_a_process_that_stays_loads_no_commands_for_people(process: str, tmp_path: Path) -> None:
    (tmp_path / "fluxgate.toml").write_text("[mqtt]\nport = 99999\n")
    code = (
        "import atexit, sys, gateway.__main__\n"
        "if sys.argv[1] != 'run': import gateway.app, gateway.radio_process\n"
        "atexit.register(lambda: print([m for m in ('gateway.rest', 'httpx', 'rich') if m in sys.modules]))\n"
        "gateway.__main__.main()\n"
    )
    command = [sys.executable, "-c", code, process, "--config", str(tmp_path / "fluxgate.toml")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "mqtt.port" in answer.stderr
    expected = ["gateway.rest", "httpx", "rich"] if process == "status" else []  # which is for people
    assert answer.stdout == f"{expected}\n"


@pytest.mark.parametrize("command", [("config", "check"), ("gateway",), ("radio",), ("webui",), ("run",)])
def test_a_wrong_setting_is_named_with_line_and_key(tmp_path: Path, command: tuple[str, ...]) -> None:
    path = tmp_path / "fluxgate.toml"
    path.write_text("[mqtt]\nport = 99999\n")
    code, _, errors = fluxgate(*command, "--config", str(path))
    assert code == 1
    assert errors.startswith(f"fluxgate: {path}, line 2: mqtt.port: ")
    assert "Traceback" not in errors


def test_boards_are_listed_with_their_wiring() -> None:
    code, out, _ = fluxgate("radio", "boards")
    assert code == 0
    assert "dragino-hat" in out
    assert "DIO0 4" in out


def test_the_radio_says_that_no_module_is_configured(tmp_path: Path) -> None:
    (tmp_path / "fluxgate.toml").write_text("")
    code, _, errors = fluxgate("radio", "--config", str(tmp_path / "fluxgate.toml"))
    assert code == 1
    assert "[[radio.module]]" in errors


def test_the_radio_without_its_libraries_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "fluxgate.toml").write_text("[[radio.module]]\nboard = 'dragino-hat'\n")
    code, _, errors = fluxgate("radio", "--config", str(tmp_path / "fluxgate.toml"))
    assert code == 1
    assert "fluxgate[pi]" in errors or "/dev/" in errors
    assert "Traceback" not in errors


def test_a_data_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "fluxgate.toml"
    path.write_text(f"[gateway]\ndata_dir = '{tmp_path}/file/data'\n")
    code, _, errors = fluxgate("gateway", "--config", str(path))
    assert code == 1
    assert "gateway.data_dir" in errors
    assert "Traceback" not in errors


def test_an_unknown_region_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fluxgate.toml"
    path.write_text(f"[gateway]\ndata_dir = '{tmp_path}/data'\nregion = 'MARS1'\n")
    code, _, errors = fluxgate("gateway", "--config", str(path))
    assert code == 1
    assert "MARS1" in errors
    assert "Traceback" not in errors


def test_claim_code_and_status_need_a_running_gateway(tmp_path: Path) -> None:
    path = tmp_path / "fluxgate.toml"
    path.write_text(f"[gateway]\nruntime_dir = '{tmp_path}'\n")
    for command in ("claim-code", "status"):
        code, _, errors = fluxgate(command, "--config", str(path))
        assert code == 1
        assert "running" in errors


def test_a_status_that_a_dead_process_left_is_called_old(tmp_path: Path) -> None:
    path = tmp_path / "fluxgate.toml"
    path.write_text(f"[gateway]\nruntime_dir = '{tmp_path}'\n")
    (tmp_path / "status.json").write_text('{"name": "shed"}')
    assert fluxgate("status", "--config", str(path)) == (0, '{\n  "name": "shed"\n}\n', "")
    os.utime(tmp_path / "status.json", (1, 1))
    code, out, errors = fluxgate("status", "--config", str(path))
    assert (code, out) == (1, '{\n  "name": "shed"\n}\n')
    assert "not running" in errors


def test_a_configuration_closed_to_this_user_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    mocker.patch.object(Path, "exists", side_effect=PermissionError(13, "Permission denied"))
    monkeypatch.setattr(sys, "argv", ["fluxgate", "claim-code"])
    with pytest.raises(SystemExit):
        main()
    assert "sudo" in capsys.readouterr().err


def test_run_starts_gateway_and_pages_and_stops_them_on_sigterm(tmp_path: Path) -> None:
    path = tmp_path / "fluxgate.toml"
    path.write_text(
        f"[gateway]\ndata_dir = '{tmp_path}/data'\nruntime_dir = '{tmp_path}'\n"
        "[lorawan]\nport = 0\n[mqtt]\nport = 0\n[http]\nport = 0\nworkshop_port = 0\n[webui]\nport = 0\n"
        "[coap]\nport = 0\n"
    )
    said = tmp_path / "said"
    with said.open("w") as stderr:
        command = [sys.executable, "-m", "gateway", "run", "--config", str(path)]
        process = subprocess.Popen(command, stderr=stderr)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "status.json").exists():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        code, out, _ = fluxgate("claim-code", "--config", str(path))
        assert (code, len(out.strip())) == (0, 9)
        shown = out.strip()
        code, out, _ = fluxgate(
            "claim-code", "--qr", "--url", "http://192.0.2.1:8000/", "--config", str(path)
        )
        assert code == 0
        assert out.startswith(shown)
        assert "\u2580" in out
        assert out.endswith(f"http://192.0.2.1:8000/claim?code={shown}\n")
        code, out, _ = fluxgate("claim-code", "--new", "--config", str(path))
        assert (code, len(out.strip()), out.strip() != shown) == (0, 9, True)
        code, out, errors = fluxgate("account", "totp-off", "nobody@example.org", "--config", str(path))
        assert (code, out) == (1, "")
        assert "nobody has an account as nobody@example.org" in errors
        code, out, _ = fluxgate("status", "--config", str(path))
        assert code == 0
        assert '"region": "EU868"' in out
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, said.read_text()
    assert not (tmp_path / "console.sock").exists()


def test_the_pages_are_told_which_names_to_answer_to(tmp_path: Path, mocker) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "fluxgate.toml"
    (tmp_path / "key").write_text("k" * 43)
    path.write_text(
        "[webui]\ntrusted_hosts = ['gw.local', '10.0.0.7']\nsecure_cookies = true\n"
        f"key_file = '{tmp_path}/key'\n"
    )
    started = mocker.patch("os.execve", side_effect=SystemExit)
    with pytest.raises(SystemExit):
        cli_processes.webui(path)
    _, command, environment = started.call_args.args
    assert environment["FLUXGATE_PAGES_KEY"] == "k" * 43
    assert "k" * 43 not in command, "others see command lines"
    assert command[-5:] == ["--trusted-host", "gw.local", "--trusted-host", "10.0.0.7", "--secure-cookies"]
