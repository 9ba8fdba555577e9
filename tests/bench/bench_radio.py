"""The radio in virtual time: punctual, nothing lost, nothing that grows; and beside the drivers of PyPI.

python tests/bench/bench_radio.py                 all of it, in short (about five minutes)
python tests/bench/bench_radio.py rx1 [frames]    error of RX1 answers, every spreading factor and bandwidth
python tests/bench/bench_radio.py deaf [answers]  how long a downlink deafens its module
python tests/bench/bench_radio.py saturation [s]  four receivers, frames back to back (3600: an hour)
python tests/bench/bench_radio.py soak [hours]    answered uplinks across the counter's wrap (24: a day)
python tests/bench/bench_radio.py drivers [n]     transfers, processor time and losses beside LoRaRF and rfm9x
python tests/bench/bench_radio.py sweep [frames]  how much of the traffic a CAD sweep hears
python tests/bench/bench_radio.py scan [s]        frames lost to scans of the band, one after another
"""

from __future__ import annotations

import gc
import logging
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.radio_drivers import DRIVERS, Direct, cpu_per_frame, side_by_side

from hw_sim import platforms
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.records import Fate, FrameRecord, ListeningSpan
from hw_sim.sx1276 import SX1276
from radio.boards import get_board
from radio.config import ModuleConfig, RadioConfig, Role
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.lora import LoRaModulation, airtime_us
from radio.service import Radio
from radio.sx127x.chip import Chip
from radio.sx127x.registers import Mode, Power, Settings

BOARD = "fluxgate-sim-4"
MS, S = 1_000_000, 1_000_000_000
SF7 = LoRaModulation(7, 125_000)
CHANNELS_HZ = (867_100_000, 868_100_000, 868_300_000, 868_500_000)
BANDWIDTHS = {
    125_000: ("EU868", 868_100_000, 868_100_000),
    250_000: ("EU868", 869_525_000, 869_525_000),
    500_000: ("US915", 904_600_000, 923_300_000),
}
WRAP_NS = 2**32 * 1000


class World:
    """Modules on one mast, a radio over them that may answer in RX1, and devices that send as events."""

    def __init__(
        self,
        modules: Sequence[ModuleConfig],
        region: str = "EU868",
        answers_on: Callable[[RxPacket], int | None] = lambda _rx: None,
        keep_frames: int = 1000,
    ) -> None:
        self.kernel = Kernel(seed=1)
        self.air = Air(self.kernel, AirSettings(fading_db=0.0, decode_width_db=0.01, keep_frames=keep_frames))
        self.chips = [SX1276(self.kernel, f"module{i}") for i in range(len(modules))]
        for chip in self.chips:
            self.air.add(chip, group="mast")
        self.host = LocalHost(self.kernel, Board.wired(self.kernel, get_board(BOARD), self.chips))
        self.heard: Counter[int] = Counter()  # good frames by module
        self.refused: Counter[str] = Counter()
        self._answers_on = answers_on
        self._devices = 0
        config = RadioConfig(
            modules=tuple(modules), gateway_eui=bytes(8), region=region, tx_lead_us=0, any_channel=True
        )
        self.radio = Radio(config, platforms.lockstep(self.host), self._on_frame)

    def start(self, at_ns: int = 0) -> None:
        self.kernel.run_until(at_ns)
        self.radio.start()
        self.kernel.await_clients(len(self.chips))

    def stop(self) -> None:
        self.radio.ask_to_stop()
        self.kernel.run_until(self.kernel.now_ns + 100 * MS)
        self.radio.stop()
        self.kernel.close()

    def device(self) -> Callable[[int, LoRaModulation, bytes], None]:
        """A device; what is returned sends a frame now."""
        self._devices += 1
        chip = SX1276(self.kernel, f"device{self._devices}")
        self.air.add(chip, x_m=200.0 + self._devices)
        node = Chip(Direct(chip))
        node.write(0x01, 0x80)

        def send(freq_hz: int, modulation: LoRaModulation, payload: bytes) -> None:
            node.write(0x01, 0x81)
            node.configure_transmit(Settings(freq_hz, modulation), Power(14), payload)
            node.command(Mode.TX)

        return send

    def module(self, index: int = 0) -> dict[str, object]:
        return self.radio.status(self.kernel.now_ns)["modules"][index]  # type: ignore[no-any-return]

    def _on_frame(self, rx: RxPacket, end_ns: int) -> None:
        self.heard[rx.chan] += rx.stat == 1
        freq_hz = self._answers_on(rx)
        if freq_hz is None:
            return
        at = (rx.tmst + 1_000_000) % 2**32
        order = TxPacket(at, False, freq_hz, 0, 14, rx.modulation, True, b"down" + rx.data[:8], True)
        error = self.radio.transmit(order, end_ns).error
        if error is not TxError.NONE:
            self.refused[str(error)] += 1


