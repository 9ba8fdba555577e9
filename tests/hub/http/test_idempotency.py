"""Publishing with an Idempotency-Key: stored once, whatever happens between the first and the second try."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.http import idempotency
from hub.http.idempotency import KEPT_OF_THING, KEPT_S, TIDY, Keys, parse_key
from hub.http.problem import Problem
from tests.hub.http.serving import KEY, MESSAGES, Served

Run = Callable[..., None]
PACK = b'[{"n":"level","v":1}]'


def seq_of(answer: httpx.Response) -> int:
    assert (answer.status_code, answer.json()) == (202, {"response": "message sent"}), answer.text
    return int(answer.headers["fluxgate-seq"])


def test_a_repeat_gets_the_same_number_and_stores_nothing(run: Run) -> None:
    async def scenario(site: Any) -> None:
        first = seq_of(await site.publish(PACK, **{"idempotency-key": "a-1"}))
        again = seq_of(await site.publish(PACK, **{"idempotency-key": '"a-1"'}))
        other = seq_of(await site.publish(PACK, **{"idempotency-key": "a-2"}))
        plain = seq_of(await site.publish(PACK))
        assert first == again < other < plain
        assert [message.seq for message in site.stored()] == [first, other, plain]
        assert site.app.publisher.keys.repeats == 1

    run(scenario)


def test_the_same_key_with_another_message_is_422(run: Run) -> None:
    async def scenario(site: Any) -> None:
        seq_of(await site.publish(PACK, **{"idempotency-key": "k"}))
        for payload, below, content_type in (
            (b'[{"n":"level","v":2}]', "", "application/senml+json"),
            (PACK, "/roof", "application/senml+json"),
            (PACK, "", "application/octet-stream"),
        ):
            answer = await site.publish(payload, below, content_type, **{"idempotency-key": "k"})
            assert answer.status_code == 422, answer.text
        assert len(site.stored()) == 1

    run(scenario)


def test_keys_belong_to_the_thing_that_sent_them(run: Run) -> None:
    async def scenario(site: Any) -> None:
        other, key = site.hub.registry.create_thing("other")
        site.hub.registry.connect([site.channel_id], [other.id])
        first = seq_of(await site.publish(PACK, **{"idempotency-key": "k"}))
        second = seq_of(
            await site.publish(b"[]", "", "application/json", authorization=key, **{"idempotency-key": "k"})
        )
        assert second > first

    run(scenario)


def test_tries_under_way_together_are_stored_once(run: Run) -> None:
    async def scenario(site: Any) -> None:
        answers = await asyncio.gather(*(site.publish(PACK, **{"idempotency-key": "k"}) for _ in range(8)))
        assert len({seq_of(answer) for answer in answers}) == 1
        assert len(site.stored()) == 1

    run(scenario)


def test_a_message_that_was_refused_leaves_its_key_free(run: Run) -> None:
    async def scenario(site: Any) -> None:
        answer = await site.publish(b"[{", **{"idempotency-key": "k"})
        assert answer.status_code == 400
        seq_of(await site.publish(PACK, **{"idempotency-key": "k"}))

    run(scenario)


@pytest.mark.parametrize("value", [b'""', b"a b", b"x" * 129, b"\xff", b"a\x7f"], ids=str)
def test_a_key_outside_its_limits_is_400(value: bytes) -> None:
    with pytest.raises(Problem) as refusal:
        parse_key(value)
    assert refusal.value.status == 400


def test_keys_are_bounded_by_age_by_thing_and_over_all(run: Run, mocker: Any) -> None:
    async def scenario(site: Any) -> None:
        log = site.hub.log
        keys = Keys(log)
        now_s = 1e9

        async def take(thing: str, number: int, at_s: float) -> None:
            await log.write(keys.row(thing, f"k{number}", b"d" * 16, number, at_s))

        def count(thing: str) -> int:
            ((rows,),) = log.query("SELECT count(*) FROM http_key WHERE thing = ?", (thing,))
            return int(rows)

        await take("old", 1, now_s - KEPT_S - 1)
        assert keys.begin("old", "k1", b"other", now_s, lambda seq, error: None), "forgotten, tidied or not"
        for number in range(2 * TIDY):
            await asyncio.gather(
                *(take("one", number * 10 + part, now_s) for part in range(KEPT_OF_THING // 10 // TIDY + 9))
            )
        assert count("old") == 0
        assert KEPT_OF_THING <= count("one") <= KEPT_OF_THING + TIDY
        mocker.patch.object(idempotency, "KEPT", 10)
        for number in range(TIDY):
            await take("two", number, now_s + 1)
        assert count("one") + count("two") <= 10 + TIDY

    run(scenario)


def test_a_repeat_after_kill_9_gets_the_same_number(tmp_path: Path) -> None:
    headers = {"authorization": KEY, "content-type": "application/senml+json"}
    served = Served(tmp_path / "data")
    seqs: list[list[int]] = []
    try:
        for _ in range(2):
            with httpx.Client(base_url=served.url, trust_env=False, timeout=30) as client:
                seqs.append(
                    [
                        seq_of(
                            client.post(
                                MESSAGES, content=PACK, headers={**headers, "idempotency-key": f"{n}"}
                            )
                        )
                        for n in range(20)
                    ]
                )
            served.restart()
    finally:
        served.kill()
    assert seqs[0] == seqs[1]
    assert len(set(seqs[0])) == 20
