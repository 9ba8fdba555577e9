"""All benchmarks of docs/performance.md, one after the other; names of some as arguments.

python tests/bench/run.py [path] [log] [bytes] [store] [mqtt] ...
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ORDER = (
    "path",
    "log",
    "bytes",
    "store",
    "mqtt",
    "http",
    "coap",
    "nats",
    "relay",
    "hw_sim",
    "radio",
    "station",
    "lorawan",
    "codecs",
    "policies",
    "revocation",
    "signin",
    "oauth",
    "certificates",
    "storm",
    "proxy",
)


def main() -> None:
    chosen = sys.argv[1:] or ORDER
    unknown = set(chosen) - set(ORDER)
    if unknown:
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ORDER)}")
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; calibration: ",
        end="",
    )
    print(f"{_loop_s() * 1000:.0f} ms for 3 million turns of an empty loop")
    for name in chosen:
        print(f"\n=== {name}", flush=True)
        subprocess.run([sys.executable, str(HERE / f"bench_{name}.py")], check=True)


def _loop_s() -> float:
    """What this machine gives today: shared machines differ from hour to hour."""
    start = time.process_time()
    for _ in range(3_000_000):
        pass
    return time.process_time() - start


if __name__ == "__main__":
    main()
