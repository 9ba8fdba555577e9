"""RN2483 faults by the hundred in virtual time, judged by the air and by the module.

    python tests/torture/serial_faults.py [count] [--seed N] [--checks-off]

Damaged, lost and stray lines, resets with and without banner, hangs, unplugging, bits flipped on the way to the module:
each comes at a random moment of a busy quarter of a minute, most of whose frames are answered. It passes where nothing
was ever sent on a wrong frequency or with a wrong IQ, and where ten seconds after the end of each fault the module
listens again with the right settings. A payload that a flipped bit changes on its way cannot be noticed by anybody but
the device, whose MIC check refuses it; such frames are counted. `--checks-off` takes out what finds faults (pings,
reading back); the same run must then fail.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

import radio.rn2483  # noqa: E402
from hw_sim.air import Air  # noqa: E402
from hw_sim.board import Board  # noqa: E402
from hw_sim.hosts import LocalHost, SimClock  # noqa: E402
from hw_sim.kernel import Kernel  # noqa: E402
from hw_sim.links import AirSettings  # noqa: E402
from hw_sim.node_radio import NodeRadio  # noqa: E402
from hw_sim.rn2483 import SimRn2483  # noqa: E402
from hw_sim.sx1276 import SX1276  # noqa: E402
from hw_sim.uart import SimSerial  # noqa: E402
from radio.jit import MS, Transmission  # noqa: E402
from radio.lora import LoRaModulation  # noqa: E402
from radio.rn2483 import Rn2483  # noqa: E402
from radio.rn2483_owner import Rn2483Owner  # noqa: E402
from radio.rn2483_states import State, Tuning  # noqa: E402
from radio.sx127x.modem import Event, Received  # noqa: E402
from radio.sx127x.registers import Power, Settings  # noqa: E402

S = 1_000_000_000
HEARD_HZ, OTHER_HZ = 868_100_000, 869_525_000
MODULATION = LoRaModulation(9, 125_000)
LIMIT_NS = 10 * S
KINDS = ("garbage", "noise", "lost_line", "reset", "silent_reset", "hang", "unplug", "flipped_bits")


class Run:
    """One module under fire."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.kernel = Kernel(seed)
        self.air = Air(self.kernel, AirSettings(fading_db=0.0, decode_width_db=0.01))
        self.module = SimRn2483(self.kernel, "module")
        device = SX1276(self.kernel, "device")
        self.air.add(self.module.chip)
        self.air.add(device, x_m=300)
        self.device = NodeRadio(self.kernel, device)
        self.kernel.after(20 * MS, self.device.start)
        host = LocalHost(self.kernel, Board(self.kernel))
        self.core = Rn2483(Tuning(HEARD_HZ, MODULATION, iq_inverted=False, crc=True))
        self.ordered: Counter[tuple[int, bytes]] = Counter()
        self.heard = 0
        self.payloads_hurt = 0
        self.owner = Rn2483Owner(
            "module", self.core, SimSerial(host, self.module.wire), SimClock(host), self._on_event
        )
        self.stop = threading.Event()
        self.kernel.spawn(lambda: self.owner.run(self.stop), "module")
        self.kernel.run_until(2 * S)

    def _on_event(self, _owner: Rn2483Owner, event: Event) -> None:
        if isinstance(event, Received):
            self.heard += 1
            if self.rng.random() < 0.7:
                freq_hz = self.rng.choice((HEARD_HZ, OTHER_HZ))
                payload = self.rng.randbytes(self.rng.randrange(1, 60))
                self.ordered[freq_hz, payload] += 1
                tx = Transmission(1, event.end_ns + S, freq_hz, MODULATION, 14, True, False, 8, payload)
                self.owner.submit(tx, self.kernel.now_ns)

    @property
    def listens(self) -> bool:
        listening = self.module.chip.listening
        return (
            self.core.state is State.LISTENING
            and listening is not None
            and abs(listening.wave.freq_hz - HEARD_HZ) < 100
            and listening.wave.modulation == MODULATION
            and not listening.wave.iq_inverted
        )

    def strike(self, kind: str) -> int:
        """Do it, and how long it goes on."""
        if kind == "flipped_bits":
            share = self.rng.uniform(0.05, 0.5)

            def damage(data: bytes) -> bytes:
                if self.rng.random() > share:
                    return data
                hurt = bytearray(data)
                hurt[self.rng.randrange(len(hurt))] ^= 1 << self.rng.randrange(7)
                return bytes(hurt)

            self.module.wire.damage_orders = damage
            return self.rng.randrange(S // 10, 3 * S)
        counts = {"garbage": 6, "lost_line": 6, "noise": 3000}
        self.module.fail(kind, self.rng.randrange(1, counts.get(kind, 1) + 1))
        return self.rng.randrange(S // 10, 5 * S) if kind in ("hang", "unplug") else 0

    def mend(self, kind: str) -> None:
        self.module.wire.damage_orders = None
        if kind in ("hang", "unplug"):
            self.module.fail({"hang": "wake", "unplug": "plug"}[kind])

    def one(self, kind: str) -> int | None:
        """How long after its end the fault had been mended, in ns; None: not within the limit."""
        start_ns = self.kernel.now_ns
        settings = Settings(HEARD_HZ, MODULATION)
        for i in range(3):
            at_ns = start_ns + i * 2500 * MS + self.rng.randrange(500 * MS)
            payload = self.rng.randbytes(self.rng.randrange(1, 60))
            send: Callable[[], None] = lambda payload=payload: self.device.transmit(  # type: ignore[misc]  # noqa: E731
                settings, Power(14), payload, lambda _t: None
            )
            self.kernel.at(at_ns, send)
        self.kernel.run_until(start_ns + self.rng.randrange(7 * S))
        lasts_ns = self.strike(kind)
        self.kernel.run_until(self.kernel.now_ns + lasts_ns)
        self.mend(kind)
        ended_ns = self.kernel.now_ns
        first_ns: int | None = None  # of a quarter of a second in which it listened
        steady = 0
        while self.kernel.now_ns < ended_ns + LIMIT_NS:
            self.kernel.run_until(self.kernel.now_ns + 50 * MS)
            steady = steady + 1 if self.listens else 0
            if steady == 5 and first_ns is None:
                first_ns = self.kernel.now_ns - 250 * MS
        return first_ns - ended_ns if first_ns is not None and self.listens else None

    def wrong(self) -> list[str]:
        """What was on the air and had not been ordered like that."""
        found = []
        for frame in self.air.records.frames:
            if frame.sender != "module":
                continue
            freq_hz = min((HEARD_HZ, OTHER_HZ), key=lambda each: abs(each - frame.freq_hz))
            if abs(freq_hz - frame.freq_hz) > 200 or not frame.iq_inverted or frame.crc:
                found.append(f"{frame.freq_hz} Hz, IQ inverted {frame.iq_inverted}, CRC {frame.crc}")
            elif not self.ordered[freq_hz, frame.payload]:
                self.payloads_hurt += 1
        return found

    def close(self) -> None:
        self.stop.set()
        self.kernel.close()


@dataclass
class Outcome:
    """What a series of faults came to."""

    mended: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})  # ns
    problems: list[str] = field(default_factory=list)
    heard: int = 0
    sent: int = 0
    payloads_hurt: int = 0

    def add(self, run: Run) -> None:
        """A run that is over."""
        self.problems += run.wrong()
        self.heard += run.heard
        self.sent += run.core.counters.sent
        self.payloads_hurt += run.payloads_hurt
        run.close()


