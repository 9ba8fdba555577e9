"""A device's sessions: keys and counters, frames built and opened; its own and those of its multicast groups. Pure."""

from dataclasses import dataclass
from typing import Final

from gateway.lorawan import frames
from gateway.lorawan.crypto import SessionCrypto, SessionKeys
from gateway.lorawan.errors import FrameError
from gateway.lorawan.frames import DataFrame
from gateway.lorawan.types import AES128Key, DevAddr, NetID
from hw_sim.node_channels import Channel
from hw_sim.node_config import MulticastGroup, NodeConfig, NodeFault

SHORT_ROLL_OVER: Final = 1 << 16
_ADDRESS: Final = slice(1, 5)  # of a data frame


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified downlink."""

    frame: DataFrame  # FOpts in clear
    fcnt: int
    payload: bytes  # FRMPayload in clear
    group: DevAddr | None = None  # whose address it bears, where it is not the device's own


class NodeSession:
    """One activation. 1.1 has two counters down, and signs where and how fast an uplink went and what it answers."""

    def __init__(
        self,
        dev_addr: DevAddr,
        keys: SessionKeys,
        *,
        v1_1: bool = False,
        net_id: NetID | None = None,
        fcnt_up: int = 0,
        short_counter: bool = False,
    ) -> None:
        self.dev_addr = dev_addr
        self.keys = keys
        self.v1_1 = v1_1
        self.net_id = net_id
        self.fcnt_up = fcnt_up  # of the next uplink
        self.last_fcnt_down: int | None = None  # of 1.1: NFCntDown
        self.last_app_fcnt_down: int | None = None  # of 1.1: AFCntDown
        self.owes_ack = False
        self._acked_fcnt = 0  # FCntDown of the confirmed downlink that the next uplink acknowledges
        self._short = short_counter
        self._crypto = SessionCrypto(dev_addr, keys, v1_1)

    @classmethod
    def personal(cls, config: NodeConfig, fcnt_up: int) -> "NodeSession | None":
        """The session an ABP device is born with; None for one that joins."""
        if config.dev_addr is None or config.nwk_s_key is None or config.app_s_key is None:
            return None
        f_nwk = spoilt(config.nwk_s_key, NodeFault.WRONG_NWK_S_KEY in config.faults)
        keys = SessionKeys(
            f_nwk,
            config.s_nwk_s_int_key or f_nwk,
            config.nwk_s_enc_key or f_nwk,
            spoilt(config.app_s_key, NodeFault.WRONG_APP_S_KEY in config.faults),
        )
        return cls(
            config.dev_addr,
            keys,
            v1_1=config.version.is_1_1,
            fcnt_up=fcnt_up,
            short_counter=NodeFault.SHORT_COUNTER in config.faults,
        )

    def uplink(
        self,
        channel: Channel,
        dr: int,
        *,
        fport: int | None,
        payload: bytes,
        fopts: bytes,
        confirmed: bool,
        adr: bool,
        adr_ack_req: bool,
        ack: bool,
        class_b: bool,
    ) -> bytes:
        """The frame of the present FCntUp, as it goes out on that channel."""
        return frames.build_uplink(
            self._crypto,
            self.dev_addr,
            self.fcnt_up % SHORT_ROLL_OVER if self._short else self.fcnt_up,
            fport=fport,
            payload=payload,
            fopts=fopts,
            confirmed=confirmed,
            adr=adr,
            adr_ack_req=adr_ack_req,
            ack=ack,
            class_b=class_b,
            conf_fcnt=self._acked_fcnt,
            tx_dr=dr,
            tx_ch=channel.index,
        )

    def open(self, phy: bytes) -> Opened:
        """Verify a downlink. Raises FrameError where it is none for this session, or an old one."""
        if phy[_ADDRESS] != self.dev_addr.wire:
            raise FrameError("for another address")
        # The uplink that an ACK can be for has the present FCntUp until it is over.
        frame, fcnt, payload = frames.open_downlink(
            self._crypto,
            self.dev_addr,
            self.last_fcnt_down,
            phy,
            last_app_fcnt=self.last_app_fcnt_down,
            conf_fcnt=self.fcnt_up,
        )
        return Opened(frame, fcnt, payload)

    def is_mine(self, phy: bytes) -> bool:
        """Is it a downlink for this session, and a new one?"""
        try:
            self.open(phy)
        except FrameError:
            return False
        return True

    def accept(self, opened: Opened) -> None:
        """Count a downlink that was opened; one that is confirmed is to be acknowledged."""
        if self.v1_1 and opened.frame.fport:
            self.last_app_fcnt_down = opened.fcnt
        else:
            self.last_fcnt_down = opened.fcnt
        self.owes_ack = opened.frame.confirmed
        if opened.frame.confirmed:
            self._acked_fcnt = opened.fcnt

    def take_ack(self) -> bool:
        """Whether the next uplink acknowledges; it does so once."""
        owed, self.owes_ack = self.owes_ack, False
        return owed


class GroupSession:
    """Membership in a multicast group: it only ever listens, and frames are of 1.0's kind."""

    def __init__(self, group: MulticastGroup) -> None:
        self.group = group
        self.last_fcnt_down: int | None = None
        keys = SessionKeys.of_1_0(group.nwk_s_key, group.app_s_key)
        self._crypto = SessionCrypto(group.dev_addr, keys)

    def open(self, phy: bytes) -> Opened:
        """Verify a frame of the group. Raises FrameError where it is none, an old one, or not one a group may get."""
        if phy[_ADDRESS] != self.group.dev_addr.wire:
            raise FrameError("for another address")
        frame, fcnt, payload = frames.open_downlink(
            self._crypto, self.group.dev_addr, self.last_fcnt_down, phy
        )
        if frame.confirmed or frame.ack or frame.fopts or not frame.fport:
            raise FrameError("a multicast frame is unconfirmed, for an application, and says nothing else")
        return Opened(frame, fcnt, payload, group=self.group.dev_addr)

    def is_mine(self, phy: bytes) -> bool:
        """Is it a frame of the group, and a new one?"""
        try:
            self.open(phy)
        except FrameError:
            return False
        return True

    def accept(self, opened: Opened) -> None:
        """Count a frame that was opened."""
        self.last_fcnt_down = opened.fcnt


def spoilt(key: AES128Key, wrong: bool) -> AES128Key:
    """The key, or one that differs in its last bit."""
    return AES128Key(key.value[:-1] + bytes((key.value[-1] ^ wrong,)))
