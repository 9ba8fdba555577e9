"""Findings of single devices: what heals them, what is stored, what is searched, and that no key is ever told."""

import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import msgspec

from gateway.diagnosis import store
from gateway.diagnosis.diagnoser import QUIET_NS
from gateway.diagnosis.finding import GATEWAY
from gateway.diagnosis.nearly import digits_off, net_id_of, network_words, private
from gateway.diagnosis.reasons import Kind
from gateway.lorawan.outcome import Uplink
from gateway.lorawan.types import AES128Key
from radio.gwmp import TxError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from torture.diagnosis_site import Node, Site, abp, good, joined, key_off, turned


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    for migration in store.MIGRATIONS:
        for statement in migration.statements:
            connection.execute(statement)
    return connection


def test_a_wrong_key_is_over_when_the_device_has_joined():
    rng = random.Random(1)
    site, node = Site(rng), Node.new(rng)
    site.server.add_device(node.otaa())
    right, node.app_key = node.app_key, AES128Key(rng.randbytes(16))
    site.hear(node.request())
    subject = str(node.dev_eui)
    device = site.server.device(node.dev_eui)
    assert site.diagnoser.verdict(subject).kind is Kind.APP_KEY_WRONG
    assert "AppKey" in device.problem
    assert "label" in device.problem, "the problem says what to do, too"
    node.app_key = right
    node.hear_accept(site.hear(node.request()).downlink.windows[0].data)
    good(site, node, 1)
    assert site.diagnoser.verdict(subject) is None
    assert site.server.device(node.dev_eui).problem == ""
    (finding,) = site.diagnoser.search(dev_eui=subject)
    assert finding.resolved_ns is not None


def test_the_digit_that_is_wrong_is_named():
    rng = random.Random(2)
    site, node = Site(rng), Node.new(rng)
    wrong = bytearray(node.app_key.value)
    wrong[4] ^= 0x30  # the ninth digit
    site.server.add_device(node.otaa(app_key=AES128Key(bytes(wrong))))
    site.hear(node.request())
    finding = site.diagnoser.verdict(str(node.dev_eui))
    assert (finding.kind, finding.evidence["where"]) == (Kind.APP_KEY_DIGITS, "digit 9")
    assert finding.evidence["certainty"] == "proved"


def test_no_finding_holds_a_key():
    rng = random.Random(3)
    site = Site(rng)
    keys = []
    for n in range(12):
        node = Node.new(rng)
        keys += [node.app_key, node.nwk_key, node.nwk_s_key, node.app_s_key]
        registered = (turned(node.app_key), key_off(rng, node.app_key), AES128Key(rng.randbytes(16)))[n % 3]
        keys.append(registered)
        site.server.add_device(node.otaa(app_key=registered))
        site.hear(node.request())
    told = msgspec.json.encode(list(site.diagnoser.book)).decode() + repr(list(site.diagnoser.book))
    told += "".join(device.problem for device in site.server.devices())
    for key in keys:
        assert key.value.hex() not in told
        assert repr(key.value)[2:-1] not in told
    assert len(site.diagnoser.book.own) == 12


def test_findings_outlive_a_restart():
    rng = random.Random(4)
    site, node = Site(rng), Node.new(rng)
    site.server.add_device(node.otaa(app_key=turned(node.app_key)))
    site.hear(node.request())
    site.hear(node.request())
    with closing(database()) as connection:
        for _ in range(3):
            site.wait(5)
            for sql, parameters in site.diagnoser.tick(site.now()):
                connection.execute(sql, parameters)
        connection.execute(
            "INSERT INTO lorawan_finding VALUES ('aa', 'a_kind_of_tomorrow', '', '{}', 1, 1, NULL, 1)"
        )
        connection.execute(
            "INSERT INTO lorawan_finding VALUES ('aa', 'silent', '', 'no JSON', 1, 1, NULL, 1)"
        )
        again = Site(rng)
        again.server.add_device(node.otaa())
        again.diagnoser.restore(store.load(connection))
    connection.close()
    finding = again.diagnoser.verdict(str(node.dev_eui))
    assert (finding.kind, finding.count) == (Kind.APP_KEY_REVERSED, 2)
    assert finding.evidence["reversed"] == "its bytes"
    again.mono_ns = site.mono_ns
    again.hear(node.request())
    assert again.diagnoser.book.ailing == {}, "it is signed with the right key now"


