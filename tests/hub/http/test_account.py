from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., None]


def test_the_holder_of_the_code_becomes_the_owner_once(run: Run) -> None:
    async def scenario(site: Any) -> None:
        assert (await site.client.get("/claim")).json() == {"claimed": False}
        code = site.hub.registry.claim_code()
        wrong = await site.client.post("/claim", json={"code": "WRONG-CODE", **site.login})
        assert wrong.status_code == 400
        assert "4 tries left" in wrong.json()["detail"]
        weak = await site.client.post("/claim", json={"code": code, "email": "a@b.c", "password": "short"})
        assert weak.status_code == 400
        claimed = await site.client.post("/claim", json={"code": code, **site.login})
        assert claimed.status_code == 201
        bearer = {"authorization": f"Bearer {claimed.json()['token']}"}
        profile = (await site.client.get("/users/profile", headers=bearer)).json()
        assert (profile["email"], profile["role"]) == (site.login["email"], "admin")
        assert (await site.client.get("/claim")).json() == {"claimed": True}
        again = await site.client.post("/claim", json={"code": code, **site.login})
        assert again.status_code == 409

    run(scenario, claimed=False)


def test_a_claim_code_is_used_up_by_guessing(run: Run) -> None:
    async def scenario(site: Any) -> None:
        site.hub.registry.claim_code()
        statuses = [
            (await site.client.post("/claim", json={"code": f"GUESS{n}", **site.login})).status_code
            for n in range(6)
        ]
        assert statuses == [400] * 5 + [429]

    run(scenario, claimed=False)


def test_logging_in_and_out(run: Run) -> None:
    async def scenario(site: Any) -> None:
        made = await site.client.post("/tokens", json=site.login)
        assert made.status_code == 201
        bearer = {"authorization": f"Bearer {made.json()['token']}"}
        bare = {"authorization": made.json()["token"]}  # Mainflux up to 0.12
        for headers in (bearer, bare):
            assert (await site.client.get("/users/profile", headers=headers)).status_code == 200
        assert (await site.client.delete("/tokens", headers=bearer)).status_code == 204
        for headers in (bearer, bare):
            assert (await site.client.get("/users/profile", headers=headers)).status_code == 401
        assert (await site.get("/users/profile")).status_code == 200, "other tokens live on"

    run(scenario)


def test_wrong_passwords_are_401_and_then_have_to_wait(run: Run) -> None:
    async def scenario(site: Any) -> None:
        wrong = {**site.login, "password": "not the one"}
        answers = [await site.client.post("/tokens", json=wrong) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        nobody = await site.client.post("/tokens", json={**wrong, "email": "nobody@example.org"})
        assert (nobody.status_code, nobody.json()) == (401, answers[0].json())

    run(scenario)


def test_a_new_password_ends_every_token(run: Run) -> None:
    async def scenario(site: Any) -> None:
        change = {"old_password": "wrong one", "password": "battery staple"}
        assert (await site.client.patch("/password", json=change, headers=site.user)).status_code == 401
        change["old_password"] = site.login["password"]
        assert (await site.client.patch("/password", json=change, headers=site.user)).status_code == 201
        assert (await site.get("/users/profile")).status_code == 401
        login = {**site.login, "password": change["password"]}
        assert (await site.client.post("/tokens", json=login)).status_code == 201

    run(scenario)


def test_an_owner_adds_accounts(run: Run) -> None:
    async def scenario(site: Any) -> None:
        account = {"email": "two@example.org", "password": "long enough"}
        made = await site.post("/users", account)
        assert made.status_code == 201
        assert made.headers["location"] == f"/users/{made.json()['id']}"
        assert "password" not in made.text
        assert (await site.post("/users", account)).status_code == 409
        assert (await site.post("/users", {**account, "email": "no address"})).status_code == 400
        assert (await site.client.post("/tokens", json=account)).status_code == 201

    run(scenario)


def test_accounts_are_listed_changed_and_removed(run: Run) -> None:
    async def scenario(site: Any) -> None:
        wanted = {"email": "tech@example.org", "password": "correct horse", "role": "technician"}
        made = await site.post("/users", wanted)
        assert (made.status_code, made.json()["role"]) == (201, "technician")
        path = made.headers["location"]
        token = (await site.client.post("/tokens", json=wanted)).json()["token"]
        technician = {"authorization": f"Bearer {token}"}
        assert (await site.client.post("/things", json={}, headers=technician)).status_code == 201
        refused = await site.client.get("/users", headers=technician)
        assert (refused.status_code, "role admin" in refused.json()["detail"]) == (403, True)
        changed = await site.client.patch(path, json={"role": "viewer"}, headers=site.user)
        assert changed.json()["role"] == "viewer"
        assert (await site.client.get("/things", headers=technician)).status_code == 401, (
            "signed out with the role"
        )
        technician["authorization"] = (
            "Bearer " + (await site.client.post("/tokens", json=wanted)).json()["token"]
        )
        refused = await site.client.post("/things", json={}, headers=technician)
        assert (refused.status_code, "technician" in refused.json()["detail"]) == (403, True)
        assert (await site.client.get("/things", headers=technician)).status_code == 200
        await site.client.patch(path, json={"password": "another horse"}, headers=site.user)
        assert (await site.client.get("/things", headers=technician)).status_code == 401
        assert [user["role"] for user in (await site.get("/users")).json()["users"]] == ["admin", "viewer"]
        assert (await site.client.delete(path, headers=site.user)).status_code == 204
        assert (await site.get(path)).status_code == 404
        assert (await site.post("/users", {**wanted, "role": "king"})).status_code == 400

    run(scenario)


def test_the_last_administrator_stays_one(run: Run) -> None:
    async def scenario(site: Any) -> None:
        viewer = {"email": "v@example.org", "password": "correct horse", "role": "viewer"}
        await site.post("/users", viewer)
        path = f"/users/{site.hub.registry.users()[0].id}"
        for answer in (
            await site.client.patch(path, json={"role": "viewer"}, headers=site.user),
            await site.client.delete(path, headers=site.user),
        ):
            assert answer.status_code == 400
            assert "last administrator" in answer.json()["detail"]

    run(scenario)
