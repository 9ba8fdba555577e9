"""The gateway's REST API as the pages see it: typed answers and three kinds of failure.

Only this module knows paths and field names of the API. Unknown fields are ignored and missing ones have
defaults, so a page keeps working with a gateway that is a little older or newer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import httpx
import msgspec

from webui.errors import GatewayDown, Refused, SignedOut
from webui.findings import Finding, Findings
from webui.hardware import Hardware, Scan
from webui.joins import Joins
from webui.macs import Done, Mac, Steering
from webui.simple import SimpleNodes

PROOF_S = 30.0  # on a small machine a passphrase and two codes take their time
SCAN_S = 60.0  # a scan gives way to every frame that comes in
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # a thousand frames with values stay well below 1 MB
FRAMES_SHOWN = 100

T = TypeVar("T")


class PacketForwarder(msgspec.Struct, frozen=True):
    eui: str
    last_seen_s_ago: float | None = None
    rx_ok: int = 0
    tx: int = 0
    address: str = ""
    restarts: int = 0
    problem: str = ""  # a sentence, where somebody else speaks in its name


class Station(msgspec.Struct, frozen=True):
    """A concentrator that is connected with LoRa Basics Station."""

    eui: str = ""
    name: str = ""
    address: str = ""
    since: float | None = None  # unix seconds
    last_seen_s: float | None = None
    configured: bool = True
    station: str = ""  # version
    model: str = ""
    received: int = 0
    sent: int = 0
    malformed: int = 0
    round_trip_ms: float | None = None


class Module(msgspec.Struct, frozen=True):
    """One module as configured. A receiver hears one channel at one spreading factor at a time."""

    freq_hz: int
    sf: int
    role: str = "rxtx"  # rx tx rxtx


class RadioState(msgspec.Struct, frozen=True):
    connected: bool = False
    gateways: list[PacketForwarder] = []
    modules: list[Module] = []  # empty where another forwarder takes the radio's place
    warnings: list[str] = []  # sentences with the remedy


class StoreState(msgspec.Struct, frozen=True):
    messages: int = 0
    committed_seq: int = 0
    first_seq: int = 0
    bytes: int = 0
    free_bytes: int | None = None  # on the disk
    not_stored: int = 0  # messages refused since the gateway started, as a rule for want of room
    state: str = "ok"  # full, read-only: nothing new is kept, what is there can be read
    state_reason: str = ""  # a sentence, where it is not ok
    set_aside: list[str] = []  # files that were damaged when the gateway started
    lost_commits: int = 0  # at least so many groups of messages went with a damaged end of the log


class Upstream(msgspec.Struct, frozen=True):
    name: str
    state: str = ""
    detail: str = ""
    queued: int = 0
    delivered: int = 0
    rejected: int = 0  # refused for good by the broker
    rejected_detail: str = ""  # why the latest was
    missed: int = 0  # removed by retention before they could be delivered
    since: float | str | None = None  # unix seconds of the last change of state


class Source(msgspec.Struct, frozen=True):
    """A NATS stream that messages come from."""

    name: str
    state: str = ""
    detail: str = ""
    stored: int = 0
    behind: int = 0  # messages still to come
    passed_over_detail: str = ""  # why the latest was not taken
    since: float | str | None = None  # unix seconds of the last change of state


class Counters(msgspec.Struct, frozen=True):
    uplinks: int = 0
    joins: int = 0
    downlinks_sent: int = 0
    rejected: dict[str, int] = {}
    senml_records: int = 0

    @property
    def refused(self) -> int:
        return sum(self.rejected.values())

    @property
    def heard(self) -> int:
        return self.uplinks + self.joins + self.refused


class Status(msgspec.Struct, frozen=True):
    version: str = ""
    uptime_s: float = 0.0
    name: str = ""
    region: str = ""
    radio: RadioState = RadioState()
    station: list[Station] = []
    store: StoreState = StoreState()
    upstream: list[Upstream] = []
    nats: list[Source] = []
    counters: Counters = Counters()


class Device(msgspec.Struct, frozen=True):
    dev_eui: str
    name: str = ""
    activation: str = ""
    dev_addr: str | None = None
    codec: str = ""
    thing_id: str = ""
    channel_id: str = ""
    last_seen: float | None = None  # unix seconds
    rssi_dbm: float | None = None
    snr_db: float | None = None
    sf: int | None = None
    fcnt_up: int | None = None
    uplinks: int = 0
    battery: int | None = None  # DevStatusAns: 0 mains, 1..254 charge, 255 unknown
    margin_db: int | None = None  # DevStatusAns: how well the device hears us
    queued: int = 0  # downlinks that wait for its next uplink
    problem: str | None = None  # what keeps it from working, in the gateway's words
    join_eui: str | None = None
    profile: str = ""
    device_class: str = ""
    version: str = ""
    own_codec: bool = True
    expected_interval_s: int = 0  # between reports; 0: not known
    own_interval: bool = True
    missed: int = 0  # reports that should have come
    missed_since: float | None = None
    heard_share: float | None = None  # 0..1 of its last frames
    state: str = ""  # ok moved refused never_heard overdue low_battery
    attention: bool = False
    description: str = ""
    tags: dict[str, str] = {}
    registered: float | None = None
    exported: float | None = None  # its session was copied for another gateway
    moved: float | None = None  # another gateway serves it


class NewDevice(msgspec.Struct, frozen=True):
    dev_eui: str
    thing_id: str = ""
    thing_key: str = ""
    channel_id: str = ""
    warnings: list[str] = []


class Value(msgspec.Struct, frozen=True):
    """One decoded reading of a frame (SenML labels, RFC 8428, 4.3)."""

    n: str
    u: str | None = None
    v: float | None = None
    vs: str | None = None
    vb: bool | None = None


class Frame(msgspec.Struct, frozen=True):
    """A frame the gateway heard or sent; `n` counts them since the gateway started."""

    n: int
    time: float  # unix seconds
    kind: str  # join uplink downlink rejected
    dev_eui: str | None = None
    dev_addr: str | None = None
    name: str | None = None
    freq_hz: int | None = None
    datr: str | None = None
    rssi_dbm: float | None = None
    snr_db: float | None = None
    fcnt: int | None = None
    fport: int | None = None
    size: int | None = None
    reason: str | None = None
    detail: str | None = None
    values: list[Value] | None = None


class _Claim(msgspec.Struct, frozen=True):
    claimed: bool


class Issued(msgspec.Struct, frozen=True):
    """A sign-in. `device`, where not empty, makes this browser known to the account the next time."""

    token: str
    device: str = ""

    def __repr__(self) -> str:
        return "Issued(...)"


class _Frames(msgspec.Struct, frozen=True):
    frames: list[Frame]


class _Problem(msgspec.Struct, frozen=True):
    title: str = ""
    detail: str = ""
    error: str = ""
    totp: bool = False


class _Queued(msgspec.Struct, frozen=True):
    id: str | int = ""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The API, asked as nobody or (`signed_in`) as the holder of a user token.

    Every method raises GatewayDown, SignedOut or Refused and nothing else.
    """

    http: httpx.Client
    token: str = ""
    agent: str = ""  # the visitor's browser, by its own words; shown where he is signed in
    visitor: str = ""  # his address
    asked: Mapping[str, str] = field(default_factory=dict)  # headers of a question, see `check`
    pages_key: str = field(default="", repr=False)  # by which the gateway believes us that it is his
    # Another token for one that was refused, "" where there is none
    renew: Callable[[str], str] | None = None

    @classmethod
    def connect(cls, api_url: str, timeout_s: float, pages_key: str = "") -> Gateway:
        # Proxy variables of the environment must not lead the token away from this machine.
        timeout = httpx.Timeout(timeout_s, connect=min(2.0, timeout_s))
        return cls(httpx.Client(base_url=api_url, timeout=timeout, trust_env=False), pages_key=pages_key)

    def signed_in(self, token: str, renew: Callable[[str], str] | None = None) -> Gateway:
        return replace(self, token=token, renew=renew)

    def on_behalf(self, agent: str, visitor: str) -> Gateway:
        """As somebody with this browser at this address."""
        return replace(self, agent=agent[:256], visitor=visitor)

    def check(self, asked: Mapping[str, str]) -> Mapping[str, str]:
        """Who asks, by the headers of the answer, where a request may pass that a reverse proxy describes in `asked`.

        `Authorization` among them takes the place of the session's token.
        """
        return replace(self, asked=asked).answer("GET", "/auth/check").headers

    def tell_refused(self, resource: str, detail: str) -> None:
        """Have a form that the pages refused in the gateway's audit log."""
        if self.pages_key:
            self._send("POST", "/audit/pages", {"resource": resource[:256], "detail": detail})

    # -- identity

    def claimed(self) -> bool:
        return self._ask(_Claim, "GET", "/claim").claimed

    def claim(self, code: str, email: str, password: str) -> Issued:
        """Make the first user with the one-time code, signed in."""
        return self._ask(Issued, "POST", "/claim", {"code": code, "email": email, "password": password})

    def sign_in(self, email: str, password: str, code: str = "", device: str = "") -> Issued:
        """Raises Refused with `totp` where the account asks for a code, too."""
        login = {"email": email, "password": password, "code": code, "device": device}
        return decode(Issued, self._send("POST", "/tokens", login, timeout_s=PROOF_S))

    def sign_out(self) -> None:
        self._send("DELETE", "/tokens")

    # -- the gateway

    def status(self) -> Status:
        return self._ask(Status, "GET", "/gateway/status")

    # -- the radio

    def radio(self) -> Hardware:
        return self._ask(Hardware, "GET", "/gateway/radio")

    def scan(self, start_hz: int, stop_hz: int, step_hz: int) -> Scan:
        """Listen through a part of the band; the levels of each step."""
        wanted = {"start_hz": start_hz, "stop_hz": stop_hz, "step_hz": step_hz}
        answer = self._send("POST", "/gateway/radio/scan", wanted, timeout_s=SCAN_S, refused=(503,))
        return decode(Scan, answer)

    # -- devices

    def devices(self) -> list[Device]:
        return self._ask(list[Device], "GET", "/lorawan/devices")

    def device(self, dev_eui: str) -> Device:
        return self._ask(Device, "GET", f"/lorawan/devices/{dev_eui}")

    def add_device(self, fields: Mapping[str, str]) -> NewDevice:
        return self._ask(NewDevice, "POST", "/lorawan/devices", dict(fields))

    def remove_device(self, dev_eui: str) -> None:
        self._send("DELETE", f"/lorawan/devices/{dev_eui}")

    def queue_downlink(self, dev_eui: str, fport: int, payload: bytes, confirmed: bool) -> str:
        order = {"fport": fport, "payload": payload.hex(), "confirmed": confirmed}
        return str(self._ask(_Queued, "POST", f"/lorawan/devices/{dev_eui}/downlinks", order).id)

    # -- diagnosis

    def diagnosis(
        self,
        dev_eui: str = "",
        q: str = "",
        open_only: bool = False,
        since: float | None = None,
        limit: int = FRAMES_SHOWN,
    ) -> list[Finding]:
        """Of one device, or of all, newest first; of one the open ones first and the worst on top."""
        params = {"limit": str(limit), "dev_eui": dev_eui, "q": q, "open": "1" if open_only else ""}
        if since is not None:
            params["since"] = f"{since:.3f}"
        given = {name: value for name, value in params.items() if value}
        return decode(Findings, self._send("GET", "/lorawan/diagnosis", params=given)).findings

    # -- MAC commands

    def mac(self, dev_eui: str) -> Mac:
        return self._ask(Mac, "GET", f"/lorawan/devices/{dev_eui}/mac")

    def mac_action(self, dev_eui: str, body: dict[str, Any]) -> str:
        """What it comes to, in words."""
        return self._ask(Done, "POST", f"/lorawan/devices/{dev_eui}/mac", body).words

    def joins(self, dev_eui: str) -> Joins:
        return self._ask(Joins, "GET", f"/lorawan/devices/{dev_eui}/joins")

    def allow_nonce_restart(self, dev_eui: str, minutes: int) -> None:
        """0 takes the leave back."""
        self._send("POST", f"/lorawan/devices/{dev_eui}/joins", {"restart_minutes": minutes})

    def steering(self) -> Steering:
        return self._ask(Steering, "GET", "/lorawan/steering")

    # -- simple nodes

    def simple_nodes(self) -> SimpleNodes:
        return self._ask(SimpleNodes, "GET", "/rawlora/nodes")

    def add_simple_node(self, body: dict[str, Any]) -> None:
        self._send("POST", "/rawlora/nodes", body)

    def remove_simple_node(self, node_id: str) -> None:
        self._send("DELETE", f"/rawlora/nodes/{node_id}")

    def send_to_simple_node(self, node_id: str, payload: str) -> None:
        self._send("POST", f"/rawlora/nodes/{node_id}/downlinks", {"payload": payload})

    # -- frames

    def frames(self, after: int | None = None, limit: int = FRAMES_SHOWN, dev_eui: str = "") -> list[Frame]:
        """Newest first; with `after`, only frames with a greater number."""
        params: dict[str, str] = {"limit": str(limit)}
        if after is not None:
            params["after"] = str(after)
        if dev_eui:
            params["dev_eui"] = dev_eui
        found = decode(_Frames, self._send("GET", "/lorawan/frames", params=params)).frames
        return sorted(found, key=lambda frame: frame.n, reverse=True)

    # -- the wire

    def _ask(self, kind: type[T], method: str, path: str, body: dict[str, Any] | None = None) -> T:
        return decode(kind, self._send(method, path, body))

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        refused: tuple[int, ...] = (),
    ) -> bytes:
        """`refused`: codes above 499 with which the gateway tells of something behind it."""
        return self.answer(method, path, body, params, timeout_s, refused).content

    def answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        refused: tuple[int, ...] = (),
        content: bytes | None = None,
        content_type: str = "",
    ) -> httpx.Response:
        """A good answer, whole; `content` is sent as it is, in place of a JSON `body`."""
        headers = {"Accept": "application/json", **self.asked}
        if content is not None:
            headers["Content-Type"] = content_type
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if self.agent.isascii() and self.agent.isprintable() and self.agent:
            headers["User-Agent"] = self.agent
        if self.pages_key and self.visitor:
            headers["X-Fluxgate-Pages"] = f"{self.pages_key} {self.visitor}"
        try:
            answer = self.http.request(
                method,
                path,
                json=body,
                content=content,
                params=params,
                headers=headers,
                timeout=httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s,
            )
        except httpx.HTTPError as error:
            raise GatewayDown(type(error).__name__) from error
        if len(answer.content) > MAX_ANSWER_BYTES:
            raise GatewayDown(f"answer of {len(answer.content)} bytes")
        if (
            answer.status_code == 401
            and self.token
            and self.renew is not None
            and (token := self.renew(self.token))
        ):
            renewed = replace(self, token=token, renew=None)
            return renewed.answer(method, path, body, params, timeout_s, refused, content, content_type)
        if answer.status_code == 401 and self.token and 401 not in refused:
            raise SignedOut
        if answer.status_code in refused:
            raise _refusal(answer)
        if answer.status_code >= 500:
            raise GatewayDown(f"status {answer.status_code}")
        if answer.status_code >= 400:
            raise _refusal(answer)
        return answer


def decode(kind: type[T], body: bytes) -> T:
    """The API's JSON as one of its structs. Raises GatewayDown where it is something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise GatewayDown(f"answer not understood: {error}") from error


def _refusal(answer: httpx.Response) -> Refused:
    try:
        problem = msgspec.json.decode(answer.content, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem()
    title = problem.title or answer.reason_phrase
    return Refused(answer.status_code, title, problem.detail or problem.error or title, problem.totp)
