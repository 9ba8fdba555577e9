from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import cbor2

Run = Callable[..., None]
PACK = b'[{"n":"temperature","u":"Cel","v":21.5}]'


def test_an_accepted_message_is_committed_before_the_answer(run: Run) -> None:
    async def scenario(site: Any) -> None:
        answer = await site.publish(PACK)
        assert (answer.status_code, answer.json()) == (202, {"response": "message sent"})
        (message,) = site.stored()
        assert (message.channel, message.publisher, message.protocol) == (
            site.channel_id,
            site.thing_id,
            "http",
        )
        assert (message.payload, message.content_type, message.subtopic) == (
            PACK,
            "application/senml+json",
            "",
        )

    run(scenario)


SENML, CBOR = "application/senml+json", "application/senml+cbor"
JSON, BYTES = "application/json", "application/octet-stream"

# name: below the channel's messages, content type and payload sent; content type and subtopic kept
FORMS = {
    "subtopic": ("/a/b", SENML, PACK, SENML, "a.b"),
    "dots": ("/a.b", SENML, PACK, SENML, "a.b"),
    "escaped and empty elements": ("/a%2Fb//", SENML, PACK, SENML, "a.b"),
    "query string": ("?ignored=1", SENML, PACK, SENML, ""),
    "parameter of the type": ("", SENML + "; charset=utf-8", PACK, SENML, ""),
    "CBOR": ("", CBOR, cbor2.dumps([{0: "t", 2: 1}]), CBOR, ""),
    "SenML sent as JSON": ("", "Application/JSON", PACK, SENML, ""),
    "JSON": ("", JSON, b'{"a":1}', JSON, ""),
    "bytes": ("", BYTES, b"\xff\x00", BYTES, ""),
    "2017, SenML named in the path": ("/senml-json", "text/plain", PACK, SENML, ""),
    "2017, bytes named in the path": ("/x/octet-stream", "", b"\x01", BYTES, "x"),
}


