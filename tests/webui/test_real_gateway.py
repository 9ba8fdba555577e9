"""A technician's first quarter of an hour, with nothing doubled: gateway, pages and broker are processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.webui.browsing import PHONE, Watched, section
from tests.webui.real import DEADLINE_S, RealSite, Sensor, real_site

NBSP = "\u00a0"


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealSite]:
    with real_site(tmp_path) as site:
        yield site


def test_from_the_claim_code_to_an_outage_upstream(browser: Browser, real: RealSite) -> None:
    context = browser.new_context(viewport=PHONE, locale="en-GB")
    watched = Watched(context, real.url)
    sensor = Sensor()

    page = watched.open("/")
    watched.fill_in_claim(real.claim_code())
    expect(page.locator(".lamp")).to_have_count(3)
    expect(page.locator(".hears")).to_contain_text("868.1 MHz · SF7")
    section(page, "More")
    watched.signing_out = True
    page.get_by_role("button", name="Sign out").click()
    watched.fill_in_sign_in()
    watched.signing_out = False

    # A device that nobody knows calls; what it needs is one press away.
    section(page, "Radio")
    expect(page.locator("[data-chip]")).to_have_text("Live")
    real.forwarder.push(sensor.uplink())
    rows = page.locator("tbody tr")
    expect(rows.first).to_contain_text("Refused")
    expect(rows.first).to_contain_text("No device here has this address")

    section(page, "Devices")
    page.get_by_role("link", name="Add a device").click()
    page.get_by_label("Name").fill("Cold room 1")
    page.get_by_label("DevEUI").fill(sensor.dev_eui)
    page.get_by_label("Fixed keys (ABP)").check()
    page.get_by_label("DevAddr").fill(str(sensor.dev_addr))
    page.get_by_label("NwkSKey").fill(sensor.nwk_s_key.value.hex())
    page.get_by_label("AppSKey").fill(sensor.app_s_key.value.hex())
    page.get_by_role("button", name="Add the device").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Device added")

    section(page, "Radio")
    expect(page.locator("[data-chip]")).to_have_text("Live")
    real.forwarder.push(sensor.uplink())
    uplink = page.locator("tbody tr.uplink")
    expect(uplink).to_have_count(1)
    expect(uplink).to_contain_text("Cold room 1")
    expect(uplink).to_contain_text(f"26.9{NBSP}°C")

    section(page, "Devices")
    entry = page.get_by_role("listitem").filter(has_text="Cold room 1")
    expect(entry).to_contain_text("heard")
    expect(entry).to_contain_text("SF7")
    entry.get_by_role("link").click()
    expect(page.locator(".readings")).to_contain_text(f"26.9{NBSP}°C")
    expect(page.locator(".readings")).to_contain_text(f"45{NBSP}% RH")

    page.get_by_label("Payload, hex").fill("01 00 ff")
    page.get_by_role("button", name="Queue the downlink").click()
    expect(page.get_by_role("status")).to_contain_text("Queued.")
    expect(page.locator("main")).to_contain_text("1\u00a0downlink waits for its next uplink")
    expect(page.locator("[data-chip]")).to_have_text("Live")
    real.forwarder.push(sensor.uplink())
    expect(page.locator("main")).not_to_contain_text("waits for its next uplink")
    wanted, orders = (1, bytes.fromhex("0100ff")), real.forwarder.downlinks
    order = orders.get(timeout=DEADLINE_S)
    while sensor.opens(order) != wanted:  # an answer to an earlier uplink
        order = orders.get(timeout=DEADLINE_S)

    section(page, "Upstream")
    cloud = page.locator("section").filter(has=page.get_by_role("heading", name="cloud"))
    expect(cloud.locator(".state")).to_have_text("connected")
    delivered, waiting = cloud.locator("div", has_text="Delivered"), cloud.locator("div", has_text="Waiting")
    expect(waiting.locator("b")).to_have_text("0")
    expect(delivered.locator("b")).not_to_have_text("0")
    expect(page.locator("[data-chip]")).to_have_text("Live")
    real.cloud.stop()
    expect(cloud.locator(".state")).to_have_text("offline", timeout=30_000)
    for queued in range(1, 4):
        real.forwarder.push(sensor.uplink())
        expect(waiting.locator("b")).not_to_have_text(str(queued - 1), timeout=30_000)
    expect(page.get_by_text("An outage loses nothing")).to_be_visible()
    expect(page.locator(".lamp", has_text="Upstream")).to_have_class("lamp warn")
    real.cloud.start()
    expect(cloud.locator(".state")).to_have_text("connected", timeout=60_000)
    expect(waiting.locator("b")).to_have_text("0")

    context.close()
    assert watched.faults == []
    assert watched.foreign == []
