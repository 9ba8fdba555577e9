"""The LoRaWAN server: a frame's MIC and payload, a whole `handle`, the way to the log with LPP and JavaScript, memory.

    python tests/bench/bench_lorawan.py [devices]

CPU time of one core, the best of some rounds, 10,000 devices in turn, so that no device's state is in the cache. Peers
in the same run: the same ciphers made anew for each frame, and npm's lora-packet in Node.js.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gateway.codecs.catalog import Codecs
from gateway.codecs.library import Body, Library
from gateway.core import opened_core
from gateway.devices.fields import Asked
from gateway.devices.records import Record
from gateway.devices.registration import Registration
from gateway.live import LiveFrames
from gateway.lorawan import frames
from gateway.lorawan.clock import Instant
from gateway.lorawan.crypto import UPLINK, SessionCrypto, SessionKeys
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.outcome import Uplink
from gateway.lorawan.profile import Profile, Version
from gateway.lorawan.publish import Publisher
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI
from gateway.settings import Config, GatewaySection
from gateway.uplinks import Uplinks
from hub.message import TimeQuality
from radio.gwmp import RxPacket
from radio.lora import LoRaModulation
from radio.regions import get_region

ROUNDS = 5
NODE_DIR = Path(__file__).resolve().parents[1] / "node"
GATEWAY = bytes.fromhex("aa555a0000000101")
LPP = bytes.fromhex("0167010d02685a0373277404020149")  # four values
SOURCE = """
function decodeUplink(input) {
  var b = input.bytes;
  return { data: {
    temperature: ((b[2] << 8) | b[3]) / 10, humidity: b[6] / 2,
    pressure: ((b[9] << 8) | b[10]) / 10, voltage: ((b[13] << 8) | b[14]) / 100
  }, warnings: [], errors: [] };
}
"""
PEER = """
const lora = require("lora-packet");
const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
const rows = input.map((row) => row.map((text) => Buffer.from(text, "hex")));
const all = () => {
  for (const [phy, nwk, app] of rows) {
    const packet = lora.fromWire(phy);
    if (!lora.verifyMIC(packet, nwk)) throw new Error("MIC");
    lora.decrypt(packet, app, nwk);
  }
};
all();
let best = 1e9;
for (let round = 0; round < 3; round++) {
  const began = process.cpuUsage();
  all();
  const spent = process.cpuUsage(began);
  best = Math.min(best, (spent.user + spent.system) / rows.length);
}
console.log(best);
"""
SF7 = LoRaModulation(7, 125_000)


class Fleet:
    """ABP devices, each with keys of its own."""

    def __init__(
        self, count: int, *, v1_1: bool = False, codec: str = "cayenne", first: int = 0, kept: bool = True
    ) -> None:
        rng = random.Random(1)
        self.v1_1, self.codec, self.first = v1_1, codec, first
        self.keys = [[AES128Key(rng.randbytes(16)) for _ in range(4)] for _ in range(count)]
        self.addresses = [DevAddr(0x01000000 + first + number) for number in range(count)]
        self.crypto = [self._crypto(number) for number in range(count)] if kept else []

    def session_keys(self, number: int) -> SessionKeys:
        keys = self.keys[number]
        return SessionKeys(*keys) if self.v1_1 else SessionKeys.of_1_0(*keys[:2])

    def _crypto(self, number: int) -> SessionCrypto:
        return SessionCrypto(self.addresses[number], self.session_keys(number), self.v1_1)

    def configs(self) -> list[DeviceConfig]:
        return [
            DeviceConfig(
                dev_eui=DevEUI(0x70B3D50000000000 + self.first + number),
                activation=Activation.ABP,
                dev_addr=address,
                nwk_s_key=keys[0],
                app_s_key=keys[3] if self.v1_1 else keys[1],
                codec=self.codec,
                profile="new" if self.v1_1 else "default",
                s_nwk_s_int_key=keys[1] if self.v1_1 else None,
                nwk_s_enc_key=keys[2] if self.v1_1 else None,
            )
            for number, (address, keys) in enumerate(zip(self.addresses, self.keys, strict=True))
        ]

    def round(self, fcnt: int) -> list[RxPacket]:
        """The next frame of each device."""
        crypto: Iterable[SessionCrypto] = self.crypto or map(self._crypto, range(len(self.addresses)))
        return [
            RxPacket(
                tmst=fcnt,
                freq_hz=868_100_000,
                chan=0,
                rfch=0,
                stat=1,
                modulation=SF7,
                rssi_dbm=-80,
                lsnr_db=7.5,
                data=frames.build_uplink(each, address, fcnt, fport=1, payload=LPP, tx_dr=5),
            )
            for each, address in zip(crypto, self.addresses, strict=True)
        ]


def best(what: Callable[[], int]) -> float:
    """Microseconds of CPU a piece; `what` returns how many it did."""
    found = []
    for _ in range(ROUNDS):
        gc.collect()
        start = time.process_time()
        count = what()
        found.append((time.process_time() - start) / count * 1e6)
    return min(found)


def ciphers(fleet: Fleet) -> None:
    """MIC and payload of one frame of each device in turn."""
    parsed = [frames.parse(rx.data) for rx in fleet.round(1)]
    data = [frame for frame in parsed if isinstance(frame, frames.DataFrame)]
    assert len(data) == len(parsed)

    def kept() -> int:
        for crypto, frame in zip(fleet.crypto, data, strict=True):
            assert hmac.compare_digest(crypto.uplink_mic(1, frame.message, 0, 5, 0), frame.mic)
            crypto.cipher(UPLINK, 1, 1, frame.frm_payload)
        return len(data)

    def anew() -> int:
        for number, frame in enumerate(data[:2000]):
            crypto = fleet._crypto(number)
            assert hmac.compare_digest(crypto.uplink_mic(1, frame.message, 0, 5, 0), frame.mic)
            crypto.cipher(UPLINK, 1, 1, frame.frm_payload)
        return 2000

    version = "1.1" if fleet.v1_1 else "1.0.x"
    ours, fresh = best(kept), best(anew)
    print(
        f"MIC and payload, {version}, kept contexts      {ours:8.2f} us a frame ({len(data):,} devices in turn)"
    )
    print(f"  the same, contexts made for each frame  {fresh:8.2f} us   {fresh / ours:6.1f} x")
    peer = None if fleet.v1_1 else lora_packet(fleet)
    if peer is not None:
        print(
            f"  npm lora-packet, Node.js                {peer:8.2f} us   {peer / ours:6.1f} x (parses as well)"
        )


def lora_packet(fleet: Fleet) -> float | None:
    """Microseconds a frame of npm's lora-packet, where it is there."""
    node = shutil.which("node")
    if node is None or not (NODE_DIR / "node_modules" / "lora-packet").exists():
        return None
    rows = [
        (rx.data.hex(), keys[0].value.hex(), keys[1].value.hex())
        for rx, keys in zip(fleet.round(1)[:2000], fleet.keys, strict=False)
    ]
    ran = subprocess.run(
        [node, "-e", PEER], cwd=NODE_DIR, input=json.dumps(rows), capture_output=True, text=True, check=True
    )
    return float(ran.stdout)


