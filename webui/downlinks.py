"""Downlink orders and multicast groups as the API gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from webui.client import Gateway, decode

T = TypeVar("T")


class Waiting(msgspec.Struct, frozen=True):
    """An order that waits, or is on its way."""

    id: str
    state: str = "queued"  # queued, in_flight, awaiting_ack
    fport: int = 0
    payload: str = ""  # hex
    confirmed: bool = False
    priority: int = 0
    attempts: int = 0
    queued: float | None = None  # unix seconds, as the next one
    expires: float | None = None
    why: str = ""


class Receipt(msgspec.Struct, frozen=True):
    """What became of an order once."""

    id: str
    state: str = ""  # queued, sent, acknowledged, failed
    reason: str = ""
    time: float = 0.0
    window: str = ""
    fcnt: int | None = None
    gateway: str = ""
    attempt: int = 0


class Queue(msgspec.Struct, frozen=True):
    device_class: str = "A"
    limit: int = 16
    queue: list[Waiting] = []
    receipts: list[Receipt] = []


class GroupOrder(msgspec.Struct, frozen=True):
    id: str
    fport: int = 0
    payload: str = ""
    priority: int = 0
    fcnt: int | None = None
    gateways_left: list[str] = []
    sent: int = 0
    queued: float = 0.0
    expires: float | None = None
    why: str = ""


class Group(msgspec.Struct, frozen=True):
    name: str
    mc_addr: str = ""
    device_class: str = "C"
    freq_hz: int | None = None
    dr: int | None = None
    ping_period: int = 0
    gateways: list[str] = []
    sends_through: list[str] = []
    members: list[str] = []
    channel_id: str = ""
    thing_id: str = ""
    fcnt_down: int = 0
    sent: int = 0
    queue: list[GroupOrder] = []
    receipts: list[Receipt] = []


class Added(msgspec.Struct, frozen=True):
    name: str = ""
    thing_id: str = ""
    thing_key: str = ""
    channel_id: str = ""


class _Ordered(msgspec.Struct, frozen=True):
    id: str = ""


@dataclass(frozen=True, slots=True)
class Downlinks:
    """Raises as `Gateway` does."""

    gateway: Gateway

    def of(self, dev_eui: str) -> Queue:
        return self._ask(Queue, "GET", f"/lorawan/devices/{dev_eui}/downlinks")

    def order(self, dev_eui: str, body: dict[str, Any]) -> str:
        """Returns the order's id."""
        return self._ask(_Ordered, "POST", f"/lorawan/devices/{dev_eui}/downlinks", body).id

    def cancel(self, dev_eui: str, order_id: str = "") -> None:
        """Take back one order, or all."""
        self.gateway.answer("DELETE", f"/lorawan/devices/{dev_eui}/downlinks" + _part(order_id))

    def groups(self) -> list[Group]:
        return self._ask(list[Group], "GET", "/lorawan/groups")

    def group(self, name: str) -> Group:
        return self._ask(Group, "GET", f"/lorawan/groups/{name}")

    def set_up(self, body: dict[str, Any]) -> Added:
        return self._ask(Added, "POST", "/lorawan/groups", body)

    def remove(self, name: str) -> None:
        self.gateway.answer("DELETE", f"/lorawan/groups/{name}")

    def join(self, name: str, dev_eui: str) -> None:
        self.gateway.answer("PUT", f"/lorawan/groups/{name}/members/{dev_eui}")

    def leave(self, name: str, dev_eui: str) -> None:
        self.gateway.answer("DELETE", f"/lorawan/groups/{name}/members/{dev_eui}")

    def order_group(self, name: str, body: dict[str, Any]) -> str:
        return self._ask(_Ordered, "POST", f"/lorawan/groups/{name}/downlinks", body).id

    def cancel_group(self, name: str, order_id: str = "") -> None:
        self.gateway.answer("DELETE", f"/lorawan/groups/{name}/downlinks" + _part(order_id))

    def _ask(self, kind: type[T], method: str, path: str, body: dict[str, Any] | None = None) -> T:
        return decode(kind, self.gateway.answer(method, path, body).content)


def _part(order_id: str) -> str:
    return f"/{order_id}" if order_id else ""
