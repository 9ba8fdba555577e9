"""Every page against a small gateway: what it shows in each state, and what its forms do."""

from __future__ import annotations

import re
import time

import pytest

from tests.webui.double import CODE, EMAIL, HOSTILE, PASSPHRASE, TOKEN, GatewayDouble, Visitor

COLD_ROOM = "a84041ffff1c3d5e"
PAGES = [
    *("/", "/radio", "/radio/modules", "/radio/band"),
    *("/devices", "/devices/add", f"/devices/{COLD_ROOM}", "/upstream", "/more"),
]
PARTS = [
    *("/lamps", "/state", "/radio/rows", "/radio/modules/state"),
    *("/devices/list", f"/devices/{COLD_ROOM}/state", "/upstream/list"),
]
KEY = "2B7E1516 28AED2A6 ABF71588 09CF4F3C"


# -- claim and sign-in


def test_an_unclaimed_gateway_offers_only_the_claim_page(visitor: Visitor, double: GatewayDouble) -> None:
    double.claimed = False
    answer = visitor.get("/", follow_redirects=True)
    assert answer.request.path == "/claim"
    assert "Claim this gateway" in visitor.page


def test_claiming_makes_the_first_user_and_signs_in(visitor: Visitor, double: GatewayDouble) -> None:
    double.claimed = False
    visitor.get(f"/claim?code={CODE}")
    assert CODE in visitor.page
    fields = {"code": CODE, "email": EMAIL, "password": PASSPHRASE, "again": PASSPHRASE}
    answer = visitor.post("/claim", fields)
    assert (answer.status_code, answer.location) == (303, "/")
    assert visitor.get("/").status_code == 200


def test_a_wrong_code_is_told_and_the_form_is_kept(visitor: Visitor, double: GatewayDouble) -> None:
    double.claimed = False
    visitor.get("/claim")
    fields = {"code": "WRONG", "email": EMAIL, "password": PASSPHRASE, "again": PASSPHRASE}
    assert visitor.post("/claim", fields).status_code == 422
    assert "This is not the code." in visitor.page
    assert EMAIL in visitor.page
    assert PASSPHRASE not in visitor.page
    assert not double.claimed


def test_a_claimed_gateway_has_no_claim_page(visitor: Visitor) -> None:
    assert visitor.get("/claim").location == "/login"


def test_signing_in_leads_to_where_one_wanted_to_go(visitor: Visitor) -> None:
    answer = visitor.get("/radio?kind=join")
    assert answer.location == "/login?next=/radio?kind%3Djoin"
    visitor.get(answer.location)
    answer = visitor.post("/login", {"email": EMAIL, "password": PASSPHRASE, "next": "/radio?kind=join"})
    assert (answer.status_code, answer.location) == (303, "/radio?kind=join")


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"]
)
def test_signing_in_never_leads_to_another_site(visitor: Visitor, target: str) -> None:
    visitor.get("/login")
    answer = visitor.post("/login", {"email": EMAIL, "password": PASSPHRASE, "next": target})
    assert answer.location == "/"


def test_a_wrong_passphrase_does_not_say_what_was_wrong(visitor: Visitor) -> None:
    visitor.get("/login")
    assert visitor.post("/login", {"email": EMAIL, "password": "not it, really"}).status_code == 403
    assert "E-mail or passphrase is not right." in visitor.page
    assert visitor.get("/").status_code == 303


def test_guessing_has_to_wait(visitor: Visitor) -> None:
    visitor.get("/login")
    for _ in range(5):
        assert visitor.post("/login", {"email": EMAIL, "password": "a wrong guess"}).status_code == 403
    assert visitor.post("/login", {"email": EMAIL, "password": PASSPHRASE}).status_code == 429
    assert "Too many wrong passwords; wait a little" in visitor.page


def test_signing_out_revokes_the_token_at_the_gateway(person: Visitor, double: GatewayDouble) -> None:
    before = set(double.tokens)
    person.get("/more")
    answer = person.post("/logout")
    assert answer.location == "/login"
    assert len(before - double.tokens) == 1
    assert person.get("/").status_code == 303


