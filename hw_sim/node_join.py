"""How a device gets a session: join- and rejoin-requests, its nonces, and the join-accepts it takes. Pure.

What survives a loss of power is here too: DevNonce and RJcount1 where they are counters, and the last JoinNonce.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

from gateway.lorawan import frames
from gateway.lorawan.crypto import SessionKeys, derive_session_keys, derive_session_keys_1_1, join_server_keys
from gateway.lorawan.errors import FrameError
from gateway.lorawan.frames import JoinAccept, JoinReqType
from gateway.lorawan.types import DevEUI, JoinEUI
from hw_sim.node_config import NodeConfig, NodeFault
from hw_sim.node_session import NodeSession, spoilt

MAX_COUNT: Final = 0xFFFF
BOOT_STEP: Final = 1 << 8  # nonces that an earlier life of the simulation may have used


@dataclass(frozen=True, slots=True)
class Request:
    """A request under way: what it was, so that the answer can be checked against it."""

    phy: bytes
    kind: JoinReqType
    nonce: int  # DevNonce, or RJcount


class JoinState:
    """One OTAA device's half of joining."""

    def __init__(self, config: NodeConfig, rng: Random, boot: int = 0) -> None:
        """`boot` counts earlier lives of the same device in other simulations. Raises ValueError for ABP."""
        if config.app_key is None:
            raise ValueError("a device without root key does not join")
        faults = config.faults
        self._config = config
        self._rng = rng
        self._v1_1 = config.version.is_1_1
        self._app_key = spoilt(config.app_key, NodeFault.WRONG_APP_KEY in faults)
        root = config.nwk_key if config.nwk_key is not None else config.app_key
        self._root_key = spoilt(root, NodeFault.WRONG_ROOT_KEY in faults)
        if not self._v1_1:
            self._app_key = self._root_key
        self.dev_eui = config.dev_eui
        if NodeFault.SWAPPED_DEV_EUI in faults:
            self.dev_eui = DevEUI(int.from_bytes(int(config.dev_eui).to_bytes(8), "little"))
        self.join_eui = JoinEUI(int(config.join_eui) ^ (NodeFault.WRONG_JOIN_EUI in faults))
        self._js_int_key, self._js_enc_key = join_server_keys(self._root_key, self.dev_eui)
        self._next_nonce = boot * BOOT_STEP & MAX_COUNT
        self._last_join_nonce: int | None = None
        self._rj_count_0 = 0
        self._rj_count_1 = boot * BOOT_STEP & MAX_COUNT

    def lose_power(self) -> None:
        """What is left afterwards depends on the version, and on what is wrong with the device."""
        forgets = NodeFault.FORGETS_DEV_NONCE in self._config.faults
        if forgets:
            self._next_nonce = 0
            self._rj_count_1 = 0
        if forgets or not self._config.version.counter_nonces:
            self._last_join_nonce = None

    def request(self) -> Request:
        """The next join-request."""
        nonce = self._take_nonce()
        phy = frames.build_join_request(self._root_key, self.join_eui, self.dev_eui, nonce)
        return Request(phy, JoinReqType.JOIN, nonce)

    def rejoin(self, kind: JoinReqType, session: NodeSession) -> Request | None:
        """A rejoin-request on top of a session (1.1, 6.2.4); None where its counter is used up."""
        if kind is JoinReqType.REJOIN_1:
            count = self._rj_count_1
            self._rj_count_1 = min(count + 1, MAX_COUNT)
            if count == MAX_COUNT:
                return None
            key = self._js_int_key
            phy = frames.build_rejoin_request(key, kind, self.dev_eui, count, join_eui=self.join_eui)
            return Request(phy, kind, count)
        count = self._rj_count_0
        if count == MAX_COUNT or session.net_id is None:
            return None
        self._rj_count_0 = count + 1
        key = session.keys.s_nwk_s_int
        phy = frames.build_rejoin_request(key, kind, self.dev_eui, count, net_id=session.net_id)
        return Request(phy, kind, count)

    def _take_nonce(self) -> int:
        if NodeFault.STUCK_DEV_NONCE in self._config.faults:
            return self._next_nonce
        if not self._config.counts_nonces:
            return self._rng.randrange(1 << 16)
        nonce = self._next_nonce
        self._next_nonce = nonce + 1 & MAX_COUNT
        return nonce

    def open(self, request: Request, phy: bytes) -> JoinAccept:
        """Verify a join-accept against its request. Raises FrameError, also for a JoinNonce that is not new."""
        accept = self.peek(request, phy)
        last = self._last_join_nonce
        if self._config.version.counter_nonces and last is not None and accept.join_nonce <= last:
            raise FrameError(f"JoinNonce {accept.join_nonce} is not above {last}, the last one")
        return accept

    def peek(self, request: Request, phy: bytes) -> JoinAccept:
        """As `open`, for one that may have been taken already."""
        if not self._v1_1:
            return frames.open_join_accept(self._root_key, phy)
        return frames.open_join_accept(
            self._root_key if request.kind is JoinReqType.JOIN else self._js_enc_key,
            phy,
            js_int_key=self._js_int_key,
            request_type=request.kind,
            join_eui=self.join_eui,
            dev_nonce=request.nonce,
        )

    def is_answer(self, request: Request, phy: bytes) -> bool:
        """Is it a join-accept for this request?"""
        try:
            self.peek(request, phy)
        except FrameError:
            return False
        return True

    def accept(self, request: Request, accept: JoinAccept) -> NodeSession:
        """The session of a join-accept."""
        self._last_join_nonce = accept.join_nonce
        self._rj_count_0 = 0
        v1_1 = self._v1_1 and accept.opt_neg
        keys: SessionKeys
        if v1_1:
            keys = derive_session_keys_1_1(
                self._root_key, self._app_key, accept.join_nonce, self.join_eui, request.nonce
            )
        else:
            keys = derive_session_keys(self._root_key, accept.join_nonce, accept.net_id, request.nonce)
        return NodeSession(
            accept.dev_addr,
            keys,
            v1_1=v1_1,
            net_id=accept.net_id,
            short_counter=NodeFault.SHORT_COUNTER in self._config.faults,
        )
