"""What a network has to be told of simulated devices and groups: registrations, profiles, members."""

from collections.abc import Iterable

from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.group import GroupConfig
from gateway.lorawan.outcome import Writes
from gateway.lorawan.profile import DEFAULT, DeviceClass, Profile, Version
from gateway.lorawan.server import NetworkServer
from hw_sim.node_config import MulticastGroup, NodeConfig


def profile_of(node: NodeConfig) -> Profile:
    """Its version and class; the default profile where that says the same."""
    if (node.version, node.device_class) == (DEFAULT.version, DEFAULT.device_class):
        return DEFAULT
    return profile(node.version, node.device_class)


def profile(version: Version, device_class: DeviceClass) -> Profile:
    """A profile for devices of that version and class, named as a gateway's own are."""
    return Profile(f"LoRaWAN-{version}-{device_class}", version, device_class)


def profiles_of(nodes: Iterable[NodeConfig]) -> dict[str, Profile]:
    """All that these devices name."""
    return {made.name: made for made in map(profile_of, nodes) if made is not DEFAULT}


def registration(node: NodeConfig) -> DeviceConfig:
    """The device as somebody would register it who got everything right, whatever is wrong with it."""
    profile_name = profile_of(node).name
    if node.otaa:
        return DeviceConfig(
            dev_eui=node.dev_eui,
            name=node.name,
            profile=profile_name,
            join_eui=node.join_eui,
            app_key=node.app_key,
            nwk_key=node.nwk_key,
        )
    return DeviceConfig(
        dev_eui=node.dev_eui,
        name=node.name,
        profile=profile_name,
        activation=Activation.ABP,
        dev_addr=node.dev_addr,
        nwk_s_key=node.nwk_s_key,
        app_s_key=node.app_s_key,
        s_nwk_s_int_key=node.s_nwk_s_int_key,
        nwk_s_enc_key=node.nwk_s_enc_key,
    )


def set_up_groups(
    server: NetworkServer,
    groups: Iterable[MulticastGroup],
    nodes: Iterable[NodeConfig],
    rx2_dr: int | None = None,
) -> Writes:
    """Every group with its members, who are registered already. `rx2_dr` of class C; None: the region's."""
    writes: Writes = []
    members = list(nodes)
    for group in groups:
        writes += server.groups.set_up(
            GroupConfig(
                name=group.name,
                mc_addr=group.dev_addr,
                nwk_s_key=group.nwk_s_key,
                app_s_key=group.app_s_key,
                device_class=DeviceClass.C if group.periodicity is None else DeviceClass.B,
                dr=rx2_dr,
                ping_period=group.periodicity or 0,
            )
        )
        for node in members:
            if group in node.groups:
                writes += server.groups.join(group.name, node.dev_eui)
    return writes
