"""Faults of addresses and session keys."""

from __future__ import annotations

import random
from collections.abc import Callable

from gateway.diagnosis.reasons import Kind
from gateway.lorawan.types import AES128Key, DevAddr

from .diagnosis_site import (
    Node,
    Site,
    abp,
    fault,
    good,
    joined,
    key_off,
    other_digit,
    site_of,
    turned,
)

# Addresses and session keys


@fault(Kind.DEV_ADDR_UNKNOWN)
def dev_addr_unknown(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    node.start_abp()
    node.fcnt = rng.randrange(5000)
    site.hear(node.uplink())
    return site, str(node.dev_addr)


@fault(Kind.DEV_ADDR_OTHER_NETWORK)
def dev_addr_other_network(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    node.dev_addr = DevAddr(rng.choice((0x26000000, 0xFC000000, 0xE0100000)) | rng.getrandbits(16))
    node.start_abp()
    site.hear(node.uplink())
    return site, str(node.dev_addr)


@fault(Kind.DEV_ADDR_REVERSED)
def dev_addr_reversed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    typed = DevAddr(int.from_bytes(node.dev_addr.to_bytes(4, "big"), "little"))
    site.server.add_device(node.abp(dev_addr=typed))
    site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.DEV_ADDR_DIGITS)
def dev_addr_digits(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.abp(dev_addr=DevAddr(other_digit(rng, node.dev_addr, 8))))
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.DEV_ADDR_SHARED)
def dev_addr_shared(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = rng.choice((joined, abp))(site, Node.new(rng))
    foreign = Node.new(rng)
    foreign.dev_addr, foreign.fcnt = node.dev_addr, rng.randrange(1000, 60_000)
    foreign.start_abp()
    for _ in range(rng.randint(1, 3)):
        good(site, node, rng.randint(1, 2))
        site.hear(foreign.uplink())
    return site, str(node.dev_eui)


@fault(Kind.DEV_ADDR_SHARED)
def busy_neighbour(rng: random.Random, on: bool) -> tuple[Site, str]:
    """Another network's device with the same address sends several frames for each of ours."""
    site = site_of(rng, on)
    node = rng.choice((joined, abp))(site, Node.new(rng))
    foreign = Node.new(rng)
    foreign.dev_addr, foreign.fcnt = node.dev_addr, rng.randrange(60_000)
    foreign.start_abp()
    for _ in range(rng.randint(2, 4)):
        for _ in range(rng.randint(2, 6)):
            site.hear(foreign.uplink(), after_s=60)
        good(site, node, 1)
    site.hear(foreign.uplink(), after_s=60)
    return site, str(node.dev_eui)


@fault(Kind.SESSION_ENDED)
def session_ended(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    old_crypto, old_addr, old_fcnt = node.crypto, node.dev_addr, node.fcnt
    outcome = site.hear(node.request())
    assert outcome.downlink is not None
    node.hear_accept(outcome.downlink.windows[0].data)
    good(site, node)
    node.crypto, node.dev_addr, node.fcnt = old_crypto, old_addr, old_fcnt
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


def _fixed(rng: random.Random, on: bool, **changes: Callable[[Node], AES128Key]) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    node.fcnt = rng.choice((0, rng.randrange(60_000)))
    site.server.add_device(node.abp(**{name: make(node) for name, make in changes.items()}))
    for _ in range(rng.randint(1, 4)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.NWK_S_KEY_WRONG)
def nwk_s_key_wrong(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _fixed(rng, on, nwk_s_key=lambda _: AES128Key(rng.randbytes(16)))


@fault(Kind.NWK_S_KEY_WRONG)
def nwk_s_key_changed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = abp(site, Node.new(rng))
    node.nwk_s_key = AES128Key(rng.randbytes(16))
    node.start_abp()
    node.fcnt = rng.choice((0, node.fcnt))
    for _ in range(rng.randint(5, 8)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.NWK_S_KEY_REVERSED)
def nwk_s_key_reversed(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _fixed(rng, on, nwk_s_key=lambda node: turned(node.nwk_s_key))


@fault(Kind.NWK_S_KEY_DIGITS)
def nwk_s_key_digits(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _fixed(rng, on, nwk_s_key=lambda node: key_off(rng, node.nwk_s_key))


@fault(Kind.SESSION_KEYS_EXCHANGED)
def session_keys_exchanged(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _fixed(rng, on, nwk_s_key=lambda node: node.app_s_key, app_s_key=lambda node: node.nwk_s_key)


def _readings(rng: random.Random, site: Site, node: Node, number: int) -> None:
    """What a thermometer says: alike, and never twice the same."""
    for _ in range(number):
        value = rng.randrange(150, 250).to_bytes(2, "big")
        site.hear(
            node.uplink(
                b"\x01\x67" + value + b"\x02\x68" + bytes((rng.randrange(60, 120),)) + b"\x03\x00\x01"
            )
        )


@fault(Kind.APP_S_KEY_WRONG)
def app_s_key_wrong(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    kind = rng.randrange(3)
    registered = (AES128Key(rng.randbytes(16)), turned(node.app_s_key), key_off(rng, node.app_s_key))[kind]
    site.server.add_device(node.abp(app_s_key=registered))
    _readings(rng, site, node, rng.randint(4, 8))
    return site, str(node.dev_eui)


@fault(Kind.APP_S_KEY_WRONG)
def app_s_key_wrong_of_a_terse_device(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.abp(app_s_key=AES128Key(rng.randbytes(16))))
    for _ in range(rng.randint(6, 9)):
        site.hear(node.uplink(b"\x01\x67" + rng.randrange(150, 250).to_bytes(2, "big")))
    return site, str(node.dev_eui)


@fault(Kind.CODEC_FAILED)
def codec_failed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = Node.new(rng)
    joined_or_abp = rng.choice((joined, abp))
    joined_or_abp(site, node)
    for _ in range(rng.randint(3, 6)):
        site.hear(node.uplink(b"\xff\xee\x10\x02" + bytes((rng.randrange(256),)) + b"\x00\x00\x07"))
    return site, str(node.dev_eui)
