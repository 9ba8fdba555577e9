"""npm's mqtt, in Node.js over TCP and WebSocket, and in a real browser over WebSocket."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.hub.mqtt import seeds
from tests.hub.mqtt.whole import ROOT, Whole, whole_server

NODE = ROOT / "tests/node"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PATIENCE_S = 60
_names = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_server(tmp_path_factory.mktemp("whole")) as server:
        yield server


@pytest.fixture
def topic(server: Whole) -> str:
    return f"{server.topic}/n{next(_names)}"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.add_script_tag(path=NODE / "node_modules/mqtt/dist/mqtt.min.js")
        yield page
        browser.close()


def node(script: str, *arguments: str, text: str = "") -> Any:
    done = subprocess.run(
        ["node", str(NODE / script), *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", ["4", "5"])
@pytest.mark.parametrize("way", ["tcp", "ws"])
def test_npm_mqtt_meets_itself(server: Whole, topic: str, way: str, version: str) -> None:
    scheme, path = ("mqtt", "") if way == "tcp" else ("ws", "/mqtt")
    url = f"{scheme}://127.0.0.1:{server.port(way)}{path}"
    found = node("mqtt_meets.mjs", url, *server.key("a"), topic, version)
    assert found["granted"] == 2
    five = version == "5"
    plain = {"type": "text/plain" if five else None, "pairs": ["Cel", "K"] if five else None}
    other = {"type": None, "pairs": None}
    live = {"retain": False}
    first = sorted(found["seen"][:5], key=lambda message: message["topic"])
    assert first == [
        *({"topic": f"/{qos}", "size": 1, "qos": qos, **live, **plain} for qos in range(3)),
        {"topic": "/kept", "size": 2, "qos": 1, **live, **other},
        {"topic": "/large", "size": 200_000, "qos": 1, **live, **other},
    ]
    assert found["late"] == [["/kept", True]]
    assert found["present"]
    assert found["missed"] == ["1", "2"]
    assert found["refusal"] in ((134, 135) if five else (4, 5))
    assert found["denied"] >= 128


BROWSE = """
async ([url, username, password, topic, protocolVersion]) => {
  const client = mqtt.connect(url, { username, password, protocolVersion, reconnectPeriod: 0 });
  const seen = [];
  client.on("message", (name, payload, packet) => seen.push([name, payload.length, packet.qos]));
  await new Promise((resolve, reject) => { client.once("connect", resolve); client.once("error", reject); });
  await client.subscribeAsync(topic, { qos: 2 });
  for (const qos of [0, 1, 2]) await client.publishAsync(topic, new Uint8Array(100 * 10 ** qos), { qos });
  while (seen.length < 3) await new Promise((resolve) => setTimeout(resolve, 10));
  await client.endAsync();
  return seen;
}
"""


@pytest.mark.parametrize("version", [4, 5])
def test_a_browser_publishes_and_subscribes(server: Whole, topic: str, page: Page, version: int) -> None:
    url = f"ws://127.0.0.1:{server.port('ws')}/mqtt"
    seen = page.evaluate(BROWSE, [url, *server.key("a"), topic, version])
    assert sorted(seen) == sorted([topic, 100 * 10**qos, qos] for qos in range(3))


WITHOUT = """
([url, protocols]) => new Promise((resolve) => {
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => { resolve("open " + socket.protocol); socket.close(); };
  socket.onerror = () => resolve("refused");
})
"""


def test_a_browser_has_to_offer_the_subprotocol(server: Whole, page: Page) -> None:
    url = f"ws://127.0.0.1:{server.port('ws')}/mqtt"
    assert page.evaluate(WITHOUT, [url, ["mqtt"]]) == "open mqtt"
    assert page.evaluate(WITHOUT, [url, ["other"]]) == "refused"
    assert page.evaluate(WITHOUT, [url, []]) == "refused"


@pytest.mark.parametrize("version", seeds.VERSIONS)
def test_npm_mqtt_packet_reads_every_seed(version: int) -> None:
    """The packets that the damage tests start from are valid in another implementation's eyes."""
    wires = [packet.hex() for packet in seeds.packets(version)]
    kinds = node("mqtt_packets.mjs", str(version), text=json.dumps(wires))
    names = ["connect", "publish", "puback", "pubrec", "pubrel", "pubcomp"]
    names += ["subscribe", "unsubscribe", "pingreq", "disconnect", *(["auth"] if version == 5 else [])]
    assert all(kinds), [wire for wire, kind in zip(wires, kinds, strict=True) if not kind]
    assert set(kinds) == set(names)


def test_npm_mqtt_packet_refuses_damage() -> None:
    """The negative control of the test above."""
    bad = ["3600000000", "6002", "100cffff"]
    assert node("mqtt_packets.mjs", "5", text=json.dumps(bad)).count("") == len(bad)
