"""What a network has to be told of simulated devices, so that they can join: registrations and profiles."""

from collections.abc import Iterable

from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.profile import DEFAULT, DeviceClass, Profile, Version
from hw_sim.node_config import NodeConfig


def profile_of(node: NodeConfig) -> Profile:
    """Its version and class; the default profile where that says the same."""
    if (node.version, node.device_class) == (DEFAULT.version, DEFAULT.device_class):
        return DEFAULT
    return profile(node.version, node.device_class)


def profile(version: Version, device_class: DeviceClass) -> Profile:
    """A profile for devices of that version and class."""
    return Profile(f"sim-{version}-{device_class}", version, device_class)


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
