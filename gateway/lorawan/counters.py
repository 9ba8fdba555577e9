"""What the server counts, and the one place where a frame is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.lorawan.device import Device
from gateway.lorawan.frames import DataFrame
from gateway.lorawan.outcome import Reason, Rejected
from gateway.lorawan.types import DevAddr, DevEUI
from radio.gwmp import RxPacket


@dataclass(slots=True)
class Counters:
    """Since the start of the process."""

    uplinks: int = 0
    joins: int = 0
    downlinks: int = 0  # composed and handed out
    downlinks_sent: int = 0  # taken by a gateway
    downlinks_failed: int = 0  # refused by a gateway in both windows
    orders_acked: int = 0  # confirmed downlinks that a device acknowledged
    orders_dropped: int = 0  # given up after eight attempts
    rejected: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))

    def reject(
        self,
        reason: Reason,
        words: str,
        rx: RxPacket,
        device: Device | None = None,
        *,
        frame: DataFrame | None = None,
        dev_eui: DevEUI | None = None,
    ) -> Rejected:
        """Count it; with `device`, the words become that device's problem until its next good frame."""
        self.rejected[reason] += 1
        if device is not None:
            device.problem = words
            dev_eui = device.dev_eui
        if frame is None:
            return Rejected(reason, words, rx, dev_eui)
        return Rejected(reason, words, rx, dev_eui, DevAddr(frame.dev_addr), frame.fcnt)
