"""What holds the codec process in, should a codec ever break out of its engine.

Resource limits come first and hold everywhere: no new descriptor, so no file and no socket; no byte written to a file;
no process; so much memory. A system-call filter (seccomp) comes second, where the kernel has it and the machine is one
we know: reading and writing the pipes, memory that is never executable, the clock, and nothing else.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from struct import pack

MEMORY_BYTES = 64 << 20  # beside what the process has when it begins: kept contexts, and one gone wild
CPU_S = 3600  # in all; the gateway takes a fresh process long before

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SIGKILL = 9
SECCOMP_MODE_FILTER = 2

# linux/audit.h; the numbers of the calls in the order of _ALLOWED, from the kernel's tables
_ALLOWED = (
    "read", "write", "close", "munmap", "brk", "rt_sigprocmask", "rt_sigreturn", "mremap", "madvise", "setitimer",
    "exit", "exit_group", "getrusage", "times", "sigaltstack", "futex", "clock_gettime", "gettimeofday", "getrandom",
    "restart_syscall",
)  # fmt: skip
_MACHINES = {
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 11, 12, 14, 15, 25, 28, 38, 60, 231, 98, 100, 131, 202, 228, 96, 318, 219),
        (9, 10),
    ),
    "aarch64": (
        0xC00000B7,
        (63, 64, 57, 215, 214, 135, 139, 216, 233, 103, 93, 94, 165, 153, 132, 98, 113, 169, 278, 128),
        (222, 226),
    ),
}  # fmt: skip

# linux/bpf_common.h, linux/seccomp.h
_LOAD_WORD, _JUMP_EQUAL, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # refuse: EPERM
_OF_NUMBER, _OF_MACHINE, _OF_PROTECTION = 0, 4, 32  # in struct seccomp_data; the third argument, low half
_PROT_EXEC = 4


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def enter() -> list[str]:
    """Give up all that a codec's process does not need. Returns what holds, in words for the page."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    holds = ["no files, sockets or processes (resource limits)", _limit_memory()]
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.chdir("/")
    os.umask(0o777)
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CPU, CPU_S),
    ):
        resource.setrlimit(what, (most, most))
    if _filter_calls(libc):
        holds.append("system calls are filtered (seccomp)")
    return holds


def _limit_memory() -> str:
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return f"at most {MEMORY_BYTES >> 20} MiB of memory"


def _filter_calls(libc: ctypes.CDLL) -> bool:
    """Whether the kernel took the filter."""
    machine = _MACHINES.get(platform.machine())
    if machine is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    code = program(*machine)
    held = _Program(len(code) // 8, code)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(held), 0, 0) == 0)


def program(machine: int, allowed: tuple[int, ...], mapping: tuple[int, ...]) -> bytes:
    """The filter: `allowed` calls pass, `mapping` ones unless they ask for executable memory, others get EPERM."""
    lines = [
        (_LOAD_WORD, 0, 0, _OF_MACHINE),
        (_JUMP_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _KILL),
        (_LOAD_WORD, 0, 0, _OF_NUMBER),
    ]
    rest = len(allowed) + len(mapping)
    for number in allowed:  # jumps count the lines between
        lines.append((_JUMP_EQUAL, rest + 3, 0, number))
        rest -= 1
    for number in mapping:
        lines.append((_JUMP_EQUAL, rest, 0, number))
        rest -= 1
    lines += [
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD_WORD, 0, 0, _OF_PROTECTION),
        (_JUMP_BITS, 0, 1, _PROT_EXEC),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(pack("<HBBI", *line) for line in lines)
