"""A real InfluxDB 1.x on ports of its own in a folder of its own, to compare with: a peer and an independent oracle."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  compact-full-write-cold-duration = "5s"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
[logging]
  level = "error"
"""


def installed() -> bool:
    return shutil.which("influxd") is not None


class Influx:
    """One database `d` of a running influxd."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = [_free_port(), _free_port()]
        config = folder / "influxdb.conf"
        config.write_text(CONFIG.format(rpc=ports[0], http=ports[1], folder=folder))
        with (folder / "influxd.log").open("wb") as output:
            self._process = subprocess.Popen(
                ["influxd", "-config", str(config)], stdout=output, stderr=output
            )
        self._port = ports[1]
        self._connection: http.client.HTTPConnection | None = None
        for _ in range(600):
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.ask("CREATE DATABASE d", method="POST")
                return
            self._connection = None
            if self._process.poll() is not None:
                raise RuntimeError((folder / "influxd.log").read_text())
            time.sleep(0.05)  # until its port answers
        raise RuntimeError("influxd does not answer")

    def write(self, lines: bytes, precision: str = "ms") -> None:
        """Line protocol."""
        status, body = self._request("POST", f"/write?db=d&precision={precision}", lines)
        if status != 204:
            raise RuntimeError(body.decode())

    def ask(self, query: str, *, method: str = "GET") -> list[dict[str, Any]]:
        """The series of the answer; times as milliseconds."""
        status, body = self._request(method, "/query?" + urlencode({"db": "d", "q": query, "epoch": "ms"}))
        answer = json.loads(body)
        if status != 200 or "error" in answer["results"][0]:
            raise RuntimeError(body.decode())
        return list(answer["results"][0].get("series", []))

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for part in ("data", "wal") for path in _files(self.folder / part))

    def cpu_s(self) -> float:
        """CPU time of the server so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._process.terminate()
        self._process.wait()

    def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        self._connection.request(method, path, body)
        response = self._connection.getresponse()
        return response.status, response.read()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