def rx1(frames: int = 5) -> None:
    print(f"RX1 start error, {frames} answers each, us (least to greatest):")
    for bw_hz, (region, up_hz, down_hz) in BANDWIDTHS.items():
        cells = []
        for sf in range(7, 13):
            mod = LoRaModulation(sf, bw_hz)
            world = World([ModuleConfig(BOARD, 0, up_hz, sf, bw_hz)], region, partial(_always, down_hz))
            world.start()
            send = world.device()
            for n in range(frames):
                at_ns = (1 + 120 * n) * S + n * 333
                world.kernel.at(at_ns, partial(send, up_hz, mod, bytes(23)))
            world.kernel.run_until((120 * frames) * S)
            ups, downs = _by_sender(world)
            assert len(downs) == len(ups) == frames, (len(ups), len(downs), world.refused)
            errors = [d.start_ns - u.end_ns - S for u, d in zip(ups, downs, strict=True)]
            cells.append(f"SF{sf} {min(errors) / 1000:+.1f}..{max(errors) / 1000:+.1f}")
            world.stop()
        print(f"  {bw_hz // 1000} kHz: {', '.join(cells)}")


def deaf(answers: int = 20) -> None:
    world = World([ModuleConfig(BOARD, 0)], answers_on=lambda rx: rx.freq_hz, keep_frames=2 * answers)
    spans: list[ListeningSpan] = []
    world.air.records.listening_observers.append(spans.append)
    world.start()
    send = world.device()
    for n in range(answers):
        world.kernel.at((1 + 10 * n) * S, lambda: send(868_100_000, SF7, bytes(23)))
    world.kernel.run_until((1 + 10 * answers) * S)
    _ups, downs = _by_sender(world)
    world.stop()
    extra = [
        after.start_ns - before.end_ns - down.airtime_ns
        for (before, after), down in zip(pairwise(spans), downs, strict=True)
    ]
    print(
        f"deaf for a downlink: its airtime and {min(extra) / MS:.2f} to {max(extra) / MS:.2f} ms, "
        f"{len(extra)} downlinks"
    )


