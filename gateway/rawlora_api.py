"""Simple nodes that are not LoRaWAN in the REST API: registering, listing, removing them, sending to them."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.codecs import CodecError
from gateway.rawlora.node import Header, Node, NodeError, NodeExists, UnknownNode
from gateway.rawlora.service import RawCommand, RawLora
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs


class NewNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /rawlora/nodes."""

    header: str = "radiohead"  # radiohead, byte, single
    address: int = 0  # of the node, one byte; of single unused
    place: int = 0  # of byte: which byte of the frame is the address, from 0
    freq_hz: int | None = None  # only on this frequency; single needs it
    own_address: int = 0  # what a RadioHead node calls the gateway
    acknowledge: bool = True  # answer RadioHead datagrams
    name: str = ""
    codec: str = "raw"
    channel_id: str = ""


class NodeView(msgspec.Struct):
    """A node with how it was heard last. None: not since the start."""

    id: str
    header: str
    address: int
    place: int
    freq_hz: int | None
    own_address: int
    acknowledge: bool
    name: str
    codec: str
    thing_id: str
    channel_id: str
    last_seen: float | None  # Unix seconds
    rssi_dbm: int | None
    snr_db: float | None
    sf: int | None
    readings: int


class StrangerView(msgspec.Struct):
    """A sender that is not registered. `first_bytes`: of its last frame, hex; RadioHead's TO, FROM, ID, FLAGS."""

    freq_hz: int
    first_bytes: str
    last: float
    rssi_dbm: int
    snr_db: float
    sf: int
    size: int
    count: int


class Nodes(msgspec.Struct):
    nodes: list[NodeView]
    heard: list[StrangerView]  # not registered
    counters: dict[str, int]


class AddedNode(msgspec.Struct):
    """What adding a node made; the thing's key is shown once."""

    id: str
    thing_id: str
    thing_key: str
    channel_id: str


class SentOrder(msgspec.Struct):
    """A frame that was handed to the radio."""

    id: str


class RawLoraApi:
    """The handlers; `endpoints()` is what the HTTP door mounts."""

    def __init__(self, raw: RawLora) -> None:
        self._raw = raw

    def endpoints(self) -> list[Endpoint]:
        """Their part of the route table; each demands a signed-in user."""
        return [
            Endpoint("GET", "/rawlora/nodes", self.nodes, Needs.USER, answers={200: Nodes}),
            Endpoint(
                *("POST", "/rawlora/nodes", self.add, Needs.MANAGER),
                body=NewNode,
                answers={201: AddedNode},
                refuses=(404, 409, 507),
            ),
            Endpoint(
                *("DELETE", "/rawlora/nodes/{node_id}", self.remove, Needs.MANAGER),
                answers={204: None},
                refuses=(404, 507),
            ),
            Endpoint(
                *("POST", "/rawlora/nodes/{node_id}/downlinks", self.send, Needs.MANAGER),
                body=RawCommand,
                answers={202: SentOrder},
                refuses=(404,),
            ),
        ]

    async def nodes(self, request: Request) -> Response:
        """Simple nodes, and what was heard of others."""
        receiver = self._raw.receiver
        heard = [
            StrangerView(
                freq_hz=each.freq_hz,
                first_bytes=each.first_bytes,
                last=each.last_ns / 1e9,
                rssi_dbm=each.rssi_dbm,
                snr_db=each.snr_db,
                sf=each.sf,
                size=each.size,
                count=each.count,
            )
            for each in receiver.strangers()
        ]
        known = [self._view(node) for node in receiver.nodes()]
        return json_response(msgspec.to_builtins(Nodes(known, heard, self._raw.counters())))

    async def add(self, request: Request) -> Response:
        """Register a simple node with a thing of its own."""
        body = await read_json(request, NewNode)
        try:
            node, key = await self._raw.register(_node(body), body.channel_id)
        except NodeExists as error:
            raise Problem(409, str(error)) from None
        except NodeError as error:
            raise Problem(400, str(error)) from None
        made: dict[str, Any] = {
            "id": node.id,
            "thing_id": node.thing_id,
            "thing_key": key,
            "channel_id": node.channel_id,
        }
        return json_response(made, 201, {"location": f"/rawlora/nodes/{node.id}"})

    async def remove(self, request: Request) -> Response:
        """Forget a simple node."""
        try:
            await self._raw.unregister(request.path_params["node_id"])
        except UnknownNode as error:
            raise Problem(404, str(error)) from None
        return Response(status_code=204)

    async def send(self, request: Request) -> Response:
        """Send to a simple node, at once."""
        command = await read_json(request, RawCommand)
        try:
            order_id = await self._raw.order(request.path_params["node_id"], command)
        except UnknownNode as error:
            raise Problem(404, str(error)) from None
        except (NodeError, CodecError) as error:
            raise Problem(400, str(error)) from None
        return json_response({"id": order_id}, 202)

    def _view(self, node: Node) -> NodeView:
        state = self._raw.receiver.state(node.id)
        rx = state.last
        return NodeView(
            id=node.id,
            header=node.header.value,
            address=node.address,
            place=node.place,
            freq_hz=node.freq_hz,
            own_address=node.own_address,
            acknowledge=node.acknowledge,
            name=node.name,
            codec=node.codec,
            thing_id=node.thing_id,
            channel_id=node.channel_id,
            last_seen=None if state.last_seen_ns is None else state.last_seen_ns / 1e9,
            rssi_dbm=None if rx is None else rx.rssi_dbm,
            snr_db=None if rx is None else rx.lsnr_db,
            sf=None if rx is None else rx.modulation.sf,
            readings=state.readings,
        )


def _node(body: NewNode) -> Node:
    """Raises NodeError for what does not fit."""
    try:
        header = Header(body.header)
    except ValueError:
        raise NodeError(f"header is one of {', '.join(Header)}, not {body.header[:40]!r}") from None
    return Node(
        header=header,
        address=body.address,
        place=body.place,
        freq_hz=body.freq_hz,
        own_address=body.own_address,
        acknowledge=body.acknowledge,
        name=body.name,
        codec=body.codec,
    )
