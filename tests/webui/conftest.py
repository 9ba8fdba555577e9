"""Fixtures of the admin pages. `gateway_url` is the one place that decides which gateway they meet."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.webui.browsing import CHROMIUM, PHONE, Watched
from tests.webui.double import GatewayDouble, Visitor, api_server, served
from webui.app import close, create_app
from webui.config import WebuiConfig
from webui.main import make_server


@pytest.fixture
def double() -> GatewayDouble:
    return GatewayDouble()


@pytest.fixture
def gateway_url(double: GatewayDouble) -> Iterator[str]:
    """Address of the gateway's REST API that pages under test talk to."""
    with served(api_server(double)) as url:
        yield url


@pytest.fixture
def config(gateway_url: str) -> WebuiConfig:
    return WebuiConfig(api_url=gateway_url)


@pytest.fixture
def webui_url(config: WebuiConfig) -> Iterator[str]:
    """Address of the admin pages, served as `fluxgate webui` serves them."""
    with served(make_server(config)) as url:
        yield url


@pytest.fixture
def visitor(config: WebuiConfig) -> Iterator[Visitor]:
    """Nobody yet."""
    app = create_app(config)
    yield Visitor(app.test_client())
    close(app)


@pytest.fixture
def person(visitor: Visitor) -> Visitor:
    """Somebody who is signed in."""
    visitor.sign_in()
    return visitor


@pytest.fixture
def site(double: GatewayDouble) -> GatewayDouble:
    """A gateway with some life: devices, all kinds of frames, a queue upstream."""
    now = time.time()
    double.add_device(
        "a84041ffff1c3d5e",
        "Cold room 1",
        dev_addr="26011bda",
        last_seen=now - 8,
        rssi_dbm=-87,
        snr_db=9.2,
        sf=7,
        fcnt_up=123,
        uplinks=1204,
        battery=200,
    )
    double.add_device(
        "a84041ffff1c3d5f",
        "Cellar",
        dev_addr="26011bdb",
        last_seen=now - 6720,
        rssi_dbm=-112,
        snr_db=-5.5,
        sf=7,
        fcnt_up=17,
        uplinks=18,
        battery=255,
    )
    double.add_device("a84041ffff1c3d60", "Door east")
    double.upstream = [
        {
            "name": "cloud",
            "state": "offline",
            "detail": "No route to the broker; next try in 38 s.",
            "queued": 1204,
            "delivered": 18402,
            "since": now - 8040,
        }
    ]
    air = {"freq_hz": 868_100_000, "datr": "SF7BW125"}
    double.heard(
        "rejected",
        **air,
        rssi_dbm=-101,
        snr_db=2.5,
        size=23,
        dev_eui="70b3d57ed0001a2b",
        reason="unknown_dev_eui",
    )
    double.heard(
        "join", **air, rssi_dbm=-86, snr_db=9.5, size=23, dev_eui="a84041ffff1c3d5e", name="Cold room 1"
    )
    double.heard("downlink", **air, size=33, dev_eui="a84041ffff1c3d5e", name="Cold room 1")
    double.heard(
        "rejected",
        **air,
        rssi_dbm=-84,
        snr_db=8.7,
        size=18,
        dev_addr="26011bdc",
        fcnt=9,
        reason="bad_mic",
        detail="DevAddr is known, no session key fits.",
    )
    double.heard(
        "uplink",
        **air,
        rssi_dbm=-87,
        snr_db=9.2,
        size=24,
        fport=2,
        fcnt=123,
        dev_eui="a84041ffff1c3d5e",
        dev_addr="26011bda",
        name="Cold room 1",
        values=[
            {"n": "urn:dev:mac:a84041ffff1c3d5e_temperature_1", "u": "Cel", "v": 2.3},
            {"n": "urn:dev:mac:a84041ffff1c3d5e_humidity_2", "u": "%RH", "v": 55.5},
            {"n": "urn:dev:mac:a84041ffff1c3d5e_digital_in_3", "vb": True},
        ],
    )
    return double


@pytest.fixture(scope="module")  # no longer: its event loop would be in the way of others
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def watched(browser: Browser, webui_url: str) -> Iterator[Watched]:
    context = browser.new_context(viewport=PHONE, locale="en-GB")
    found = Watched(context, webui_url)
    yield found
    context.close()
    assert found.faults == []
    assert found.foreign == []