def test_a_device_that_is_removed_takes_its_findings_along():
    rng = random.Random(5)
    site, node = Site(rng), Node.new(rng)
    site.server.add_device(node.abp())
    site.hear(node.request())
    assert site.diagnoser.verdict(str(node.dev_eui)).kind is Kind.JOINS_BUT_ABP
    site.server.remove_device(node.dev_eui)
    site.wait(61)
    site.look()
    assert list(site.diagnoser.book) == []


def test_findings_are_searched_by_device_kind_text_and_time():
    rng = random.Random(6)
    site = Site(rng)
    first, second = Node.new(rng), Node.new(rng)
    site.server.add_device(first.abp(name="cold room"))
    site.hear(first.request())
    before = site.now().wall_ns
    site.hear(second.request(), after_s=100)
    search = site.diagnoser.search
    assert [each.kind for each in search()] == [Kind.DEV_EUI_UNKNOWN, Kind.JOINS_BUT_ABP]
    assert [each.kind for each in search(dev_eui=str(first.dev_eui))] == [Kind.JOINS_BUT_ABP]
    assert [each.kind for each in search(reason="dev_eui_unknown")] == [Kind.DEV_EUI_UNKNOWN]
    assert [each.kind for each in search(text="ABP")] == [Kind.JOINS_BUT_ABP]
    assert [each.kind for each in search(since_ns=before + 1)] == [Kind.DEV_EUI_UNKNOWN]
    assert [each.kind for each in search(until_ns=before)] == [Kind.JOINS_BUT_ABP]
    assert len(search(limit=1)) == 1


def test_who_is_heard_and_not_registered_is_listed_with_its_signal():
    rng = random.Random(7)
    site, node, foreign = Site(rng), Node.new(rng), Node.new(rng)
    for _ in range(3):
        site.hear(node.request(), sf=9, snr_db=-3.0, freq_hz=868_300_000)
    foreign.start_abp()
    foreign.fcnt = 77
    site.hear(foreign.uplink())
    heard = {each.dev_eui or each.dev_addr: each for each in site.diagnoser.unknown(10)}
    seen = heard[str(node.dev_eui)]
    assert (seen.count, seen.sf, seen.snr_db, seen.freq_hz) == (3, 9, -3.0, 868_300_000)
    assert (seen.join_eui, seen.gateway) == (str(node.join_eui), "aa555a0000000101")
    assert heard[str(foreign.dev_addr)].fcnt == 77
    site.server.add_device(node.otaa())
    site.hear(node.request())
    assert str(node.dev_eui) not in {each.dev_eui for each in site.diagnoser.unknown(10)}


def test_a_sibling_from_the_same_box_is_not_taken_for_a_typing_error():
    rng = random.Random(8)
    site = Site(rng)
    works = joined(site, Node.new(rng))
    sibling = Node.new(rng)
    sibling.dev_eui = type(sibling.dev_eui)(works.dev_eui ^ 1)
    site.hear(sibling.request())
    assert site.diagnoser.verdict(str(works.dev_eui)) is None
    assert site.diagnoser.verdict(str(sibling.dev_eui)).kind is Kind.DEV_EUI_UNKNOWN


