"""Every setting with its default, unit, bounds and meaning; `gateway.config` reads and writes them."""

from __future__ import annotations

from gateway.settings.base import Port, Section
from gateway.settings.hub import CoapSection, HttpSection, HubSection, MqttSection, OAuthSection, TlsSection
from gateway.settings.lorawan import LorawanSection, StationGatewaySection, StationSection
from gateway.settings.onward import NatsSection, UpstreamSection
from gateway.settings.radio import GnssSection, ModuleSection, RadioSection, ServerSection, SubBandSection
from gateway.settings.site import GatewaySection, PeopleSection, WebuiSection

__all__ = [
    "TABLES",
    "CoapSection",
    "Config",
    "GatewaySection",
    "GnssSection",
    "HttpSection",
    "HubSection",
    "LorawanSection",
    "ModuleSection",
    "MqttSection",
    "NatsSection",
    "OAuthSection",
    "PeopleSection",
    "Port",
    "RadioSection",
    "Section",
    "ServerSection",
    "StationGatewaySection",
    "StationSection",
    "SubBandSection",
    "TlsSection",
    "UpstreamSection",
    "WebuiSection",
]

TABLES = (
    "module",
    "server",
    "sub_band",
    "gateway",
    "upstream",
    "nats",
)  # settings that are sections of their own, and may be repeated


class Config(Section, frozen=True, kw_only=True):
    """Everything; the embedded defaults need no file."""

    gateway: GatewaySection = GatewaySection()
    radio: RadioSection = RadioSection()
    gnss: GnssSection = GnssSection()
    lorawan: LorawanSection = LorawanSection()
    station: StationSection = StationSection()
    hub: HubSection = HubSection()
    tls: TlsSection = TlsSection()
    mqtt: MqttSection = MqttSection()
    http: HttpSection = HttpSection()
    coap: CoapSection = CoapSection()
    oauth: OAuthSection = OAuthSection()
    webui: WebuiSection = WebuiSection()
    people: PeopleSection = PeopleSection()
    upstream: tuple[UpstreamSection, ...] = ()
    nats: tuple[NatsSection, ...] = ()