def saturation(seconds: int = 60) -> None:
    world = World(
        [ModuleConfig(BOARD, i, hz, role=Role.RX) for i, hz in enumerate(CHANNELS_HZ)], keep_frames=8
    )
    world.start()
    step_ns = airtime_us(SF7, 17) * 1000 + MS
    end_ns = (seconds + 1) * S

    def keep_sending(freq_hz: int) -> None:
        send = world.device()

        def again() -> None:
            send(freq_hz, SF7, bytes(17))
            if world.kernel.now_ns + 2 * step_ns < end_ns:
                world.kernel.after(step_ns, again)

        world.kernel.at(S, again)

    for freq_hz in CHANNELS_HZ:
        keep_sending(freq_hz)
    rng = random.Random(1)
    other = world.device()
    for _ in range(seconds // 10):  # somebody else in between: the air destroys some
        at_ns, freq_hz = rng.randrange(S, end_ns - S), rng.choice(CHANNELS_HZ)
        world.kernel.at(at_ns, partial(other, freq_hz, SF7, bytes(40)))
    world.kernel.run_until(S)
    began, before = time.process_time(), sum(chip.transfers for chip in world.chips)
    world.kernel.run_until(end_ns)
    took_s = time.process_time() - began
    counters = world.air.records.counters
    received = sum(counters[chip.name][Fate.RECEIVED] for chip in world.chips)
    spoilt = sum(counters[chip.name][f] for chip in world.chips for f in (Fate.CRC_ERROR, Fate.COLLIDED))
    transfers = sum(chip.transfers for chip in world.chips) - before
    lost = received - sum(world.heard.values())
    sent = world.air.records.sent
    world.stop()
    print(
        f"{seconds} s back to back at SF7 on four radios: {sent} frames, {spoilt} destroyed by the air, "
        f"{received} left, {lost} lost; {transfers / received:.2f} SPI transfers a frame; {took_s:.0f} s of processor"
    )


def soak(hours: float = 1) -> None:
    """A TX module and three receivers, an uplink every 20 s, each answered; the counter wraps 10 minutes in."""
    channels = CHANNELS_HZ[1:]
    modules = [ModuleConfig(BOARD, i, hz, role=Role.RX) for i, hz in enumerate(channels)]
    errors: list[int] = []
    expected: dict[bytes, int] = {}
    world = World(
        [*modules, ModuleConfig(BOARD, 3, role=Role.TX)], answers_on=lambda rx: rx.freq_hz, keep_frames=8
    )

    def watch(frame: FrameRecord) -> None:
        if frame.sender.startswith("device"):
            expected[frame.payload[:8]] = frame.end_ns + S
        else:
            errors.append(frame.start_ns - expected.pop(frame.payload[4:12]))

    world.air.records.observe(watch)
    began_ns = WRAP_NS - 600 * S
    world.start(began_ns)
    send = world.device()
    rng = random.Random(1)
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        send(rng.choice(channels), SF7, count.to_bytes(8, "big") + bytes(15))
        world.kernel.after(20 * S + rng.randrange(S), again)

    world.kernel.after(S, again)
    rows = []
    parts = 6
    for part in range(1, parts + 1):
        world.kernel.run_until(began_ns + round(hours * 3600 * S * part / parts))
        gc.collect()
        rows.append((hours * part / parts, count, len(gc.get_objects()), _rss_kib()))
    received = sum(world.heard.values())
    world.kernel.run_until(world.kernel.now_ns + 3 * S)
    world.stop()
    print(
        f"{hours:g} h, wrap after 10 min: {count} uplinks, {received} heard, {len(errors)} answered, "
        f"refused {dict(world.refused)}, answers {min(errors) / 1000:+.1f}..{max(errors) / 1000:+.1f} us from RX1"
    )
    for hour, sent, objects, rss in rows:
        print(f"  after {hour:5.2f} h: {sent:6} uplinks, {objects} Python objects, {rss / 1024:.1f} MiB")


def sweep(frames: int = 100) -> None:
    """Frames of one spreading factor after the other, at random phases of the round, well above the noise."""
    print(f"sweep, {frames} frames of each spreading factor:")
    for sfs in ((7, 8), (7, 8, 9), (10, 11, 12)):
        world = World([ModuleConfig(BOARD, 0, CHANNELS_HZ[1], role=Role.RX, sweep_sfs=sfs)])
        world.start()
        send = world.device()
        rng = random.Random(1)
        t_ns = S
        for sf in sfs:
            mod = LoRaModulation(sf, 125_000)
            for _ in range(frames):
                world.kernel.at(t_ns, partial(send, CHANNELS_HZ[1], mod, bytes(13)))
                t_ns += airtime_us(mod, 13) * 1000 + rng.randrange(50 * MS, 150 * MS)
        world.kernel.run_until(t_ns + S)
        status: Any = world.module()["sweep"]
        cells = []
        for sf in sfs:
            seen = status["per_sf"][str(sf)]
            cells.append(
                f"SF{sf} {seen['frames'] / frames:.0%} (every {seen['every_us'] / 1000:.1f} ms, "
                f"{seen['detections']} detections)"
            )
        transfers = world.chips[0].transfers / (t_ns / S)
        world.stop()
        print(f"  {sfs}: {', '.join(cells)}; {transfers:.0f} SPI transfers a second")


def scan(seconds: int = 30) -> None:
    """A busy channel while the band is scanned again and again."""
    for sf in (7, 9):
        world = World([ModuleConfig(BOARD, 0, CHANNELS_HZ[1], sf)], keep_frames=8)
        world.start()
        send = world.device()
        rng = random.Random(sf)
        mod = LoRaModulation(sf, 125_000)
        end_ns = (seconds + 1) * S

        def again() -> None:
            send(CHANNELS_HZ[1], mod, bytes(13))  # noqa: B023
            pause_ns = airtime_us(mod, 13) * 1000 + rng.randrange(5, 90) * MS  # noqa: B023
            if world.kernel.now_ns + pause_ns < end_ns:  # noqa: B023
                world.kernel.after(pause_ns, again)  # noqa: B023

        world.kernel.at(S, again)
        results = []
        stop = threading.Event()

        def keep_scanning() -> None:
            while not stop.is_set():  # noqa: B023
                results.append(world.radio.scan(863_000_000, 870_000_000, 500_000, 5))  # noqa: B023

        thread = threading.Thread(target=keep_scanning)
        thread.start()
        while world.kernel.now_ns < end_ns + S or not results:
            world.kernel.run_until(world.kernel.now_ns + 10 * MS)
        stop.set()
        while thread.is_alive():
            world.kernel.run_until(world.kernel.now_ns + 10 * MS)
        sent, heard = world.air.records.sent, sum(world.heard.values())
        spared = sum(result["frames_spared"] for result in results)
        world.stop()
        print(
            f"SF{sf}: {len(results)} scans of 15 points, {sent - heard} of {sent} frames lost, {spared} waited for"
        )


def drivers(frames: int = 40) -> None:
    print("one frame that is ready (24 bytes, with RSSI and SNR), the same fake modules below:")
    costs = {name: cpu_per_frame(name, 2000) for name in DRIVERS}
    ours_s, _ = costs["Fluxgate"]
    for name, (seconds, transfers) in costs.items():
        print(f"  {name:8} {seconds * 1e6:6.1f} us ({seconds / ours_s:.1f} x), {transfers:.1f} transfers")
    print(f"the same {frames} frames close behind one another, each handed on to work that takes a while:")
    for work_ms in (5, 80, 160):
        cells = []
        for name in DRIVERS:
            heard = side_by_side(name, frames, work_ms)
            per_frame = heard.transfers / max(1, heard.handed_on)
            cells.append(
                f"{name} lost {heard.sent - heard.handed_on} of {heard.sent}, {per_frame:.1f} transfers a frame"
            )
        print(f"  work {work_ms} ms: {'; '.join(cells)}", flush=True)


def _always(freq_hz: int, _rx: RxPacket) -> int:
    return freq_hz


def _by_sender(world: World) -> tuple[list[FrameRecord], list[FrameRecord]]:
    frames = world.air.records.frames
    return (
        [f for f in frames if f.sender.startswith("device")],
        [f for f in frames if not f.sender.startswith("device")],
    )


def _rss_kib() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


PARTS: dict[str, Callable[..., None]] = {
    "rx1": rx1,
    "deaf": deaf,
    "saturation": saturation,
    "soak": soak,
    "drivers": drivers,
    "sweep": sweep,
    "scan": scan,
}


def main() -> None:
    logging.disable(logging.WARNING)  # of channels that no device joins on, once for each world
    if len(sys.argv) == 1:
        for part in PARTS.values():
            part()
        return
    chosen = PARTS.get(sys.argv[1])
    if chosen is None:
        raise SystemExit(__doc__)
    chosen(*(float(arg) if sys.argv[1] == "soak" else int(arg) for arg in sys.argv[2:]))


if __name__ == "__main__":
    main()
