"""Multicast groups in the REST API: set up, given members, sent to. Keys go in and never come out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.commands import Orderly
from gateway.downlink_api import QueuedDownlink, ReceiptView, accepted, durable, receipts_of
from gateway.downlinks import Downlinks
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import OrderError
from gateway.lorawan.group import Group, GroupConfig, GroupOrder
from gateway.lorawan.mckeys import mc_app_s_key, mc_nwk_s_key
from gateway.lorawan.outcome import Writes
from gateway.lorawan.profile import DeviceClass
from gateway.lorawan.server import NetworkServer, Queued
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI
from gateway.wanted import Command, Wanted, of_command
from hub.errors import HubError
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs
from hub.hub import Hub
from hub.registry_bulk import Wanted as WantedThing
from hub.registry_bulk import create_connected, remove_all

EUI_SIZE = 8


class NewGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /lorawan/groups. Either McKey, or both session keys; all hex."""

    name: str
    mc_addr: str
    mc_key: str = ""
    nwk_s_key: str = ""  # McNwkSKey
    app_s_key: str = ""  # McAppSKey
    device_class: str = "C"
    freq_hz: int | None = None  # None: the region's RX2, as the next one
    dr: int | None = None
    ping_period: int = 0  # class B: a slot each 2**n seconds
    gateways: list[str] = []  # EUIs that send to it; none: those that hear its members
    members: list[str] = []  # DevEUIs
    channel_id: str = ""  # receipts go there and orders come from there; "": a new one
    fcnt_down: int = 0  # where counting begins: above what the members have heard


class GroupChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PATCH /lorawan/groups/{name}: what is not given stays."""

    freq_hz: int | msgspec.UnsetType | None = msgspec.UNSET
    dr: int | msgspec.UnsetType | None = msgspec.UNSET
    gateways: list[str] | msgspec.UnsetType = msgspec.UNSET


class GroupOrderView(msgspec.Struct):
    """A downlink that waits, or that not every gateway has sent yet."""

    id: str
    fport: int
    payload: str  # hex
    priority: int
    fcnt: int | None
    gateways_left: list[str]
    sent: int  # gateways that have
    queued: float  # Unix seconds, as the next one
    expires: float | None
    why: str  # it waits; "" where there is nothing to tell


class GroupView(msgspec.Struct):
    """A group as it is shown: no keys."""

    name: str
    mc_addr: str
    device_class: str
    freq_hz: int | None
    dr: int | None
    ping_period: int
    gateways: list[str]  # its own list
    sends_through: list[str]  # gateways that would send now
    members: list[str]
    channel_id: str
    thing_id: str
    fcnt_down: int
    sent: int  # transmissions since the start
    queue: list[GroupOrderView]


class GroupPage(GroupView):
    """A group with its receipts, the newest first."""

    receipts: list[ReceiptView] = []


class AddedGroup(msgspec.Struct):
    """What setting a group up made; the thing's key is shown once."""

    name: str
    thing_id: str
    thing_key: str
    channel_id: str


class GroupApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(
        self,
        hub: Hub,
        server: NetworkServer,
        downlinks: Downlinks,
        orderly: Orderly,
        clock: Callable[[], Instant],
    ) -> None:
        self._hub = hub
        self._server = server
        self._groups = server.groups
        self._downlinks = downlinks
        self._orderly = orderly
        self._clock = clock
        self._turn = asyncio.Lock()  # one group is set up at a time

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table; each demands a signed-in user."""
        one = "/lorawan/groups/{name}"
        member, downlinks = f"{one}/members/{{dev_eui}}", f"{one}/downlinks"
        admin, gone = Needs.MANAGER, {204: None}
        return [
            Endpoint("GET", "/lorawan/groups", self.all, Needs.USER, answers={200: list[GroupView]}),
            Endpoint(
                *("POST", "/lorawan/groups", self.add, admin),
                body=NewGroup,
                answers={201: AddedGroup},
                refuses=(404, 409, 507),
            ),
            Endpoint("GET", one, self.show, Needs.USER, answers={200: GroupPage}, refuses=(404,)),
            Endpoint(
                *("PATCH", one, self.change, admin),
                body=GroupChange,
                answers={200: GroupView},
                refuses=(404, 507),
            ),
            Endpoint("DELETE", one, self.remove, admin, answers=gone, refuses=(404, 507)),
            Endpoint("PUT", member, self.join, admin, answers=gone, refuses=(400, 404, 507)),
            Endpoint("DELETE", member, self.leave, admin, answers=gone, refuses=(400, 404, 507)),
            Endpoint(
                *("POST", downlinks, self.order, admin),
                body=Command,
                answers={202: QueuedDownlink},
                refuses=(404, 409, 507),
            ),
            Endpoint("DELETE", downlinks, self.flush, admin, answers=gone, refuses=(404, 507)),
            Endpoint("DELETE", f"{downlinks}/{{id}}", self.cancel, admin, answers=gone, refuses=(404, 507)),
        ]

    async def all(self, request: Request) -> Response:
        """All multicast groups."""
        return json_response([self._view(group) for group in self._groups.all()])

    async def show(self, request: Request) -> Response:
        """A group with its members, orders and receipts; no keys."""
        group = self._group(request)
        view = msgspec.structs.asdict(self._view(group))
        return json_response(GroupPage(**view, receipts=receipts_of(self._hub, group.config.name)))

    async def add(self, request: Request) -> Response:
        """Make a multicast group."""
        body = await read_json(request, NewGroup)
        async with self._turn:
            if any(group.config.name == body.name for group in self._groups.all()):
                raise Problem(409, f"there is a group {body.name} already")
            try:
                config = _config(body)
                members = [DevEUI.parse(each) for each in body.members]
            except (ValueError, OrderError) as error:
                raise Problem(400, str(error)) from None
            return await self._add(body, config, members)

    async def _add(self, body: NewGroup, config: GroupConfig, members: list[DevEUI]) -> Response:
        registry = self._hub.registry
        wanted = WantedThing(f"group {config.name}", {"lora": {"group": config.name}}, body.channel_id)
        (made,) = await asyncio.to_thread(create_connected, registry, [wanted])
        config = replace(config, thing_id=made.thing.id, channel_id=made.channel_id)
        try:
            writes = self._groups.set_up(config, body.fcnt_down)
            for member in members:
                writes += self._groups.join(config.name, member)
            await self._hub.log.write(writes)
        except (OrderError, HubError) as error:
            own = [made.channel_id] if made.own_channel else []
            await asyncio.to_thread(remove_all, registry, [made.thing.id], own)
            if any(group.config.name == config.name for group in self._groups.all()):
                self._groups.remove(config.name, self._clock())
            if isinstance(error, HubError):
                raise
            raise Problem(400, str(error)) from None
        return json_response(AddedGroup(config.name, made.thing.id, made.key, made.channel_id), 201)

    async def change(self, request: Request) -> Response:
        """Change a group; what is left out stays."""
        body = await read_json(request, GroupChange)
        group = self._group(request)
        config = group.config
        try:
            if body.freq_hz is not msgspec.UNSET:
                config = replace(config, freq_hz=body.freq_hz)
            if body.dr is not msgspec.UNSET:
                config = replace(config, dr=body.dr)
            if body.gateways is not msgspec.UNSET:
                config = replace(config, gateways=_gateways(body.gateways))
            writes = self._groups.set_up(config)
        except (ValueError, OrderError) as error:
            raise Problem(400, str(error)) from None
        await self._hub.log.write(writes)
        self._downlinks.changed()
        return json_response(self._view(group))

    async def remove(self, request: Request) -> Response:
        """Remove a group."""
        config = self._group(request).config
        now = self._clock()
        self._downlinks.carry_out(self._groups.cancel(config.name, None, now, "the group was removed"))
        await self._hub.log.write(self._groups.remove(config.name, now).writes)
        if self._hub.registry.thing(config.thing_id) is not None:
            await asyncio.to_thread(self._hub.registry.remove_thing, config.thing_id)
        return Response(status_code=204)

    async def join(self, request: Request) -> Response:
        """Put a device into a group."""
        return await self._member(request, self._groups.join)

    async def leave(self, request: Request) -> Response:
        """Take a device out of a group."""
        return await self._member(request, self._groups.leave)

    async def _member(self, request: Request, act: Callable[[str, DevEUI], Writes]) -> Response:
        group = self._group(request)
        try:
            writes = act(group.config.name, DevEUI.parse(request.path_params["dev_eui"]))
        except ValueError as error:
            raise Problem(400, str(error)) from None
        except OrderError as error:
            raise Problem(404, str(error)) from None
        await self._hub.log.write(writes)
        self._downlinks.changed()
        return Response(status_code=204)

    # Downlinks

    async def order(self, request: Request) -> Response:
        """Order a downlink to all members."""
        name = self._group(request).config.name
        command = await read_json(request, Command)
        queued = await accepted(self._queue(name, command))
        await durable(self._downlinks, queued)
        return json_response({"id": queued.id}, 202)

    async def _queue(self, name: str, command: Command) -> Queued:
        now = self._clock()
        return await self._orderly.queue(of_command(Wanted(group=name), command, now.wall_ns / 1e9), now)

    async def cancel(self, request: Request) -> Response:
        """Cancel one order of a group."""
        return self._cancel(request, request.path_params["id"])

    async def flush(self, request: Request) -> Response:
        """Cancel all orders of a group."""
        return self._cancel(request, None)

    def _cancel(self, request: Request, order_id: str | None) -> Response:
        try:
            due = self._groups.cancel(self._group(request).config.name, order_id, self._clock())
        except OrderError as error:
            raise Problem(404, str(error)) from None
        self._downlinks.carry_out(due)
        return Response(status_code=204)

    # Values

    def _group(self, request: Request) -> Group:
        try:
            return self._groups.get(request.path_params["name"])
        except OrderError as error:
            raise Problem(404, str(error)) from None

    def _view(self, group: Group) -> GroupView:
        config = group.config
        return GroupView(
            config.name,
            str(config.mc_addr),
            config.device_class.value,
            config.freq_hz,
            config.dr,
            config.ping_period,
            [eui.hex() for eui in config.gateways],
            [eui.hex() for eui in self._groups.gateways_of(group)],
            [str(member) for member in sorted(group.members)],
            config.channel_id,
            config.thing_id,
            group.fcnt_down.next,
            group.sent,
            [_order(order) for order in group.orders],
        )


def _order(order: GroupOrder) -> GroupOrderView:
    return GroupOrderView(
        order.id,
        order.fport,
        order.payload.hex(),
        order.priority,
        order.fcnt,
        [eui.hex() for eui in order.left],
        order.sent,
        order.queued_ns / 1e9,
        None if order.expires_ns is None else order.expires_ns / 1e9,
        order.held,
    )


def _config(body: NewGroup) -> GroupConfig:
    """Raises ValueError and OrderError for what is missing or not hex."""
    mc_addr = DevAddr.parse(body.mc_addr)
    if body.mc_key and not (body.nwk_s_key or body.app_s_key):
        mc_key = AES128Key.parse(body.mc_key)
        nwk_s_key, app_s_key = mc_nwk_s_key(mc_key, mc_addr), mc_app_s_key(mc_key, mc_addr)
    elif body.nwk_s_key and body.app_s_key and not body.mc_key:
        nwk_s_key, app_s_key = AES128Key.parse(body.nwk_s_key), AES128Key.parse(body.app_s_key)
    else:
        raise ValueError("give mc_key, or nwk_s_key and app_s_key")
    if body.device_class not in ("B", "C"):
        raise ValueError(f"device_class is B or C, not {body.device_class!r}")
    if not 0 <= body.fcnt_down < 1 << 32:
        raise ValueError("fcnt_down is 0 to 4294967295")
    return GroupConfig(
        name=body.name,
        mc_addr=mc_addr,
        nwk_s_key=nwk_s_key,
        app_s_key=app_s_key,
        device_class=DeviceClass(body.device_class),
        freq_hz=body.freq_hz,
        dr=body.dr,
        ping_period=body.ping_period,
        gateways=_gateways(body.gateways),
    )


def _gateways(texts: list[str]) -> tuple[bytes, ...]:
    """Raises ValueError for what is no EUI."""
    found = []
    for text in texts:
        try:
            eui = bytes.fromhex(text)
        except ValueError:
            eui = b""
        if len(eui) != EUI_SIZE:
            raise ValueError(f"{text!r} is not the EUI of a gateway: 16 hex digits")
        found.append(eui)
    return tuple(found)
