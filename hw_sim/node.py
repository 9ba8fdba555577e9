"""A LoRaWAN device on a chip of its own, of any version and class: joins, measures, sends, and listens.

Event-driven on the kernel. What is here is the order of things: one uplink at a time, then rest until the next, and
what a downlink leads to. A frame with its windows is `node_exchange`, joining `node_join`, keys and counters
`node_session`, the MAC layer `node_mac`, class B `node_class_b`.
"""

from typing import Final

from gateway.lorawan import mac
from gateway.lorawan.errors import FrameError, MacError
from gateway.lorawan.frames import JoinReqType, MType
from gateway.lorawan.profile import DeviceClass, Version
from gateway.lorawan.types import DevAddr
from hw_sim.kernel import Event, Kernel
from hw_sim.node_channels import Channel
from hw_sim.node_class_b import NodeClassB
from hw_sim.node_config import NodeConfig, NodeFault
from hw_sim.node_exchange import SECOND_NS, Exchange, Outgoing, Timers
from hw_sim.node_join import JoinState, Request
from hw_sim.node_log import DownlinkStart, NodeCounters, NodeLog, Received, nearest
from hw_sim.node_mac import MacState
from hw_sim.node_rejoin import Rejoins
from hw_sim.node_session import GroupSession, NodeSession, Opened
from hw_sim.payloads import Signals, encode
from hw_sim.records import Fate, FrameRecord
from hw_sim.sx1276 import SX1276
from radio.regions import get_region
from radio.sx127x.chip import Packet

ACK_TIMEOUT_S: Final = (1.0, 3.0)  # after the second window (RP002: 2 +- 1 s)
CONFIRMED_TRIES: Final = 8
RESTART_S: Final = 1.0  # without power
OLD_AFTER_S: Final = 180.0  # NodeFault.REPEATS_OLD
GPS_FRACTION_NS: Final = SECOND_NS // 256  # of DeviceTimeAns


