"""What the radio process must still know after a restart: a few small JSON files in a folder of their own.

In: a name and a dictionary of plain values. Out: the same, from the last write that was complete. A file is
replaced whole (written beside, synced, renamed) and carries a checksum of its value, so a reader sees the old
or the new one, whatever moment the power went. Where the folder cannot be written, values live in memory and
that is said once. It does not decide when to write: that is its users' matter, and never a downlink's.
"""

import hashlib
import json
import logging
import os
import re
import threading
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

MAX_BYTES: Final = 1 << 20  # no user keeps a tenth of it; more is a foreign file
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,40}", re.ASCII)


class StateFolder:
    """Named values that survive a restart; from any thread. `path` None: they live in memory only."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.fault = ""  # why values do not survive a restart, in a technician's words; empty while they do
        self._lock = threading.Lock()
        self._memory: dict[str, str] = {}
        if path is None:
            self.fault = "no folder is set for what must survive a restart ([radio] state_dir)"
            return
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self._complain(error)

    def read(self, name: str) -> dict[str, Any] | None:
        """The last value written, or None where there is none or its file is damaged (it is set aside).

        Raises ValueError for a name that is not lower case letters, digits, "-" and "_".
        """
        with self._lock:
            if self.path is not None and name not in self._memory:
                text = self._read_file(self._file(name))
                if text is None:
                    return None
                self._memory[name] = text
            text = self._memory.get(_checked(name))
        if text is None:
            return None
        value: dict[str, Any] = json.loads(text)
        return value

    def write(self, name: str, value: dict[str, Any]) -> bool:
        """Keep `value`; True once it is on the disk, False where it is in memory only (`fault` says why).

        Blocks for as long as the disk takes. Raises ValueError for a bad name or a value JSON cannot hold.
        """
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        with self._lock:
            self._memory[_checked(name)] = text
            if self.path is None:
                return False
            try:
                _replace(self._file(name), _sealed(text))
            except OSError as error:
                self._complain(error)
                return False
            if self.fault:
                log.warning("%s can be written again", self.path)
                self.fault = ""
            return True

    def _file(self, name: str) -> Path:
        assert self.path is not None
        return self.path / f"{_checked(name)}.json"

    def _read_file(self, file: Path) -> str | None:
        try:
            with file.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain(error)
            return None
        text = _opened(data)
        if text is None:
            aside = file.with_suffix(".damaged")  # one is kept: the newest
            try:
                file.replace(aside)
            except OSError as error:
                self._complain(error)
            log.error("%s is damaged: set aside as %s, starting without it", file, aside.name)
        return text

    def _complain(self, error: OSError) -> None:
        reason = (
            f"{self.path} cannot be used ({error.strerror or error}): what is learned is lost at a restart"
        )
        if reason != self.fault:
            log.error("%s", reason)
        self.fault = reason


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name of a state file")
    return name


def _sealed(text: str) -> bytes:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"sha256":"{digest}","value":{text}}}\n'.encode()


def _opened(data: bytes) -> str | None:
    """The value's JSON text, or None for anything that is not a whole file of ours."""
    if len(data) > MAX_BYTES:
        return None
    try:
        tree = json.loads(data)
        value = tree["value"]
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        whole = isinstance(value, dict) and tree["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return text if whole else None


def _replace(file: Path, data: bytes) -> None:
    """Write beside, sync, rename, and sync the folder: old or new after a power cut, never a mixture."""
    beside = file.with_suffix(".new")
    with beside.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
