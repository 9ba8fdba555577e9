"""Every registered device and session, found by DevEUI and by DevAddr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.lorawan import store
from gateway.lorawan.device import Device, Session
from gateway.lorawan.group import Group
from gateway.lorawan.outcome import Writes

NOBODYS: tuple[Session, ...] = ()


class Registry:
    def __init__(self, last_session: int = 0) -> None:
        """`last_session` is the highest id of a session in the store."""
        self.devices: dict[int, Device] = {}  # by DevEUI; at most settings.max_devices
        self.sessions: dict[int, tuple[Session, ...]] = {}  # by DevAddr: those of registered devices
        self.groups: Mapping[int, Group] = {}  # by McAddr: multicast groups, under whose address nobody sends
        self.moved: dict[int, Device] = {}  # by DevAddr: those that another gateway serves now
        self._last_session = last_session

    def next_session(self) -> int:
        self._last_session += 1
        return self._last_session

    def add(self, device: Device) -> None:
        self.devices[device.dev_eui] = device
        for session in sessions_of(device):
            if device.moved:
                self.moved[session.dev_addr] = device
            else:
                self.know(session)

    def remove(self, device: Device) -> None:
        del self.devices[device.dev_eui]
        for session in sessions_of(device):
            if device.moved:
                self.moved.pop(session.dev_addr, None)
            else:
                self.forget(session)

    def know(self, session: Session) -> None:
        self.sessions[session.dev_addr] = (*self.sessions.get(session.dev_addr, NOBODYS), session)

    def forget(self, session: Session) -> None:
        left = tuple(other for other in self.sessions[session.dev_addr] if other is not session)
        if left:
            self.sessions[session.dev_addr] = left
        else:
            del self.sessions[session.dev_addr]

    def promote(self, session: Session) -> Writes:
        """The device uses a session it joined: that one is live now, older ones are over."""
        device = session.device
        position = device.pending.index(session)
        over = device.pending[:position] + ([device.session] if device.session else [])
        device.session = session
        del device.pending[: position + 1]
        writes: Writes = [store.session_active(session)]
        for old in over:
            self.forget(old)
            writes += store.session_gone(old)
        return writes


def sessions_of(device: Device) -> Iterator[Session]:
    """The live one, then the pending ones, oldest first."""
    if device.session is not None:
        yield device.session
    yield from device.pending
