"""A week of duty cycle in a millisecond."""

from radio.dutycycle import SECOND_NS, DutyCycle
from radio.regions import SubBand, get_region

BAND_1 = SubBand(868_000_000, 868_600_000, 0.01, 16.15)  # 36 s an hour
BAND_10 = SubBand(869_400_000, 869_650_000, 0.1, 29.15)
FREE = SubBand(923_300_000, 927_500_000, 1, 28.15)
HOUR = 3600 * SECOND_NS


def test_one_per_cent_is_thirty_six_seconds_an_hour() -> None:
    duty = DutyCycle([BAND_1])
    assert duty.budget_us(BAND_1) == 36_000_000
    sent = sum(duty.try_reserve(BAND_1, i * 2 * SECOND_NS, 1_000_000, 0) for i in range(100))
    assert sent == 36
    assert duty.used_us(BAND_1, 200 * SECOND_NS) == 36_000_000


def test_a_refusal_says_when_it_would_be_allowed() -> None:
    duty = DutyCycle([BAND_1])
    for i in range(36):
        assert duty.try_reserve(BAND_1, i * 10 * SECOND_NS, 1_000_000, i * 10 * SECOND_NS)
    now_ns = 400 * SECOND_NS
    assert not duty.try_reserve(BAND_1, now_ns, 2_000_000, now_ns)
    at_ns = duty.allowed_from(BAND_1, now_ns, 2_000_000)
    assert at_ns == HOUR + 11 * SECOND_NS  # an hour after the second frame ended
    assert not duty.try_reserve(BAND_1, at_ns - SECOND_NS, 2_000_000, at_ns - SECOND_NS)
    assert duty.try_reserve(BAND_1, at_ns, 2_000_000, at_ns)


def test_bands_have_books_of_their_own() -> None:
    duty = DutyCycle([BAND_1, BAND_10, FREE])
    assert duty.try_reserve(BAND_1, 0, 36_000_000, 0)
    assert not duty.try_reserve(BAND_1, 0, 1, 0)
    assert duty.try_reserve(BAND_10, 0, 360_000_000, 0)
    assert all(duty.try_reserve(FREE, 0, 3_600_000_000, 0) for _ in range(10))
    assert duty.budget_us(FREE) is None


def test_a_frame_longer_than_the_budget_is_never_allowed() -> None:
    duty = DutyCycle([BAND_1])
    assert duty.allowed_from(BAND_1, 0, 36_000_001) is None


def test_a_frame_that_was_not_sent_gives_its_time_back() -> None:
    duty = DutyCycle([BAND_1])
    assert duty.try_reserve(BAND_1, 5, 36_000_000, 5)
    duty.release(BAND_1, 5, 36_000_000)
    assert duty.used_us(BAND_1, 5) == 0
    assert duty.try_reserve(BAND_1, 5, 36_000_000, 5)


def test_no_hour_of_a_week_holds_more_than_the_budget() -> None:
    duty = DutyCycle(get_region("EU868").sub_bands)
    band = get_region("EU868").sub_band_for(868_100_000, 125_000)
    assert band is not None
    sent: list[tuple[int, int]] = []
    now_ns = 0
    while now_ns < 7 * 24 * HOUR:
        if duty.try_reserve(band, now_ns, 1_483_000, now_ns):
            sent.append((now_ns, 1_483_000))
        now_ns += 61 * SECOND_NS
    first = 0
    for i, (start_ns, _) in enumerate(sent):
        while sent[first][0] <= start_ns - HOUR:
            first += 1
        assert sum(us for _, us in sent[first : i + 1]) <= 36_000_000
    assert len(sent) >= 7 * 24 * 23  # 24 frames of 1.483 s fit an hour
