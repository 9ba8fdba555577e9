"""What strangers can do to the diagnosis: nothing that lasts."""

import random

import pytest

from gateway.diagnosis import book as book_module
from gateway.diagnosis.book import MAX_STRANGERS, Book, Shelf
from gateway.diagnosis.diagnoser import REFUSED_A_SECOND, STRANGERS_A_MINUTE, WRITES_A_TICK, Diagnoser
from gateway.diagnosis.heard import MAX_LASTING, MAX_ON_PROBATION, Strangers
from gateway.diagnosis.keys import MOST_AT_ONCE, TESTS_PER_S, Budget
from gateway.diagnosis.reasons import Heals, Kind
from gateway.lorawan import frames
from gateway.lorawan.clock import Instant
from gateway.lorawan.outcome import Rejected
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import AES128Key
from hub.message import TimeQuality
from radio.gwmp import RxPacket
from radio.lora import LoRaModulation
from radio.regions import get_region

SECOND = 10**9
GATEWAY_EUI = bytes(8)


def at(seconds: float) -> Instant:
    return Instant(int(seconds * SECOND), int((1_760_000_000 + seconds) * SECOND), TimeQuality.NTP)


def heard(data: bytes) -> RxPacket:
    return RxPacket(0, 868_100_000, 0, 0, 1, LoRaModulation(7, 125_000), -90, 5.0, data)


def join_request(rng: random.Random) -> bytes:
    return frames.build_join_request(
        AES128Key(rng.randbytes(16)), rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(16)
    )


def test_a_flood_of_invented_devices_leaves_bounded_traces():
    rng = random.Random(1)
    server = NetworkServer(get_region("EU868"), settings=Settings(status_interval_s=0), rng=rng)
    diagnoser = Diagnoser(server)
    lost = join_request(rng)  # of a real device that nobody has registered
    writes = 0
    for second in range(30):
        for n in range(300):
            data = lost if n == second * 7 % 150 else join_request(rng)
            now = at(second + n / 300)
            diagnoser.outcome(server.handle(heard(data), GATEWAY_EUI, now), GATEWAY_EUI, now)
        for _ in range(3):
            written = diagnoser.tick(at(second + 0.999))
            assert len(written) <= WRITES_A_TICK
            writes += len(written)
    assert len(diagnoser.book.strangers) <= MAX_STRANGERS
    assert len(diagnoser.book.own) <= 2
    assert len(diagnoser.strangers) <= MAX_ON_PROBATION + MAX_LASTING
    assert writes <= 2 * STRANGERS_A_MINUTE, "each is stored, and deleted when it has to go"
    assert diagnoser.counters.looked_into == 30 * REFUSED_A_SECOND
    assert diagnoser.counters.passed_over == 30 * 100
    newest = diagnoser.unknown(1)[0]
    assert newest.dev_eui == f"{int.from_bytes(lost[9:17], 'little'):016x}", (
        "heard again and again: it is there"
    )
    assert newest.count > 20


def test_a_shelf_lets_the_oldest_go_and_each_subject_has_a_share(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(book_module, "MAX_PER_DEVICE", 3)
    book = Book(own=Shelf(5))
    for n, kind in enumerate(list(Kind)[:4]):
        book.add("00000000000000aa", kind, "", {}, n)
    assert [each.kind for each in book.own.of("00000000000000aa")] == list(Kind)[1:4]
    for n in range(4):
        book.add(f"{n:016x}", Kind.SILENT, "", {}, 10 + n)
    assert len(book.own) == 5
    assert book.counters.pushed_out == 3
    assert sum(book.ailing.values()) == 5


def test_strangers_never_push_out_what_is_known_of_a_device():
    book = Book()
    book.add("00000000000000aa", Kind.SILENT, "it is silent", {}, 1)
    for n in range(MAX_STRANGERS + 10):
        book.add(f"{n:08x}", Kind.DEV_ADDR_UNKNOWN, "", {}, n, own=False)
    assert book.open_of("00000000000000aa")
    assert len(book.strangers) == MAX_STRANGERS


def test_a_finding_that_was_stored_and_had_to_go_is_deleted():
    book = Book(own=Shelf(1))
    book.add("00000000000000aa", Kind.SILENT, "", {}, 1)
    assert [sql.split()[0] for sql, _ in book.writes(10)] == ["INSERT"]
    book.add("00000000000000bb", Kind.SILENT, "", {}, 2)
    assert sorted(sql.split()[0] for sql, _ in book.writes(10)) == ["DELETE", "INSERT"]
    assert book.writes(10) == []


def test_what_heals_it_ends_a_finding_and_it_can_come_again():
    book = Book()
    finding = book.add("00000000000000aa", Kind.APP_KEY_WRONG, "", {}, 1)
    book.resolve_all("00000000000000aa", Heals.DOWNLINK, 2)
    assert finding.resolved_ns is None
    book.resolve_all("00000000000000aa", Heals.UPLINK, 3)
    assert (finding.resolved_ns, book.ailing) == (3, {})
    again = book.add("00000000000000aa", Kind.APP_KEY_WRONG, "", {}, 4)
    assert (again.count, again.first_ns, again.resolved_ns) == (2, 1, None)
    assert book.ailing == {"00000000000000aa": 1}


def test_the_tests_of_keys_have_a_budget_that_grows_back():
    budget = Budget()
    granted = sum(budget.grant(SECOND) for _ in range(100))
    assert granted < 10
    assert budget.refused == 100 - granted
    assert not budget.grant(SECOND)
    assert budget.grant(SECOND + MOST_AT_ONCE * SECOND // TESTS_PER_S)


def test_a_sender_heard_twice_outlives_any_number_heard_once():
    strangers = Strangers()
    for _ in range(2):
        strangers.hear(heard(b""), GATEWAY_EUI, 1, "", dev_eui="a" * 16)
    for n in range(5 * MAX_ON_PROBATION):
        strangers.hear(heard(b""), GATEWAY_EUI, 2 + n, "", dev_eui=f"{n:016x}")
    assert strangers.newest(1)[0].dev_eui == "a" * 16
    assert len(strangers) == 1 + MAX_ON_PROBATION
    strangers.forget("a" * 16)
    assert not strangers.known("a" * 16)


def test_no_bytes_from_the_air_make_the_diagnosis_fail():
    rng = random.Random(2)
    server = NetworkServer(get_region("EU868"), settings=Settings(status_interval_s=0), rng=rng)
    diagnoser = Diagnoser(server)
    vectors = [join_request(rng) for _ in range(8)]
    vectors += [bytes((mhdr << 5,)) + rng.randbytes(rng.randrange(40)) for mhdr in range(8) for _ in range(4)]
    refused = 0
    for n in range(4000):
        data = bytearray(rng.choice(vectors))
        for _ in range(rng.randrange(4)):
            match rng.randrange(3):
                case 0 if data:
                    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
                case 1:
                    del data[rng.randrange(len(data) + 1) :]
                case _:
                    data += rng.randbytes(rng.randrange(20))
        now = at(n / 50)
        outcome = server.handle(heard(bytes(data[:255])), GATEWAY_EUI, now)
        diagnoser.outcome(outcome, GATEWAY_EUI, now)
        refused += isinstance(outcome, Rejected)
    assert refused == diagnoser.counters.looked_into == 4000