class Node:
    """One device. `start` it once; everything else happens in kernel events."""

    def __init__(
        self,
        kernel: Kernel,
        chip: SX1276,
        config: NodeConfig,
        *,
        place_deg: tuple[float, float] = (52.52, 13.405),
        boot: int = 0,
    ) -> None:
        """`boot` counts earlier lives, so that nonces and, for ABP, FCntUp are not used twice."""
        self.config = config
        self.counters = NodeCounters()
        self.chip = chip
        self.gps_offset_ns: int | None = None  # GPS time minus the kernel's, by the last DeviceTimeAns
        self._kernel = kernel
        self._region = get_region(config.region)
        self._rng = kernel.rng(f"node/{config.name}")
        self._signals = Signals(kernel.rng(f"node/{config.name}/signals"), *place_deg)
        self._timers = Timers(kernel)
        nonces = kernel.rng(f"node/{config.name}/nonces/{boot}")
        self._joining = JoinState(config, nonces, boot) if config.otaa else None
        self._exchange = Exchange(
            self._timers,
            chip,
            config,
            self._region,
            self.counters,
            self._rng,
            take=self._take,
            over=self._windows_over,
        )
        self._exchange.mac = self._new_mac()
        self._groups = tuple(GroupSession(group) for group in config.groups)
        self._rejoins = Rejoins(self._timers, kernel.rng(f"node/{config.name}/rejoins"), config, self.trigger)
        self._class_b: NodeClassB | None = None
        if config.device_class is DeviceClass.B:
            self._class_b = NodeClassB(
                self._timers,
                self._exchange,
                self._region,
                self.counters,
                config.periodicity,
                changed=self.trigger,
            )
        self._stopped = False
        self._asked = 0  # uplinks that something else than the device's own interval wants
        self._resting: Event | None = None
        self._in_burst = config.burst - 1  # uplinks still to follow in the present burst
        self._finished = False  # the answer settled the uplink under way
        self._taken = b""  # the downlink accepted last
        self._log = NodeLog()
        self._session = NodeSession.personal(config, boot << 10)

    @property
    def joined(self) -> bool:
        return self._session is not None

    @property
    def in_class_b(self) -> bool:
        """Has it found the beacon, and does it listen in its ping slots?"""
        return self._class_b is not None and self._class_b.locked

    @property
    def session(self) -> NodeSession | None:
        """Address, keys and counters; None until it has joined."""
        return self._session

    @property
    def mac(self) -> MacState:
        """What the session has agreed with the network."""
        return self._exchange.mac

    @property
    def fcnt_up(self) -> int:
        """Of the next uplink."""
        return self._session.fcnt_up if self._session else 0

    @property
    def starts(self) -> list[DownlinkStart]:
        """Start errors of the downlinks received last."""
        return list(self._log.starts)

    @property
    def received(self) -> list[Received]:
        """The data downlinks received last."""
        return list(self._log.received)

    @property
    def given_up(self) -> list[tuple[DevAddr, int]]:
        """DevAddr and FCntUp of the confirmed uplinks that nobody acknowledged, the last of them."""
        return list(self._log.given_up)

    # -- power -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Power on at `appears_s`; the first frame follows within `first_s`."""
        self._timers.after_s(self.config.appears_s, self._appear)
        for at_s in self.config.power_losses_s:
            self._kernel.after(round(at_s * SECOND_NS), self.lose_power)

    def _appear(self) -> None:
        if self.config.vanishes_s is not None:
            vanish_ns = round((self.config.vanishes_s - self.config.appears_s) * SECOND_NS)
            self._kernel.after(vanish_ns, self.vanish)
        self._power_up()

    def _power_up(self) -> None:
        self._exchange.radio.start()
        if self._session is not None:
            self._begin_session(self._session, joined=False)
        self._timers.after_s(self._rng.uniform(*self.config.first_s), self._act)

    def stop(self) -> None:
        """Send nothing new; what is under way ends as usual."""
        self._stopped = True

    def vanish(self) -> None:
        """Power off, in the middle of a frame if need be."""
        self._stopped = True
        self._timers.forget()
        self._exchange.power_off()

    def lose_power(self) -> None:
        """Off and on again a second later: what is not in lasting memory is gone."""
        if self._stopped or self._kernel.now_ns < self.config.appears_s * SECOND_NS:
            return
        self.counters.power_losses += 1
        self._timers.forget()
        self._exchange.power_off()
        self._exchange.mac = self._new_mac()
        self._resting = None
        self._asked = 0
        self._taken = b""
        self.gps_offset_ns = None
        self._rejoins.forget()
        if self._class_b is not None:
            self._class_b.forget()
        old, self._session = self._session, None
        if self._joining is not None:
            self._joining.lose_power()
        elif old is not None:
            forgets = NodeFault.FORGETS_COUNTERS in self.config.faults
            self._session = NodeSession.personal(self.config, 0 if forgets else old.fcnt_up + 1)
            if self._session is not None and not forgets:
                self._session.last_fcnt_down = old.last_fcnt_down
                self._session.last_app_fcnt_down = old.last_app_fcnt_down
        self._timers.after_s(RESTART_S, self._power_up)

    # -- one uplink after the other ------------------------------------------------------------------

    def trigger(self) -> None:
        """Something happens: send an uplink now, or right after the one under way."""
        if self._session is None or self._stopped:
            return
        if self._resting is None:
            self._asked += 1
        else:
            self._kernel.cancel(self._resting)
            self._act()

    def rejoin(self, kind: int) -> None:
        """Send a RejoinRequest of that type as soon as may be (1.1)."""
        self._rejoins.order(JoinReqType(kind))

    def _act(self) -> None:
        """Begin an uplink or, without a session, an attempt to join."""
        if self._stopped:
            return
        self._resting = None
        session = self._session
        self._finished = False
        self._exchange.uplink = (
            self._new_join() if session is None else self._new_rejoin(session) or self._new_uplink(session)
        )
        self._exchange.send()

    def _new_join(self) -> Outgoing:
        assert self._joining is not None
        self.counters.join_requests += 1
        return self._outgoing(self._joining.request())

    def _new_rejoin(self, session: NodeSession) -> Outgoing | None:
        if self._joining is None or not session.v1_1:
            return None
        order = self._rejoins.take()
        request = None if order is None else self._joining.rejoin(order.kind, session)
        if order is None or request is None:
            return None
        self.counters.rejoin_requests += 1
        outgoing = self._outgoing(request)
        if order.data_rate in self._region.uplink_data_rates:
            outgoing.fixed_dr = order.data_rate
        return outgoing

    @staticmethod
    def _outgoing(request: Request) -> Outgoing:
        return Outgoing(frame=lambda _channel, _dr: request.phy, tries_left=1, request=request)

    def _new_uplink(self, session: NodeSession) -> Outgoing:
        config, counters, state = self.config, self.counters, self.mac
        counters.uplinks += 1
        if config.link_check_every and counters.uplinks % config.link_check_every == 0:
            state.ask_link_check()
        if config.time_every and counters.uplinks % config.time_every == 0:
            state.ask_time()
        if self._class_b is not None:
            self._class_b.before_uplink(state, knows_time=self.gps_offset_ns is not None)
        self._rejoins.count_uplink()
        wants_answer = state.count_uplink()  # may lower the data rate, so before the payload is made
        confirmed = self._rng.random() < config.confirmed_share
        counters.confirmed += confirmed
        fopts = state.take_fopts()
        readings = self._signals.sample(self._kernel.now_ns / SECOND_NS)
        payload = encode(readings, config.sensors, state.room - len(fopts))
        ack, class_b = session.take_ack(), self.in_class_b

        def frame(channel: Channel, dr: int) -> bytes:
            return session.uplink(
                channel,
                dr,
                fport=config.fport,
                payload=payload,
                fopts=fopts,
                confirmed=confirmed,
                adr=config.adr,
                adr_ack_req=wants_answer,
                ack=ack,
                class_b=class_b,
            )

        tries = CONFIRMED_TRIES if confirmed else state.nb_trans
        return Outgoing(frame=frame, tries_left=tries, confirmed=confirmed)

    def _windows_over(self) -> None:
        """Both windows are over, or one of them brought the answer."""
        uplink = self._exchange.uplink
        if uplink is None:
            return
        if uplink.request is not None:
            self._after_request(uplink.request)
        elif self._finished or uplink.acked or (uplink.answered and not uplink.confirmed):
            self.counters.acks += uplink.confirmed and not self._finished
            self._finish()
        elif uplink.tries_left > 0:
            self.counters.retransmissions += 1
            rest_s = self._rng.uniform(*ACK_TIMEOUT_S) if uplink.confirmed else 0.1
            self._timers.after_s(rest_s, self._exchange.send)
        else:
            self.counters.unacknowledged += uplink.confirmed
            if uplink.confirmed and self._session is not None:
                self._log.given_up.append((self._session.dev_addr, self._session.fcnt_up))
            self._finish()

    def _after_request(self, request: Request) -> None:
        """A join- or rejoin-request is over, answered or not."""
        self._exchange.uplink = None
        if request.kind is not JoinReqType.JOIN:
            self._rejoins.over(answered=self._finished)
        if self._session is None:
            self._timers.after_s(self._rng.uniform(*ACK_TIMEOUT_S), self._act)
        elif self._finished:
            self._timers.after_s(self._rng.uniform(1.0, 3.0), self._act)
        else:
            self._rest()

    def _finish(self) -> None:
        """This uplink is over, its counter used; rest until the next."""
        uplink, session = self._exchange.uplink, self._session
        assert session is not None
        self._exchange.uplink = None
        session.fcnt_up += 1
        if NodeFault.REPEATS_OLD in self.config.faults and uplink is not None:
            self._timers.after_s(OLD_AFTER_S, lambda: self._repeat(uplink))
        if session.v1_1 and self._joining is not None and self.mac.indicates(mac.RekeyInd):
            self._rejoins.unconfirmed += 1
            # 1.1, 5.10: the network never took the session
            if self._rejoins.unconfirmed > self.mac.adr_ack_limit:
                self._rejoins.unconfirmed = 0
                self._session = None
                self._exchange.always_on = False
        self._rest()

    def _repeat(self, uplink: Outgoing) -> None:
        """Send an old frame again, where nothing else is going on."""
        if self._exchange.uplink is None and uplink.channel is not None and not self._stopped:
            self._exchange.transmit(uplink.phy, uplink.channel, uplink.dr)

    def _rest(self) -> None:
        config = self.config
        if self._asked:
            self._asked -= 1
            rest_s = 0.0
        elif self._in_burst:
            self._in_burst -= 1
            rest_s = self._rng.uniform(*config.burst_gap_s)
        else:
            self._in_burst = config.burst - 1
            rest_s = self._rng.uniform(*config.interval_s)
        self._resting = self._timers.after_s(rest_s, self._act)

    # -- what was heard ----------------------------------------------------------------------------------

    def _take(self, packet: Packet, window: int) -> bool:
        """What a window brought; True where it was for this device, which ends the wait."""
        if NodeFault.DEAF in self.config.faults:
            return False
        uplink = self._exchange.uplink
        request = uplink.request if uplink is not None and uplink.waiting else None
        try:
            if request is not None and packet.payload[:1] == bytes((MType.JOIN_ACCEPT << 5,)):
                self._joined(request, packet)
            elif self._session is not None:
                self._downlink(self._session, packet, window)
            else:
                raise FrameError("not a join-accept")
        except FrameError:
            self.counters.refused += 1
            return False
        self._taken = packet.payload
        return True

    def _joined(self, request: Request, packet: Packet) -> None:
        """A join-accept. Raises FrameError where it is none for this device."""
        assert self._joining is not None
        accept = self._joining.open(request, packet.payload)
        session = self._joining.accept(request, accept)
        if request.kind is JoinReqType.JOIN:
            self.counters.joins += 1
        else:
            self.counters.rejoins += 1
        if request.kind is not JoinReqType.REJOIN_2:  # which leaves the radio as it is
            state = self._exchange.mac = self._new_mac(session)
            state.rx1_dr_offset = accept.rx1_dr_offset
            state.rx2_dr = accept.rx2_dr
            state.rx_delay_s = accept.rx_delay_s
            state.add_cflist(accept.cflist)
        self._exchange.duty.joined()
        self._finished = True
        self._begin_session(session, joined=True)

    def _begin_session(self, session: NodeSession, *, joined: bool) -> None:
        """With the first session, or a new one: what 1.1 says of it, and the class beyond A."""
        self._session = session
        self._rejoins.begin(session.v1_1)
        if self._class_b is not None:
            self._class_b.forget()
        if session.v1_1:
            self.mac.indicate(mac.RekeyInd() if joined else mac.ResetInd())
        if self.config.device_class is DeviceClass.C:
            self._exchange.always_on = True
            if session.v1_1:
                self.mac.indicate(mac.DeviceModeInd(mac.CLASS_C))
            if not joined:
                self._exchange.keep_open()

    def _downlink(self, session: NodeSession, packet: Packet, window: int) -> None:
        """A data frame. Raises FrameError where it is none for this device."""
        opened = self._open_any(session, packet.payload, groups=window == 0)
        frame, uplink = opened.frame, self._exchange.uplink
        self._log.keep(opened, window, self._kernel.now_ns)
        if opened.group is not None:
            self.counters.multicast += 1
            return
        session.accept(opened)
        self.counters.downlinks += 1
        commands = _commands(opened.payload if frame.fport == 0 else frame.fopts)
        self.mac.heard(commands, packet.snr_db, class_a=window > 0)
        self._after_commands(uplink)
        waiting = uplink if uplink is not None and uplink.waiting else None
        if window and waiting is not None:
            if waiting.request is None and (not waiting.confirmed or frame.ack):
                self.counters.acks += waiting.confirmed
                self._finished = True
        elif waiting is not None:
            waiting.answered = True
            waiting.acked = waiting.confirmed and frame.ack
        if window == 0 and (frame.confirmed or self.mac.owes_answers):
            self._timers.after_s(self._rng.uniform(*ACK_TIMEOUT_S), self._answer_soon)

    def _open_any(self, session: NodeSession, phy: bytes, *, groups: bool) -> Opened:
        """Raises FrameError where it is for none of this device's addresses."""
        for group in self._groups if groups else ():
            try:
                opened = group.open(phy)
            except FrameError:
                continue
            group.accept(opened)
            return opened
        return session.open(phy)

    def _after_commands(self, uplink: Outgoing | None) -> None:
        """What commands lead to beyond the MAC state."""
        state = self.mac
        if state.device_time is not None and uplink is not None and uplink.due_ns[0]:
            answer, state.device_time = state.device_time, None
            end_ns = uplink.due_ns[0] - state.rx_delay_s * SECOND_NS
            gps_ns = answer.gps_s * SECOND_NS + answer.fraction * GPS_FRACTION_NS
            self.gps_offset_ns = gps_ns - end_ns
        self._rejoins.obey(state)
        if self._class_b is not None and self._session is not None:
            groups = [
                (each.group.dev_addr, each.group.periodicity)
                for each in self._groups
                if each.group.periodicity is not None
            ]
            self._class_b.look(state, self.gps_offset_ns, self._session.dev_addr, groups)

    def _answer_soon(self) -> None:
        """An uplink for what class C has brought, unless one has gone out meanwhile."""
        session = self._session
        if session is not None and (session.owes_ack or self.mac.owes_answers):
            self.trigger()

    def on_air(self, record: FrameRecord) -> None:
        """Every downlink frame of the air, once its fates are known: for the books on exactness and misses."""
        if not record.iq_inverted:
            return
        uplink = self._exchange.uplink
        window, error_ns = (0, 0) if uplink is None else nearest(record.start_ns, uplink.due_ns)
        if not window and not self._exchange.always_on and not self.in_class_b:
            return
        if not self._is_for_me(record.payload):
            return
        if record.fate(self.chip.name) is not Fate.RECEIVED:
            self.counters.missed += 1
        elif window:
            self._log.starts.append(DownlinkStart(window, error_ns, record.modulation))

    def _is_for_me(self, phy: bytes) -> bool:
        request = None if self._exchange.uplink is None else self._exchange.uplink.request
        if phy == self._taken:
            return True
        if request is not None and self._joining is not None and phy[0] >> 5 == MType.JOIN_ACCEPT:
            return self._joining.is_answer(request, phy)
        if self._session is not None and self._session.is_mine(phy):
            return True
        return any(group.is_mine(phy) for group in self._groups)

    # -- small things --------------------------------------------------------------------------------

    def _new_mac(self, session: NodeSession | None = None) -> MacState:
        config = self.config
        spoken = config.version
        if spoken.is_1_1 and session is not None and not session.v1_1:
            spoken = Version.V1_0_4  # what the network speaks, by its join-accept
        state = MacState(
            self._region, config.dr, adr=config.adr, channels_hz=config.channels_hz, version=spoken
        )
        state.faults = config.faults
        return state


def _commands(data: bytes) -> tuple[mac.Command, ...]:
    """The MAC commands up to the first that cannot be read (5)."""
    try:
        return mac.parse_downlink(data)
    except MacError as error:
        return tuple(error.commands)
