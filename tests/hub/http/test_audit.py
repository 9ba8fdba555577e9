"""The audit log over HTTP: what requests leave in it, once, and how it is searched, paged, exported and checked."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from typing import Any

from hub.http.audit import neutral
from hub.http.auditing import is_question, kind_of

Run = Callable[..., None]


async def lines(site: Any, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await site.get(f"/audit?limit=500&{query}")).json()["lines"]
    return found


def test_each_change_is_one_line_with_who_made_it(run: Run) -> None:
    async def scenario(site: Any) -> None:
        me = site.hub.registry.users()[0]
        before = (await lines(site))[0]["n"]
        made = await site.post("/things", {"name": "pump"})
        thing = made.headers["location"]
        await site.client.put(thing, json={"name": "other"}, headers=site.user)
        await site.post("/users", {"email": "two@example.org", "password": "long enough"})
        two = site.hub.registry.user_by_email("two@example.org")
        await site.client.patch(f"/users/{two.id}", json={"role": "viewer"}, headers=site.user)
        await site.client.delete(thing, headers=site.user)
        await site.get("/things")  # looking is no change
        await site.publish()  # nor is a message, which the log keeps
        found = [line for line in await lines(site) if line["n"] > before][::-1]
        assert {(line["who"], line["email"], line["address"], line["door"]) for line in found} == {
            (f"users/{me.id}", me.email, "127.0.0.1", "http")
        }
        assert [(line["kind"], line["outcome"], line["resource"], line["detail"]) for line in found] == [
            ("thing", "done", "POST /things", thing),
            ("thing", "done", f"PUT {thing}", ""),
            ("account", "done", f"users/{two.id}", "made: two@example.org, admin"),
            ("role", "done", f"users/{two.id}", "viewer, was admin"),
            ("thing", "done", f"DELETE {thing}", ""),
        ]

    run(scenario)


def test_each_refusal_is_one_line(run: Run) -> None:
    async def scenario(site: Any) -> None:
        probes: list[tuple[str, str, dict[str, str]]] = [
            ("GET", "/things", {}),
            ("GET", "/users", site.thing),
            ("POST", "/things", {"authorization": "Bearer wrong"}),
            ("GET", "/channels/nothing/messages", site.thing),
        ]
        for method, path, headers in probes:
            before = (await lines(site))[0]["n"]
            answer = await site.client.request(method, path, headers=headers)
            assert answer.status_code in (401, 403)
            (line,) = [line for line in await lines(site) if line["n"] > before]
            assert (line["kind"], line["outcome"]) == ("access", "refused"), line
            assert line["who"] == (f"things/{site.thing_id}" if headers == site.thing else ""), line

    run(scenario)


def test_it_is_searched_by_kind_outcome_person_text_and_time(run: Run) -> None:
    async def scenario(site: Any) -> None:
        audit, me = site.hub.audit, site.hub.registry.users()[0]
        audit.record("policy", "done", who=f"users/{me.id}", detail="Night Watch", now_s=1000.0)
        audit.record("policy", "refused", who="thief@example.org", address="192.0.2.7", now_s=2000.0)
        audit.record("thing", "done", who="things/7", resource="things/7", now_s=3000.0)
        for query, expected in {
            "kind=policy&outcome=done": ["Night Watch"],
            "kind=policy,thing&to=3000.5": ["", "", "Night Watch"],
            "who=thief@example.org": [""],
            f"who={me.email}&kind=policy": ["Night Watch"],
            "text=night w": ["Night Watch"],
            f"text={me.email[:5].upper()}&kind=policy": ["Night Watch"],
            "address=192.0.2.7": [""],
            "from=500&to=2000": ["Night Watch"],
            "from=1000&to=2000.5": ["", "Night Watch"],
            "text=%25": [],
            "text='%20OR%201=1": [],
        }.items():
            assert [line["detail"] for line in await lines(site, query)] == expected, query
        for wrong in ("kind=nothing", "outcome=maybe", "from=then", "limit=0", "limit=501", "before=-1"):
            assert (await site.get(f"/audit?{wrong}")).status_code == 400, wrong

    run(scenario)


def test_pages_follow_each_other_without_gap_or_overlap_while_lines_come_in(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for n in range(50):
            site.hub.audit.record("thing", "done", resource=f"things/{n}")
        seen: list[str] = []
        before = 0
        while True:
            page = (await site.get(f"/audit?kind=thing&limit=7&text=things/&before={before}")).json()
            seen += [line["resource"] for line in page["lines"] if line["resource"].startswith("things/")]
            site.hub.audit.record("thing", "done", resource="things/new")
            before = page["before"]
            if not before:
                break
        mine = [each for each in seen if each[7:].isdigit()]
        assert mine == [f"things/{n}" for n in range(49, -1, -1)]

    run(scenario)


def test_it_is_exported_whole_and_no_cell_is_a_formula(run: Run) -> None:
    async def scenario(site: Any) -> None:
        site.hub.audit.record("sign-in", "refused", who="=cmd|' /C calc'!A0@example.org", detail='a "b", c')
        for n in range(2500):
            site.hub.audit.record("thing", "done", resource=f"things/{n}")
        text = (await site.get("/audit/export?format=csv")).text
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) > 2500
        assert [int(row["n"]) for row in rows] == sorted((int(row["n"]) for row in rows), reverse=True)
        (guess,) = [row for row in rows if row["kind"] == "sign-in" and row["outcome"] == "refused"]
        assert (guess["who"], guess["detail"]) == ("'=cmd|' /C calc'!A0@example.org", 'a "b", c')
        answer = await site.get("/audit/export?format=jsonl&outcome=refused")
        assert answer.headers["content-disposition"] == 'attachment; filename="audit.jsonl"'
        (line,) = [json.loads(each) for each in answer.text.splitlines()]
        assert line["who"].startswith("=cmd")
        assert (await site.get("/audit/export?format=xml")).status_code == 400
        exports = [line for line in await lines(site, "kind=audit") if line["resource"] == "export"]
        assert len(exports) == 2, "who takes the log away is in it"

    run(scenario)


def test_cells_that_a_spreadsheet_would_run_are_quoted() -> None:
    for cell in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"):
        assert neutral(cell) == "'" + cell
    for cell in ("", "users/1", "a=1", "192.0.2.7"):
        assert neutral(cell) == cell


def test_its_chain_is_checked(run: Run) -> None:
    async def scenario(site: Any) -> None:
        verdict = (await site.get("/audit/verify")).json()
        assert verdict["intact"]
        assert verdict["lines"] == verdict["last"] > 0
        assert len(verdict["head"]) == 64
        conn = sqlite3.connect(site.hub.audit.path)
        conn.execute("UPDATE line SET who = 'somebody else' WHERE n = 1")
        conn.commit()
        conn.close()
        verdict = (await site.get("/audit/verify")).json()
        assert (verdict["intact"], verdict["breaks"][0]["line"]) == (False, 1)

    run(scenario)


def test_only_administrators_read_it(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for path in ("/audit", "/audit/export", "/audit/verify"):
            assert (await site.client.get(path, headers=site.thing)).status_code == 403
            assert (await site.client.get(path)).status_code == 401

    run(scenario)


def test_paths_have_kinds() -> None:
    for path, kind in {
        "/things/1": "thing",
        "/channels/1/things/2": "connection",
        "/connect": "connection",
        "/users/1": "account",
        "/users/totp/confirm": "totp",
        "/groups/1/things": "group",
        "/lorawan/devices": "configuration",
        "/policies/x": "policy",
    }.items():
        assert kind_of(path) == kind, path
    for path in (
        "/policies/explain",
        "/identify",
        "/lorawan/devices/1/downlinks",
        "/channels/1/messages/a/b",
    ):
        assert is_question(path), path
