"""A process that writes to the log until it is killed; test_log_kill.py runs it.

Arguments: the log's path, "honest" or "hasty". On standard output, line by line: `start <first free number>`,
`seen <seq>` when a live listener has seen a message, `ack <seq> <body>` when it was acknowledged. A hasty victim
acknowledges as soon as the message has a number: the mistake that the test must be able to see.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid

from hub.log import Log
from hub.message import OCTET_STREAM, Message


def say(text: str) -> None:
    """One unbuffered line; it counts as said once the kernel has it."""
    os.write(1, text.encode() + b"\n")


async def publish(log: Log, hasty: bool) -> None:
    while True:
        body = uuid.uuid4().hex
        message = Message("channel", "", "publisher", "mqtt", OCTET_STREAM, body.encode(), 1)
        if hasty:
            (seq,) = log.post([message])
            say(f"ack {seq} {body}")
            await asyncio.sleep(0)
        else:
            (seq,) = await log.append([message])
            say(f"ack {seq} {body}")


async def main(path: str, manner: str) -> None:
    log = Log.open(path, commit_interval_s=0.02)
    log.on_append(lambda messages: [say(f"seen {message.seq}") for message in messages] and None)
    say("start")
    for _ in range(8):
        log.post([Message("channel", "", "publisher", "mqtt", OCTET_STREAM, b"posted", 1)])
    await asyncio.gather(*(publish(log, manner == "hasty") for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
