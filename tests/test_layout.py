"""The layout's promises: `platform/` shadows nothing, tests hold no packages, imports run one way."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_platform_folder_does_not_shadow_the_standard_library() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.system())"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert answer.stdout.strip() == "Linux"


def test_platform_folder_is_a_source_root_and_not_a_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert (ROOT / "platform" / "hub" / "__init__.py").exists()


def test_tests_hold_no_packages() -> None:
    assert [path for path in (ROOT / "tests").rglob("__init__.py") if "node_modules" not in path.parts] == []


def test_laptop_imports_no_library_of_the_pi() -> None:
    code = (
        "import sys, gateway.cli, radio.service, hub.hub, webui.main\n"
        "print([m for m in ('spidev', 'gpiod', 'RPi', 'serial', 'lgpio') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "[]"


def test_imports_run_one_way() -> None:
    """radio and hub import nothing of ours, webui only speaks HTTP, hw_sim stands on radio and frames."""
    allowed = {
        "radio": {"radio"},
        "platform/hub": {"hub"},
        "gateway": {"gateway", "radio", "hub"},
        "webui": {"webui"},
        "hw_sim": {"hw_sim", "radio", "gateway.lorawan"},
    }
    simulated = {"gateway/cli_sim.py"}  # the command `fluxgate sim`, which no gateway in service uses
    statement = re.compile(r"^\s*(?:from|import)\s+((?:radio|hub|gateway|webui|hw_sim)[\w.]*)", re.MULTILINE)
    offences = []
    for folder, prefixes in allowed.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            offences += [
                f"{path.relative_to(ROOT)} imports {module}"
                for module in statement.findall(path.read_text())
                if not any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)
                and not (str(path.relative_to(ROOT)) in simulated and module.startswith("hw_sim"))
            ]
    assert offences == []


def test_no_file_names_a_package_registry() -> None:
    pattern = re.compile(r"index-url *[=:]? *http|\"resolved\": *\"http|registry *= *http")
    named = [
        str(path)
        for path in tracked_files()
        if path.suffix not in {".png", ".ico"} and path != Path(__file__).resolve()
        if pattern.search(path.read_text(errors="ignore"))
    ]
    assert named == []
