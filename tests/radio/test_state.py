"""What must survive a restart does, and a damaged file is no reason not to start."""

import contextlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from radio.state import StateFolder

VALUE: dict[str, Any] = {"airtime_us": [1, 2, 3], "who": "ärger", "ppm": -1.25, "none": None}


def test_a_value_is_there_after_a_restart(tmp_path: Path) -> None:
    assert StateFolder(tmp_path).write("airtime", VALUE)
    assert StateFolder(tmp_path).read("airtime") == VALUE
    assert StateFolder(tmp_path).read("calibration") is None


def test_the_folder_is_made_and_for_nobody_else(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "a" / "b")
    assert folder.write("x", {})
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert folder.fault == ""


def test_values_are_copies(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    value = {"list": [1]}
    folder.write("x", value)
    value["list"].append(2)
    read = folder.read("x")
    assert read is not None
    assert read == {"list": [1]}
    read["list"].append(3)
    assert folder.read("x") == {"list": [1]}


def test_without_a_folder_values_live_in_memory() -> None:
    folder = StateFolder(None)
    assert folder.read("x") is None
    assert not folder.write("x", VALUE)
    assert folder.read("x") == VALUE
    assert "state_dir" in folder.fault


def test_a_folder_that_cannot_be_made_is_said_and_memory_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = StateFolder(tmp_path / "file" / "state")
    assert not folder.write("x", VALUE)
    assert not folder.write("x", VALUE | {"more": 1})
    assert folder.read("x") == VALUE | {"more": 1}
    assert folder.fault in caplog.text
    assert len(caplog.records) == 1


def test_a_disk_that_fails_is_said_once_and_so_is_its_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = StateFolder(tmp_path)
    folder.write("x", {"n": 1})

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert not folder.write("x", {"n": 2})
        assert not folder.write("x", {"n": 3})
    assert "No space left on device" in folder.fault
    assert StateFolder(tmp_path).read("x") == {"n": 1}, "the old value is still whole"
    assert folder.read("x") == {"n": 3}
    assert folder.write("x", {"n": 4})
    assert (folder.fault, len(caplog.records)) == ("", 2)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    folder = StateFolder(tmp_path)
    assert folder.read("x") is None
    assert "cannot be used" in folder.fault


@pytest.mark.parametrize("name", ["", "../x", "X", "a.b", "a" * 42])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    folder = StateFolder(tmp_path)
    with pytest.raises(ValueError, match="no name"):
        folder.write(name, {})
    with pytest.raises(ValueError, match="no name"):
        folder.read(name)
    with pytest.raises(ValueError, match="no name"):
        StateFolder(None).read(name)


def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    StateFolder(tmp_path).write("x", VALUE)
    file = tmp_path / "x.json"
    file.write_bytes(file.read_bytes().replace(b"[1,2,3]", b"[1,2,4]"))
    folder = StateFolder(tmp_path)
    assert folder.read("x") is None
    assert not file.exists()
    assert (tmp_path / "x.damaged").exists()
    assert "set aside as x.damaged" in caplog.text
    assert folder.write("x", VALUE)
    assert StateFolder(tmp_path).read("x") == VALUE


def test_whatever_the_file_holds_reading_it_raises_nothing(tmp_path: Path) -> None:
    StateFolder(tmp_path).write("x", VALUE)
    file = tmp_path / "x.json"
    whole = file.read_bytes()
    random_ = random.Random(5)
    others = [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"sha256":1,"value":{}}',
        b'{"value":[NaN]}',
        b"[" * 100_000,
        bytes(2_000_000),
    ]
    for i in range(1000):
        data = bytearray(whole)
        match random_.randrange(3):
            case 0:
                data[random_.randrange(len(data))] = random_.randrange(256)
            case 1:
                del data[random_.randrange(len(data)) :]
            case _:
                at = random_.randrange(len(data))
                data[at:at] = random_.randbytes(random_.randrange(1, 5))
        file.write_bytes(others[i] if i < len(others) else bytes(data))
        assert StateFolder(tmp_path).read("x") in (None, VALUE)


def test_a_stop_at_any_point_of_a_write_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that touches the disk may be the last one."""

    class Stop(BaseException):
        pass

    StateFolder(tmp_path).write("x", {"n": 0})
    seen = set()
    for last in range(1, 6):
        calls = 0

        def counted(real: Any, last: int = last) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == last:
                    raise Stop
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", counted(os.fsync))
            patch.setattr(Path, "open", counted(Path.open))
            patch.setattr(Path, "replace", counted(Path.replace))
            with contextlib.suppress(Stop):
                StateFolder(tmp_path).write("x", {"n": last})
        value = StateFolder(tmp_path).read("x")
        assert value is not None
        assert value["n"] in (last - 1, last) or last == 1
        seen.add(value["n"] == last)
        StateFolder(tmp_path).write("x", {"n": last})
    assert seen == {True, False}
    assert json.loads((tmp_path / "x.json").read_text())["value"] == {"n": 5}
