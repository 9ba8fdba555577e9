"""Plans of imports: few, each for a while, and no keys in what is shown of them."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.devices import csvfile
from gateway.devices.importing import MAX_PLANS, PLAN_LIFE_S, Defaults, Plan, Planner, Plans
from gateway.devices.profiles import BUILT_IN

KEY = "a66a89b6606c1bd125b54e7ca4b10dd4"
SECOND = 10**9


def plan(text: str, **defaults: Any) -> Plan:
    planner = Planner(BUILT_IN, ("cayenne", "raw"), lambda _eui: False)

    async def main() -> Plan:
        return await planner.plan(csvfile.read(text.encode()), Defaults(**defaults), lambda: asyncio.sleep(0))

    return asyncio.run(main())


def test_a_plan_is_forgotten_after_a_while() -> None:
    plans = Plans()
    name = plans.keep(Plan(), 5)
    assert plans.get(name, 4 + int(PLAN_LIFE_S * SECOND)) is not None
    assert plans.get(name, 5 + int(PLAN_LIFE_S * SECOND)) is None


def test_few_plans_are_held_and_the_oldest_gives_way() -> None:
    plans = Plans()
    names = [plans.keep(Plan(), 0) for _ in range(MAX_PLANS + 2)]
    assert [plans.get(name, 0) is not None for name in names] == [False] * 2 + [True] * MAX_PLANS
    assert plans.forgotten == 2
    plans.forget(names[-1])
    assert plans.get(names[-1], 0) is None


def test_defaults_are_for_lines_that_do_not_say_it() -> None:
    found = plan(
        f"dev_eui,app_key,codec\na84041000000a001,{KEY},raw\na84041000000a002,{KEY},\n",
        codec="cayenne",
        profile="LoRaWAN-1.0.2-A",
    )
    assert [asked.config.codec for asked in found.asked] == ["raw", "cayenne"]
    assert {asked.config.profile for asked in found.asked} == {"LoRaWAN-1.0.2-A"}
    assert found.whole


def test_an_eui_that_comes_reversed_further_down_is_noticed() -> None:
    found = plan(f"dev_eui,app_key\na84041000000a001,{KEY}\n01a000000041 40a8,{KEY}\n".replace(" ", ""))
    assert "bytes reversed" in found.lines[1].warnings[0]


def test_keys_are_in_nothing_that_is_shown() -> None:
    found = plan(f"dev_eui,app_key\na84041000000a001,{KEY}\na84041000000a002,{KEY}ff\n")
    assert KEY not in repr(found)
    assert KEY not in repr(found.lines)
    assert found.counts == {"new": 1, "wrong": 1, "twice": 0, "registered": 0}
