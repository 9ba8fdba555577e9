"""What the LoRaWAN server says about downlinks is carried out: committed, published as receipts, sent.

Between the server and the log on one side, the links on the other. A receipt is committed together with the state
it tells, and a downlink that acknowledges or uses a counter not yet reserved leaves after that commit.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from msgspec import structs

from gateway.copies import Heard
from gateway.live import LiveFrames, spoken
from gateway.lorawan import orderstore, receipts
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import OrderError, UnknownDevice
from gateway.lorawan.outcome import Downlink, Due, Elsewhere, OrderFate, Receipt, Writes
from gateway.lorawan.receipts import TX_ERROR_WORDS
from gateway.lorawan.server import NetworkServer, Queued
from gateway.lorawan.types import DevEUI
from gateway.turns import Turns
from hub.access import Access, Action, Circumstances, Principal, Resource
from hub.errors import HubError
from hub.log import Done, Log
from hub.message import Message
from radio.gwmp import U32, RxPacket, TxError

log = logging.getLogger(__name__)

_BY_LORA = Circumstances(receipts.PROTOCOL)
MAX_ELSEWHERE = 256
LEAD_NS = 100_000_000  # a gateway needs an order this long before its window


class Transmitter(Protocol):
    """The links, as far as downlinks go."""

    def only(self) -> bytes:
        """EUI of the gateway to take where the server knows none; b"" where there is none."""
        ...

    def transmit(self, downlink: Downlink, eui: bytes) -> None: ...


class Downlinks:
    """One of a gateway. `changed` is called when the server may want to be asked for what is due."""

    def __init__(
        self,
        server: NetworkServer,
        access: Access,
        hub_log: Log,
        live: LiveFrames,
        clock: Callable[[], Instant],
        turns: Turns,
        boot: str = "",
    ) -> None:
        self.transmitter: Transmitter | None = None
        self.changed: Callable[[], None] = _nothing
        self.receipts = 0
        self.denied = 0  # receipts: the device's thing may not publish on its channel
        self.lost = 0  # changes that the log had no room for
        self.elsewhere = 0  # downlinks tried through a further gateway
        self._elsewhere: dict[str, tuple[Elsewhere, ...]] = {}  # by id: downlinks about to be ordered
        self._server = server
        self._access = access
        self._log = hub_log
        self._live = live
        self._clock = clock
        self._turns = turns
        self._boot = boot

    def metrics(self) -> dict[str, float]:
        """Counters for /metrics."""
        return {
            "fluxgate_downlink_receipts_total": self.receipts,
            "fluxgate_downlink_receipts_denied_total": self.denied,
            "fluxgate_downlink_changes_lost_total": self.lost,
            "fluxgate_downlink_elsewhere_total": self.elsewhere,
            "fluxgate_downlinks_waiting": self._server.orders_waiting,
        }

    # From the server

    def carry_out(self, due: Due, done: Done | None = None) -> None:
        """Commit, publish and send. `done` is told when all is durable, or why it is not."""
        messages, writes = self.told(due.receipts)
        writes[:0] = due.writes
        waiting = [downlink for downlink in due.downlinks if downlink.after_commit]

        def committed(error: HubError | None) -> None:
            if error is not None:
                log.error("the state of a downlink is not stored: %s", error)
            for downlink in waiting:
                if error is None:
                    self.transmit(downlink)
                else:
                    self.failed(downlink, TxError.TOO_LATE)
            if done is not None:
                done(error)

        def keep() -> None:
            try:
                if waiting or done is not None:
                    self._log.submit(messages, writes, committed)
                elif messages or writes:
                    self._log.post(messages, writes)
            except HubError as error:
                self.lost += 1
                committed(error)

        self._turns.run(due.dev_eui, keep)
        for downlink in due.downlinks:
            if not downlink.after_commit:
                self.transmit(downlink)
        self.changed()

    def take(self, queued: Queued, done: Done | None = None) -> None:
        """Keep an order that the server has accepted. `done` is told when it is durable, or why it is not."""
        (receipt,) = queued.receipts

        def stored(error: HubError | None) -> None:
            if error is not None:  # it was promised to nobody
                with contextlib.suppress(OrderError):
                    if receipt.dev_eui is None:
                        self._server.groups.cancel(receipt.group, queued.id, receipt.at)
                    else:
                        self._server.cancel_downlink(receipt.dev_eui, queued.id, receipt.at)
            if done is not None:
                done(error)

        due = Due(receipt.dev_eui or 0, writes=list(queued.writes), receipts=[receipt])
        self.carry_out(due, stored)

    def leaving(self, dev_eui: DevEUI) -> None:
        """A device is about to be removed: what waits for it has failed."""
        with contextlib.suppress(OrderError):
            now = self._clock()
            self.carry_out(self._server.cancel_downlink(dev_eui, None, now, "the device was removed"))

    def refuse(self, dev_eui: DevEUI | None, group: str, order_id: str, reason: str, now: Instant) -> None:
        """Leave a receipt for an order that was not taken."""
        receipt = Receipt(order_id, dev_eui, OrderFate.FAILED, reason, now, group=group)
        self.carry_out(Due(dev_eui or 0, receipts=[receipt]))

    def refuse_stranger(
        self, message: Message, target: str, order_id: str, reason: str, now: Instant
    ) -> None:
        """As `refuse`, for nobody who is known on that channel: the receipt goes where the order came from."""
        receipt = Receipt(order_id, None, OrderFate.FAILED, reason, now)
        told = receipts.message(
            receipt,
            topic=target,
            base_name="",
            thing_id=message.publisher,
            channel_id=message.channel,
            boot=self._boot,
        )
        try:
            self._log.post([told])
        except HubError as error:
            self.lost += 1
            log.error("a refused command is not answered: %s", error)

    def told(self, told: list[Receipt] | tuple[Receipt, ...]) -> tuple[list[Message], Writes]:
        """Receipts as messages to append and rows to keep; they are shown to live viewers at once."""
        messages: list[Message] = []
        writes: Writes = []
        self.changed()
        self.receipts += len(told)
        for receipt in told:
            writes += orderstore.kept(receipt)
            if (message := self._message(receipt)) is not None:
                messages.append(message)
            if receipt.state is not OrderFate.SENT:  # which `sent` shows with its frequency and data rate
                self._show_receipt(receipt)
        return messages, writes

    def heard_by(self, downlink: Downlink, rx: RxPacket, others: Sequence[Heard], at: Instant) -> None:
        """The uplink that `downlink` answers was heard, as `rx`, by others too: they may send what the best refuses."""
        elsewhere = []
        for other in others:
            windows, opens_ns = [], []
            for packet in downlink.windows:
                if packet.tmst is not None:
                    after_us = (packet.tmst - rx.tmst) % U32
                    windows.append(structs.replace(packet, tmst=(other.rx.tmst + after_us) % U32))
                    opens_ns.append(at.mono_ns + after_us * 1000)
            elsewhere.append(Elsewhere(other.eui, tuple(windows), tuple(opens_ns)))
        while len(self._elsewhere) >= MAX_ELSEWHERE:
            del self._elsewhere[next(iter(self._elsewhere))]
        self._elsewhere[downlink.id] = tuple(elsewhere)

    def transmit(self, downlink: Downlink, eui: bytes | None = None) -> None:
        """Order a downlink from the gateway `eui`, which heard the uplink, or from the one the server has named."""
        self.changed()
        if self.transmitter is None:
            return
        gateway = downlink.gateway or eui
        if gateway is None:
            gateway = self.transmitter.only()
        elsewhere = self._elsewhere.pop(downlink.id, ())
        if elsewhere or downlink.gateway is None:
            downlink = structs.replace(downlink, gateway=gateway, elsewhere=elsewhere or downlink.elsewhere)
        self.transmitter.transmit(downlink, gateway)

    # From the links

    def sent(self, downlink: Downlink, window: int) -> None:
        """A gateway has taken a downlink for sending in that window, which counts from 1."""
        self.carry_out(self._server.sent(downlink, window, self._clock()))
        name = downlink.window_name(window)
        self._show(downlink, f"sent in {name}", **spoken(downlink.windows[window - 1]))

    def failed(self, downlink: Downlink, error: TxError) -> None:
        """No window could be used: another gateway is tried where there is one, and time."""
        if self._elsewhere_instead(downlink, error):
            return
        self.carry_out(self._server.failed(downlink, error, self._clock()))
        self._show(downlink, f"not sent: {TX_ERROR_WORDS.get(error, str(error))}", reason=str(error))

    def _elsewhere_instead(self, downlink: Downlink, error: TxError) -> bool:
        in_time_ns = self._clock().mono_ns + LEAD_NS
        for number, other in enumerate(downlink.elsewhere):
            open_still = [i for i, opens_ns in enumerate(other.opens_ns) if opens_ns > in_time_ns]
            if open_still:
                self.elsewhere += 1
                again = structs.replace(
                    downlink,
                    gateway=other.gateway,
                    windows=tuple(other.windows[i] for i in open_still),
                    names=tuple(downlink.names[i] for i in open_still),
                    elsewhere=downlink.elsewhere[number + 1 :],
                )
                words = f"refused by {(downlink.gateway or b'').hex()}, tried through {other.gateway.hex()}"
                self._show(downlink, f"{words}: {TX_ERROR_WORDS.get(error, str(error))}", reason=str(error))
                self.transmit(again)
                return True
        return False

    # Receipts

    def _message(self, receipt: Receipt) -> Message | None:
        """None where there is nobody to publish as, or no right to."""
        try:
            if receipt.dev_eui is not None:
                device = self._server.device(receipt.dev_eui)
                topic = str(receipt.dev_eui)
                base_name, thing_id, channel_id = f"urn:dev:mac:{topic}:", device.thing_id, device.channel_id
            else:
                group = self._server.groups.get(receipt.group).config
                topic = f"groups.{group.name}"
                base_name, thing_id, channel_id = f"{group.name}:", group.thing_id, group.channel_id
        except OrderError:  # removed meanwhile
            return None
        if not channel_id:  # a group without a channel tells its API and page only
            return None
        principal, resource = _asked(thing_id, channel_id, f"{topic}{receipts.SUBTOPIC}")
        if not self._access.decide(principal, Action.PUBLISH, resource, _BY_LORA).allowed:
            self.denied += 1
            return None
        return receipts.message(
            receipt,
            topic=topic,
            base_name=base_name,
            thing_id=thing_id,
            channel_id=channel_id,
            boot=self._boot,
        )

    # The live view

    def _show_receipt(self, receipt: Receipt) -> None:
        entry = {
            "dev_eui": None if receipt.dev_eui is None else str(receipt.dev_eui),
            "name": receipt.group or self._name(receipt.dev_eui),
            "fcnt": receipt.fcnt,
            "detail": f"downlink {receipt.order_id} {receipt.state}"
            + (f": {receipt.reason}" if receipt.reason else ""),
        }
        self._live.add("downlink", receipt.at.wall_ns / 1e9, lambda: entry)

    def _show(self, downlink: Downlink, detail: str, **details: object) -> None:
        entry = {
            "dev_eui": None if downlink.dev_eui is None else str(downlink.dev_eui),
            "name": downlink.group or self._name(downlink.dev_eui),
            "fcnt": downlink.fcnt,
            "detail": detail,
            **details,
        }
        self._live.add("downlink", self._clock().wall_ns / 1e9, lambda: entry)

    def _name(self, dev_eui: int | None) -> str:
        try:
            return "" if dev_eui is None else self._server.device(dev_eui).name
        except UnknownDevice:  # removed while the downlink was under way
            return ""


def _nothing() -> None: ...


@lru_cache(maxsize=16_384)
def _asked(thing_id: str, channel_id: str, subtopic: str) -> tuple[Principal, Resource]:
    return Principal("thing", thing_id), Resource(channel_id, subtopic)