def series(count: int, seed: int) -> Outcome:
    """So many faults, kind by kind in turn."""
    outcome = Outcome()
    run = Run(seed)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        took_ns = run.one(kind)
        if took_ns is not None:
            outcome.mended[kind].append(took_ns)
            continue
        outcome.problems.append(
            f"fault {number}, {kind}: {run.core.state.name}, {run.owner.fault or 'no fault seen'}"
        )
        outcome.add(run)
        run = Run(seed + 1000 + number)  # a module beyond help tells nothing about the next fault
    outcome.add(run)
    return outcome


@contextlib.contextmanager
def checks_off() -> Iterator[None]:
    """Without what finds faults."""
    with (
        mock.patch.object(radio.rn2483, "PING_NS", 1 << 61),
        mock.patch.object(radio.rn2483, "is_value", return_value=lambda _reply: True),
    ):
        yield


def main() -> int:
    """The exit code: 0 where all passed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", nargs="?", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checks-off", action="store_true")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with checks_off() if args.checks_off else contextlib.nullcontext():
        outcome = series(args.count, args.seed)
    for kind, times in outcome.mended.items():
        if times:
            times.sort()
            median_s, worst_s = times[len(times) // 2] / S, times[-1] / S
            print(
                f"{kind:13} {len(times):4} mended: median {median_s:.1f} s after the fault's end, worst {worst_s:.1f} s"
            )
        else:
            print(f"{kind:13}    0 mended")
    print(
        f"frames heard {outcome.heard}, sent {outcome.sent}, payloads damaged on the wire {outcome.payloads_hurt}"
    )
    print(f"problems {len(outcome.problems)} {outcome.problems[:8]}")
    return int(bool(outcome.problems))


if __name__ == "__main__":
    sys.exit(main())
