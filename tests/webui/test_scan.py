"""The camera on the page of a new device, in a real browser whose detector and camera are stood in for."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.webui.browsing import Watched
from tests.webui.double import GatewayDouble

CODE = "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122"
# Headless Chromium on Linux has neither; the page must not care who provides them.
STAND_IN = """
window.BarcodeDetector = class {
  static async getSupportedFormats() { return ["qr_code"]; }
  async detect() { return [{ rawValue: "%s" }]; }
};
navigator.mediaDevices.getUserMedia = async () => document.createElement("canvas").captureStream(5);
"""


def test_a_code_that_the_camera_sees_fills_in_the_form(watched: Watched, site: GatewayDouble) -> None:
    site.labels[CODE] = {"form": "LoRaWAN label (TR005)", "dev_eui": "aabbccddeeff0011", "checked": True}
    watched.page.add_init_script(STAND_IN % CODE)
    watched.sign_in()
    page = watched.open("/devices/add")
    page.get_by_role("button", name="Scan with the camera").click()
    expect(page.get_by_label("DevEUI")).to_have_value("aabbccddeeff0011")


def test_a_browser_that_reads_no_codes_says_what_to_do(watched: Watched, site: GatewayDouble) -> None:
    watched.sign_in()
    page = watched.open("/devices/add")
    expect(page.get_by_text("This browser reads no codes itself.")).to_be_visible()
    expect(page.get_by_role("button", name="Scan with the camera")).to_be_hidden()
