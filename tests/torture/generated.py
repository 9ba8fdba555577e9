"""Requests generated from a gateway's own OpenAPI document, right ones and wrong ones, by each kind of caller.

python tests/torture/generated.py [requests of each kind for each row] [seed]

Every answer must be one that the document names, of the type and shape it names, and none may be a fault of ours. In
the suite a few are sent for each row; this command sends as many as one likes and prints what it has found.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

import httpx  # noqa: E402
import requests  # noqa: E402
import schemathesis  # noqa: E402
from hypothesis import HealthCheck, given, seed, settings  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import CHECKS, load_all_checks  # noqa: E402
from schemathesis.core.failures import FailureGroup  # noqa: E402

from gateway import app as gateway_app  # noqa: E402
from gateway.settings import (  # noqa: E402
    CoapSection,
    Config,
    GatewaySection,
    HttpSection,
    HubSection,
    LorawanSection,
    MqttSection,
)

ROLES = ("thing", "member", "viewer", "technician", "API key", "admin")
OURS = (
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
BUSY = (503, 507)  # a bound was reached, or a part is not there: said in words, and nothing was done
STREAMS = frozenset({"/lorawan/frames/stream"})  # they do not end
ORDER = ("get", "post", "put", "patch", "delete")  # what removes comes last
QUIET: list[Any] = list(HealthCheck)
PASSPHRASE = "correct horse battery"


@dataclass
class Findings:
    """What was sent and what was wrong with the answers."""

    answers: dict[str, Counter[int]] = field(default_factory=lambda: {role: Counter() for role in ROLES})
    faults: dict[str, str] = field(default_factory=dict)  # by request and kind of fault: the first of each


class Callers:
    """A gateway with something of each kind in it, and a credential for each kind of caller."""

    def __init__(self, gateway: Any) -> None:
        self.gateway, self.hub = gateway, gateway.core.hub
        self.url = f"http://127.0.0.1:{gateway.http.port}"
        registry = self.hub.registry
        owner = registry.claim(registry.claim_code(), "owner@example.org", PASSPHRASE)
        self._users = {"admin": owner.id}
        for role in ("member", "viewer", "technician"):
            self._users[role] = registry.create_user(f"{role}@example.org", PASSPHRASE, role).id
        self._tokens: dict[str, str] = {}
        self.session = requests.Session()  # one connection for all
        self.session.trust_env = False
        self.key = ""
        self.ids = {
            "thing_id": "thing-1",
            "device_id": "thing-1",
            "member_id": self._users["member"],
            "channel_id": "channel-1",
            "user_id": registry.create_user("somebody@example.org", PASSPHRASE, "viewer").id,
            "dev_eui": "70b3d57ed00000ee",
            "name": "night",
            "subtopic": "roof",
        }
        self.prepare()
        with httpx.Client(base_url=self.url, headers=self.headers("admin"), timeout=30) as api:
            self.ids["group_id"] = api.post("/groups", json={"name": "farm"}).json()["id"]
            members = {"users": self._users["member"], "things": "thing-1", "channels": "channel-1"}
            for kind, one in members.items():
                body = {"type": kind, "members": [one], "role": "technician"}
                api.post(f"/groups/{self.ids['group_id']}/members", json=body)
            self.ids["application_id"] = api.post("/applications", json={"name": "board"}).json()["id"]
            self.ids["key_id"] = api.post("/keys", json={"name": "another"}).json()["id"]
            self.ids["serial"] = api.post("/certs", json={"thing_id": "thing-1"}).json()["serial"]
            device = {"dev_eui": self.ids["dev_eui"], "activation": "otaa", "app_key": "0" * 31 + "1"}
            made = api.post("/lorawan/devices", json=device)
            assert made.status_code == 201, made.text

    def prepare(self) -> None:
        """Put back what a request may have removed."""
        registry = self.hub.registry
        if registry.thing("thing-1") is None:
            self.key = registry.create_thing("one", id="thing-1")[1]
        if registry.channel("channel-1") is None:
            registry.create_channel("one", id="channel-1")
        if not registry.rights("channel-1", "thing-1"):
            registry.connect(["channel-1"], ["thing-1"])

    def document(self) -> dict[str, Any]:
        """What the gateway says of itself."""
        found: dict[str, Any] = httpx.get(f"{self.url}/openapi.json").json()
        return found

    def headers(self, role: str) -> dict[str, str]:
        """The credential of a caller, a new one where the last has ended."""
        if role == "thing":
            if self.hub.authenticate_thing(self.key) is None:
                self.key = self.hub.registry.rotate_key("thing-1")
            return {"authorization": f"Thing {self.key}"}
        now_s = self.hub.clock()[0] / 1e9
        token = self._tokens.get(role, "")
        if not token or self.hub.authenticate_bearer(token, now_s) is None:
            token = self._tokens[role] = self._fresh(role, now_s)
        return {"authorization": f"Bearer {token}"}

    def _fresh(self, role: str, now_s: float) -> str:
        if role != "API key":
            return str(self.hub.registry.issue_token(self._users[role], now_s))
        made = httpx.post(
            f"{self.url}/keys", json={"name": "script"}, headers=self.headers("technician"), timeout=60
        )
        return str(made.json()["value"])


def operations(document: dict[str, Any]) -> Iterator[Any]:
    """Every operation of a gateway's document, without what the generator cannot write."""
    for methods in document["paths"].values():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {})
            content.pop("application/senml+cbor", None)
            # A random ETag would keep most edits from being tried.
            operation["parameters"] = [each for each in operation.get("parameters", ()) if "$ref" not in each]
    schema = schemathesis.openapi.from_dict(document)
    found: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    yield from sorted(
        (one for one in found if one.path not in STREAMS), key=lambda one: ORDER.index(one.method)
    )


