"""Reading the history in pages, sums and files."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from hub.http.body import MAX_BODY
from hub.http.query import duration

Run = Callable[..., None]
T0 = 1_700_000_000


async def fill(site: Any) -> None:
    """Two series over 10 minutes, a text with a formula in it, and other messages."""
    for minute in range(10):
        pack = [
            {"bt": T0 + 60 * minute, "n": "level", "u": "m", "v": minute},
            {"n": "flow", "v": minute / 2},
        ]
        assert (await site.publish(json.dumps(pack).encode(), "/a")).status_code == 202
    await site.publish(json.dumps([{"n": "note", "t": T0 + 600, "vs": '=HYPERLINK("x")'}]).encode())
    await site.publish(b'{"door":"open"}', "/events", "application/json")
    await site.publish(b"\x00\x01", "/raw", "application/octet-stream")


def test_pages_are_joined_by_tokens_and_links(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await fill(site)
        seen: list[float] = []
        path = f"{site.messages}?name=level&limit=4"
        while path:
            answer = await site.get(path)
            page = answer.json()
            seen += [record["value"] for record in page["messages"]]
            link = answer.links.get("next")
            assert ("next" in page) is (link is not None)
            path = link["url"] if link else ""
            if len(seen) == 4:  # newer ones do not shift what follows
                await site.publish(json.dumps([{"n": "level", "t": T0 + 900, "v": 99}]).encode(), "/a")
                previous = answer.links["prev"]["url"]
        assert seen == [float(n) for n in range(9, -1, -1)]
        newer = (await site.get(previous)).json()["messages"]
        assert [record["value"] for record in newer] == [99]
        assert (await site.get(f"{site.messages}?next=nonsense")).status_code == 400
        link = (await site.client.get(f"{site.messages}?limit=1&authorization={site.key}")).headers["link"]
        assert site.key not in link

    run(scenario)


def test_aggregation_sums_each_series_by_interval(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await fill(site)
        query = f"{site.messages}?name=level&aggregation=MAX&interval=5m&from={T0}&to={T0 + 600}"
        page = (await site.get(query)).json()
        assert (page["aggregation"], page["interval"]) == ("max", 300.0)
        assert page["messages"][0]["value"] == 9
        for bad in (
            "aggregation=median&interval=60",
            "aggregation=avg",
            "interval=60",
            "aggregation=avg&interval=x",
        ):
            assert (await site.get(f"{site.messages}?{bad}")).status_code == 400, bad

    run(scenario)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("250ms", 0.25), ("1d", 86400.0)]
)
def test_an_interval_is_seconds_or_a_duration(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)
    with pytest.raises(ValueError, match="duration"):
        duration(text + "x")


def test_everything_is_exported_as_csv_json_lines_and_senml(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await fill(site)
        answer = await site.get(f"{site.messages}?export=csv")
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["content-disposition"] == f'attachment; filename="{site.channel_id}.csv"'
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert len(rows) == 21
        assert [float(row["value"]) for row in rows if row["name"] == "level"] == list(range(10))
        assert rows[-1]["string_value"] == '\'=HYPERLINK("x")', "a spreadsheet runs nothing"
        assert rows[0]["publisher"] == site.thing_id

        accept = {**site.user, "accept": "application/jsonl"}
        answer = await site.client.get(f"{site.messages}?name=flow&from={T0 + 300}", headers=accept)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [line["value"] for line in lines] == [2.5, 3.0, 3.5, 4.0, 4.5]

        accept["accept"] = "application/senml+json"
        pack = (await site.client.get(f"{site.messages}/a", headers=accept)).json()
        assert pack[0] == {"n": "flow", "t": T0, "v": 0.0} or pack[0] == {
            "n": "level",
            "u": "m",
            "t": T0,
            "v": 0.0,
        }
        assert len(pack) == 20
        assert (await site.client.get(f"{site.messages}/none", headers=accept)).json() == []

        other = (await site.get(f"{site.messages}?format=events&export=jsonl")).text
        assert json.loads(other)["payload"] == {"door": "open"}
        other = (await site.get(f"{site.messages}?format=raw&export=csv")).text
        assert "AAE=" in other

    run(scenario)


def test_an_export_that_cannot_be_is_a_problem(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for query, status in (
            ("export=xml", 400),
            ("export=senml&format=events", 400),
            ("export=csv&aggregation=avg&interval=60", 400),
            ("export=csv&v=1&comparator=like", 400),
        ):
            answer = await site.get(f"{site.messages}?{query}")
            assert (answer.status_code, answer.headers["content-type"]) == (
                status,
                "application/problem+json",
            ), query
        site.app._starlette.state.exports.open = 4
        assert (await site.get(f"{site.messages}?export=csv")).status_code == 503

    run(scenario)


def test_an_export_whose_right_ends_is_cut_off_and_said_in_a_line(
    run: Run, mocker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(site: Any) -> None:
        await fill(site)
        export = site.hub.history.export

        async def in_small_parts(query: Any) -> Any:
            async for part in export(query, records=5):
                yield part
                site.hub.registry.disconnect([site.channel_id], [site.thing_id])
                await asyncio.sleep(0)

        mocker.patch.object(site.hub.history, "export", in_small_parts)
        with pytest.raises(httpx.RemoteProtocolError):
            await site.client.get(f"{site.messages}?export=csv", headers=site.thing)
        assert site.app._starlette.state.exports.open == 0
        assert "an export is cut off" in caplog.text
        assert "Traceback" not in caplog.text

    run(scenario)


@pytest.mark.parametrize("length", [10, MAX_BODY + 1], ids=["half a body", "too much of one"])
def test_a_client_that_leaves_an_export_with_its_own_body_unsent_is_no_error_of_ours(
    run: Run, mocker: Any, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    async def scenario(site: Any) -> None:
        export, left = site.hub.history.export, asyncio.Event()

        async def slowly(query: Any) -> Any:
            async for part in export(query):
                yield part
            await left.wait()
            yield part

        await fill(site)
        mocker.patch.object(site.hub.history, "export", slowly)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)
        key = site.thing["authorization"]
        head = f"GET {site.messages}?export=csv HTTP/1.1\r\nHost: a\r\nAuthorization: {key}\r\n"
        writer.write(
            f"{head}Content-Length: {length}\r\n\r\n".encode() + b"x" * (length if length > 10 else 5)
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        async with asyncio.timeout(20):
            for _ in iter(lambda: site.app._starlette.state.exports.open, 0):
                await asyncio.sleep(0.005)
        left.set()
        assert "Traceback" not in caplog.text

    run(scenario)
