from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

Run = Callable[..., None]


def test_what_has_not_changed_is_not_sent_again(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.publish()
        for path in (
            f"/things/{site.thing_id}",
            "/things",
            "/channels",
            "/devices",
            site.messages,
            "/users/profile",
        ):
            first = await site.get(path)
            etag = first.headers["etag"]
            for sent in (etag, f'"x", W/{etag}', "*"):
                again = await site.client.get(path, headers={**site.user, "if-none-match": sent})
                assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag), path
            head = await site.client.head(path, headers=site.user)
            assert (head.status_code, head.headers["etag"], head.content) == (200, etag, b"")
            other = await site.client.get(path, headers={**site.user, "if-none-match": '"x"'})
            assert (other.status_code, other.content) == (200, first.content)
        before = (await site.get(f"/things/{site.thing_id}")).headers["etag"]
        await site.client.put(f"/things/{site.thing_id}", json={"name": "new"}, headers=site.user)
        assert (await site.get(f"/things/{site.thing_id}")).headers["etag"] != before

    run(scenario)


def test_a_change_on_a_condition_happens_once(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for path in (f"/things/{site.thing_id}", f"/channels/{site.channel_id}"):
            etag = (await site.get(path)).headers["etag"]
            headers = {**site.user, "if-match": etag}
            answers = await asyncio.gather(
                *(site.client.put(path, json={"name": f"n{n}"}, headers=headers) for n in range(5))
            )
            assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
            assert (await site.client.delete(path, headers=headers)).status_code == 412
            headers["if-match"] = f'"x", {(await site.get(path)).headers["etag"]}'
            assert (await site.client.delete(path, headers=headers)).status_code == 204
            headers["if-match"] = "*"
            answer = await site.client.put(path, json={}, headers=headers)
            assert answer.status_code == 404

    run(scenario)


def test_what_has_no_tag_cannot_be_changed_on_a_condition(run: Run) -> None:
    async def scenario(site: Any) -> None:
        headers = {**site.user, "if-match": "*"}
        answer = await site.client.patch(f"/things/{site.thing_id}/key", json={}, headers=headers)
        assert answer.status_code == 412
        assert (await site.publish()).status_code == 202

    run(scenario)
