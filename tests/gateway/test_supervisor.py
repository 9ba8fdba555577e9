"""Processes run together: the first that fails is named, and stopping stops all of them."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from gateway.supervisor import ProcessFailed, Program, Supervisor


def forever(name: str) -> Program:
    return Program(name, [sys.executable, "-c", "import signal; signal.pause()"])


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_process_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    async def main() -> None:
        supervisor = Supervisor()
        words = tmp_path / "bad.log"
        await supervisor.start(forever("good"))
        await supervisor.start(
            Program("bad", [sys.executable, "-c", "import sys; print('why'); sys.exit(3)"], words)
        )
        with pytest.raises(ProcessFailed, match=r"process bad ended with code 3.*bad\.log"):
            await supervisor.failure()
        assert words.read_text() == "why\n"
        pid = supervisor.pid("good")
        assert alive(pid)
        await supervisor.stop()
        assert not alive(pid)

    asyncio.run(main())


def test_a_process_that_was_killed_is_said_in_words() -> None:
    async def main() -> None:
        supervisor = Supervisor()
        await supervisor.start(forever("one"))
        os.kill(supervisor.pid("one"), signal.SIGKILL)
        with pytest.raises(ProcessFailed, match="process one was ended by signal SIGKILL"):
            await supervisor.failure()
        await supervisor.stop()

    asyncio.run(main())


def test_a_process_that_is_stopped_on_purpose_is_no_failure() -> None:
    async def main() -> None:
        supervisor = Supervisor()
        await supervisor.start(forever("one"))
        await supervisor.start(forever("two"))
        await supervisor.stop("one")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(supervisor.failure(), 0.05)
        await supervisor.stop()

    asyncio.run(main())


def test_a_process_that_ignores_sigterm_is_killed(mocker) -> None:  # type: ignore[no-untyped-def]
    mocker.patch("gateway.supervisor.STOP_TIMEOUT_S", 0.2)

    async def main() -> None:
        supervisor = Supervisor()
        read, write = os.pipe()
        code = (
            "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            f"os.write({write}, b'x'); signal.pause()"
        )
        os.set_inheritable(write, True)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, pass_fds=[write])
        await asyncio.to_thread(os.read, read, 1)
        from gateway.supervisor import _end

        await _end(process, "stubborn")
        assert process.returncode == -9
        os.close(read)
        os.close(write)
        await supervisor.stop()

    asyncio.run(main())
