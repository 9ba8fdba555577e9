"""Forks gateways to be killed: everything is imported once, a child opens what is on the disk and serves.

Orders are JSON lines: `start` answers with the child's process id, `wait` with its exit status. With `early` the
child acknowledges before the commit: the fault that the control must find.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from typing import Any

from torture.cut_victim import acknowledge_early

from gateway import app
from gateway.config import parse


def serve(order: dict[str, Any]) -> None:
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if order.get("early"):
        acknowledge_early()
    app.run(parse(order["config"]))


def main() -> None:
    gc.freeze()
    child = 0
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "start":
            child = os.fork()
            if not child:
                status = 1
                try:
                    serve(order)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            print(child, flush=True)
        else:
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
