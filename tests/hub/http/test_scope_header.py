"""What an address says never becomes part of a header: a line end would begin a header of the caller's making."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., None]

ODD = ("a%0d%0aSet-Cookie:%20x=1", "%F0%91%B7%95", "a%22,%20Basic", "a%00", "x" * 200)


def test_a_scope_that_is_lacking_is_named_without_what_is_no_id(run: Run) -> None:
    async def scenario(site: Any) -> None:
        value = (await site.post("/keys", {"name": "k", "scopes": ["audit:read"]})).json()["value"]
        headers = {"authorization": f"Bearer {value}"}
        told = 'Bearer realm="fluxgate", error="insufficient_scope", scope="things:read{}"'
        for thing in ODD:
            answer = await site.client.get(f"/things/{thing}", headers=headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
            assert answer.headers["www-authenticate"] == told.format("")
        answer = await site.client.get(f"/things/{site.thing_id}", headers=headers)
        assert answer.headers["www-authenticate"] == told.format(f":{site.thing_id}")

    run(scenario)
