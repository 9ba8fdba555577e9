"""LoRaWAN cryptography: message integrity codes, ciphers of payload, FOpts and join-accept, and all keys.

Sections are those of LoRaWAN 1.1; 1.0.x differs where it is said. A session's keyed CMAC and CTR contexts are
made on its first frame and kept: a copy and a new nonce cost a fifth to a fortieth of making them anew.
"""

from __future__ import annotations

from dataclasses import dataclass
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
_B1_HEAD = Struct("<BHBBBI")  # 0x49, ConfFCnt, TxDr, TxCh, Dir, DevAddr
_FOPTS_HEAD = Struct("<B3xBBI")  # 0x01, three zeros, which counter, Dir, DevAddr
_B_TAIL = Struct("<IxB")  # FCnt, zero, length of the message
_A_TAIL = Struct("<IxB")  # FCnt, zero, block number
_NO_NONCE = bytes(16)


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The four keys of a session (6.1.2). In 1.0.x the three of the network are one, the NwkSKey."""

    f_nwk_s_int: AES128Key
    s_nwk_s_int: AES128Key
    nwk_s_enc: AES128Key
    app_s: AES128Key

    @classmethod
    def of_1_0(cls, nwk_s_key: AES128Key, app_s_key: AES128Key) -> SessionKeys:
        return cls(nwk_s_key, nwk_s_key, nwk_s_key, app_s_key)


class SessionCrypto:
    """The working contexts of one session: a DevAddr with its keys, in the way of 1.0.x or of 1.1."""

    __slots__ = ("_a1", "_app", "_b0", "_dev_addr", "_f_mac", "_keys", "_nwk", "_s_mac", "v1_1")

    def __init__(self, dev_addr: int, keys: SessionKeys, v1_1: bool = False) -> None:
        self.v1_1 = v1_1
        self._dev_addr = int(dev_addr)
        self._keys = keys
        self._b0 = tuple(_BLOCK_HEAD.pack(0x49, way, dev_addr) for way in (UPLINK, DOWNLINK))
        self._a1 = tuple(_BLOCK_HEAD.pack(0x01, way, dev_addr) for way in (UPLINK, DOWNLINK))
        self._f_mac = CMAC(AES(keys.f_nwk_s_int.value))
        self._s_mac = CMAC(AES(keys.s_nwk_s_int.value)) if v1_1 else self._f_mac
        self._app: CipherContext | None = None
        self._nwk: CipherContext | None = None

    def uplink_mic(
        self, fcnt: int, message: bytes, conf_fcnt: int = 0, tx_dr: int = 0, tx_ch: int = 0
    ) -> bytes:
        """The 4-byte code of MHDR|FHDR|FPort|FRMPayload (4.4); `fcnt` has all its 32 bits.

        In 1.1 half of it is the serving network's, which also covers the FCntDown that is acknowledged (0
        without an ACK) and the data rate and channel index that the device used.
        """
        mac = self._f_mac.copy()
        mac.update(self._b0[UPLINK] + _B_TAIL.pack(fcnt, len(message)) + message)
        if not self.v1_1:
            return mac.finalize()[:MIC_SIZE]
        tail = _B_TAIL.pack(fcnt, len(message)) + message
        serving = self._s_mac.copy()
        serving.update(_B1_HEAD.pack(0x49, conf_fcnt & 0xFFFF, tx_dr, tx_ch, UPLINK, self._dev_addr) + tail)
        return serving.finalize()[:2] + mac.finalize()[:2]

    def downlink_mic(self, fcnt: int, message: bytes, conf_fcnt: int = 0) -> bytes:
        """As `uplink_mic`; in 1.1 it covers the FCntUp that is acknowledged (0 without an ACK)."""
        mac = self._s_mac.copy()
        if conf_fcnt and self.v1_1:
            head = _B1_HEAD.pack(0x49, conf_fcnt & 0xFFFF, 0, 0, DOWNLINK, self._dev_addr)
        else:
            head = self._b0[DOWNLINK]
        mac.update(head + _B_TAIL.pack(fcnt, len(message)) + message)
        return mac.finalize()[:MIC_SIZE]

    def cipher(self, way: int, fcnt: int, fport: int, payload: bytes) -> bytes:
        """Encrypt or decrypt an FRMPayload (4.3.3): NwkSEncKey on port 0, AppSKey on every other.

        The blocks A_1, A_2, ... are those of AES in counter mode started at A_1.
        """
        if fport:
            context = self._app
            if context is None:
                context = self._app = _counter_mode(self._keys.app_s)
        else:
            context = self._network_context()
        context.reset_nonce(self._a1[way] + _A_TAIL.pack(fcnt, 1))
        return context.update(payload)

    def fopts(self, way: int, fcnt: int, fopts: bytes, app_counter: bool = False) -> bytes:
        """Encrypt or decrypt the FOpts of 1.1 (4.3.1.6 with its erratum on FCntDown); 1.0.x sends them in
        clear.

        `app_counter`: `fcnt` is an AFCntDown, as in each downlink on an FPort above 0.
        """
        if not self.v1_1 or not fopts:
            return fopts
        context = self._network_context()
        head = _FOPTS_HEAD.pack(0x01, 2 if app_counter else 1, way, self._dev_addr)
        context.reset_nonce(head + _A_TAIL.pack(fcnt, 1))
        return context.update(fopts)

    def _network_context(self) -> CipherContext:
        context = self._nwk
        if context is None:
            context = self._nwk = _counter_mode(self._keys.nwk_s_enc)
        return context


def _counter_mode(key: AES128Key) -> CipherContext:
    return Cipher(AES(key.value), modes.CTR(_NO_NONCE)).encryptor()


def _encrypt_blocks(key: AES128Key, data: bytes) -> bytes:
    # ECB is what the specification asks for here: single blocks, and a join-accept that a device opens with
    # the encrypt operation alone.
    return Cipher(AES(key.value), modes.ECB()).encryptor().update(data)


def join_mic(key: AES128Key, message: bytes) -> bytes:
    """The code of a join-request, a rejoin-request or a join-accept in clear (6.2); `message` begins with
    MHDR, but for a join-accept of 1.1 (`frames`)."""
    mac = CMAC(AES(key.value))
    mac.update(message)
    return mac.finalize()[:MIC_SIZE]


def encrypt_join_accept(key: AES128Key, clear: bytes) -> bytes:
    """Encrypt everything after MHDR, MIC included (6.2.3): with AES *decrypt*, so that a device needs only
    encrypt. `key` is the NwkKey (1.0.x: AppKey), in the answer to a rejoin-request the JSEncKey."""
    return Cipher(AES(key.value), modes.ECB()).decryptor().update(clear)


def decrypt_join_accept(key: AES128Key, sealed: bytes) -> bytes:
    """What a device does with the 16 or 32 bytes after MHDR of a join-accept."""
    return _encrypt_blocks(key, sealed)


def derive_session_keys(key: AES128Key, join_nonce: int, net_id: int, dev_nonce: int) -> SessionKeys:
    """NwkSKey and AppSKey of a join in the way of 1.0.x (1.0.2, 6.2.5), from the AppKey; also those of a 1.1
    device whose join-accept had OptNeg unset (1.1, 6.2.3), from its NwkKey."""
    rest = (join_nonce | net_id << 24 | dev_nonce << 48).to_bytes(15, "little")
    return SessionKeys.of_1_0(
        AES128Key(_encrypt_blocks(key, b"\x01" + rest)), AES128Key(_encrypt_blocks(key, b"\x02" + rest))
    )


def derive_session_keys_1_1(
    nwk_key: AES128Key, app_key: AES128Key, join_nonce: int, join_eui: int, dev_nonce: int
) -> SessionKeys:
    """The keys of a join whose join-accept had OptNeg set (6.2.3); after a rejoin-request its RJcount stands
    for the DevNonce (6.2.4.4)."""
    rest = (join_nonce | join_eui << 24 | dev_nonce << 88).to_bytes(15, "little")
    return SessionKeys(
        f_nwk_s_int=AES128Key(_encrypt_blocks(nwk_key, b"\x01" + rest)),
        s_nwk_s_int=AES128Key(_encrypt_blocks(nwk_key, b"\x03" + rest)),
        nwk_s_enc=AES128Key(_encrypt_blocks(nwk_key, b"\x04" + rest)),
        app_s=AES128Key(_encrypt_blocks(app_key, b"\x02" + rest)),
    )


def join_server_keys(nwk_key: AES128Key, dev_eui: int) -> tuple[AES128Key, AES128Key]:
    """(JSIntKey, JSEncKey) of a 1.1 device (6.1.1.3, 6.1.1.4)."""
    rest = dev_eui.to_bytes(15, "little")
    return (
        AES128Key(_encrypt_blocks(nwk_key, b"\x06" + rest)),
        AES128Key(_encrypt_blocks(nwk_key, b"\x05" + rest)),
    )
