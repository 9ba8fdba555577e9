"""A configuration that cannot work is refused with words a reader can act on."""

from typing import Any

import pytest

from radio.config import ModuleConfig, RadioConfig, Role

EUI = bytes(8)


def test_defaults_describe_one_working_module() -> None:
    config = RadioConfig(modules=(ModuleConfig(),), gateway_eui=EUI)
    (module,) = config.modules
    assert module.role.receives
    assert module.role.transmits
    assert config.region_data.name == "EU868"
    assert module.modulation.datr == "SF7BW125"


def test_roles_may_be_given_as_plain_words() -> None:
    assert ModuleConfig(role="tx").role is Role.TX  # type: ignore[arg-type]
    assert not Role.TX.receives
    assert not Role.RX.transmits


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"role": "both"}, "rx, tx, rxtx"),
        ({"sf": 13}, "spreading factor 13"),
        ({"sf": 6}, "SF6"),
        ({"bw_hz": 100}, "bandwidth 100"),
        ({"board": "nonesuch"}, "nonesuch"),
        ({"index": 3}, "no index 3"),
        ({"sweep_sfs": (7,)}, "for one, set sf"),
        ({"sweep_sfs": (7, 7)}, "different spreading factors"),
        ({"sweep_sfs": (7, 8, 9, 10)}, "2 or 3"),
        ({"sweep_sfs": (6, 7)}, "7 to 12"),
        ({"sweep_sfs": (7, 8), "role": "tx"}, "role rx or rxtx"),
    ],
)
def test_module_settings_are_checked(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModuleConfig(**setting)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"modules": ()}, "0 modules"),
        ({"modules": (ModuleConfig(), ModuleConfig(sf=9))}, "twice"),
        ({"modules": (ModuleConfig(), ModuleConfig("generic"))}, "share an SPI device"),
        ({"gateway_eui": b"short"}, "gateway_eui"),
        ({"region": "XX"}, "region 'XX'"),
        ({"server_host": ""}, "server_host"),
        ({"server_port": 0}, "server_port"),
        ({"tx_lead_us": 5000}, "tx_lead_us"),
        ({"antenna_gain_dbi": 50.0}, "antenna_gain_dbi"),
        ({"stat_interval_s": 0.0}, "stat_interval_s"),
        ({"keepalive_s": 0.0}, "keepalive_s"),
        ({"sync_word": 256}, "sync_word"),
        ({"gpio": "magic"}, "gpio"),
    ],
)
def test_process_settings_are_checked(setting: dict[str, Any], words: str) -> None:
    whole: dict[str, Any] = {"modules": (ModuleConfig(),), "gateway_eui": EUI}
    with pytest.raises(ValueError, match=words):
        RadioConfig(**(whole | setting))