def handled(fleet: Fleet) -> None:
    """The whole of `NetworkServer.handle` for ordinary uplinks, without log and codec."""
    server = NetworkServer(
        get_region("EU868"),
        settings=Settings(status_interval_s=0, max_devices=100_000),
        profiles={"new": Profile("new", version=Version.V1_1)},
    )
    for config in fleet.configs():
        server.add_device(config)
    now = Instant(10**12, 1_770_000_000 * 10**9, TimeQuality.NTP)

    def take(rxs: Sequence[RxPacket]) -> int:
        for rx in rxs:
            assert type(server.handle(rx, GATEWAY, now)) is Uplink
        return len(rxs)

    take(fleet.round(0))
    found = []
    for fcnt in range(1, ROUNDS + 1):
        rxs = fleet.round(fcnt)
        gc.collect()
        start = time.process_time()
        take(rxs)
        found.append((time.process_time() - start) / len(rxs) * 1e6)
    version = "1.1" if fleet.v1_1 else "1.0.x"
    print(f"handle(), {version}                              {min(found):8.2f} us an uplink")


async def whole_way(count: int, rounds: int) -> None:
    """From a frame to the committed log, decoded, authorised, with what hears of it; CPU of both processes."""
    with tempfile.TemporaryDirectory(prefix="fluxgate-bench-") as folder:
        config = Config(gateway=GatewaySection(data_dir=f"{folder}/data", runtime_dir=folder))
        async with opened_core(config) as core:
            library = Library()
            codec, _writes = library.prepare("bench", Body(source=SOURCE), 0)
            library.take(codec)
            publisher = Publisher(core.hub.boot, Codecs(library))
            uplinks = Uplinks(
                core.server, publisher, core.hub.access, core.hub.log, LiveFrames(), core.clock.now
            )
            channel = core.hub.registry.create_channel("bench").id
            for first, name in ((0, "cayenne"), (count, "bench")):
                fleet = Fleet(count, codec=name, first=first)
                registration = Registration(core.hub, core.server, codecs=publisher.codecs.names)
                await registration.register_all([Asked(each, Record(), channel) for each in fleet.configs()])
                rates = [await _flood(uplinks, library, fleet, fcnt) for fcnt in range(rounds)]
                spent, there = min(rates[1:], key=sum)
                words = "Cayenne LPP" if name == "cayenne" else "JavaScript through the worker"
                print(
                    f"to the log, {words:30}{1e6 / (spent + there):8,.0f} uplinks/s a core "
                    f"({spent:.0f} us here, {there:.0f} us in the codec process)"
                )
            library.worker.close()


