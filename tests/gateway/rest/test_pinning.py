"""A gateway over https: its own authority is shown, compared, kept, and trusted for it alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.demo.broker import free_port
from gateway.rest.client import REFUSED, UNREACHABLE, USAGE
from gateway.rest.gateways import fingerprint_of
from gateway.settings import Config, HttpSection


def test_an_authority_is_pinned_by_its_fingerprint_and_nothing_else_is_trusted(
    site: Any, config: Config, tmp_path: Path
) -> None:
    home = tmp_path / "home"

    def typed(*words: str, stdin: str = "", status: int = 0, **env: str) -> Result:
        answer = CliRunner().invoke(app, [*words], input=stdin, env={"XDG_CONFIG_HOME": str(home), **env})
        assert answer.exit_code == status, (answer.output, answer.exception)
        return answer

    def scenario(url: str, plain: str, token: str) -> None:
        typed("gateways", "add", "plain", plain)
        authority = typed("certs", "authority", "--url", "plain").stdout
        fingerprint = fingerprint_of(authority)
        untrusted = typed("things", "list", "--url", url, status=UNREACHABLE, FLUXGATE_TOKEN=token)
        assert "not from an authority that this computer trusts" in untrusted.stderr
        wrong = fingerprint.replace(fingerprint[0], "0" if fingerprint[0] != "0" else "1")
        refused = typed("gateways", "add", "barn", url, "--fingerprint", wrong, status=REFUSED)
        assert "somebody may stand between" in refused.stderr
        typed("gateways", "add", "barn", url, stdin="n\n", status=1)
        assert "barn" not in typed("gateways", "list").stdout
        shown = typed("gateways", "add", "barn", url, "--default", stdin="y\n")
        assert fingerprint in shown.stdout
        typed(
            "gateways", "add", "barn", url, "--fingerprint", fingerprint.lower().replace(":", ""), "--default"
        )
        assert (home / "fluxgate" / "barn.pem").read_text() == authority
        assert json.loads(typed("things", "list", "--json", FLUXGATE_TOKEN=token).stdout) == []
        file = tmp_path / "authority.pem"
        file.write_text(authority)
        typed("things", "list", "--url", url, "--ca", str(file), FLUXGATE_TOKEN=token)
        file.write_text("nothing")
        assert (
            "not a file of certificates"
            in typed("things", "list", "--url", url, "--ca", str(file), status=USAGE).stderr
        )
        typed("gateways", "add", "away", "https://127.0.0.1:1", status=UNREACHABLE)

    async def main() -> None:
        http = HttpSection(port=0, workshop_port=0, tls_host="127.0.0.1", tls_port=free_port())
        async with site(msgspec.structs.replace(config, http=http)) as s:
            await s.claim()
            token = s.api.headers["authorization"].removeprefix("Bearer ")
            url = f"https://127.0.0.1:{s.gateway.doors.https_port}"
            await asyncio.to_thread(scenario, url, f"http://127.0.0.1:{s.gateway.http.port}", token)

    asyncio.run(main())
