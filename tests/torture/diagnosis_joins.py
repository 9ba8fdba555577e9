"""Faults of joining: EUIs, root keys, nonces, join-accepts that go unheard, versions."""

from __future__ import annotations

import random
from typing import Any

from gateway.diagnosis.reasons import Kind
from gateway.lorawan import frames
from gateway.lorawan.crypto import SessionCrypto, SessionKeys
from gateway.lorawan.profile import Version
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from radio.gwmp import TxError

from .diagnosis_site import (
    Node,
    Site,
    fault,
    good,
    joined,
    key_off,
    other_digit,
    site_of,
    turned,
)

# Joining


@fault(Kind.DEV_EUI_UNKNOWN)
def unregistered(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    for _ in range(rng.randint(1, 4)):
        site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.DEV_EUI_REVERSED)
def dev_eui_reversed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.otaa(dev_eui=node.dev_eui.reversed))
    site.hear(node.request())
    return site, str(node.dev_eui.reversed)


@fault(Kind.DEV_EUI_DIGITS)
def dev_eui_digits(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    typed = DevEUI(other_digit(rng, node.dev_eui, 16))
    site.server.add_device(node.otaa(dev_eui=typed))
    site.hear(node.request())
    return site, str(typed)


@fault(Kind.EUIS_EXCHANGED)
def euis_exchanged(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.otaa(dev_eui=DevEUI(node.join_eui), join_eui=JoinEUI(node.dev_eui)))
    site.hear(node.request())
    return site, str(node.join_eui)


@fault(Kind.JOIN_EUI_WRONG)
def join_eui_wrong(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.otaa(join_eui=JoinEUI(rng.getrandbits(64))))
    site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.JOIN_EUI_REVERSED)
def join_eui_reversed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.otaa(join_eui=node.join_eui.reversed))
    site.hear(node.request())
    return site, str(node.dev_eui)


def _wrong_key(rng: random.Random, on: bool, registered: AES128Key, node: Node) -> tuple[Site, str]:
    site = site_of(rng, on)
    site.server.add_device(node.otaa(app_key=registered))
    for _ in range(rng.randint(1, 3)):
        site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.APP_KEY_WRONG)