def test_every_form_of_publishing_keeps_type_and_subtopic(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for name, (below, content_type, payload, kept_type, subtopic) in FORMS.items():
            answer = await site.publish(payload, below, content_type)
            assert answer.status_code == 202, (name, answer.text)
            kept = site.stored()[-1]
            assert (kept.payload, kept.content_type, kept.subtopic) == (payload, kept_type, subtopic), name
        assert len(site.stored()) == len(FORMS)

    run(scenario)


def test_the_http_prefix_and_the_message_path_of_2016_reach_the_same_channel(run: Run) -> None:
    async def scenario(site: Any) -> None:
        headers = {**site.thing, "content-type": "application/senml+json"}
        for path in (f"/http{site.messages}", f"/channels/{site.channel_id}/msg"):
            answer = await site.client.post(path, content=PACK, headers=headers)
            assert answer.status_code == 202, path
        assert [message.subtopic for message in site.stored()] == ["", ""]

    run(scenario)


def test_a_thing_may_show_its_key_in_four_ways(run: Run) -> None:
    async def scenario(site: Any) -> None:
        basic = base64.b64encode(f"anything:{site.key}".encode()).decode()
        for value in (f"Thing {site.key}", f"thing {site.key}", site.key, f"Basic {basic}", f"basic {basic}"):
            assert (await site.publish(authorization=value)).status_code == 202, value

    run(scenario)


WRONG = (
    "",
    "Thing",
    "Thing wrong",
    "Thing two words",
    "Bearer {key}",
    "Basic {key}",
    "Basic !!!",
    "Thing {key}x",
    "x" * 5000,
)


def test_a_wrong_or_missing_credential_is_401_and_says_what_to_send(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for value in WRONG:
            answer = await site.publish(authorization=value.format(key=site.key))
            assert answer.status_code == 401, value
            assert answer.headers["www-authenticate"]
            assert "credential" in answer.json()["detail"]
        assert site.stored() == []

    run(scenario)


# name: below the channel's messages, content type and payload sent; status
REFUSED = {
    "cut JSON": ("", SENML, b"[{", 400),
    "no name": ("", SENML, b'[{"v":1}]', 400),
    "empty SenML": ("", SENML, b"", 400),
    "not UTF-8": ("", SENML, b'[{"n":"\xff","v":1}]', 400),
    "deep JSON": ("", JSON, b"[" * 100_000, 400),
    "deep CBOR": ("", CBOR, b"\x9f" * 1000, 400),
    "no content type": ("", "", PACK, 415),
    "a form": ("", "application/x-www-form-urlencoded", PACK, 415),
    "wildcard": ("/a*b", SENML, PACK, 400),
    "path not UTF-8": ("/%FF%FE", SENML, PACK, 400),
    "long subtopic": ("/" + "x" * 2000, SENML, PACK, 400),
    "too long": ("", BYTES, b" " * (256 * 1024 + 1), 413),
}


def test_bad_messages_are_refused_and_nothing_is_stored(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for name, (below, content_type, payload, status) in REFUSED.items():
            answer = await site.publish(payload, below, content_type)
            assert answer.status_code == status, (name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            body = answer.json()
            assert body.keys() == {"type", "title", "status", "detail", "error"}
            assert body["status"] == status
            assert body["detail"] == body["error"]
        assert site.stored() == []

    run(scenario)


def test_a_body_sent_in_chunks_meets_the_same_limit(run: Run) -> None:
    async def chunks(count: int) -> Any:
        for _ in range(count):
            yield b"x" * 1024

    async def scenario(site: Any) -> None:
        headers = {**site.thing, "content-type": "application/octet-stream"}
        answer = await site.client.post(site.messages, content=chunks(256), headers=headers)
        assert answer.status_code == 202
        answer = await site.client.post(site.messages, content=chunks(257), headers=headers)
        assert answer.status_code == 413
        assert len(site.stored()) == 1

    run(scenario)


def test_a_thing_publishes_only_where_it_is_connected_and_only_as_long(run: Run) -> None:
    async def scenario(site: Any) -> None:
        other = site.hub.registry.create_channel("other")
        headers = {**site.thing, "content-type": "application/senml+json"}
        for channel in (other.id, "no-such-channel"):
            answer = await site.client.post(f"/channels/{channel}/messages", content=PACK, headers=headers)
            assert answer.status_code == 403
            assert "not connected" in answer.json()["detail"]
        site.hub.registry.disconnect([site.channel_id], [site.thing_id])
        assert (await site.publish()).status_code == 403
        site.hub.registry.connect([site.channel_id], [site.thing_id])
        assert (await site.publish()).status_code == 202
        site.hub.registry.rotate_key(site.thing_id)
        assert (await site.publish()).status_code == 401

    run(scenario)


def test_a_user_token_does_not_publish(run: Run) -> None:
    async def scenario(site: Any) -> None:
        answer = await site.publish(**site.user)
        assert answer.status_code == 403

    run(scenario)


def test_a_store_that_cannot_take_it_answers_503_or_507_and_acknowledges_nothing(
    run: Run, mocker: Any
) -> None:
    from hub.errors import Busy, LogFailed, LogFull

    async def scenario(site: Any) -> None:
        for error, status in ((LogFailed("disk"), 503), (LogFull("no room"), 507), (Busy("wait"), 503)):
            mocker.patch.object(site.hub.log, "submit", side_effect=error)
            for _ in range(2):  # the second time its head is known
                answer = await site.publish()
                assert answer.status_code == status
                assert answer.headers["retry-after"]

    run(scenario)


def test_our_own_bug_is_500_without_a_traceback_in_the_answer(run: Run, mocker: Any, caplog: Any) -> None:
    async def scenario(site: Any) -> None:
        mocker.patch.object(site.hub.log, "submit", side_effect=ZeroDivisionError("secret detail"))
        for _ in range(2):
            answer = await site.publish()
            assert answer.status_code == 500
            assert "secret" not in answer.text
        assert "ZeroDivisionError" in caplog.text
        mocker.patch.object(site.hub.registry, "all_things", side_effect=ZeroDivisionError("secret detail"))
        answer = await site.get("/things")
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text

    run(scenario)
