"""Settings of serial devices, from the file to what the radio process is told."""

import pytest

from gateway import config
from gateway.radio_process import RadioFailed, radio_config
from radio.gnss.config import GnssConfig

MODEM = """
[[radio.module]]
kind = "rn2483"
port = "/dev/ttyUSB0"
sf = 9
"""


def test_an_rn2483_and_a_receiver_reach_the_radio() -> None:
    text = MODEM + '[gnss]\nport = "/dev/ttyAMA0"\npps_line = 18\nprivacy_digits = 2\nleap_seconds = 18\n'
    made = radio_config(config.parse(text))
    (module,) = made.modules
    assert (module.kind, module.port, module.baud, module.sf) == ("rn2483", "/dev/ttyUSB0", 57_600, 9)
    assert module.role.receives
    assert module.role.transmits
    assert made.gnss == GnssConfig(port="/dev/ttyAMA0", pps_line=18, privacy_digits=2, leap_s=18)


def test_a_place_without_a_receiver_reaches_the_radio() -> None:
    made = radio_config(
        config.parse(MODEM + "[gnss]\nlatitude = 52.52\nlongitude = 13.405\naltitude_m = 34\n")
    )
    assert made.gnss == GnssConfig(latitude=52.52, longitude=13.405, altitude_m=34)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (MODEM.replace('port = "/dev/ttyUSB0"', ""), "serial port"),
        (MODEM + "[gnss]\nlatitude = 52.5\n", "belong together"),
        (MODEM + "[gnss]\npps_line = 18\n", "pps_line without port"),
        (MODEM + '[gnss]\nport = "/dev/ttyUSB0"\n', "configured twice"),
    ],
)
def test_settings_that_do_not_fit_are_said(text: str, word: str) -> None:
    with pytest.raises(RadioFailed, match=word):
        radio_config(config.parse(text))
