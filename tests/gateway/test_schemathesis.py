"""Generated requests, right and wrong ones, for every row of a whole gateway by each kind of caller.

A longer run: python tests/torture/generated.py 50
"""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.torture.generated import BUSY, ROLES, Callers, attack

PARTS = 2  # of the rows, so that they are tried side by side


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")  # of the generator, about what it cannot make
@pytest.mark.parametrize("part", range(PARTS))
def test_every_answer_to_everybody_is_one_that_the_document_names(site: Any, part: int) -> None:
    async def main() -> None:
        async with site() as s:
            callers = await asyncio.to_thread(Callers, s.gateway)
            document = await asyncio.to_thread(callers.document)
            found = await asyncio.to_thread(attack, callers, document, 1, 1, part=(part, PARTS))
            callers.session.close()
            assert found.faults == {}
            rows = sum(len(methods) for methods in document["paths"].values()) // PARTS
            for role in ROLES:
                answers = found.answers[role]
                assert answers.total() > 1.9 * rows - 2, role
                assert not [status for status in answers if status >= 500 and status not in BUSY]
            assert {200, 201, 204} <= {status for each in found.answers.values() for status in each}
            assert found.answers["thing"][403] > found.answers["viewer"][403] > found.answers["admin"][403]

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore")
def test_the_document_is_valid_and_its_judge_sees_what_it_does_not_name(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            callers = await asyncio.to_thread(Callers, s.gateway)
            document = await asyncio.to_thread(callers.document)
            OpenAPIV31SpecValidator(document).validate()
            document["paths"] = {path: document["paths"][path] for path in ("/version", "/status", "/health")}
            right = await asyncio.to_thread(attack, callers, copy.deepcopy(document), 1, 0)
            assert right.faults == {}
            del document["paths"]["/version"]["get"]["responses"]["200"]
            document["components"]["schemas"]["Other"] = {"type": "object", "required": ["nonsense"]}
            answer = document["paths"]["/status"]["get"]["responses"]["200"]["content"]
            answer["application/json"]["schema"] = {"$ref": "#/components/schemas/Other"}
            health = document["paths"]["/health"]["get"]["responses"]["200"]["content"]
            health["text/plain"] = health.pop("application/health+json")
            wrong = await asyncio.to_thread(attack, callers, document, 1, 0)
            assert len(wrong.faults) == 3 * len(ROLES)
            callers.session.close()

    asyncio.run(main())
