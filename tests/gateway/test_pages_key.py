"""The key of the pages: one for both processes, whoever starts first; a bad one costs addresses and nothing else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway import pages_key as module
from gateway.pages_key import pages_key
from gateway.settings import Config, GatewaySection, WebuiSection


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "INSTALLED", tmp_path / "etc" / "pages.key")


def config(folder: Path, key_file: str = "") -> Config:
    return Config(
        gateway=GatewaySection(data_dir=str(folder / "data")), webui=WebuiSection(key_file=key_file)
    )


def test_it_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    key = pages_key(config(tmp_path))
    assert len(key) == 43
    assert pages_key(config(tmp_path)) == key
    (path,) = (tmp_path / "data").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_installers_is_taken_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "pages.key").write_text("i" * 43 + "\n")
    assert pages_key(config(tmp_path)) == "i" * 43
    (tmp_path / "own").write_text("o" * 43)
    assert pages_key(config(tmp_path, str(tmp_path / "own"))) == "o" * 43


@pytest.mark.parametrize(
    "content", ["short", "with a space " + "x" * 40, "x" * 1000, "\u00e4" * 43, "x" * 40 + "\nx"]
)
def test_what_is_no_key_is_none(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "key").write_text(content)
    assert pages_key(config(tmp_path, str(tmp_path / "key"))) == ""
    assert "holds no key" in caplog.text


def test_without_a_file_everybody_is_one_visitor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert pages_key(config(tmp_path, str(tmp_path / "file" / "key"))) == ""
    assert "one visitor" in caplog.text
