"""A third party's application, the real gateway, its real pages and a real browser between them."""

from __future__ import annotations

import http.server
import importlib
import re
import secrets
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.webui.browsing import PATIENCE_MS, PHONE
from tests.webui.double import EMAIL, PASSPHRASE
from tests.webui.real import RealSite, real_site

importlib.import_module("authlib.deprecate")  # which asks to see its warnings always
with warnings.catch_warnings():  # it would rather have httpx2, which is not what this project uses
    warnings.simplefilter("ignore")
    from authlib.integrations.httpx_client import OAuth2Client


class ThirdParty:
    """A website elsewhere: a page with a link to sign in, and the address people come back to."""

    def __init__(self) -> None:
        self.link = ""  # the gateway's question
        self.back: list[str] = []  # addresses that browsers came back to
        self.referrers: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = "<!doctype html><title>Elsewhere</title><h1>Elsewhere</h1>"
                if self.path.startswith("/cb?"):
                    site.back.append(f"{site.url}{self.path}")
                    site.referrers.append(self.headers.get("Referer", ""))
                    body += "<p>Welcome back</p>"
                body += f'<a href="{site.link.replace("&", "&amp;")}">Sign in with the gateway</a>'
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, name="elsewhere")
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join(20)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealSite]:
    with real_site(tmp_path) as site:
        yield site


def test_people_sign_in_to_an_application_of_somebody_else(
    browser: Browser, real: RealSite, tmp_path: Path
) -> None:
    file = (tmp_path / "fluxgate.toml").read_text()
    found = re.search(r'api_url = "(http://127\.0\.0\.1:\d+)"', file)
    assert found is not None
    api = httpx.Client(base_url=found[1], trust_env=False, timeout=30)
    claim = {"code": real.claim_code(), "email": EMAIL, "password": PASSPHRASE}
    owner = {"authorization": f"Bearer {api.post('/claim', json=claim).json()['token']}"}
    third = ThirdParty()
    wanted = {
        "name": "Greenhouse",
        "redirect_uris": [f"{third.url}/cb"],
        "scopes": ["openid", "email", "things:read"],
    }
    made = api.post("/applications", json=wanted, headers=owner).json()
    server = api.get("/.well-known/openid-configuration").json()
    # The pages under another name than the third party's, so that for the browser it is another site.
    assert server["authorization_endpoint"] == f"http://localhost:{real.config.webui.port}/oauth/authorize"

    client = OAuth2Client(
        *(made["id"], made["secret"]),
        redirect_uri=f"{third.url}/cb",
        scope="openid email things:read",
        code_challenge_method="S256",
        trust_env=False,
    )

    def asks(page: Page) -> str:
        """Begin on the third party's page; returns the verifier."""
        verifier = secrets.token_urlsafe(32)
        third.link, _ = client.create_authorization_url(
            server["authorization_endpoint"], code_verifier=verifier
        )
        page.goto(third.url)
        page.get_by_role("link", name="Sign in with the gateway").click()
        return verifier

    faults: list[str] = []
    with third.serving(), browser.new_context(viewport=PHONE, locale="en-GB") as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        verifier = asks(page)
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        page.get_by_label("E-mail").fill(EMAIL)
        page.get_by_label("Passphrase").fill(PASSPHRASE)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Allow Greenhouse?")
        expect(page.locator("main")).to_contain_text(third.url.removeprefix("http://"))
        expect(page.locator("main")).to_contain_text("see your e-mail address")
        page.get_by_role("button", name="Do not allow").click()
        expect(page.locator("body")).to_contain_text("Welcome back")
        assert "error=access_denied" in third.back[-1]

        verifier = asks(page)
        page.get_by_role("button", name="Allow", exact=True).click()
        expect(page.locator("body")).to_contain_text("Welcome back")
        assert f"iss={server['issuer'].replace(':', '%3A').replace('/', '%2F')}" in third.back[-1]
        token = client.fetch_token(
            server["token_endpoint"], authorization_response=third.back[-1], code_verifier=verifier
        )
        assert client.get(server["userinfo_endpoint"]).json()["email"] == EMAIL
        assert client.get(f"{server['issuer']}/things").status_code == 200
        assert client.get(f"{server['issuer']}/users").status_code == 403

        # Who has agreed is not asked again, though the browser comes from another site.
        before = len(third.back)
        asks(page)
        expect(page.locator("body")).to_contain_text("Welcome back")
        assert len(third.back) == before + 1
        assert "code=" in third.back[-1]
        assert set(third.referrers) == {""}

        page.goto(f"http://localhost:{real.config.webui.port}/oauth/consents")
        page.get_by_role("button", name="Take it back").first.click()
        expect(page.get_by_role("status").first).to_contain_text("Taken back")
        assert client.get(f"{server['issuer']}/things").status_code == 401

        # The pages have tokens of their own, which end with the sign-in.
        page.goto(f"http://localhost:{real.config.webui.port}/more")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert "without tokens" not in (tmp_path / "webui.log").read_text()
    assert token["token_type"] == "Bearer"
    assert [fault for fault in faults if "favicon" not in fault and "404" not in fault] == []
    client.close()
    api.close()