def test_a_token_revoked_at_the_gateway_ends_the_session(person: Visitor, double: GatewayDouble) -> None:
    double.tokens.clear()
    answer = person.get("/devices")
    assert answer.location == "/login?next=/devices&ended=1"
    person.get(answer.location)
    assert "Your sign-in has ended." in person.page
    assert person.get("/lamps", headers={"X-Fragment": "1"}).status_code == 401


# -- states that every page has


@pytest.mark.parametrize("path", PAGES)
def test_pages_need_a_sign_in(visitor: Visitor, path: str) -> None:
    answer = visitor.get(path)
    assert answer.status_code == 303
    assert answer.location.startswith("/login")


@pytest.mark.parametrize("path", PAGES + PARTS)
def test_pages_and_parts_of_a_busy_gateway(person: Visitor, site: GatewayDouble, path: str) -> None:
    assert person.get(path).status_code == 200
    if path in PAGES:
        assert re.search(r"<h1>.+</h1>", person.page)
        assert person.page.count('class="lamp ') == 3


@pytest.mark.parametrize("path", [path for path in PAGES if COLD_ROOM not in path])
def test_pages_of_a_fresh_gateway(person: Visitor, path: str) -> None:
    assert person.get(path).status_code == 200
    assert "<h1>" in person.page


