"""What can be wrong with a frame, a MAC command or an order. Refused frames are values (`outcome`), not
these."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.lorawan.mac import Command


class LorawanError(Exception):
    """Base of everything this package raises."""


class FrameError(LorawanError):
    """The bytes are not a LoRaWAN 1.0.x frame, or not one that this key opens."""


class UnsupportedFrame(FrameError):
    """A well-formed frame of a kind that LoRaWAN 1.0.x does not define: rejoin-request or proprietary."""


class MacError(LorawanError):
    """A MAC command that cannot be read; its length, and so the place of the next one, is unknown.

    `commands` are those read before it: they are valid and must be obeyed (LoRaWAN 1.0.2, 5).
    """

    def __init__(self, words: str, commands: tuple[Command, ...] = ()) -> None:
        super().__init__(words)
        self.commands = commands


class OrderError(LorawanError):
    """An order of a user or an application that cannot be carried out; the text says why."""


class UnknownDevice(OrderError):
    """No device with this DevEUI is registered."""


class DeviceExists(OrderError):
    """A device with this DevEUI is registered already."""


class QueueFull(OrderError):
    """As many downlinks wait for this device as may wait."""
