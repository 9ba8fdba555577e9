"""A GNSS receiver that fails in every way by turns, for hours of virtual time: is the time ever worse than said?

    python tests/torture/gnss_faults.py [hours] [--seed N] [--believe-all]

Fix lost, no sentences, no pulse, jumps of time and place, false dates, rolled-over weeks, noise on the wire, the
adapter pulled out: each at a random moment, for up to five minutes (what lies about the time for less than one: a lie
that stays is followed where no network time contradicts it). Every five seconds the gateway's UTC is compared with the
true one. It passes where the error is never beyond the bound that the time base gives, and where GPS time is told, it
is right to a millisecond. `--believe-all` takes out the judgement of what the receiver says; the same run must fail.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from hw_sim.board import Board  # noqa: E402
from hw_sim.gnss import GnssTable, SimGnss  # noqa: E402
from hw_sim.hosts import LocalHost, SimClock, SimLines  # noqa: E402
from hw_sim.kernel import Kernel  # noqa: E402
from hw_sim.uart import SimSerial  # noqa: E402
from radio.gnss.leap import GPS_EPOCH_S  # noqa: E402
from radio.gnss.owner import GnssOwner  # noqa: E402
from radio.gnss.receiver import Receiver  # noqa: E402
from radio.timebase import MS, SECOND_NS, TimeBase  # noqa: E402

S = SECOND_NS
LOOK_S = 5
LYING = ("jump_s", "spoof_days", "rollover")
KINDS = (*LYING, "fix_lost", "no_nmea", "no_pps", "jump_m", "noise", "unplug")
END = {
    "fix_lost": "fix",
    "no_nmea": "nmea",
    "no_pps": "pps",
    "unplug": "plug",
    "jump_m": "honest",
    **dict.fromkeys(LYING, "honest"),
}


class Run:
    """One receiver and the time that comes of it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.kernel = Kernel(seed)
        board = Board(self.kernel)
        host = LocalHost(self.kernel, board)
        table = GnssTable(
            cold_start_s=20, host_ppm=self.rng.uniform(-60, 60), delay_ms=self.rng.uniform(50, 600)
        )
        self.sim = SimGnss(self.kernel, table, board)
        self.time = TimeBase()
        self.receiver = Receiver(self.time, table.baud)
        owner = GnssOwner(
            self.receiver, SimSerial(host, self.sim.wire), SimClock(host), SimLines(host, {"pps": 18})
        )
        self.kernel.spawn(lambda: owner.run(threading.Event()), "gnss")
        self.looks = 0
        self.precise = 0
        self.beyond: list[str] = []

    def strike(self, kind: str) -> float:
        """Do it, and for how many seconds."""
        if kind == "noise":
            share = self.rng.uniform(0.1, 0.9)

            def damage(data: bytes) -> bytes:
                if self.rng.random() > share:
                    return data
                at = self.rng.randrange(len(data))
                return data[:at] + self.rng.randbytes(self.rng.randrange(4)) + data[at + 2 :]

            self.sim.wire.damage = damage
            return self.rng.uniform(5, 300)
        values = {"jump_s": self.rng.choice((-3600.0, -5.0, -1.0, 1.0, 2.0, 600.0)), "jump_m": 1e5}
        self.sim.fail(kind, values.get(kind, self.rng.choice((-30.0, -1.0, 1.0, 400.0))))
        return self.rng.uniform(5, 45 if kind in LYING else 300)

    def look(self, during: str) -> None:
        """Compare."""
        now_ns = self.kernel.now_ns
        utc_ns, bound_ns = self.time.utc_ns(now_ns), self.time.error_ns(now_ns)
        if utc_ns is None or bound_ns is None:
            return
        self.looks += 1
        true_ns = self.sim.utc_ns(now_ns)
        if abs(utc_ns - true_ns) > bound_ns:
            self.beyond.append(
                f"{during}: wrong by {(utc_ns - true_ns) / 1000:.0f} us, said {bound_ns / 1000:.0f} us"
            )
        gps_ms = self.time.gps_ms(now_ns)
        if gps_ms is not None:
            self.precise += 1
            true_ms = true_ns / MS - GPS_EPOCH_S * 1000 + 18_000
            if abs(gps_ms - true_ms) > 1.6:  # rounded
                self.beyond.append(f"{during}: GPS time wrong by {gps_ms - true_ms:.1f} ms")

    def pass_time(self, seconds: float, during: str) -> None:
        end_ns = self.kernel.now_ns + round(seconds * S)
        while self.kernel.now_ns < end_ns:
            self.kernel.run_until(min(end_ns, self.kernel.now_ns + LOOK_S * S))
            self.look(during)


def series(hours: float, seed: int) -> tuple[Run, Counter[str]]:
    """So many hours of faults, and how often each came."""
    run = Run(seed)
    run.pass_time(120, "start")
    faults: Counter[str] = Counter()
    while run.kernel.now_ns < hours * 3600 * S:
        kind = run.rng.choice(KINDS)
        faults[kind] += 1
        lasts_s = run.strike(kind)
        run.pass_time(lasts_s, kind)
        run.sim.wire.damage = None
        if kind in END:
            run.sim.fail(END[kind])
        run.pass_time(run.rng.uniform(1, 120), f"after {kind}")
    run.kernel.close()
    return run, faults


@contextlib.contextmanager
def credulous() -> Iterator[None]:
    """Whatever the receiver says is believed."""
    kept = Receiver._doubt
    Receiver._doubt = lambda *_args: ""  # type: ignore[method-assign]
    try:
        yield
    finally:
        Receiver._doubt = kept  # type: ignore[method-assign]


def main() -> int:
    """The exit code: 0 where all passed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("hours", nargs="?", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--believe-all", action="store_true")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with credulous() if args.believe_all else contextlib.nullcontext():
        run, faults = series(args.hours, args.seed)
    now_ns = run.kernel.now_ns
    print(f"{now_ns / 3600 / S:.1f} h, {faults.total()} faults: {dict(faults)}")
    print(
        f"looks {run.looks}, with GPS time {run.precise}, beyond the bound {len(run.beyond)} {run.beyond[:5]}"
    )
    print(f"time base {run.time.status(now_ns)}")
    print(f"receiver {run.receiver.status(now_ns)}")
    return int(bool(run.beyond))


if __name__ == "__main__":
    sys.exit(main())
