"""Other people's clients judge the door, which runs in a process of its own: libcoap, aiocoap and its command."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiocoap
import pytest

SERVE = Path(__file__).with_name("serve.py")
ROOT = Path(__file__).parents[3]
PATIENCE_S = 60
SENML = '[{"n":"temperature","u":"Cel","v":21.5}]'

LIBCOAP = next(
    (
        name
        for name in ("coap-client-notls", "coap-client-openssl", "coap-client-gnutls")
        if shutil.which(name)
    ),
    "",
)


class Served:
    """The door's process. `facts` is what it printed."""

    def __init__(self, folder: Path, port: int = 0, *flags: str) -> None:
        folder.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, str(SERVE), str(folder), str(port), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "platform")},
        )
        assert self.process.stdout is not None
        self.facts: dict[str, Any] = json.loads(self.process.stdout.readline())

    @property
    def base(self) -> str:
        return f"coap://127.0.0.1:{self.facts['port']}"

    def uri(self, sub: str = "", thing: str = "a") -> str:
        path = f"channels/{self.facts['channel']}/messages" + (f"/{sub}" if sub else "")
        return f"{self.base}/{path}?auth={self.facts[thing][1]}"

    def stop(self) -> dict[str, int]:
        """End it in order; its counters. It may have complained of refused requests, and of nothing else."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        assert [
            line for line in err.splitlines() if not re.match(r"coap: [\d.:]+ of [\w-]+: 4\.", line)
        ] == []
        return dict(json.loads(out))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    door = Served(tmp_path / "data")
    yield door
    if door.process.poll() is None:
        door.stop()


def run(*command: str, data: bytes | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE_S, check=True)
    return (done.stdout + done.stderr).decode()


def test_libcoap_posts_and_gets(served: Served) -> None:
    assert run(LIBCOAP, "-m", "post", "-t", "110", "-e", SENML, served.uri("roof")) == ""
    assert run(LIBCOAP, "-m", "put", "-t", "50", "-e", '{"door":"open"}', served.uri("door")) == ""
    assert SENML in run(LIBCOAP, "-m", "get", served.uri("roof"))
    assert '{"door":"open"}' in run(LIBCOAP, "-m", "get", "-N", served.uri("door"))
    shown = subprocess.run(
        [LIBCOAP, "-m", "get", "-A", "112", served.uri("roof")],
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    ).stdout
    assert b"temperature" in shown
    assert b"{" not in shown
    assert served.stop()["published"] == 2


def test_libcoap_is_told_what_is_wrong(served: Served) -> None:
    uri = served.uri()
    assert "4.01" in run(LIBCOAP, "-m", "post", "-e", "x", uri.partition("?")[0])
    assert "4.01" in run(LIBCOAP, "-m", "post", "-e", "x", uri.partition("?")[0] + "?auth=wrong")
    assert "4.04" in run(LIBCOAP, "-m", "get", served.base + "/nothing")
    assert "4.05" in run(LIBCOAP, "-m", "delete", uri)
    assert "4.06" in run(LIBCOAP, "-m", "get", "-A", "40", uri)
    assert "4.15" in run(LIBCOAP, "-m", "post", "-t", "41", "-e", "<x/>", uri)
    assert "4.00" in run(LIBCOAP, "-m", "post", "-t", "110", "-e", "{}", uri)
    assert "</channels>" in run(LIBCOAP, "-m", "get", served.base + "/.well-known/core")


@pytest.mark.parametrize("size", [16, 256, 1024])
def test_libcoap_sends_and_fetches_in_blocks(served: Served, tmp_path: Path, size: int) -> None:
    body = json.dumps([{"n": f"n{n}", "v": n} for n in range(300)]).replace(" ", "")
    file = tmp_path / "body.json"
    file.write_text(body)
    run(LIBCOAP, "-m", "post", "-t", "110", "-b", str(size), "-f", str(file), served.uri("much"))
    got = tmp_path / "got.json"
    run(LIBCOAP, "-m", "get", "-b", str(size), "-o", str(got), served.uri("much"))
    assert got.read_text() == body
    assert served.stop()["published"] == 1


@pytest.mark.parametrize("client", ["libcoap", "aiocoap"])
def test_both_commands_page_through_the_history(served: Served, tmp_path: Path, client: str) -> None:
    file = tmp_path / "pack.json"
    file.write_text(json.dumps([{"bt": 1e9, "n": "a", "t": n, "v": n} for n in range(90)]))
    run(LIBCOAP, "-m", "post", "-t", "110", "-f", str(file), served.uri("much"))
    command = [LIBCOAP, "-m", "get"]
    if client == "aiocoap":
        command = [sys.executable, "-m", "aiocoap.cli.client", "--no-pretty-print"]
    found: list[float] = []
    uri = f"{served.uri()}&limit=40"
    while uri:
        page, _ = json.JSONDecoder().raw_decode(run(*command, uri))  # a remark may follow
        assert page["total"] == 90
        found += [record["value"] for record in page["messages"]]
        uri = f"{served.uri()}&limit=40&next={page['next']}" if "next" in page else ""
    assert found == [float(n) for n in range(89, -1, -1)]
    served.stop()


def test_libcoap_observes(served: Served) -> None:
    watcher = subprocess.Popen(
        [LIBCOAP, "-v", "6", "-s", "60", "-m", "get", served.uri("watched", "b")], stdout=subprocess.PIPE
    )
    assert watcher.stdout is not None
    try:
        seen = b""
        sent = 0
        # The first may be the answer to the GET, if a post came before that
        while seen.count(b'"v":21.5') < 2:
            sent += 1
            run(LIBCOAP, "-m", "post", "-e", SENML, served.uri("watched"))
            seen += os.read(watcher.stdout.fileno(), 65536)
    finally:
        watcher.kill()
        watcher.communicate()
    counters = served.stop()
    assert counters["notifications"] >= 1
    assert counters["addresses_proven"] >= 1


def test_aiocoap_command_posts_gets_and_sees_the_codes(served: Served) -> None:
    command = [sys.executable, "-m", "aiocoap.cli.client"]
    run(
        *command,
        "-m",
        "POST",
        "--payload",
        SENML,
        "--content-format",
        "application/senml+json",
        served.uri("roof"),
    )
    assert SENML in run(*command, served.uri("roof"))
    refused = subprocess.run(
        [*command, served.uri() + "x"], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert "4.01" in refused.stderr + refused.stdout
    served.stop()


PAGE = (ROOT / "docs" / "coap.md").read_text()
EXAMPLES = [
    command.replace("\\\n", "")
    for block in re.findall(r"```sh\n(.*?)```", PAGE.partition("## Large payloads")[0], re.DOTALL)
    for command in re.split(r"\n+(?=\S)", block.strip())
]


def test_examples_of_the_page_work_as_they_stand(served: Served) -> None:
    facts = served.facts
    names = {"GW": f"127.0.0.1:{facts['port']}", "CHANNEL": facts["channel"], "KEY": facts["a"][1]}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert len(EXAMPLES) == 9
    for example in EXAMPLES:
        command = example.replace("coap-client-notls", LIBCOAP)
        process = subprocess.Popen(
            ["bash", "-c", "exec " + command],
            env=os.environ | names | {"PATH": path, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        if "-m post" in example.lower():
            output, _ = process.communicate(timeout=PATIENCE_S)
            assert b"4." not in output, output
        else:
            output = os.read(process.stdout.fileno(), 65536)
            process.kill()
            process.communicate()
            assert b"temperature" in output, example
    assert served.stop()["published"] == 2


def test_aiocoap_observes_large_values_block_by_block(served: Served) -> None:
    async def main() -> list[bytes]:
        client = await aiocoap.Context.create_client_context(transports=["simple6"])
        uri = served.uri("large")
        seen: list[bytes] = []
        try:
            request = client.request(aiocoap.Message(code=aiocoap.GET, uri=uri, observe=0))
            assert (await request.response).payload == b""
            assert request.observation is not None
            stream = aiter(request.observation)
            for letter in (b"a", b"b"):
                posted = client.request(
                    aiocoap.Message(code=aiocoap.POST, uri=uri, payload=letter * 3000, content_format=42)
                )
                assert (await posted.response).code == aiocoap.CHANGED
                async with asyncio.timeout(PATIENCE_S):
                    seen.append((await anext(stream)).payload)
            request.observation.cancel()
        finally:
            await client.shutdown()
        return seen

    assert asyncio.run(main()) == [b"a" * 3000, b"b" * 3000]
    assert served.stop()["published"] == 2
