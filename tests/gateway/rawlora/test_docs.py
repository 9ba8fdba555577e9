"""docs/rawlora.md says what the code does."""

import json
import re
from pathlib import Path

from gateway.rawlora import receiver
from gateway.rawlora.frames import HEADER_SIZE, MAX_FRAME
from gateway.rawlora.node import Header
from gateway.rawlora_api import NewNode, _node

TEXT = (Path(__file__).parents[3] / "docs" / "rawlora.md").read_text()


def test_every_header_is_described():
    assert re.findall(r"^\| `(\w+)` \|", TEXT, flags=re.MULTILINE) == [each.value for each in Header]


def test_the_example_registers_a_node():
    example = json.loads(re.search(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)[1])
    assert _node(NewNode(**example)).id == "raw-radiohead-5"


def test_the_bounds_are_those_of_the_code():
    assert f"| nodes | {receiver.MAX_NODES} |" in TEXT
    assert f"{receiver.BURST} at once, then {receiver.PER_S:g} a second" in TEXT
    assert f"| senders in the list of those heard | {receiver.MAX_STRANGERS} |" in TEXT
    assert f"within {receiver.SAME_NS // 10**9} s" in TEXT
    assert f"{MAX_FRAME - HEADER_SIZE} bytes" in TEXT
