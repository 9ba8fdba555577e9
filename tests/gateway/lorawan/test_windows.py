"""Receive windows of regions that limit a frame's time on air."""

from __future__ import annotations

import pytest

from gateway.lorawan.settings import Settings
from gateway.lorawan.windows import data_windows, join_windows
from radio.gwmp import RxPacket
from radio.lora import LoRaModulation, airtime_us
from radio.regions import get_region

ASIA = get_region("AS923-1")
OVERHEAD = 13  # MHDR, FHDR of 7, FPort, MIC


def heard(sf: int) -> RxPacket:
    return RxPacket(1_000_000, 923_200_000, 0, 0, 1, LoRaModulation(sf, 125_000), -80, 7.0, b"")


@pytest.mark.parametrize("sf", [7, 8, 9, 10])
def test_under_the_dwell_limit_windows_hold_what_fits_into_400_ms(sf: int) -> None:
    for limited in (False, True):
        windows = data_windows(ASIA, Settings(limit_dwell=limited), heard(sf), 1, 0, ASIA.rx2[1])
        assert len(windows) == 2
        for window in windows:
            long_us = airtime_us(window.modulation, window.max_payload + OVERHEAD, crc=False)
            if limited:
                assert long_us <= 400_000
    assert data_windows(ASIA, Settings(limit_dwell=True), heard(10), 1, 0, 2)[0].max_payload == 11
    assert data_windows(ASIA, Settings(), heard(10), 1, 0, 2)[0].max_payload == 115


def test_data_rates_too_slow_for_the_limit_have_no_window() -> None:
    strict = Settings(limit_dwell=True)
    assert [window.modulation.sf for window in data_windows(ASIA, strict, heard(12), 1, 0, 2)] == [10]
    assert [window.modulation.sf for window in join_windows(ASIA, strict, heard(11))] == [10]
    assert len(data_windows(ASIA, Settings(), heard(12), 1, 0, 2)) == 2
