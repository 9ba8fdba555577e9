from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hub.disk import DiskState
from hub.http.service import prometheus

Run = Callable[..., None]


def test_health_version_and_status_need_no_credential(run: Run) -> None:
    async def scenario(site: Any) -> None:
        health = await site.client.get("/health")
        assert health.headers["content-type"] == "application/health+json"
        assert health.json()["status"] == "pass"
        assert (await site.client.get("/version")).json() == {
            "service": "hub",
            "version": health.json()["version"],
        }
        assert (await site.client.get("/status")).json() == {"running": True}
        head = await site.client.head("/health")
        assert (head.status_code, head.content) == (200, b"")

    run(scenario)


@pytest.mark.parametrize("state", [DiskState.FULL, DiskState.READ_ONLY])
def test_health_warns_while_new_messages_are_refused(run: Run, mocker: Any, state: DiskState) -> None:
    async def scenario(site: Any) -> None:
        log = type(site.hub.log)
        mocker.patch.object(log, "state", mocker.PropertyMock(return_value=state))
        mocker.patch.object(log, "state_reason", mocker.PropertyMock(return_value="nothing can be stored"))
        answer = await site.client.get("/health")
        assert answer.status_code == 200  # reading works; who restarts on an error would not mend it
        assert (answer.json()["status"], answer.json()["output"]) == ("warn", "nothing can be stored")

    run(scenario)


def test_metrics_count_answers_and_show_what_was_handed_in(run: Run) -> None:
    async def scenario(site: Any) -> None:
        site.app.add_counters(lambda: {"fluxgate_uplinks_total": 7, 'fluxgate_x{kind="a"}': 1.5})
        await site.publish()
        await site.publish(authorization="Thing wrong")
        await site.get("/nothing")
        text = (await site.client.get("/metrics")).text
        for line in (
            "# TYPE fluxgate_uplinks_total counter",
            "fluxgate_uplinks_total 7",
            "# TYPE fluxgate_x gauge",
            'fluxgate_x{kind="a"} 1.5',
            'fluxgate_http_publish_answers_total{status="202"} 1',
            'fluxgate_http_publish_answers_total{status="401"} 1',
            'fluxgate_http_request_answers_total{status="404"} 1',
            f'fluxgate_http_connections{{port="{site.door.port}"}} 1',
        ):
            assert line in text.splitlines(), line

    run(scenario)


def test_a_family_is_typed_once_however_many_samples_it_has() -> None:
    text = prometheus([{'a_total{k="1"}': 1}, {'a_total{k="2"}': 2, "b": 0.5}])
    assert text == '# TYPE a_total counter\na_total{k="1"} 1\na_total{k="2"} 2\n# TYPE b gauge\nb 0.5\n'
