"""What OAuth costs: sign-ins (decision, code, tokens), renewals, tokens of an application for itself, their checks.

python tests/bench/bench_oauth.py [count]     in one process, without HTTP; every answer is durable first
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from hub.applications import Wanted  # noqa: E402
from hub.hub import Hub  # noqa: E402
from tests.hub.oauth.flow import URI, challenge, query_of  # noqa: E402

VERIFIER = "v" * 43


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hub = Hub.open(folder)
        try:
            measure(hub, count)
        finally:
            await hub.close()


def measure(hub: Hub, count: int) -> None:
    registry, oauth = hub.registry, hub.oauth
    code = registry.claim_code()
    assert code is not None
    user = registry.claim(code, "owner@example.org", "correct horse")
    app, secret = registry.applications.create(
        Wanted("dashboard", scopes=("things:read",), redirect_uris=(URI,)), hub.now_s()
    )
    robot, its_secret = registry.applications.create(Wanted("robot"), hub.now_s())
    query = urlencode(
        {
            "response_type": "code",
            "client_id": app.id,
            "redirect_uri": URI,
            "code_challenge": challenge(VERIFIER),
            "code_challenge_method": "S256",
        }
    ).encode()
    own = {"client_id": app.id, "client_secret": secret}
    refresh = access = ""

    def token(**fields: str) -> None:
        nonlocal refresh, access
        answer = oauth.token(urlencode({**own, **fields}).encode(), "", hub.now_s())
        assert answer.status == 200, answer.body
        refresh, access = answer.body.get("refresh_token", ""), answer.body["access_token"]

    def sign_in() -> None:
        back = oauth.decide(query, user, hub.now_s(), hub.now_s(), allow=True, session="")
        fields = {"code": query_of(back)["code"], "redirect_uri": URI, "code_verifier": VERIFIER}
        token(grant_type="authorization_code", **fields)

    def check() -> None:
        assert hub.authenticate_bearer(access, hub.now_s()) is not None

    def check_first() -> None:
        registry.epoch += 1  # as after a change: the signature is looked at again
        check()

    rows: list[tuple[str, int, Callable[[], None]]] = [
        ("sign-ins: decision, code, tokens", count, sign_in),
        ("renewals", count, lambda: token(grant_type="refresh_token", refresh_token=refresh)),
        ("checks of an access token, the first time", count, check_first),
        ("checks of an access token, seen before", count * 20, check),
    ]
    for name, times, work in rows:
        report(name, times, work)
    own |= {"client_id": robot.id, "client_secret": its_secret}
    report("tokens of an application for itself", count, lambda: token(grant_type="client_credentials"))


def report(name: str, times: int, work: Callable[[], None]) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        work()
    took, spent = time.perf_counter() - began, time.process_time() - cpu
    print(f"{name}: {times / took:,.0f}/s, {spent / times * 1e6:,.0f} us of CPU each")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
