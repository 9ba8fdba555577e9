"""A process that books time on air is killed with SIGKILL at random moments; the next one must know all of it.

The victim books frames as fast as it can (`radio.ledger.Airtime` on a real folder) and writes a line to a pipe for each
one it was granted: that is what a module would have sent. Its own clock decides the rest. After each kill the
file is read as a restarted radio reads it, and must count at least what was granted since the folder was new.

Without what is written ahead (`--forgetful`) the same run must find something.

python tests/torture/airtime.py [--count KILLS] [--seed S] [--forgetful]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from radio.ledger import NAME, Airtime, Booking, Ledger, Moment  # noqa: E402
from radio.regions import SubBand  # noqa: E402
from radio.state import StateFolder  # noqa: E402

BAND = SubBand(868_000_000, 868_600_000, 0.9, 14.0)  # plenty, so that the ledger's writes are the limit
KILLS_A_FOLDER = 5
BOOT = "this one"


def now() -> Moment:
    return Moment(time.monotonic_ns(), BOOT)


def victim(folder: Path, seed: int, *, forgetful: bool) -> None:
    """Books until it is killed."""
    if forgetful:
        Ledger.contents = _forgetful(Ledger.contents)  # type: ignore[method-assign]
    source = random.Random(seed)
    book = Airtime([BAND], StateFolder(folder), now)
    book.start()
    sys.stdout.write("0\n")
    sys.stdout.flush()
    while True:
        airtime_us = source.choice((60_000, 400_000, 2_800_000, 9_000_000))
        start_ns = time.monotonic_ns()
        if book.try_reserve(BAND, start_ns, airtime_us, start_ns) is Booking.DONE:
            os.write(1, f"{airtime_us}\n".encode())
        if source.random() < 0.1:
            time.sleep(source.random() / 500)


def _forgetful(contents: Any) -> Any:
    def without(self: Ledger, moment: Moment, *, last: bool = False) -> dict[str, Any]:
        saved: dict[str, Any] = contents(self, moment, last=last)
        for row in saved["bands"]:
            row["ahead_us"] = 0
        return saved

    return without


def killed(folder: Path, seed: int, after_s: float, *, forgetful: bool) -> list[int]:
    """Run a victim, kill it so long after it began to book, and return what it was granted."""
    command = [sys.executable, __file__, "--victim", str(folder), "--seed", str(seed)]
    with subprocess.Popen(command + ["--forgetful"] * forgetful, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().decode()
    whole = rest[: rest.rfind("\n") + 1]
    return [int(line) for line in whole.split()]


def run(count: int, seed: int, *, forgetful: bool = False) -> dict[str, int]:
    """So many kills; counts them, what was granted, and where the file knew less."""
    source = random.Random(seed)
    found = {"kills": 0, "granted": 0, "forgotten": 0, "damaged": 0}
    while found["kills"] < count:
        with tempfile.TemporaryDirectory() as name:
            folder, granted_us = Path(name), 0
            for _ in range(KILLS_A_FOLDER):
                frames = killed(folder, source.randrange(1 << 30), source.random() / 10, forgetful=forgetful)
                granted_us += sum(frames)
                found["kills"] += 1
                found["granted"] += len(frames)
                saved = StateFolder(folder).read(NAME)
                found["damaged"] += saved is None
                known_us = Ledger([BAND], saved, now()).duty.used_us(BAND, time.monotonic_ns())
                found["forgotten"] += known_us < granted_us
                if found["kills"] >= count:
                    break
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--forgetful", action="store_true")
    parser.add_argument("--victim", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.victim is not None:
        victim(options.victim, options.seed, forgetful=options.forgetful)
    found = run(options.count, options.seed, forgetful=options.forgetful)
    print(", ".join(f"{value} {name}" for name, value in found.items()))
    bad = found["forgotten"] or found["damaged"]
    return int(not bad if options.forgetful else bool(bad))


if __name__ == "__main__":
    raise SystemExit(main())
