"""docs/oauth.md is kept honest: its examples run in order, and its bounds are those of the code."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from hub import applications
from hub.oauth import flows, parameters, service, uris
from tests.hub.examples import follow
from tests.hub.http.conftest import site
from tests.hub.oauth.flow import query_of

TEXT = (Path(__file__).parents[3] / "docs" / "oauth.md").read_text()
DAY_S = 24 * 3600.0


def test_the_bounds_are_those_of_the_code() -> None:
    bounds = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", TEXT.split("## Bounds")[1], re.MULTILINE))
    expected = {
        "applications": (applications.MAX_APPLICATIONS,),
        "consents of one person for one application": (service.MAX_OF_BOTH,),
        "codes that wait for their exchange; of one person": (flows.MAX_CODES, flows.MAX_CODES_OF_USER),
        "parameters of a request": (
            *(parameters.MAX_PARAMETERS, parameters.MAX_TEXT // 1024),
            *(parameters.MAX_STATE, parameters.MAX_NONCE),
        ),
        "access token; code": (service.ACCESS_S, int(flows.CODE_S)),
        "refresh token unused; consent": (int(service.IDLE_S / DAY_S), int(service.ABSOLUTE_S / DAY_S)),
    }
    for name, numbers in expected.items():
        for number in numbers:
            assert re.search(rf"(?<!\d){number}(?!\d)", bounds[name]), (name, number)
    assert f"at most {uris.MAX_URIS}" in TEXT
    assert f"1 to {applications.MAX_TITLE} characters" in TEXT


def test_the_examples_run_and_answer_as_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path / "data") as here:
            here.hub.registry.remove_thing(here.thing_id)

            def learn(_script: str, answer: Any) -> dict[str, str]:
                fields = {"ACCESS": "access_token", "REFRESH": "refresh_token"}
                names = {name: answer[field] for name, field in fields.items() if field in answer}
                if "secret" in answer:
                    names |= {"APP": answer["id"], "SECRET": answer["secret"]}
                if answer.get("redirect"):
                    back = query_of(answer["redirect"])
                    assert (back["state"], back["iss"]) == ("af0ifjsldkj", here.hub.oauth.issuer)
                    names["CODE"] = back["code"]
                return names

            names = {"URL": f"http://127.0.0.1:{here.door.port}", "TOKEN": here.token}
            assert await follow(TEXT, names, learn) > 10

    asyncio.run(main())


@pytest.mark.parametrize("page", ["oauth.md"])
def test_nothing_is_promised_that_is_not_there(page: str) -> None:
    for path in re.findall(r"`(?:GET|POST|PUT|DELETE) (/[^\s`]*)", TEXT):
        assert path.startswith(("/applications", "/oauth", "/connect", "/.well-known")), (page, path)
