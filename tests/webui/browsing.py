"""A real browser for the pages, and what is watched while it visits them."""

from __future__ import annotations

import re
import shutil

from playwright.sync_api import BrowserContext, Page, ViewportSize, expect

from tests.webui.double import EMAIL, PASSPHRASE

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PHONE: ViewportSize = {"width": 390, "height": 844}
PATIENCE_MS = 30_000  # of any single wait on a busy machine; what is expected is there at once as a rule

expect.set_options(timeout=PATIENCE_MS)  # in all tests that import this module; else 5 s

WATCH = """
addEventListener("securitypolicyviolation", (event) =>
  console.error("CSP: " + event.violatedDirective + " " + event.blockedURI));
"""


def section(page: Page, name: str) -> None:
    """Go there by the navigation, which every page has."""
    page.get_by_role("navigation", name="Sections").get_by_role("link", name=name).click()


class Watched:
    """A page whose every request, console line and fault is kept."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.faults: list[str] = []  # errors and warnings of the console, violations of the policy among them
        self.foreign: list[str] = []
        self.signing_out = False
        self.page.add_init_script(WATCH)
        self.page.on("console", lambda line: self._line(line.type, line.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self._request(request.url))

    def _line(self, kind: str, text: str) -> None:
        if self.signing_out and "status of 401" in text:
            return  # the page was asking for a part of itself just then
        if kind in {"error", "warning"}:
            self.faults.append(text)

    def _request(self, url: str) -> None:
        if not url.startswith((self.url, "data:")):
            self.foreign.append(url)

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def sign_in(self) -> Page:
        page = self.open("/login")
        self.fill_in_sign_in()
        return page

    def fill_in_sign_in(self) -> None:
        """On the sign-in page: become the owner."""
        page = self.page
        page.get_by_label("E-mail").fill(EMAIL)
        page.get_by_label("Passphrase").fill(PASSPHRASE)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Home")

    def fill_in_claim(self, code: str) -> None:
        """On the claim page: become the owner of a fresh gateway."""
        page = self.page
        expect(page).to_have_title(re.compile("Claim this gateway"))
        page.get_by_label("One-time code").fill(code)
        page.get_by_label("Your e-mail").fill(EMAIL)
        page.get_by_label("A new passphrase").fill(PASSPHRASE)
        page.get_by_label("The same passphrase again").fill(PASSPHRASE)
        page.get_by_role("button", name="Claim and sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Home")
