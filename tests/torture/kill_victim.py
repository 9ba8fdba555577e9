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
from collections.abc import Sequence
from typing import Any

from gateway import app
from gateway.config import parse
from hub.log import Log, Write
from hub.message import Message


def acknowledge_early() -> None:
    """Say "durable" at once, for the life of this process."""
    take = Log.post

    def submit(self: Any, messages: Sequence[Message], also: Sequence[Write], done: Any) -> list[int]:
        seqs = take(self, messages, also)
        self._loop.call_soon(done, None)
        return seqs

    async def append(self: Any, messages: Sequence[Message], also: Sequence[Write] = ()) -> list[int]:
        return take(self, messages, also)

    Log.submit, Log.append = submit, append  # type: ignore[method-assign]


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
