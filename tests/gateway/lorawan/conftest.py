"""A pure device half, a network half with a database in memory, and an independent judge of frames."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from gateway.lorawan import frames, mac, store
from gateway.lorawan.clock import Instant
from gateway.lorawan.crypto import (
    SessionCrypto,
    SessionKeys,
    derive_session_keys,
    derive_session_keys_1_1,
    join_server_keys,
)
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.profile import Profile, Version
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from gateway.migrations import MIGRATIONS
from hub.message import TimeQuality
from radio.gwmp import RxPacket, TxError
from radio.lora import LoRaModulation
from radio.regions import get_region

NODE_DIR = Path(__file__).parents[2] / "node"
GATEWAY = bytes.fromhex("aa555a0000000101")
SECOND = 10**9
PROFILE_1_1 = Profile("v1.1", version=Version.V1_1)


class LoraPacket:
    """The npm package lora-packet in a child process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, op: str, **args: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        plain = {key: value.hex() if isinstance(value, bytes) else value for key, value in args.items()}
        self._process.stdin.write(json.dumps({"op": op, **plain}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer


@pytest.fixture(scope="session")
def lora_packet():
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node, "node is missing: the independent judge of frames needs it"
    assert npm, "npm is missing: the independent judge of frames comes from it"
    wanted = json.loads((NODE_DIR / "package.json").read_text())["dependencies"]["lora-packet"]
    installed = NODE_DIR / "node_modules" / "lora-packet" / "package.json"
    if not installed.exists() or json.loads(installed.read_text())["version"] != wanted:
        subprocess.run(
            [npm, "install", "--no-package-lock", "--no-audit", "--no-fund"],
            cwd=NODE_DIR,
            check=True,
            capture_output=True,
        )
    with subprocess.Popen(
        [node, "lora_packet.js"], cwd=NODE_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield LoraPacket(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=10)


class Node:
    """The device's half of LoRaWAN 1.0.x, pure: builds what it sends, checks what it hears."""

    def __init__(self, dev_eui: int = 0x70B3D57ED0000001) -> None:
        self.dev_eui = DevEUI(dev_eui)
        self.join_eui = JoinEUI(0x70B3D57ED00000DC)
        self.app_key = AES128Key(random.Random(dev_eui).randbytes(16))
        self.dev_nonce = 0
        self.last_join_nonce = 0
        self.dev_addr = DevAddr(0)
        self.crypto: SessionCrypto | None = None
        self.keys: SessionKeys | None = None
        self.fcnt_up = 0
        self.fcnt_down: int | None = None
        self.accept: frames.JoinAccept | None = None

    @property
    def config(self) -> DeviceConfig:
        return DeviceConfig(
            dev_eui=self.dev_eui,
            name="shed",
            join_eui=self.join_eui,
            app_key=self.app_key,
            thing_id="6d0b2d2c-5f0e-4a7e-9b57-3f7a5a1d0001",
            channel_id="6d0b2d2c-5f0e-4a7e-9b57-3f7a5a1d0002",
        )

    def abp(self, dev_addr: int) -> DeviceConfig:
        """Give the device a session of its own."""
        self.dev_addr = DevAddr(dev_addr)
        rng = random.Random(dev_addr)
        nwk_s_key, app_s_key = AES128Key(rng.randbytes(16)), AES128Key(rng.randbytes(16))
        self._begin(SessionKeys.of_1_0(nwk_s_key, app_s_key))
        return DeviceConfig(
            dev_eui=self.dev_eui,
            activation=Activation.ABP,
            dev_addr=self.dev_addr,
            nwk_s_key=nwk_s_key,
            app_s_key=app_s_key,
        )

    def join_request(self) -> bytes:
        phy = frames.build_join_request(self.app_key, self.join_eui, self.dev_eui, self.dev_nonce)
        self.dev_nonce += 1
        return phy

    def hear_accept(self, phy: bytes) -> frames.JoinAccept:
        accept = frames.open_join_accept(self.app_key, phy)
        assert accept.join_nonce > self.last_join_nonce, "a 1.0.4 device ignores this join-accept"
        self.last_join_nonce = accept.join_nonce
        self.accept = accept
        self.dev_addr = accept.dev_addr
        self.keys = derive_session_keys(self.app_key, accept.join_nonce, accept.net_id, self.dev_nonce - 1)
        self._begin(self.keys)
        return accept

    def _begin(self, keys: SessionKeys) -> None:
        self.keys = keys
        self.crypto = SessionCrypto(self.dev_addr, keys)
        self.fcnt_up, self.fcnt_down = 0, None

    def uplink(self, payload: bytes = b"\x01\x67\x01\x10", *, fport: int | None = 1, **flags: Any) -> bytes:
        assert self.crypto is not None
        phy = frames.build_uplink(
            self.crypto,
            self.dev_addr,
            self.fcnt_up,
            fport=fport,
            payload=payload if fport is not None else b"",
            **flags,
        )
        self.fcnt_up += 1
        return phy

    def hear(self, downlink: Any) -> tuple[frames.DataFrame, bytes]:
        """Check both windows' frame and take it; each must have a counter of its own."""
        assert self.crypto is not None
        assert len({packet.data for packet in downlink.windows}) == 1
        frame, fcnt, clear = frames.open_downlink(
            self.crypto, self.dev_addr, self.fcnt_down, downlink.windows[0].data
        )
        self.fcnt_down = fcnt
        return frame, clear

    def commands(self, downlink: Any) -> tuple[mac.Command, ...]:
        frame, _ = self.hear(downlink)
        return mac.parse_downlink(frame.fopts)


class Node11(Node):
    """The device's half of LoRaWAN 1.1: two root keys, four session keys, two downlink counters, rejoin-requests.

    `tx_dr` and `tx_ch` are those that `Network.hear` takes a frame for by default: SF7 on 868.1 MHz.
    """

    def __init__(self, dev_eui: int = 0x70B3D57ED0000011) -> None:
        super().__init__(dev_eui)
        self.nwk_key = AES128Key(random.Random(dev_eui + 1).randbytes(16))
        self.js_int_key, self.js_enc_key = join_server_keys(self.nwk_key, self.dev_eui)
        self.fcnt_down_app: int | None = None
        self.rj_count0 = self.rj_count1 = 0
        self.confirmed_down = 0  # FCntDown that the next uplink with ACK is for

    @property
    def config(self) -> DeviceConfig:
        return dataclasses.replace(super().config, nwk_key=self.nwk_key, profile=PROFILE_1_1.name)

    def join_request(self) -> bytes:
        phy = frames.build_join_request(self.nwk_key, self.join_eui, self.dev_eui, self.dev_nonce)
        self.dev_nonce += 1
        return phy

    def rejoin_request(self, kind: int, net_id: int = 0) -> bytes:
        assert self.keys is not None
        key = self.js_int_key if kind == 1 else self.keys.s_nwk_s_int
        count = self.rj_count1 if kind == 1 else self.rj_count0
        if kind == 1:
            self.rj_count1 += 1
        else:
            self.rj_count0 += 1
        return frames.build_rejoin_request(
            key, kind, self.dev_eui, count, net_id=net_id, join_eui=self.join_eui
        )

    def hear_accept(self, phy: bytes, kind: int | None = None) -> frames.JoinAccept:
        """`kind`: of the rejoin-request that was sent; None: a join-request was."""
        counts = (self.rj_count0, self.rj_count1, self.rj_count0)
        nonce = self.dev_nonce - 1 if kind is None else counts[kind] - 1
        accept = frames.open_join_accept(
            self.nwk_key if kind is None else self.js_enc_key,
            phy,
            js_int_key=self.js_int_key,
            request_type=frames.JoinReqType.JOIN if kind is None else kind,
            join_eui=self.join_eui,
            dev_nonce=nonce,
        )
        assert accept.join_nonce > self.last_join_nonce, "a 1.1 device ignores this join-accept"
        self.last_join_nonce = accept.join_nonce
        self.accept = accept
        self.dev_addr = accept.dev_addr
        if accept.opt_neg:
            self._begin(
                derive_session_keys_1_1(self.nwk_key, self.app_key, accept.join_nonce, self.join_eui, nonce),
                v1_1=True,
            )
        else:
            self._begin(derive_session_keys(self.nwk_key, accept.join_nonce, accept.net_id, nonce))
        self.rj_count0 = 0
        return accept

    def abp(self, dev_addr: int) -> DeviceConfig:
        config = dataclasses.replace(super().abp(dev_addr), profile=PROFILE_1_1.name)
        rng = random.Random(dev_addr + 1)
        config = dataclasses.replace(
            config,
            s_nwk_s_int_key=AES128Key(rng.randbytes(16)),
            nwk_s_enc_key=AES128Key(rng.randbytes(16)),
        )
        self._begin(config.abp_keys[0], v1_1=True)
        return config

    def _begin(self, keys: SessionKeys, v1_1: bool = False) -> None:
        super()._begin(keys)
        self.crypto = SessionCrypto(self.dev_addr, keys, v1_1)
        self.fcnt_down_app = None

    def uplink(self, payload: bytes = b"\x01\x67\x01\x10", *, fport: int | None = 1, **flags: Any) -> bytes:
        signed = {"tx_dr": 5, "tx_ch": 0, "conf_fcnt": self.confirmed_down}
        return super().uplink(payload, fport=fport, **{**signed, **flags})

    def hear(self, downlink: Any) -> tuple[frames.DataFrame, bytes]:
        """Each of the two counters must rise; an ACK is for the last uplink."""
        assert self.crypto is not None
        frame, fcnt, clear = frames.open_downlink(
            self.crypto,
            self.dev_addr,
            self.fcnt_down,
            downlink.windows[0].data,
            last_app_fcnt=self.fcnt_down_app,
            conf_fcnt=self.fcnt_up - 1,
        )
        if frame.fport and self.crypto.v1_1:
            self.fcnt_down_app = fcnt
        else:
            self.fcnt_down = fcnt
        if frame.confirmed:
            self.confirmed_down = fcnt
        return frame, clear


class Network:
    """A server with its store in memory; time passes when told to."""

    def __init__(
        self,
        db: sqlite3.Connection,
        region: str = "EU868",
        *,
        writer: store.Store | None = None,
        profiles: tuple[Profile, ...] = (PROFILE_1_1,),
        **settings: Any,
    ) -> None:
        self.profiles = {profile.name: profile for profile in profiles}
        self.region = get_region(region)
        self.settings = Settings(**{"status_interval_s": 0, **settings})
        self.writer = writer or store.Store()
        self.db = db
        for migration in MIGRATIONS:
            for statement in migration.statements:
                self.db.execute(statement)
        self.mono_ns = 1000 * SECOND
        self.starts = 0
        self.server = self._start()

    def _start(self) -> NetworkServer:
        stored = self.writer.load(self.db)
        assert stored.unreadable == []
        self.starts += 1
        return NetworkServer(
            self.region,
            settings=self.settings,
            writer=self.writer,
            stored=stored,
            rng=random.Random(self.starts),
            profiles=self.profiles,
        )

    def restart(self) -> None:
        """Killed and started again: only what was committed is left, and the monotonic clock begins anew."""
        self.mono_ns = 5 * SECOND
        self.server = self._start()

    def commit(self, writes: list[tuple[str, tuple[Any, ...]]]) -> None:
        for sql, parameters in writes:
            self.db.execute(sql, parameters)

    def now(self) -> Instant:
        return Instant(self.mono_ns, 1_760_000_000 * SECOND + self.mono_ns, TimeQuality.NTP)

    def add(self, config: DeviceConfig) -> None:
        self.commit(self.server.add_device(config))

    def rx(
        self,
        phy: bytes,
        *,
        sf: int = 7,
        snr_db: float = 7.0,
        freq_hz: int = 868_100_000,
        bw_hz: int = 125_000,
    ) -> RxPacket:
        return RxPacket(
            tmst=self.mono_ns // 1000 % 2**32,
            freq_hz=freq_hz,
            chan=0,
            rfch=0,
            stat=1,
            modulation=LoRaModulation(sf, bw_hz),
            rssi_dbm=-87,
            lsnr_db=snr_db,
            data=phy,
        )

    def hear(self, phy: bytes, *, after_s: float = 10, commit: bool = True, **radio: Any) -> Any:
        """A frame comes in `after_s` after the last; its outcome, whose writes are committed."""
        self.mono_ns += int(after_s * SECOND)
        outcome = self.server.handle(self.rx(phy, **radio), GATEWAY, self.now())
        if commit:
            self.commit(outcome.writes)
        return outcome

    def queue(self, node: Node, payload: bytes = b"on", fport: int = 10, **how: Any) -> str:
        """An order, committed; its id."""
        queued = self.server.queue_downlink(node.dev_eui, fport, payload, now=self.now(), **how)
        self.commit(queued.writes)
        return queued.id

    def wait(self, seconds: float, most: int | None = None) -> list[tuple[float, Any]]:
        """Let time pass: the downlinks that come due, with the second they leave at, from now.

        With `most`, only until so many have left. What was told meanwhile is in `receipts`.
        """
        begun, end = self.mono_ns, self.mono_ns + int(seconds * SECOND)
        left: list[tuple[float, Any]] = []
        self.receipts: list[Any] = []
        while (due_ns := self.server.next_due_ns(self.now())) <= end:
            self.mono_ns = max(self.mono_ns, due_ns)
            due = self.server.due(self.now())
            self.commit(due.writes)
            self.receipts += due.receipts
            left += [((self.mono_ns - begun) / SECOND, downlink) for downlink in due.downlinks]
            if most is not None and len(left) >= most:
                return left
        self.mono_ns = end
        return left

    def sent(self, downlink: Any, window: int = 1) -> Any:
        """A gateway has taken a downlink; what follows from that, committed."""
        due = self.server.sent(downlink, window, self.now())
        self.commit(due.writes)
        return due

    def failed(self, downlink: Any, error: TxError = TxError.TOO_LATE) -> Any:
        """No gateway has taken a downlink; what follows from that, committed."""
        due = self.server.failed(downlink, error, self.now())
        self.commit(due.writes)
        return due

    def join(self, node: Node, **radio: Any) -> frames.JoinAccept:
        joined = self.hear(node.join_request(), **radio)
        return node.hear_accept(joined.downlink.windows[0].data)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def node_1_1() -> Node11:
    return Node11()


@pytest.fixture
def joined_1_1(network: Network, node_1_1: Node11) -> tuple[Network, Node11]:
    """As `joined`, in the way of LoRaWAN 1.1."""
    network.add(node_1_1.config)
    network.join(node_1_1)
    network.hear(node_1_1.uplink())
    return network, node_1_1


@pytest.fixture
def network(make_network: Callable[..., Network]) -> Network:
    return make_network()


@pytest.fixture
def make_node() -> type[Node]:
    return Node


@pytest.fixture
def make_network() -> Iterator[Callable[..., Network]]:
    with ExitStack() as open_databases:

        def make(*args: Any, **options: Any) -> Network:
            return Network(
                open_databases.enter_context(closing(sqlite3.connect(":memory:"))), *args, **options
            )

        yield make


@pytest.fixture
def joined(network: Network, node: Node) -> tuple[Network, Node]:
    """A network and a device that has joined it and said so."""
    network.add(node.config)
    network.join(node)
    network.hear(node.uplink())
    return network, node
