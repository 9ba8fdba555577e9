"""docs/tokens.md is kept honest: its examples run in order, its scopes and numbers are those of the code."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

from hub.tokens import grants, signing, verifier
from hub.tokens.scopes import NOUNS
from tests.hub.http.conftest import Site, site
from tests.hub.http.test_documentation import fits

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
    examples = re.findall(r"```sh\n(.*?)```\n```json\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) == TEXT.count("```sh\n") > 5

    async def main() -> None:
        async with site(tmp_path / "data") as here:
            await _follow(here, examples)

    asyncio.run(main())


async def _follow(here: Site, examples: list[tuple[str, str]]) -> None:
    names = {
        "URL": f"http://127.0.0.1:{here.door.port}",
        "TOKEN": here.token,
        "PATH": os.environ["PATH"],
        "THING": here.thing_id,
        "CHANNEL": here.channel_id,
        "no_proxy": "*",
    }
    for script, documented in examples:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euc", script),
            env=names,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, (script, errors)
        answer = json.loads(output)
        assert fits(json.loads(documented), answer), (script, answer)
        if "value" in answer and "KEY" not in names:
            names |= {"KEY": answer["value"], "ID": answer["id"]}
