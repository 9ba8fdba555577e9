"""The answer to an uplink: which frame, and for which windows.

One frame carries all there is to say: the ACK, MAC answers, MAC requests, and one waiting order. It is the
same in both windows and has its own FCntDown; nothing is ever sent twice under one counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from gateway.lorawan import mac, macstore, orderstore, store
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Device, Order, OrderState, Session
from gateway.lorawan.frames import MAX_FCNT, MAX_FOPTS, DataFrame, build_downlink
from gateway.lorawan.maclayer import MacLayer
from gateway.lorawan.orders import Orders, out
from gateway.lorawan.outcome import Downlink, Due, Receipt, Writes
from gateway.lorawan.settings import Settings
from gateway.lorawan.windows import Window, session_windows
from radio.gwmp import RxPacket
from radio.regions import Region


@dataclass(slots=True)
class Answer:
    """A downlink, or the reason there is none, with what has to be stored for it."""

    downlink: Downlink | None = None
    writes: Writes = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    durable: bool = False
    receipts: list[Receipt] = field(default_factory=list)


class Answerer:
    def __init__(
        self, region: Region, settings: Settings, mac_layer: MacLayer, orders: Orders, rng: Random
    ) -> None:
        self._region = region
        self._settings = settings
        self._mac = mac_layer
        self._orders = orders
        self._rng = rng

    def new_id(self) -> str:
        return f"{self._rng.getrandbits(64):016x}"

    def answer(
        self,
        session: Session,
        frame: DataFrame,
        rx: RxPacket,
        now: Instant,
        answers: Sequence[mac.Command] = (),
    ) -> Answer:
        """Compose the downlink after an uplink that asks for one, or because something waits."""
        result = Answer()
        windows = session_windows(self._region, self._settings, rx, session)
        if not windows:
            result.notes.append("no receive window of this uplink can be used for an answer")
            return result
        fopts = b""
        for command in answers:
            if len(fopts) + 1 + command.SIZE <= MAX_FOPTS:
                fopts += command.encode()
                self._mac.answered_with(session, command, now)
        most = max(window.max_payload for window in windows) - len(fopts)
        order = self.choose(session.device, most, now, result) if session.device.orders else None
        for block in self._mac.ask(session, frame, rx, now):
            longer = fopts + mac.encode(block)
            if len(longer) <= MAX_FOPTS and any(_fits(window, longer, order) for window in windows):
                fopts = longer
                if self._mac.asked(session, block, now):
                    result.writes.append(macstore.agreed(session))
                result.notes.append(f"asks {', '.join(command.name for command in block)}")
        if not (frame.confirmed or frame.adr_ack_req or fopts or order or session.mac.owes_downlink):
            return result
        windows = tuple(window for window in windows if _fits(window, fopts, order)) or windows
        self._compose(result, session, frame, windows, fopts, order, now)
        return result

    def choose(self, device: Device, most: int, now: Instant, result: Answer) -> Order | None:
        """The order that goes next into a frame that takes `most` bytes; None while another is under way.

        Those too long for it wait, and hold up none behind them.
        """
        if out(device) is not None:
            return None
        for order in list(device.orders):
            if len(order.payload) <= most:
                return order
            result.notes.append(f"downlink {order.id} waits: {len(order.payload)} bytes are too many here")
            given_up = Due()
            self._orders.too_long(device, order, most, now, given_up)
            result.writes += given_up.writes
            result.receipts += given_up.receipts
        return None

    def compose_alone(
        self, session: Session, order: Order, windows: tuple[Window, ...], now: Instant, klass: str
    ) -> Answer:
        """A downlink that answers no uplink: `order` for windows of class B or C, each of which takes it."""
        result = Answer()
        self._compose(result, session, None, windows, b"", order, now, klass)
        return result

    def _compose(
        self,
        result: Answer,
        session: Session,
        frame: DataFrame | None,
        windows: tuple[Window, ...],
        fopts: bytes,
        order: Order | None,
        now: Instant,
        klass: str = "A",
    ) -> None:
        """`frame` is the uplink that is answered, if one is."""
        fcnt, covered, moved = session.down_counter(order is not None).take()
        if fcnt > MAX_FCNT:
            result.notes.append("FCntDown is used up: the device has to join again")
            return
        if moved:
            result.writes.append(store.fcnt_down(session))
        ack = frame is not None and frame.confirmed
        result.durable = moved or ack
        device = session.device
        phy = build_downlink(
            session.crypto,
            session.dev_addr,
            fcnt,
            fport=order.fport if order else None,
            payload=order.payload if order else b"",
            fopts=fopts,
            confirmed=order.confirmed if order else False,
            adr=frame is not None and frame.adr and self._settings.adr,
            ack=ack,
            fpending=len(device.orders) > (1 if order else 0),
            conf_fcnt=session.fcnt_up or 0,
        )
        if order:
            order.state = OrderState.IN_FLIGHT
            order.attempts += 1
            order.fcnt, order.since_ns, order.held = fcnt, now.mono_ns, ""
            result.writes.append(orderstore.state(order))
            if order.confirmed:
                session.confirmed_down = fcnt
        if frame is not None:
            session.answered_ns = now.mono_ns
            session.mac.owes_downlink = False
        result.downlink = Downlink(
            id=order.id if order else self.new_id(),
            dev_eui=device.dev_eui,
            windows=tuple(window.packet(phy) for window in windows),
            confirmed=order.confirmed if order else False,
            fcnt=fcnt,
            after_commit=ack or not covered,
            klass=klass,
            gateway=None if klass == "A" else _gateway(device, order, windows[0]),
            names=tuple(window.name for window in windows),
        )


def _gateway(device: Device, order: Order | None, window: Window) -> bytes | None:
    """The one that heard the device best, after a refusal the next; None where none has, since the start.

    A window by a gateway's counter is for the gateway that has heard the uplink.
    """
    gateways = device.gateways
    turn = order.refusals if order is not None and window.tmst is None else 0
    return gateways[turn % len(gateways)] if gateways else None


def _fits(window: Window, fopts: bytes, order: Order | None) -> bool:
    return len(fopts) + (len(order.payload) if order else 0) <= window.max_payload
