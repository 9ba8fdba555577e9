"""The pages in a real browser: from the claim to the upstream page, with everything watched that may go wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.webui.browsing import PHONE, Watched, section
from tests.webui.double import CODE, EMAIL, HOSTILE, PASSPHRASE, GatewayDouble
from tests.webui.test_hardware import FULL, STATION

COLD_ROOM = "a84041ffff1c3d5e"
PAGES = [
    "/",
    "/radio",
    "/radio/modules",
    "/radio/band",
    "/devices",
    "/devices/add",
    f"/devices/{COLD_ROOM}",
    "/upstream",
    "/more",
    "/account",
    "/audit",
]


def test_from_the_claim_to_the_cloud(watched: Watched, double: GatewayDouble) -> None:
    double.claimed = False
    page = watched.open("/")
    watched.fill_in_claim(CODE)
    expect(page.locator(".lamp")).to_have_count(3)

    section(page, "More")
    watched.signing_out = True
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    watched.signing_out = False
    page = watched.sign_in()

    section(page, "Radio")
    expect(page.locator("[data-chip]")).to_have_text("Live")
    expect(page.get_by_text("Nothing heard yet.")).to_be_visible()
    double.heard(
        "rejected", dev_eui=COLD_ROOM, reason="unknown_dev_eui", datr="SF7BW125", snr_db=8.0, rssi_dbm=-80
    )
    page.get_by_role("link", name="Add it").click()

    expect(page.get_by_label("DevEUI")).to_have_value(COLD_ROOM)
    page.get_by_label("Name").fill("Cold room 1")
    page.get_by_label("JoinEUI").fill("70B3D57ED0001A2B")
    page.get_by_label("AppKey").fill("2B7E151628AED2A6ABF7158809CF4F3C")
    page.get_by_role("button", name="Add the device").click()
    expect(page.get_by_text("a-thing-key-shown-once")).to_be_visible()

    page.get_by_role("link", name="Wait for its call").click()
    expect(page.locator("[data-chip]")).to_have_text("Live")
    double.heard(
        "uplink",
        dev_eui=COLD_ROOM,
        name="Cold room 1",
        fcnt=1,
        values=[{"n": "temperature_1", "u": "Cel", "v": 2.3}],
    )
    expect(page.locator(".readings")).to_contain_text("2.3\u00a0°C")
    page.get_by_label("Payload, hex").fill("01 00 ff")
    page.get_by_role("button", name="Queue the downlink").click()
    expect(page.get_by_role("status")).to_contain_text("Queued.")
    assert double.downlinks == [{"dev_eui": COLD_ROOM, "fport": 1, "payload": "0100ff", "confirmed": False}]

    section(page, "Devices")
    expect(page.get_by_role("link", name="Cold room 1")).to_be_visible()
    section(page, "Upstream")
    expect(page.get_by_text("Nothing is sent upstream")).to_be_visible()


def test_new_frames_appear_by_themselves_and_pause_holds_them(watched: Watched, site: GatewayDouble) -> None:
    watched.sign_in()
    page = watched.open("/radio")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(5)
    expect(page.locator("[data-chip]")).to_have_text("Live")
    site.heard("uplink", name="Newcomer", fcnt=77)
    expect(rows).to_have_count(6)
    expect(rows.first).to_contain_text("Newcomer")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("[data-chip]")).to_have_text("Paused")
    site.heard("uplink", name="Latecomer")
    page.get_by_role("button", name="Go on").click()
    expect(rows.first).to_contain_text("Latecomer")


def test_a_blocked_stream_turns_into_polling_that_is_said(watched: Watched, site: GatewayDouble) -> None:
    watched.sign_in()
    watched.page.route("**/live", lambda route: route.fulfill(status=204))
    watched.page.clock.install()
    page = watched.open("/radio")
    expect(page.locator("[data-chip]")).to_have_text("Polling every 10 s")
    site.heard("uplink", name="By polling")
    page.clock.fast_forward(10_000)
    expect(page.locator("tbody tr").first).to_contain_text("By polling")


def test_without_javascript_everything_is_there(
    browser: Browser, webui_url: str, site: GatewayDouble
) -> None:
    context = browser.new_context(viewport=PHONE, java_script_enabled=False)
    page = context.new_page()
    page.goto(webui_url)
    page.get_by_label("E-mail").fill(EMAIL)
    page.get_by_label("Passphrase").fill(PASSPHRASE)
    page.get_by_role("button", name="Sign in").click()
    section(page, "Radio")
    expect(page.locator("tbody tr")).to_have_count(5)
    expect(page.get_by_role("link", name="Look again")).to_be_visible()
    page.goto(f"{webui_url}/devices/add")
    expect(page.get_by_label("AppKey")).to_be_visible()
    expect(page.get_by_label("NwkSKey")).to_be_hidden()
    page.get_by_label("Fixed keys (ABP)").check()
    expect(page.get_by_label("AppKey")).to_be_hidden()
    expect(page.get_by_label("NwkSKey")).to_be_visible()
    context.close()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_page_scrolls_sideways_and_what_is_pressed_is_large(
    watched: Watched, site: GatewayDouble, width: int
) -> None:
    site.add_device("0011223344556677", "A" * 64, last_seen=1.0)
    site.hardware = FULL
    site.gateways[0] |= {
        "address": "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
        "restarts": 2,
        "problem": "x" * 200,
    }
    site.station, site.warnings = [STATION], ["gateway 0102030405060708 is not listened to"]
    watched.page.set_viewport_size({"width": width, "height": 800})
    watched.sign_in()
    for path in PAGES:
        page = watched.open(path)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path} is {wide} px too wide"
        small: list[Any] = page.evaluate(
            """[...document.querySelectorAll(".button, .bar a, .lamp, .list a, input:not([type=hidden]), select")]
            .map((part) => [part, (part.closest("label") || part).getBoundingClientRect()])
            .filter(([, box]) => box.width && (box.height < 48 || box.width < 48))
            .map(([part, box]) => `${part.outerHTML.slice(0, 60)} ${box.width}x${box.height}`)"""
        )
        assert small == [], path


def test_home_is_light(watched: Watched, site: GatewayDouble) -> None:
    """The budget of a cold visit: 30 KB and 8 requests, headers included."""
    watched.sign_in()
    session = watched.page.context.new_cdp_session(watched.page)
    session.send("Network.enable")
    session.send("Network.clearBrowserCache")
    received: dict[str, float] = {}
    asked: list[str] = []
    session.on("Network.requestWillBeSent", lambda event: asked.append(event["request"]["url"]))
    session.on(
        "Network.loadingFinished",
        lambda event: received.update({event["requestId"]: event["encodedDataLength"]}),
    )
    page = watched.open("/")
    expect(page.locator("[data-chip]")).to_have_text("Live")
    expect(page.locator("[data-live]").first).to_have_attribute("data-was", re.compile(".+"))
    first_visit = [url for url in asked if "/lamps" not in url and "/state" not in url]
    print(f"Home, cold: {sum(received.values()) / 1000:.1f} KB in {len(asked)} requests")
    assert sum(received.values()) <= 30_000
    assert len(set(first_visit)) <= 6  # Chromium may ask its cache for the icons a second time
    assert len(set(asked)) <= 8


def test_hostile_names_do_nothing(watched: Watched, double: GatewayDouble) -> None:
    double.add_device(COLD_ROOM, HOSTILE, last_seen=1.0)
    watched.sign_in()
    page = watched.open("/radio")
    expect(page.locator("[data-chip]")).to_have_text("Live")
    page.on("dialog", lambda dialog: watched.faults.append(f"dialog: {dialog.message}"))
    double.heard("uplink", dev_eui=COLD_ROOM, name=HOSTILE, values=[{"n": HOSTILE, "vs": HOSTILE}])
    expect(page.locator("tbody tr")).to_have_count(1)
    for path in ("/", "/devices", f"/devices/{COLD_ROOM}", "/account", "/audit"):
        watched.open(path)
        expect(watched.page.locator("main")).to_contain_text("<script>")


def test_the_gateway_going_away_and_coming_back_is_seen_without_a_reload(
    browser: Browser, webui_url: str, site: GatewayDouble
) -> None:
    """Not watched: failed requests are console errors, and here they are the point."""
    context = browser.new_context(viewport=PHONE)
    watched = Watched(context, webui_url)
    page = watched.sign_in()
    expect(page.locator("[data-chip]")).to_have_text("Live")
    site.broken = True
    site.heard("uplink")
    expect(page.get_by_role("alert").first).to_contain_text("does not answer", timeout=25_000)
    site.broken = False
    expect(page.locator(".lamp")).to_have_count(3, timeout=25_000)
    context.close()
