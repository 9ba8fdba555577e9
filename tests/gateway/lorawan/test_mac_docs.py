"""docs/mac.md names every command, action, order and number there is, and no other."""

import re
from pathlib import Path

from gateway.lorawan import adr, mac
from gateway.lorawan.heardrate import RECENT
from gateway.lorawan.maclayer import MAX_ATTEMPTS, QUIET_UPLINKS
from gateway.lorawan.macstate import ADR_HISTORY, MAX_DECISIONS, MAX_TRACE
from gateway.lorawan.settling import REQUEST_OF
from gateway.lorawan.steering import KEEP_ALIVE
from gateway.lorawan.wants import DL_CHANNEL, ORDERS
from gateway.mac_api import ACTIONS
from radio.lora import REQUIRED_SNR_DB

TEXT = (Path(__file__).parents[3] / "docs" / "mac.md").read_text()
ONE_LINE = " ".join(TEXT.split())


def rows(title):
    table = re.split(r"^#{2,3} ", TEXT.split(f"# {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^\| `(\w+)` \| (\S[^|]*) \|", table, flags=re.MULTILINE)


def test_every_command_that_begins_an_exchange_has_a_row_with_its_version():
    answers = {*REQUEST_OF, mac.LinkADRAns, mac.DevStatusAns}
    begun = {kind for kind in mac.UPLINK.values() if kind not in answers}
    begun |= {*REQUEST_OF.values(), mac.LinkADRReq, mac.DevStatusReq, mac.ForceRejoinReq}
    documented = dict(rows("How requests are made"))
    assert documented.keys() == {kind.__name__ for kind in begun}
    for kind in begun:
        assert documented[kind.__name__] == ("class B" if kind.CLASS_B else kind.SINCE), kind.__name__


def test_every_action_and_order_is_named():
    assert {name for name, _ in rows("What a technician can do")} == set(ACTIONS)
    values = TEXT.split("`values` are ", 1)[1].split("\n\n", 1)[0]
    named = re.findall(r"`(\w+)`", values)
    assert named == [*ORDERS, f"{DL_CHANNEL}0", f"{DL_CHANNEL}15"]


def test_the_numbers_are_those_of_the_code():
    assert MAX_ATTEMPTS == 3
    assert f"rests for {QUIET_UPLINKS} uplinks" in ONE_LINE
    assert f"up to {QUIET_UPLINKS * 16} uplinks" in ONE_LINE
    assert f"the last {MAX_TRACE} commands" in ONE_LINE
    assert f"Every {ADR_HISTORY} uplinks" in ONE_LINE
    assert f"the last {MAX_DECISIONS} conclusions" in ONE_LINE
    assert f"of its last {RECENT} is" in ONE_LINE
    assert f"1 per {KEEP_ALIVE} uplinks" in ONE_LINE
    assert f"below -{adr.HYSTERESIS_DB} dB" in ONE_LINE
    needed = re.search(r"needed SNR, dB \|(.+)\|", TEXT)[1].split("|")
    assert [float(each) for each in needed] == [REQUIRED_SNR_DB[sf] for sf in range(7, 13)]


def test_the_table_of_repetitions_is_the_codes():
    table = re.findall(
        r"^\| (?:below|above|\d+ % to) .*?\| (\d) \| (\d) \| (\d) \|", TEXT, flags=re.MULTILINE
    )
    assert [[int(each) for each in row] for row in table] == [
        [adr.repetitions(now, loss) for now in (1, 2, 3)] for loss in (0.0, 0.07, 0.2, 0.5)
    ]