def app_key_wrong(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _wrong_key(rng, on, AES128Key(rng.randbytes(16)), Node.new(rng))


@fault(Kind.APP_KEY_REVERSED)
def app_key_reversed(rng: random.Random, on: bool) -> tuple[Site, str]:
    node = Node.new(rng)
    return _wrong_key(rng, on, turned(node.app_key), node)


@fault(Kind.APP_KEY_DIGITS)
def app_key_digits(rng: random.Random, on: bool) -> tuple[Site, str]:
    node = Node.new(rng)
    return _wrong_key(rng, on, key_off(rng, node.app_key), node)


@fault(Kind.APP_KEY_EXAMPLE)
def app_key_example(rng: random.Random, on: bool) -> tuple[Site, str]:
    node = Node.new(rng)
    node.app_key = AES128Key(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    return _wrong_key(rng, on, AES128Key(rng.randbytes(16)), node)


@fault(Kind.APP_KEY_OF_ANOTHER)
def app_key_of_another(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node, other = site_of(rng, on), Node.new(rng), Node.new(rng)
    for _ in range(rng.randrange(20)):
        site.server.add_device(Node.new(rng).otaa())
    site.server.add_device(node.otaa(app_key=other.app_key))
    site.server.add_device(other.otaa(app_key=node.app_key))
    site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.ROOT_KEYS_EXCHANGED)
def root_keys_exchanged(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    name = site.profile("one", version=Version.V1_1)
    site.server.add_device(node.otaa(app_key=node.nwk_key, nwk_key=node.app_key, profile=name))
    node.dev_nonce = rng.randrange(50)  # a counter
    site.hear(node.request(node.nwk_key))
    return site, str(node.dev_eui)


@fault(Kind.DEV_NONCE_REUSED)
def dev_nonce_reused(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    first = node.dev_nonce
    joined(site, node)
    for _ in range(rng.randint(0, 3)):
        outcome = site.hear(node.request())
        assert outcome.downlink is not None
        node.hear_accept(outcome.downlink.windows[0].data)
        good(site, node, 1)
    node.dev_nonce = first
    site.hear(node.request(), after_s=60)
    return site, str(node.dev_eui)


@fault(Kind.JOIN_REPLAYED)
def join_replayed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.otaa())
    request = node.request()
    outcome = site.hear(request)
    assert outcome.downlink is not None
    node.hear_accept(outcome.downlink.windows[0].data)
    good(site, node)
    for _ in range(rng.randint(2, 4)):
        site.hear(request, after_s=100)
        good(site, node, 1)
    return site, str(node.dev_eui)


@fault(Kind.JOINS_BUT_ABP)
def joins_but_abp(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.abp())
    site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.ABP_BUT_OTAA)
def abp_but_otaa(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    if rng.random() < 0.5:
        node.dev_addr = DevAddr(node.dev_eui & 0xFFFF_FFFF)  # as many makers set it
    else:
        node.nwk_s_key = node.app_key
    site.server.add_device(node.otaa())
    node.start_abp()
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


def _deaf(rng: random.Random, site: Site, *, gap_s: float, **radio: Any) -> tuple[Site, str]:
    """A device that never hears its join-accept."""
    node = Node.new(rng)
    site.server.add_device(node.otaa())
    for _ in range(rng.randint(2, 4)):
        site.hear(node.request(), after_s=gap_s, **radio)
    return site, str(node.dev_eui)


@fault(Kind.JOIN_ASKED_TOO_SOON)
def asks_too_soon(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _deaf(rng, site_of(rng, on), gap_s=rng.uniform(2.2, 4.5))


@fault(Kind.JOIN_ACCEPT_LATE)
def join_accept_late(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    site.radio.error, site.radio.slow_s = TxError.TOO_LATE, rng.uniform(6.1, 7)
    return _deaf(rng, site, gap_s=rng.uniform(15, 60))


@fault(Kind.JOIN_ACCEPT_WEAK)
def join_accept_weak(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _deaf(rng, site_of(rng, on), gap_s=rng.uniform(15, 60), sf=12, snr_db=rng.uniform(-20, -15.5))


@fault(Kind.JOIN_ACCEPT_IN_RX2)
def join_accept_in_rx2(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    site.radio.window = 2
    return _deaf(rng, site, gap_s=rng.uniform(15, 60))


@fault(Kind.JOIN_ACCEPT_UNHEARD)
def join_accept_unheard(rng: random.Random, on: bool) -> tuple[Site, str]:
    return _deaf(rng, site_of(rng, on), gap_s=rng.uniform(15, 60), snr_db=rng.uniform(0, 10))


@fault(Kind.JOIN_CHANNEL)
def join_channel(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.otaa())
    site.hear(node.request(), freq_hz=rng.choice((867_100_000, 867_300_000, 867_900_000)))
    return site, str(node.dev_eui)


# Versions


@fault(Kind.IS_1_1)
def is_1_1(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.abp())
    keys = SessionKeys(
        node.nwk_s_key, AES128Key(rng.randbytes(16)), AES128Key(rng.randbytes(16)), node.app_s_key
    )
    node.crypto = SessionCrypto(node.dev_addr, keys, v1_1=True)
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.IS_1_1)
def joins_as_1_1(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.otaa(nwk_key=node.nwk_key))
    site.hear(node.request(node.nwk_key))
    return site, str(node.dev_eui)


@fault(Kind.IS_1_0)
def joins_as_1_0(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    name = site.profile("one", version=Version.V1_1)
    node.dev_nonce = rng.randrange(1000, 65_000)  # drawn
    site.server.add_device(node.otaa(nwk_key=AES128Key(rng.randbytes(16)), profile=name))
    site.hear(node.request())
    return site, str(node.dev_eui)


@fault(Kind.REJOIN_REFUSED)
def rejoin_refused(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    phy = frames.build_rejoin_request(node.nwk_key, 0, node.dev_eui, rng.randrange(100), net_id=0)
    site.hear(phy)
    return site, str(node.dev_eui)


@fault(Kind.IS_1_0)
def is_1_0(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    name = site.profile("one", version=Version.V1_1)
    extra = {"s_nwk_s_int_key": AES128Key(rng.randbytes(16)), "nwk_s_enc_key": AES128Key(rng.randbytes(16))}
    site.server.add_device(node.abp(profile=name, **extra))
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)
