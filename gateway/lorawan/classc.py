"""Downlinks to devices of class C, whose second receive window is open all the time (LoRaWAN 1.0.3, 15).

An order leaves at once, unless the device has just sent: then its windows of class A come first, and what is sent
during its wait for RX1 would collide with them. If nothing else is to go into those windows, the order does. A busy
radio, or one whose duty cycle is used up, is asked again
after a pause. A confirmed downlink is repeated when the profile's time-out is over.

Pure: `due` is called when `next_due_ns` says, for one device at a time.
"""

from __future__ import annotations

from gateway.lorawan.agenda import Agenda
from gateway.lorawan.answering import Answerer
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Device, Order, OrderState, Session
from gateway.lorawan.orders import NEVER_NS, REPORT_NS, SECOND_NS, Orders, device_class, out
from gateway.lorawan.outcome import Due
from gateway.lorawan.profile import DeviceClass
from gateway.lorawan.settings import Settings
from gateway.lorawan.windows import Window, class_c_window, session_windows
from radio.regions import Region

RX1_OPEN_NS = 300_000_000  # of silence, at the slowest data rate, until a device is back on its RX2
LEAD_NS = 200_000_000  # of an order before RX1: the way to the gateway, and what its radio needs
ANSWER_NS = SECOND_NS + RX1_OPEN_NS  # an answer may go into RX2, a second after RX1


class ClassC(Agenda):
    """Every device of class C for which something waits."""

    def __init__(self, region: Region, settings: Settings, orders: Orders, answerer: Answerer) -> None:
        super().__init__()
        self._region = region
        self._settings = settings
        self._orders = orders
        self._answerer = answerer

    def _when(self, device: Device, now: Instant) -> int:
        """When something is to be done for this device, in monotonic time."""
        session = device.session
        if session is None or not device.orders or device_class(device) is not DeviceClass.C:
            return NEVER_NS
        order = out(device)
        if order is not None:
            awaited = order.state is OrderState.AWAITING_ACK
            return order.since_ns + (device.profile.class_c_timeout_s * SECOND_NS if awaited else REPORT_NS)
        if self._late_answer(device, session, now)[0] is not None:
            return now.mono_ns
        order, window = self._first(device, session)
        if order is None or window is None:
            return NEVER_NS
        return max(_held_until(session), order.not_before_ns, now.mono_ns)

    def _act(self, device: Device, now: Instant) -> Due:
        due = Due(device.dev_eui)
        order = out(device)
        if order is not None:
            self._orders.overdue(device, order, now, due)
            return due
        session = device.session
        assert session is not None
        order, windows = self._late_answer(device, session, now)
        if order is not None:
            session.answered_ns = now.mono_ns
        else:
            order, window = self._first(device, session)
            assert window is not None
            windows = (window,)
        assert order is not None
        answer = self._answerer.compose_alone(session, order, windows, now, DeviceClass.C)
        due.writes += answer.writes
        if answer.downlink is not None:
            due.downlinks.append(answer.downlink)
        else:
            order.not_before_ns = NEVER_NS  # FCntDown is used up
        return due

    def _late_answer(
        self, device: Device, session: Session, now: Instant
    ) -> tuple[Order | None, tuple[Window, ...]]:
        """The first order, and the windows of an uplink that nothing has answered and that are still to come."""
        heard_ns, rx = session.last_heard_ns, device.last_rx
        opens_ns = heard_ns + session.rx1_delay_s * SECOND_NS
        if not heard_ns or rx is None or session.answered_ns >= heard_ns or now.mono_ns + LEAD_NS > opens_ns:
            return None, ()
        for order in device.orders:
            windows = tuple(
                window
                for window in session_windows(self._region, self._settings, rx, session)
                if len(order.payload) <= window.max_payload
            )
            if windows:
                return order, windows
        return None, ()

    def _first(self, device: Device, session: Session) -> tuple[Order | None, Window | None]:
        """The first order that RX2 can carry; longer ones wait for an uplink, whose RX1 may take them."""
        window = class_c_window(self._region, self._settings, session)
        if window is not None:
            for order in device.orders:
                if len(order.payload) <= window.max_payload:
                    return order, window
                order.held = f"{len(order.payload)} bytes are too many for RX2: it waits for an uplink"
        return None, window


def _held_until(session: Session) -> int:
    """Until when the windows after the last uplink are the device's own; monotonic ns."""
    if not session.last_heard_ns:
        return 0
    answered = session.answered_ns >= session.last_heard_ns
    wait_ns = session.rx1_delay_s * SECOND_NS + (ANSWER_NS if answered else RX1_OPEN_NS)
    return session.last_heard_ns + wait_ns
