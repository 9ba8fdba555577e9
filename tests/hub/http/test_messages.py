from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Run = Callable[..., None]


async def fill(site: Any) -> None:
    """Ten records, one a second from 1000 million seconds on, and one message that is no SenML."""
    for n in range(10):
        value: dict[str, Any] = {"v": n} if n % 2 == 0 else {"vs": f"s{n}"}
        pack = [{"bn": "dev:", "n": "a" if n < 5 else "b", "t": 1e9 + n, **value}]
        answer = await site.publish(json.dumps(pack).encode(), "/x/y" if n == 9 else "")
        assert answer.status_code == 202
    assert (await site.publish(b'[{"n":"flag","vb":false,"t":1000000100}]')).status_code == 202
    assert (await site.publish(b'{"hello":[1]}', "/doc", "application/json")).status_code == 202


def test_a_page_has_the_shape_of_mainflux(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await fill(site)
        answer = await site.client.get(f"{site.messages}?limit=1&name=dev:a&v=0", headers=site.thing)
        assert answer.status_code == 200
        page = answer.json()
        assert page.pop("previous")
        assert page == {
            "offset": 0,
            "limit": 1,
            "name": "dev:a",
            "v": 0.0,
            "total": 1,
            "messages": [
                {
                    "channel": site.channel_id,
                    "publisher": site.thing_id,
                    "protocol": "http",
                    "name": "dev:a",
                    "time": 1e9,
                    "value": 0.0,
                }
            ],
        }

    run(scenario)


def test_every_parameter_filters(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await fill(site)
        everything = list(range(9, -1, -1))
        for query, expected in {
            "from=1000000000&to=1000000010": everything,
            "from=1000000000&to=1000000010&limit=3&offset=2": [7, 6, 5],
            "name=dev:b": [9, 8, 7, 6, 5],
            f"publisher={site.thing_id}&protocol=http&name=dev:a": [4, 3, 2, 1, 0],
            "publisher=nobody": [],
            "protocol=mqtt": [],
            "v=4": [4],
            "v=4&comparator=gt": [8, 6],
            "v=4&comparator=le": [4, 2, 0],
            "v=0": [0],
            "vs=s3": [3],
            "vb=false": [100],
            "vb=true": [],
            "vd=AQ": [],
            "subtopic=x/y": [9],
            "subtopic=x.y": [9],
            "from=1000000003&to=1000000005": [4, 3],
            "to=1000000001.5": [1, 0],
            "format=messages&vs=s1": [1],
            "format=no-such-format": [],
        }.items():
            answer = await site.get(f"{site.messages}?{query}")
            assert answer.status_code == 200, (query, answer.text)
            assert [record["time"] - 1e9 for record in answer.json()["messages"]] == expected, query
        below = await site.get(f"{site.messages}/x/y")
        assert below.json()["total"] == 1
        documents = (await site.get(f"{site.messages}?format=doc")).json()
        assert documents["messages"][0]["payload"] == {"hello": [1]}

    run(scenario)


BAD_QUERIES = """
    limit=0 limit=1001 limit=-1 limit=ten limit=1e2 limit=1%0a offset=-1 offset=99999999999 offset=%D9%A3
    v=x v=nan v=1e999 from=inf to=yesterday vb=maybe v=1&comparator=like vd=A vd=!! vd=AP8*
    limit=1&limit=2 from=1&from=2 next=x next=x&previous=y export=csv&limit=1 export=csv&offset=1
"""


def test_a_parameter_outside_its_limits_is_400(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for query in BAD_QUERIES.split():
            answer = await site.get(f"{site.messages}?{query}")
            assert answer.status_code == 400, query
            named = [part.partition("=")[0] for part in query.split("&")]
            assert any(name in answer.json()["detail"] for name in named), query  # says which one
        for query in ("limit=2&limit=2", "format=", "limit=", "vd=", "vd=AP8", "vd=AP8%3D", "unheard-of=1"):
            assert (await site.get(f"{site.messages}?{query}")).status_code == 200, query

    run(scenario)


def test_who_may_read(run: Run) -> None:
    async def scenario(site: Any) -> None:
        stranger = (await site.post("/things", {})).json()["key"]
        for headers, path, status in (
            (site.thing, site.messages, 200),
            (site.user, site.messages, 200),
            ({}, site.messages, 401),
            ({"authorization": f"Thing {stranger}"}, site.messages, 403),
            (site.user, "/channels/none/messages", 404),
            (site.thing, "/channels/none/messages", 403),
            (site.user, "/channels/a%20b/messages", 400),
            (site.user, f"{site.messages}/a/b?subtopic=c", 400),
            (site.user, f"{site.messages}/a/b?subtopic=a.b", 200),
            (site.user, f"/http{site.messages}", 200),
        ):
            assert (await site.client.get(path, headers=headers)).status_code == status, (path, status)

    run(scenario)


def test_the_form_of_2017_is_an_array_oldest_first(run: Run) -> None:
    async def scenario(site: Any) -> None:
        empty = await site.get(f"{site.messages}?start_time=0")
        assert empty.json() == {"response": "no results found"}
        await fill(site)
        answer = await site.get(f"{site.messages}?start_time=1000000002&end_time=1000000005")
        assert [record["time"] - 1e9 for record in answer.json()] == [2, 3, 4]
        assert len((await site.get(f"/channels/{site.channel_id}/msg")).json()) == 11

    run(scenario)


def test_too_many_queries_at_once_are_503(run: Run) -> None:
    async def scenario(site: Any) -> None:
        site.app._starlette.state.reads.open = 32
        assert (await site.get(site.messages)).status_code == 503

    run(scenario)
