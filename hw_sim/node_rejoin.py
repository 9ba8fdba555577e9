"""When a device of 1.1 asks to rejoin: on order, at the pace it was told to keep, or of itself. Event-driven."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from gateway.lorawan import mac
from gateway.lorawan.frames import JoinReqType
from hw_sim.kernel import Event
from hw_sim.node_config import NodeConfig
from hw_sim.node_exchange import Timers
from hw_sim.node_mac import MacState

RETRY_S: Final = 32.0  # ForceRejoinReq: times 2**period, and up to so much more (1.1, 5.13)


@dataclass(slots=True)
class RejoinOrder:
    """One RejoinRequest to be sent, and how often to try."""

    kind: JoinReqType
    data_rate: int | None = None
    tries_left: int = 1
    period: int = 0


class Rejoins:
    """What is due; `hurry` asks the device to send something now."""

    def __init__(self, timers: Timers, rng: Random, config: NodeConfig, hurry: Callable[[], None]) -> None:
        self.unconfirmed = 0  # uplinks with a RekeyInd that nobody confirmed
        self._timers = timers
        self._rng = rng
        self._every_s = config.rejoin_every_s
        self._hurry = hurry
        self._order: RejoinOrder | None = None
        self._due = False
        self._params: mac.RejoinParamSetupReq | None = None
        self._since = 0  # uplinks
        self._timer: Event | None = None
        self._own: Event | None = None

    def forget(self) -> None:
        """Power is lost, or a new session has begun: all of this was about the old one."""
        for timer in (self._timer, self._own):
            self._timers.kernel.cancel(timer)
        self._order = self._params = self._timer = self._own = None
        self._due = False
        self._since = self.unconfirmed = 0

    def begin(self, v1_1: bool) -> None:
        """A session begins."""
        self.forget()
        if v1_1 and self._every_s is not None:
            self._own = self._timers.after_s(self._every_s, self._of_itself)

    def order(
        self, kind: JoinReqType, data_rate: int | None = None, retries: int = 0, period: int = 0
    ) -> None:
        """Send one as soon as may be; again, up to so many times, while it has no answer."""
        self._order = RejoinOrder(kind, data_rate, 1 + retries, period)
        self._now()

    def obey(self, state: MacState) -> None:
        """What the MAC commands of a downlink have asked for."""
        forced, state.force_rejoin = state.force_rejoin, None
        if forced is not None:
            kind = JoinReqType.REJOIN_2 if forced.rejoin_type == 2 else JoinReqType.REJOIN_0
            self.order(kind, forced.data_rate, forced.max_retries, forced.period)
        params = state.rejoin_params
        if params is not None and params is not self._params:
            self._params = params
            self._since = 0
            self._count_down()

    def count_uplink(self) -> None:
        """One more; RejoinParamSetupReq counts them."""
        self._since += 1
        if self._params is not None and self._since >= 1 << self._params.max_count + 4:
            self._since = 0
            self.order(JoinReqType.REJOIN_0)

    def take(self) -> RejoinOrder | None:
        """The order to carry out now, or None."""
        if not self._due or self._order is None:
            return None
        self._due = False
        self._order.tries_left -= 1
        return self._order

    def over(self, *, answered: bool) -> None:
        """The windows of a RejoinRequest are over."""
        order = self._order
        if order is None or answered or order.tries_left <= 0:
            self._order = None
            return
        wait_s = RETRY_S * (1 << order.period) + self._rng.uniform(0, RETRY_S)
        self._timer = self._timers.after_s(wait_s, self._now)

    def _now(self) -> None:
        self._due = True
        self._hurry()

    def _of_itself(self) -> None:
        if self._order is None:  # what the network has ordered comes first
            self.order(JoinReqType.REJOIN_1)
        assert self._every_s is not None
        self._own = self._timers.after_s(self._every_s, self._of_itself)

    def _count_down(self) -> None:
        assert self._params is not None
        params, period_s = self._params, float(1 << self._params.max_time + 10)

        def due() -> None:
            if self._params is params:
                self.order(JoinReqType.REJOIN_0)
                self._timers.after_s(period_s, due)

        self._timers.after_s(period_s, due)
