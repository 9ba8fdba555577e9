"""LoRaWAN 1.0.x cryptography: message integrity codes, payload cipher, join-accept cipher and session keys.

Sections are those of LoRaWAN 1.0.2. A session's keyed CMAC and CTR contexts are made on its first frame and
kept: a copy and a new nonce cost a fifth to a fortieth of making them anew for each frame.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from gateway.lorawan.types import AES128Key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

UPLINK = 0
DOWNLINK = 1
MIC_SIZE = 4

_BLOCK_HEAD = Struct("<B4xBI")  # 0x49 or 0x01, four zeros, Dir, DevAddr
_B0_TAIL = Struct("<IxB")  # FCnt, zero, length of the message
_A1_TAIL = Struct("<IxB")  # FCnt, zero, block number
_NO_NONCE = bytes(16)


class SessionCrypto:
    """The working contexts of one session: a DevAddr with its NwkSKey and AppSKey."""

    __slots__ = ("_a1", "_app", "_app_s_key", "_b0", "_mac", "_nwk", "_nwk_s_key")

    def __init__(self, dev_addr: int, nwk_s_key: AES128Key, app_s_key: AES128Key) -> None:
        self._nwk_s_key = nwk_s_key
        self._app_s_key = app_s_key
        self._b0 = tuple(_BLOCK_HEAD.pack(0x49, way, dev_addr) for way in (UPLINK, DOWNLINK))
        self._a1 = tuple(_BLOCK_HEAD.pack(0x01, way, dev_addr) for way in (UPLINK, DOWNLINK))
        self._mac = CMAC(AES(nwk_s_key.value))
        self._app: CipherContext | None = None
        self._nwk: CipherContext | None = None

    def mic(self, way: int, fcnt: int, message: bytes) -> bytes:
        """The 4-byte code of MHDR|FHDR|FPort|FRMPayload (4.4); `fcnt` has all its 32 bits."""
        mac = self._mac.copy()
        mac.update(self._b0[way] + _B0_TAIL.pack(fcnt, len(message)) + message)
        return mac.finalize()[:MIC_SIZE]

    def cipher(self, way: int, fcnt: int, fport: int, payload: bytes) -> bytes:
        """Encrypt or decrypt an FRMPayload (4.3.3): NwkSKey on port 0, AppSKey on every other.

        The blocks A_1, A_2, ... are those of AES in counter mode started at A_1.
        """
        if fport:
            context = self._app
            if context is None:
                context = self._app = _counter_mode(self._app_s_key)
        else:
            context = self._nwk
            if context is None:
                context = self._nwk = _counter_mode(self._nwk_s_key)
        context.reset_nonce(self._a1[way] + _A1_TAIL.pack(fcnt, 1))
        return context.update(payload)


def _counter_mode(key: AES128Key) -> CipherContext:
    return Cipher(AES(key.value), modes.CTR(_NO_NONCE)).encryptor()


def _encrypt_blocks(key: AES128Key, data: bytes) -> bytes:
    # ECB is what the specification asks for here: single blocks, and a join-accept that a device opens with
    # the encrypt operation alone.
    return Cipher(AES(key.value), modes.ECB()).encryptor().update(data)


def join_mic(app_key: AES128Key, message: bytes) -> bytes:
    """The code of a join-request (6.2.4) or of a join-accept in clear (6.2.5); `message` begins with MHDR."""
    mac = CMAC(AES(app_key.value))
    mac.update(message)
    return mac.finalize()[:MIC_SIZE]


def encrypt_join_accept(app_key: AES128Key, clear: bytes) -> bytes:
    """Encrypt everything after MHDR, MIC included (6.2.5): with AES *decrypt*, so that a device needs only
    encrypt."""
    return Cipher(AES(app_key.value), modes.ECB()).decryptor().update(clear)


def decrypt_join_accept(app_key: AES128Key, sealed: bytes) -> bytes:
    """What a device does with the 16 or 32 bytes after MHDR of a join-accept."""
    return _encrypt_blocks(app_key, sealed)


def derive_session_keys(
    app_key: AES128Key, join_nonce: int, net_id: int, dev_nonce: int
) -> tuple[AES128Key, AES128Key]:
    """NwkSKey and AppSKey of a join (6.2.5)."""
    rest = (join_nonce | net_id << 24 | dev_nonce << 48).to_bytes(15, "little")
    return (
        AES128Key(_encrypt_blocks(app_key, b"\x01" + rest)),
        AES128Key(_encrypt_blocks(app_key, b"\x02" + rest)),
    )
