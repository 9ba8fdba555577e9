"""docs/tokens.md is kept honest: its examples run in order, its scopes and numbers are those of the code."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from hub.tokens import grants, signing, verifier
from hub.tokens.scopes import NOUNS
from tests.hub.examples import follow
from tests.hub.http.conftest import site

TEXT = (Path(__file__).parents[3] / "docs" / "tokens.md").read_text()


def test_the_nouns_are_those_of_the_code() -> None:
    table = TEXT.split("## Scopes")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(NOUNS)


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"at most {verifier.MAX_TOKEN} characters" in TEXT
    assert f"with {verifier.LEEWAY_S:.0f} s of leeway" in TEXT
    assert f"replaced every {signing.ROTATE_S / 86_400:.0f} days" in TEXT
    assert f"{grants.MAX_OF_OWNER} keys and consents at most" in TEXT
    assert f"{grants.MAX_OVERLAP_S / 86_400:.0f} days at most; without it" in TEXT
    assert f"`{grants.PREFIX}...`" in TEXT
    assert verifier.MAX_LIFE_S == 86_400  # "a day at most"


def test_the_examples_run_and_answer_as_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path / "data") as here:
            known: dict[str, str] = {}

            def learn(_script: str, answer: Any) -> dict[str, str]:
                if "value" in answer and not known:  # the first key that is made is the one used from then on
                    known.update({"KEY": answer["value"], "ID": answer["id"]})
                return known

            names = {
                "URL": f"http://127.0.0.1:{here.door.port}",
                "TOKEN": here.token,
                "THING": here.thing_id,
                "CHANNEL": here.channel_id,
            }
            assert await follow(TEXT, names, learn) > 5

    asyncio.run(main())
