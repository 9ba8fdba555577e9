"""Keys of multicast groups (LoRa Alliance TS005-1.0.0, Remote Multicast Setup, 4).

A group has one McKey. Each member gets it encrypted under a McKEKey of its own, and derives the group's session keys
from it and the group's address:

    GenAppKey (1.0.x) or AppKey (1.1) -> McRootKey -> McKEKey -> (McKey) -> McAppSKey, McNwkSKey
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from gateway.lorawan.types import AES128Key, DevAddr


def mc_root_key(gen_app_key: AES128Key) -> AES128Key:
    """Of a device of 1.0.x, whose GenAppKey is for this alone."""
    return _derived(gen_app_key, b"\x00")


def mc_root_key_1_1(app_key: AES128Key) -> AES128Key:
    """Of a device of 1.1."""
    return _derived(app_key, b"\x20")


def mc_ke_key(root_key: AES128Key) -> AES128Key:
    return _derived(root_key, b"\x00")


def encrypted_mc_key(ke_key: AES128Key, mc_key: AES128Key) -> bytes:
    """The McKey as a McGroupSetupReq carries it: AES *decrypted*, as a device has the encryption only."""
    cipher = Cipher(AES(ke_key.value), modes.ECB()).decryptor()
    return cipher.update(mc_key.value)


def mc_app_s_key(mc_key: AES128Key, mc_addr: DevAddr) -> AES128Key:
    return _derived(mc_key, b"\x01" + int(mc_addr).to_bytes(4, "little"))


def mc_nwk_s_key(mc_key: AES128Key, mc_addr: DevAddr) -> AES128Key:
    return _derived(mc_key, b"\x02" + int(mc_addr).to_bytes(4, "little"))


def _derived(key: AES128Key, head: bytes) -> AES128Key:
    """AES-128 of `head` and zeros."""
    cipher = Cipher(AES(key.value), modes.ECB()).encryptor()
    return AES128Key(cipher.update(head.ljust(16, b"\0")))