def test_without_a_forwarder_no_device_is_called_silent():
    rng = random.Random(9)
    site = Site(rng)
    node = joined(site, Node.new(rng), profile=site.profile("often", expected_interval_s=60))
    site.connected = False
    site.look()
    site.wait(3600)
    site.look()
    assert site.diagnoser.verdict(GATEWAY).kind is Kind.RADIO_SILENT
    assert site.diagnoser.verdict(str(node.dev_eui)) is None
    site.connected = True
    site.look()
    assert site.diagnoser.verdict(GATEWAY) is None
    assert site.diagnoser.verdict(str(node.dev_eui)).kind is Kind.SILENT


def test_a_state_that_lasts_counts_once():
    rng = random.Random(10)
    site = Site(rng)
    node = abp(site, Node.new(rng))
    site.hear(node.uplink(), snr_db=-7.0)
    for _ in range(5):
        site.look()
    finding = site.diagnoser.verdict(str(node.dev_eui))
    assert (finding.kind, finding.count) == (Kind.WEAK_SIGNAL, 1)
    site.hear(node.uplink(), snr_db=-7.0)
    assert "above the floor" in site.server.device(node.dev_eui).problem, "it stays so while it is so"
    assert isinstance(site.hear(node.uplink(), snr_db=5.0), Uplink)
    site.look()
    assert site.diagnoser.verdict(str(node.dev_eui)) is None


def test_what_was_not_seen_again_for_a_day_is_over():
    rng = random.Random(11)
    site, node = Site(rng), Node.new(rng)
    site.hear(b"\x01\x02")
    assert site.diagnoser.verdict(GATEWAY).kind is Kind.NOT_LORAWAN
    site.wait(QUIET_NS / 1e9 + 61)
    site.look()
    assert site.diagnoser.verdict(GATEWAY) is None
    assert node.fcnt == 0


def test_addresses_belong_to_networks_as_the_back_end_interfaces_say():
    # Prefixes by type of NetID: LoRaWAN Backend Interfaces 1.1, DevAddr assignment; 26/27 are The Things Network's.
    assert net_id_of(0x26011234) == net_id_of(0x27FFFFFF) == 0x000013
    assert net_id_of(0x01ABCDEF) == 0x000000
    assert net_id_of(0x03ABCDEF) == 0x000001
    assert net_id_of(0x80000000) == 0x200000
    assert net_id_of(0xC0000000) == 0x400000
    assert net_id_of(0xE0000000) == 0x600000
    assert net_id_of(0xFE000000) == 0xE00000
    assert net_id_of(0xFFFFFFFF) is None
    assert private(0x02000000)
    assert not private(0x26000000)
    assert "The Things Network" in network_words(0x26011234)


def test_typing_errors_are_all_there_and_none_twice():
    found = [number for number, _ in digits_off(0x1234, 4)]
    assert len(found) == 4 * 15 + 3
    assert len(set(found)) == len(found)
    assert {0x1235, 0x2134, 0x1324, 0xF234} <= set(found)


def test_what_the_radio_says_of_a_refusal_is_evidence():
    rng = random.Random(12)
    site = Site(rng)
    node = joined(site, Node.new(rng))
    site.radio.error, site.radio.says = TxError.TOO_LATE, "37 ms late: start in 900 us on module 0"
    site.hear(node.uplink(confirmed=True))
    finding = site.diagnoser.verdict(str(node.dev_eui))
    assert (finding.kind, finding.evidence["late_ms"]) == (Kind.RX_WINDOW_MISSED, 37.0)
    assert "by 37 ms" in finding.words
    site.radio.says = "duty cycle 1.0% of 868-868.6 MHz is used up; 41 ms would be allowed in 12 s"
    site.radio.error = TxError.COLLISION_PACKET
    site.hear(node.uplink(confirmed=True))
    finding = site.diagnoser.verdict(str(node.dev_eui))
    assert finding.kind is Kind.DUTY_CYCLE_USED
    assert "868-868.6 MHz" in finding.words
    site.radio.error = None
    site.hear(node.uplink(confirmed=True))
    assert site.diagnoser.verdict(str(node.dev_eui)) is None