async def _flood(uplinks: Uplinks, library: Library, fleet: Fleet, fcnt: int) -> tuple[float, float]:
    """Microseconds of CPU an uplink, in this process with its log thread, and in the codec's."""
    rxs = fleet.round(fcnt)
    before, here = uplinks.counters.messages, time.process_time()
    there = _cpu_of(library.worker.pid)
    for at in range(0, len(rxs), 64):
        uplinks.receive(tuple(rxs[at : at + 64]), GATEWAY)
        await library.worker.drained()
        if at % 1024 == 0:
            await uplinks.log.flush()
    await uplinks.log.flush()
    assert uplinks.counters.messages - before == 2 * len(rxs), uplinks.counters
    spent = time.process_time() - here
    return spent / len(rxs) * 1e6, (_cpu_of(library.worker.pid) - there) / len(rxs) * 1e6


def _cpu_of(pid: int | None) -> float:
    """CPU seconds of the codec process, where it runs."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9 if pid else 0.0


def memory(count: int, *, v1_1: bool, traced: bool) -> None:
    """Bytes a device, in a process of its own: registered, and after its first uplink."""
    fleet = Fleet(count, v1_1=v1_1, kept=False)
    configs, rxs = fleet.configs(), fleet.round(0)
    gc.collect()
    if traced:
        tracemalloc.start()
    weigh = _traced if traced else _rss
    began = weigh()
    server = NetworkServer(
        get_region("EU868"),
        settings=Settings(status_interval_s=0, max_devices=100_000),
        profiles={"new": Profile("new", version=Version.V1_1)},
    )
    for config in configs:
        server.add_device(config)
    gc.collect()
    registered = (weigh() - began) / count
    now = Instant(10**12, 1_770_000_000 * 10**9, TimeQuality.NTP)
    for rx in rxs:
        server.handle(rx, GATEWAY, now)
    gc.collect()
    version = "1.1" if v1_1 else "1.0.x"
    what = "Python's objects" if traced else "of the process, OpenSSL's contexts with them"
    print(
        f"memory a device, {version}: {registered:,.0f} bytes registered, "
        f"{(weigh() - began) / count:,.0f} in use ({what})"
    )


def _traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    if sys.argv[1:2] == ["memory"]:
        memory(int(sys.argv[2]), v1_1=sys.argv[3] == "1.1", traced=sys.argv[4] == "traced")
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    began = time.process_time()
    for _ in range(3_000_000):
        pass
    calm = (time.process_time() - began) * 1000
    print(f"calibration: {calm:.0f} ms for 3 million turns of an empty loop; load {os.getloadavg()[0]:.1f}")
    for v1_1 in (False, True):
        ciphers(Fleet(count, v1_1=v1_1))
    for v1_1 in (False, True):
        handled(Fleet(count, v1_1=v1_1))
    asyncio.run(whole_way(min(count, 2000), 4))
    sys.stdout.flush()
    for version in ("1.0", "1.1"):
        for how in ("traced", "resident"):
            subprocess.run([sys.executable, __file__, "memory", str(count), version, how], check=True)


if __name__ == "__main__":
    main()
