"""A gateway that serves Basics Station over TLS, with a certificate authority of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway import app
from gateway.demo.broker import free_port
from gateway.settings import (
    CoapSection,
    Config,
    GatewaySection,
    HttpSection,
    HubSection,
    LorawanSection,
    MqttSection,
    StationGatewaySection,
    StationSection,
)
from tests.gateway.station.judge import EUI, OTHER_EUI, OTHER_TOKEN, TOKEN, Field
from tests.hub.pki import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def station_config(tmp_path: Path, authority: Authority) -> Config:
    server = authority.server()
    return Config(
        gateway=GatewaySection(
            eui="02f10f6a7e0000aa", data_dir=str(tmp_path / "data"), runtime_dir=str(tmp_path / "run")
        ),
        lorawan=LorawanSection(port=0),
        station=StationSection(
            host="127.0.0.1",
            port=free_port(),
            cert_file=str(server.cert),
            key_file=str(server.key),
            client_ca_file=str(authority.cert),
            gateway=(
                StationGatewaySection(eui=EUI, name="roof", token=TOKEN),
                StationGatewaySection(eui=OTHER_EUI, token=OTHER_TOKEN),
            ),
        ),
        hub=HubSection(commit_interval_s=0.02, events=False),
        mqtt=MqttSection(port=0),
        http=HttpSection(port=0, workshop_port=0),
        coap=CoapSection(port=0),
    )


@pytest.fixture
def station_site(
    station_config: Config, authority: Authority
) -> Callable[..., contextlib.AbstractAsyncContextManager[Field]]:
    """`async with station_site() as s`: a gateway with its listener, on other settings where they are given."""

    @contextlib.asynccontextmanager
    async def opened(config: Config | None = None) -> AsyncIterator[Field]:
        config = config or station_config
        async with app.running(config) as gateway:
            yield Field(gateway, authority if config.station.tls else None)

    return opened
