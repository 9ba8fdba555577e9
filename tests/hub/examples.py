"""The examples of a page of docs/: each shell block with the JSON answer written below it, run in order."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

_EXAMPLE = re.compile(r"```sh\n(.*?)```\n```json\n(.*?)```", re.DOTALL)


def examples(text: str) -> list[tuple[str, str]]:
    """Each script of a page and its documented answer; a script without one is an error."""
    found = _EXAMPLE.findall(text)
    assert len(found) == text.count("```sh\n")
    return found


async def follow(text: str, names: Mapping[str, str], learn: Callable[[str, Any], Mapping[str, str]]) -> int:
    """Runs the scripts one after the other and holds each answer against the written one; how many there were.

    `names` are the shell variables the page explains; `learn` says which further ones a script and
    its answer give the next one, as its reader would copy them.
    """
    variables = {"PATH": os.environ["PATH"], "no_proxy": "*", **names}
    scripts = examples(text)
    for script, documented in scripts:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euc", script),
            env=variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, (script, errors)
        answer = json.loads(output)
        assert fits(json.loads(documented.replace("[...]", '"..."')), answer), (script, answer)
        variables |= learn(script, answer)
    return len(scripts)


def fits(template: Any, value: Any) -> bool:
    """Whether an answer is the documented one; the text ... stands for anything."""
    if template == "...":
        return True
    if isinstance(template, dict):
        return (
            isinstance(value, dict)
            and template.keys() == value.keys()
            and all(fits(template[key], value[key]) for key in template)
        )
    if isinstance(template, list):
        return isinstance(value, list) and len(template) == len(value) and all(map(fits, template, value))
    return bool(template == value)
