"""Every request of a whole gateway, walked from its OpenAPI document with a thing's key and a person of each role."""

import asyncio
import re
from typing import Any

import pytest

PARTS = {"dev_eui": "70b3d57ed00000ee", "subtopic": "a"}
STREAMS = ("/lorawan/frames/stream",)
# What a document of the gateway calls a request that a technician, or an administrator only, may make.
BY_MANAGERS, BY_ADMINISTRATORS = "A token of a person who may manage.", "A token of an administrator."
BY_MEMBERS = "A token of any person."


def filled(path: str) -> str:
    return re.sub(r"{(\w+)}", lambda found: PARTS.get(found[1], "x"), path)


@pytest.mark.parametrize("role", ["none", "thing", "member", "viewer", "technician", "admin"])
def test_each_role_may_do_what_the_document_says(site: Any, role: str) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            registry = s.gateway.core.hub.registry
            document = (await s.api.get("/openapi.json")).json()
            thing, key = registry.create_thing("stranger")
            user = None
            if role not in ("none", "thing"):
                user = await asyncio.to_thread(registry.create_user, "r@example.org", "correct horse", role)
            tried = {True: 0, False: 0}
            for path, operations in document["paths"].items():
                if (
                    not path.startswith(("/lorawan", "/gateway", "/upstream", "/codecs", "/rawlora"))
                    or path in STREAMS
                ):
                    continue
                for method, operation in operations.items():
                    headers = {"authorization": f"Thing {key}"} if role == "thing" else {"authorization": ""}
                    if user is not None:
                        token = registry.issue_token(user.id, s.gateway.core.hub.clock()[0] / 1e9)
                        headers = {"authorization": f"Bearer {token}"}
                    answer = await s.api.request(
                        method,
                        filled(path),
                        json={} if method in ("post", "put", "patch") else None,
                        headers=headers,
                    )
                    words = operation["description"]
                    may = {
                        "member": BY_MEMBERS in words,
                        "viewer": BY_MANAGERS not in words and BY_ADMINISTRATORS not in words,
                        "technician": BY_ADMINISTRATORS not in words,
                        "admin": True,
                    }.get(role, False)
                    assert (answer.status_code not in (401, 403)) is may, (method, path, answer.text)
                    assert answer.status_code < 500 or answer.status_code in (503, 507), (
                        method,
                        path,
                        answer.text,
                    )
                    tried[may] += 1
            assert sum(tried.values()) > 60
            assert role == "admin" or tried[False] >= 5
            assert thing.id

    asyncio.run(main())