def send(callers: Callers, operation: Any, mode: Any, count: int, seeded: int, findings: Findings) -> None:
    """`count` requests for one row, right ones or wrong ones, each by every kind of caller."""
    checks = [CHECKS.get_one(name) for name in OURS]
    numbered = iter(range(1 << 30))

    @seed(seeded)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=QUIET)
    @given(case=operation.as_strategy(mode))
    def one(case: Any) -> None:
        if next(numbered) % 2 == 0:  # every second one about something that is there
            known = {name: callers.ids[name] for name in case.path_parameters if name in callers.ids}
            case.path_parameters.update(known)
        for role in ROLES:  # who may most comes last: he removes what the others ask for
            callers.prepare()
            try:
                answer = case.call(
                    base_url=callers.url, headers=callers.headers(role), session=callers.session
                )
            except (UnicodeError, requests.exceptions.InvalidHeader):
                return  # a header that no client can send
            findings.answers[role][answer.status_code] += 1
            where = f"{operation.method.upper()} {operation.path} by {role}"
            said = f"{case.as_curl_command()}\n{answer.text[:500]}"
            if answer.status_code >= 500 and answer.status_code not in BUSY:
                findings.faults.setdefault(f"{where}: {answer.status_code}", said)
            try:
                case.validate_response(answer, checks=checks)
            except FailureGroup as group:
                for failure in group.exceptions:
                    key = f"{where}: {failure.title} ({answer.status_code})"
                    findings.faults.setdefault(key, f"{failure.message[:800]}\n{said}")

    with contextlib.suppress(Unsatisfiable):  # nothing in this request could be wrong
        one()


def attack(
    callers: Callers,
    document: dict[str, Any],
    right: int,
    wrong: int,
    *,
    seeded: int = 2026,
    part: tuple[int, int] = (0, 1),
) -> Findings:
    """For each row, or of `part` (which, of how many), requests of each kind of caller.

    `right` ones that the document allows and `wrong` ones that it does not.
    """
    load_all_checks()
    findings = Findings()
    for operation in list(operations(document))[part[0] :: part[1]]:
        for mode, count in ((GenerationMode.POSITIVE, right), (GenerationMode.NEGATIVE, wrong)):
            if count:
                send(callers, operation, mode, count, seeded, findings)
    return findings


def config(folder: Path) -> Config:
    """A gateway on ports of the system's choice."""
    return Config(
        gateway=GatewaySection(
            eui="02f10f6a7e0000aa", data_dir=str(folder / "data"), runtime_dir=str(folder / "run")
        ),
        lorawan=LorawanSection(port=0),
        hub=HubSection(commit_interval_s=0.02),
        mqtt=MqttSection(port=0),
        http=HttpSection(port=0, workshop_port=0),
        coap=CoapSection(port=0),
    )


async def _main(count: int, seeded: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with gateway_app.running(config(Path(folder))) as gateway:
            callers = await asyncio.to_thread(Callers, gateway)
            document = await asyncio.to_thread(callers.document)
            found = await asyncio.to_thread(attack, callers, document, count, count, seeded=seeded)
            callers.session.close()
    for role, answers in found.answers.items():
        statuses = ", ".join(f"{status}: {times}" for status, times in sorted(answers.items()))
        print(f"{role}: {answers.total()} requests ({statuses})")
    for where, words in found.faults.items():
        print(f"\n{where}\n{words}")
    print(f"{len(found.faults)} faults")
    return bool(found.faults)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")  # of the generator, about what it cannot make
    numbers = [int(each) for each in sys.argv[1:]]
    raise SystemExit(asyncio.run(_main(*(numbers + [10, 2026][len(numbers) :]))))
