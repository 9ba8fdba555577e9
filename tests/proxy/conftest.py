"""The real nginx with the shipped configuration, in front of a real hub with all its doors and the real pages.

What is shipped is what runs: the files of platform/nginx are copied, and only paths, ports and names are put in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.demo.broker import free_port
from hub.http.proxies import Proxies
from hub.tls import door_context, load_pair
from tests.attacks.conftest import Site, open_site
from tests.hub.pki import Authority
from webui.config import WebuiConfig
from webui.main import make_server

SHIPPED = Path(__file__).parents[2] / "platform" / "nginx"
PORTS = {"http": 80, "https": 443, "mqtts": 8883, "mqtts_passed": 8886, "mqtt": 1883, "of_2017": 6969}
NAME = "fluxgate.local"
PAGES_KEY = "only-the-pages-know"
DEADLINE_S = 30.0
T = TypeVar("T")


def free_ports(names: Mapping[str, int]) -> dict[str, int]:
    """A port of the system's choice for each name, all different."""
    found: dict[str, int] = {}
    while len(found) < len(names):
        port = free_port()
        if port not in found.values():
            found[list(names)[len(found)]] = port
    return found


@dataclass
class Nginx:
    """One nginx in a folder, unprivileged: `ports` are those of PORTS by name."""

    folder: Path
    authority: Authority
    ports: dict[str, int] = field(default_factory=lambda: free_ports(PORTS))
    process: subprocess.Popen[bytes] | None = None

    @property
    def etc(self) -> Path:
        return self.folder / "etc"

    @property
    def main(self) -> Path:
        return self.etc / "nginx.conf"

    def file(self, name: str) -> Path:
        """One of the files below fluxgate/."""
        return self.etc / "fluxgate" / name

    def change(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace texts in a file; each has to be there."""
        path = self.file(name) if name != "nginx.conf" else self.main
        text = path.read_text()
        for old, new in changes:
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new)
        path.write_text(text)

    def write(self, servers: Mapping[str, list[int]]) -> None:
        """The shipped files with this place's paths, ports and names; `servers` are ports by upstream."""
        shutil.copytree(SHIPPED, self.etc, dirs_exist_ok=True)
        numbers = {str(PORTS[name]): str(port) for name, port in self.ports.items()}
        for path in self.etc.rglob("*.conf"):
            text = path.read_text().replace("/etc/nginx/", f"{self.etc}/")
            text = text.replace("/var/log/nginx/", f"{self.folder}/")
            text = re.sub(
                r"^(\s*listen )(\[::\]:)?(\d+)",
                lambda found: f"{found[1]}{'[::1]' if found[2] else '127.0.0.1'}:{numbers[found[3]]}",
                text,
                flags=re.M,
            )
            path.write_text(text)
        modules = re.search(
            r"--modules-path=(\S+)", subprocess.run(["nginx", "-V"], capture_output=True).stderr.decode()
        )
        assert modules is not None
        temporary = "".join(
            f"    {name}_temp_path {self.folder}/tmp-{name};\n" for name in ("client_body", "proxy")
        )
        temporary += "".join(
            f"    {each}_temp_path {self.folder}/tmp-{each};\n" for each in ("fastcgi", "scgi", "uwsgi")
        )
        self.change(
            "nginx.conf",
            ("user www-data;", "user root;" if os.geteuid() == 0 else ""),
            ("/run/nginx.pid", f"{self.folder}/nginx.pid"),
            ("load_module modules/", f"load_module {modules[1]}/"),
            ("http {\n", f"http {{\n{temporary}"),
        )
        self.change("site/names.conf", (f"server_name {NAME};", f"server_name {NAME} localhost 127.0.0.1;"))
        for file in ("site/gateways.conf", "site/mqtt.conf"):
            text = self.file(file).read_text()
            for upstream, ports in servers.items():
                lines = "".join(f"\n    server 127.0.0.1:{port};" for port in ports)
                text = re.sub(
                    rf"^(upstream {upstream} {{)\n    server [\d.:]+;", rf"\1{lines}", text, flags=re.M
                )
            self.file(file).write_text(text)
        pair = self.authority.server()
        shutil.copy(pair.cert, self.file("site/server.pem"))
        shutil.copy(pair.key, self.file("site/server.key"))

    def test(self) -> subprocess.CompletedProcess[str]:
        """`nginx -t`."""
        return subprocess.run([*self._command(), "-t"], capture_output=True, text=True, check=False)

    def start(self) -> None:
        checked = self.test()
        assert checked.returncode == 0, checked.stderr
        self.process = subprocess.Popen([*self._command(), "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        for name, port in self.ports.items():
            if name != "of_2017" or "as-2017.conf" in self.main.read_text():
                self._wait_for(port)

    def _command(self) -> list[str]:
        return ["nginx", "-e", f"{self.folder}/error.log", "-p", str(self.folder), "-c", str(self.main)]

    def _wait_for(self, port: int) -> None:
        assert self.process is not None
        for _ in range(int(DEADLINE_S * 100)):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            assert self.process.poll() is None, self.log()
            threading.Event().wait(0.01)
        raise AssertionError(f"nginx does not listen on {port}: {self.log()}")

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(DEADLINE_S)

    def log(self) -> str:
        path = self.folder / "error.log"
        return path.read_text() if path.exists() else ""


class Echo:
    """Somebody else's service: answers with the head of the request, as it came."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
        writer.close()


class Front:
    """nginx, a hub, the pages and another service; coroutines run on the hub's loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.nginx = Nginx(folder, self.authority)
        self.echo = Echo()
        self.site: Site
        self.mqtt_port = self.mqtt_tls_port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hub")
        self._opened: contextlib.AsyncExitStack | None = None
        self._pages: uvicorn.Server | None = None
        self._listener: socket.socket | None = None
        self._pages_thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the hub's loop, to the end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(3 * DEADLINE_S)

    @property
    def origin(self) -> str:
        return f"https://127.0.0.1:{self.nginx.ports['https']}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.cert))

    def client(self, address: str = "127.0.0.9", **more: Any) -> httpx.AsyncClient:
        """A client of the proxy with an address of its own; none of these is trusted."""
        transport = httpx.AsyncHTTPTransport(verify=more.pop("verify", self.trust), local_address=address)
        return httpx.AsyncClient(base_url=self.origin, transport=transport, timeout=DEADLINE_S, **more)

    async def dial(
        self, name: str, address: str = "127.0.0.9"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to one of nginx's ports, over TLS where it speaks that."""
        context = self.trust if name in ("https", "mqtts", "mqtts_passed") else None
        return await asyncio.open_connection(
            "127.0.0.1", self.nginx.ports[name], ssl=context, local_addr=(address, 0)
        )

    async def raw(self, request: bytes, name: str = "https", address: str = "127.0.0.9") -> bytes:
        """Send exactly this and read until the other side closes."""
        reader, writer = await self.dial(name, address)
        try:
            writer.write(request)
            return await asyncio.wait_for(reader.read(), DEADLINE_S)
        finally:
            writer.close()

    def start(self, adjust: Any = None) -> None:
        """`adjust` is given this object once the files are written and before nginx starts."""
        self._thread.start()
        self.run(self._open())
        pages = make_server(
            WebuiConfig(
                port=0,
                api_url=f"http://127.0.0.1:{self.site.http.port}",
                trusted_proxies=("127.0.0.1",),
                pages_key=PAGES_KEY,
                secure_cookies=True,
            )
        )
        listener = self._listener = socket.create_server(("127.0.0.1", 0))
        self._pages = pages
        self._pages_thread = threading.Thread(target=lambda: pages.run(sockets=[listener]), name="pages")
        self._pages_thread.start()
        self.nginx.write(
            {
                "fluxgate_api": [self.site.http.port],
                "fluxgate_pages": [listener.getsockname()[1]],
                "fluxgate_mqtt": [self.mqtt_port],
                "fluxgate_mqtt_tls": [self.mqtt_tls_port],
            }
        )
        if adjust is not None:
            adjust(self)
        self.nginx.start()

    async def _open(self) -> None:
        self._opened = contextlib.AsyncExitStack()
        proxies = Proxies(["127.0.0.1"], pages_key=PAGES_KEY)
        self.site = await self._opened.enter_async_context(open_site(self.folder / "data", proxies))
        await self.echo.start()
        self._opened.push_async_callback(self.echo.close)
        authority = self.site.hub.registry.authority
        await asyncio.to_thread(authority.ensure, self.site.hub.now_s())
        pair = self.authority.server("inner")
        context = door_context(authority.trusted())
        load_pair(context, pair.cert, pair.key)
        self.mqtt_port = self.site.mqtt.listen_behind_proxy("127.0.0.1", 0, proxies.trusts)
        self.mqtt_tls_port = self.site.mqtt.listen_behind_proxy("127.0.0.1", 0, proxies.trusts, ssl=context)

    def stop(self) -> None:
        self.nginx.stop()
        if self._pages is not None and self._pages_thread is not None:
            self._pages.should_exit = True
            self._pages_thread.join(DEADLINE_S)
        if self._listener is not None:
            self._listener.close()
        if self._opened is not None:
            self.run(self.site.http.close())  # a test may have put another in its place
            self.run(self._opened.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()


@dataclass(frozen=True)
class Certified:
    """A thing with a certificate of the gateway's authority, in files."""

    id: str
    serial: str
    cert: Path
    key: Path


async def certify(front: Front, thing_id: str) -> Certified:
    """Have a certificate made for a thing."""
    certificates, now_s = front.site.hub.registry.certificates, front.site.hub.now_s()
    issued = await asyncio.to_thread(certificates.issue, thing_id, now_s, "test")
    serial = issued.certificate.serial
    files = Certified(thing_id, serial, front.folder / f"{serial}.pem", front.folder / f"{serial}.key")
    files.cert.write_text(issued.chain)
    files.key.write_text(issued.key)
    return files


def certificates(front: Front) -> None:
    """Things may show certificates to nginx, as site/certificate.conf says."""
    root = front.site.hub.registry.authority.root
    assert root is not None
    front.nginx.file("site/things.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    front.nginx.change(
        "site/certificate.conf",
        *(
            (f"#ssl_{each}", f"ssl_{each}")
            for each in ("client_certificate", "verify_client", "verify_depth")
        ),
    )


def services(front: Front) -> None:
    """The examples of site/services.conf, both with the same service behind them; and the front of 2017."""
    text = front.nginx.file("site/services.conf").read_text()
    text = re.sub(r"^#(?=\S| {4})", "", text, flags=re.M)
    for port in ("3000", "3001"):
        assert f"127.0.0.1:{port}" in text
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{front.echo.port}")
    front.nginx.file("site/services.conf").write_text(text)
    http = "include fluxgate/http.conf;"
    front.nginx.change("nginx.conf", (http, f"{http} include fluxgate/parts/as-2017.conf;"))
    certificates(front)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """nginx in front of everything, one for a module."""
    opened = Front(tmp_path_factory.mktemp("front"))
    try:
        opened.start(services)
        yield opened
    finally:
        opened.stop()
