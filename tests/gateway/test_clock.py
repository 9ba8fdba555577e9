"""The system clock tells both times and never claims more trust than the kernel gives."""

from gateway import clock
from hub.message import TimeQuality


def test_clocks_do_not_go_back() -> None:
    system = clock.SystemClock()
    first, second = system.now(), system.now()
    assert second.mono_ns >= first.mono_ns


def test_a_clock_that_was_never_set_is_not_trusted() -> None:
    assert clock._quality(0) is TimeQuality.UNSET
    assert clock._quality(clock.BUILD_TIME_NS - 1) is TimeQuality.UNSET


def test_trust_follows_the_kernel(mocker) -> None:  # type: ignore[no-untyped-def]
    mocker.patch("gateway.clock._synchronised", return_value=True)
    assert clock._quality(clock.BUILD_TIME_NS) is TimeQuality.NTP
    mocker.patch("gateway.clock._synchronised", return_value=False)
    assert clock._quality(clock.BUILD_TIME_NS) is TimeQuality.RESTORED


def test_kernel_answers_without_changing_anything() -> None:
    assert clock._synchronised() in (True, False)