@pytest.mark.parametrize("path", PAGES)
def test_a_gateway_that_does_not_answer_is_told_and_looked_for_again(
    person: Visitor, double: GatewayDouble, path: str
) -> None:
    double.broken = True
    answer = person.get(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "The gateway service does not answer." in person.page
    assert 'http-equiv="refresh"' in person.page


def test_lamps_turn_into_a_banner_while_the_gateway_is_down(person: Visitor, double: GatewayDouble) -> None:
    double.broken = True
    assert person.get("/lamps").status_code == 200
    assert "does not answer" in person.page


def test_a_form_sent_while_the_gateway_is_down_is_not_sent_again_by_itself(
    person: Visitor, site: GatewayDouble
) -> None:
    person.get(f"/devices/{COLD_ROOM}")
    site.broken = True
    assert person.post(f"/devices/{COLD_ROOM}/downlinks", {"fport": "1", "payload": "00"}).status_code == 503
    assert 'http-equiv="refresh"' not in person.page
    assert "Nothing was changed." in person.page


def test_an_unknown_page_is_a_page(person: Visitor) -> None:
    assert person.get("/nowhere").status_code == 404
    assert "There is no such page" in person.page


def test_hostile_names_and_values_are_inert_everywhere(person: Visitor, double: GatewayDouble) -> None:
    evil, long = HOSTILE, "A" * 10_000
    for name in (evil, long):
        double.add_device("00112233445566" + ("77" if name == evil else "88"), name, last_seen=time.time())
        double.heard(
            "uplink",
            dev_eui="0011223344556677",
            name=name,
            datr=name[:60],
            detail=name,
            values=[{"n": name, "vs": name, "u": name}],
        )
        double.heard("rejected", name=name, reason=name, detail=name, dev_addr=name)
        double.upstream.append({"name": name, "state": name[:40], "detail": name})
    for path in ["/", "/radio", "/devices", "/devices/0011223344556677", "/upstream", "/more"]:
        assert person.get(path).status_code == 200
        assert "<script>alert" not in person.page
        assert "A" * 1001 not in person.page, "long text is cut"
        assert len(person.page) < 60_000


# -- radio


def test_frames_are_rows_with_words(person: Visitor, site: GatewayDouble) -> None:
    person.get("/radio")
    rows = person.page.split("<tr ")[2:]
    assert len(rows) == 5
    assert "Uplink" in rows[0]
    assert "temperature 1" in rows[0]
    assert "2.3\u00a0°C" in rows[0]
    assert "The signature does not fit" in rows[1]
    assert "This device wants to join but is not registered here." in rows[4]
    assert 'href="/devices/add?dev_eui=70b3d57ed0001a2b"' in rows[4]


def test_only_newer_rows_are_fetched(person: Visitor, site: GatewayDouble) -> None:
    answer = person.get("/radio/rows?after=3")
    assert person.page.count("<tr ") == 2
    assert "X-Whole" not in answer.headers
    assert person.get("/radio/rows?after=5").get_data() == b""


def test_a_restarted_gateway_replaces_the_table(person: Visitor, site: GatewayDouble) -> None:
    site.restart()
    site.heard("uplink", name="after the restart")
    answer = person.get("/radio/rows?after=5")
    assert answer.headers["X-Whole"] == "1"
    assert "after the restart" in person.page


@pytest.mark.parametrize(("kind", "rows"), [("uplink", 1), ("rejected", 2), ("nonsense", 5), ("", 5)])
def test_frames_by_kind(person: Visitor, site: GatewayDouble, kind: str, rows: int) -> None:
    person.get(f"/radio/rows?kind={kind}")
    assert person.page.count("<tr ") == rows


# -- devices


def test_devices_are_sorted_by_last_word_and_never_called_offline(
    person: Visitor, site: GatewayDouble
) -> None:
    person.get("/devices")
    assert person.page.index("Cold room 1") < person.page.index("Cellar") < person.page.index("Door east")
    assert "silent for 1 h 52 min" in person.page
    assert "never heard yet" in person.page
    assert "offline" not in person.page.lower()


def test_adding_a_device_shows_its_thing_key_once(person: Visitor, double: GatewayDouble) -> None:
    person.get("/devices/add")
    answer = person.post(
        "/devices/add",
        {
            "name": "Cold room 4",
            "dev_eui": "A8:40:41:FF:FF:1C:3D:5E",
            "activation": "otaa",
            "join_eui": "70b3d57ed0001a2b",
            "app_key": KEY,
            "codec": "cayenne",
        },
    )
    assert answer.status_code == 201
    assert person.page.count("a-thing-key-shown-once") == 1
    assert answer.headers["Cache-Control"] == "no-store"
    assert double.devices[COLD_ROOM]["name"] == "Cold room 4"
    person.get(f"/devices/{COLD_ROOM}")
    assert "a-thing-key-shown-once" not in person.page


def test_a_device_that_is_there_already_is_refused_in_words(person: Visitor, site: GatewayDouble) -> None:
    person.get("/devices/add")
    fields = {"name": "x", "dev_eui": COLD_ROOM, "join_eui": "00" * 8, "app_key": KEY, "codec": "raw"}
    assert person.post("/devices/add", fields).status_code == 422
    assert "registered already" in person.page


def test_an_adopted_device_has_its_eui_filled_in(person: Visitor) -> None:
    person.get("/devices/add?dev_eui=70b3d57ed0001a2b")
    assert 'value="70b3d57ed0001a2b"' in person.page
    person.get('/devices/add?dev_eui="><script>')
    assert "<script>" not in person.page.replace('<script src="/assets', "")


def test_home_tells_what_each_device_said_last(person: Visitor, site: GatewayDouble) -> None:
    site.heard("uplink", dev_eui="a84041ffff1c3d5e", values=[{"n": "temperature_1", "u": "Cel", "v": 4.5}])
    site.heard("downlink", dev_eui="a84041ffff1c3d5e")
    person.get("/")
    assert "4.5\u00a0°C" in person.page
    assert "2.3\u00a0°C" not in person.page


def test_what_was_lost_is_said(person: Visitor, site: GatewayDouble) -> None:
    person.get("/upstream")
    assert "Lost to it" not in person.page
    site.upstream[0] |= {"missed": 77, "rejected": 3}
    person.get("/upstream")
    assert "Lost to it" in person.page
    assert "Refused by it" in person.page
    site.set_aside = ["history.db.damaged-1"]
    site.lost_commits = 3
    person.get("/more")
    assert "history.db.damaged-1" in person.page
    assert "at least 3\u00a0commits" in person.page


def test_latest_values_come_from_the_newest_frame_that_has_them(person: Visitor, site: GatewayDouble) -> None:
    site.heard("uplink", dev_eui=COLD_ROOM, values=[{"n": "temperature_1", "u": "Cel", "v": 4.5}])
    site.heard("uplink", dev_eui="a84041ffff1c3d5f", values=[{"n": "temperature_1", "u": "Cel", "v": 99}])
    person.get(f"/devices/{COLD_ROOM}")
    readings = person.page.split("Latest values")[1].split("Recent frames")[0]
    assert "4.5\u00a0°C" in readings
    assert "55.5\u00a0% RH" in readings
    assert "99" not in readings


def test_a_downlink_is_queued_and_said_so_once(person: Visitor, site: GatewayDouble) -> None:
    person.get(f"/devices/{COLD_ROOM}")
    answer = person.post(
        f"/devices/{COLD_ROOM}/downlinks", {"fport": "10", "payload": "01 00 FF", "confirmed": "yes"}
    )
    assert answer.status_code == 303
    assert site.downlinks == [{"dev_eui": COLD_ROOM, "fport": 10, "payload": "0100ff", "confirmed": True}]
    person.get(answer.location)
    assert "Queued." in person.page
    person.get(answer.location)
    assert "Queued." not in person.page


def test_what_the_gateway_says_against_a_downlink_is_shown(person: Visitor, site: GatewayDouble) -> None:
    person.get(f"/devices/{COLD_ROOM}")
    assert (
        person.post(f"/devices/{COLD_ROOM}/downlinks", {"fport": "1", "payload": "00" * 60}).status_code
        == 422
    )
    assert "At most 51 bytes at this data rate." in person.page
    assert "00" * 60 in person.page


def test_a_device_is_removed_after_a_question(person: Visitor, site: GatewayDouble) -> None:
    person.get(f"/devices/{COLD_ROOM}/remove")
    assert "Remove <bdi>Cold room 1</bdi>?" in person.page
    assert COLD_ROOM in site.devices
    assert person.post(f"/devices/{COLD_ROOM}/remove").location == "/devices"
    assert COLD_ROOM not in site.devices


@pytest.mark.parametrize(
    "path", ["/devices/a84041ffff1c3d99", "/devices/..", "/devices/x", "/devices/%2e%2e%2fclaim"]
)
def test_an_unknown_device_is_a_page(person: Visitor, path: str) -> None:
    assert person.get(path).status_code == 404


# -- upstream


def test_upstream_shows_queue_and_reason(person: Visitor, site: GatewayDouble) -> None:
    person.get("/upstream")
    assert "No route to the broker" in person.page
    assert "1\u202f204" in person.page
    assert "An outage loses nothing" in person.page


def test_without_upstream_the_page_says_how_to_set_one_up(person: Visitor) -> None:
    person.get("/upstream")
    assert "[[upstream]]" in person.page


def test_upstream_shows_what_a_broker_refused_and_why(person: Visitor, site: GatewayDouble) -> None:
    refused = "message 7: no rights to <b>channels</b>"
    site.upstream = [{"name": "cloud", "state": "connected", "rejected": 1, "rejected_detail": refused}]
    person.get("/upstream")
    assert "Refused last: message 7: no rights to &lt;b&gt;" in person.page


def test_upstream_shows_where_messages_come_from(person: Visitor, site: GatewayDouble) -> None:
    site.nats = [
        {"name": "fleet", "state": "connected", "stored": 12, "behind": 3, "passed_over_detail": "no channel"}
    ]
    person.get("/upstream")
    assert "From <bdi>fleet</bdi>" in person.page
    assert "Passed over last: no channel" in person.page
    assert "[[upstream]]" not in person.page


def test_the_token_never_reaches_a_page(person: Visitor, site: GatewayDouble) -> None:
    for path in PAGES:
        answer = person.get(path)
        assert TOKEN not in person.page
        assert TOKEN not in str(answer.headers)
