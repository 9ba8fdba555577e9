"""A GNSS receiver: NMEA sentences at 9600 baud on a wire, and a pulse at the start of each second on a board's line.

Its seconds are true ones; the gateway's clock, which is the kernel's, runs fast by `host_ppm` beside them. `fail` does
to it what happens to receivers: no fix, a jump, a false date, a week number that rolled over, silence, a lost pulse.
"""

import datetime
import math
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from hw_sim.board import Board
from hw_sim.errors import KernelError
from hw_sim.kernel import Kernel
from hw_sim.uart import Wire
from radio.gnss.config import GnssConfig

SECOND_NS: Final = 1_000_000_000
MS: Final = 1_000_000
US: Final = 1_000
UNIX_EPOCH: Final = datetime.datetime(1970, 1, 1)
POLE_M: Final = 111_320.0
PULSE_NS: Final = 100 * MS
STAMP_US: Final = 3.0  # what a kernel takes to stamp an edge at best
WEEKS_OF_TEN_BITS: Final = datetime.timedelta(weeks=1024)
_TIMELS_POLL: Final = b"\xb5\x62\x01\x26\x00\x00"


class GnssTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gateway.gnss]` of a scenario."""

    port: Annotated[str, Meta(description="its name, as the radio's setting `port`")] = "sim-gnss"
    baud: Literal[4800, 9600, 38400, 115200] = 9600
    pps_line: Annotated[int | None, Meta(description="BCM number of the pulse; unset: none")] = 18
    start: Annotated[str, Meta(description="UTC at the beginning, ISO 8601")] = "2026-03-01T12:00:00"
    latitude: Annotated[float, Meta(ge=-90, le=90)] = 52.52
    longitude: Annotated[float, Meta(ge=-180, le=180)] = 13.405
    altitude_m: float = 34.0
    cold_start_s: Annotated[float, Meta(ge=0, description="until the first fix")] = 30.0
    host_ppm: Annotated[float, Meta(ge=-200, le=200, description="how fast the gateway's crystal runs")] = 0.0
    jitter_us: Annotated[float, Meta(ge=0, le=1000, description="of a pulse's stamp, standard deviation")] = (
        5.0
    )
    delay_ms: Annotated[float, Meta(ge=0, le=900, description="of the sentences behind their second")] = 120.0
    leap_s: Annotated[int, Meta(ge=0, le=60, description="GPS time minus UTC, as it tells when asked")] = 18


class SimGnss:
    """One receiver. `wire` leads to its host; the pulse to `board`, where it has one."""

    def __init__(self, kernel: Kernel, table: GnssTable | None = None, board: Board | None = None) -> None:
        self.kernel = kernel
        self.table = GnssTable() if table is None else table
        self.wire = Wire(kernel, self.table.baud, queue_bytes=64)  # a receiver with USB
        self.wire.on_bytes = self._on_bytes
        self.counters: Counter[str] = Counter()
        self._board = board
        self._rng = kernel.rng("gnss")
        self._start = datetime.datetime.fromisoformat(self.table.start)
        self._second = 0
        self._fix_from_s = math.ceil(self.table.cold_start_s)
        self._fix_lost = False
        self._speaks = True
        self._pulses = True
        self._shift = datetime.timedelta()
        self._moved_m = 0.0
        self._next()

    @property
    def has_fix(self) -> bool:
        """Is what it says valid?"""
        return not self._fix_lost and self._second >= self._fix_from_s

    def kernel_ns(self, second: float) -> int:
        """The kernel's time of a true second since the beginning."""
        return round(second * SECOND_NS * (1 + self.table.host_ppm * 1e-6))

    def utc_ns(self, kernel_ns: int) -> int:
        """True UTC in Unix ns at a time of the kernel; to judge the gateway by."""
        start_ns = (self._start - UNIX_EPOCH) // datetime.timedelta(seconds=1) * SECOND_NS
        return start_ns + round(kernel_ns / (1 + self.table.host_ppm * 1e-6))

    def fail(self, kind: str, value: float = 0.0) -> None:
        """Break it, or mend it: `fix_lost`, `fix`, `no_nmea`, `nmea`, `no_pps`, `pps`, `jump_s` (its time, by `value`
        seconds), `jump_m` (its place, by `value` metres), `spoof_days` (its date, by `value` days), `rollover` (1024
        weeks back), `honest` (true time and place again), `unplug`, `plug`. Raises KernelError.
        """
        actions: dict[str, Callable[[], None]] = {
            "fix_lost": lambda: setattr(self, "_fix_lost", True),
            "fix": lambda: setattr(self, "_fix_lost", False),
            "no_nmea": lambda: setattr(self, "_speaks", False),
            "nmea": lambda: setattr(self, "_speaks", True),
            "no_pps": lambda: setattr(self, "_pulses", False),
            "pps": lambda: setattr(self, "_pulses", True),
            "jump_s": lambda: self._shift_by(datetime.timedelta(seconds=value)),
            "spoof_days": lambda: self._shift_by(datetime.timedelta(days=value)),
            "rollover": lambda: self._shift_by(-WEEKS_OF_TEN_BITS),
            "jump_m": lambda: setattr(self, "_moved_m", value),
            "honest": self._be_honest,
            "unplug": lambda: self.wire.plug(into=False),
            "plug": lambda: self.wire.plug(into=True),
        }
        action = actions.get(kind)
        if action is None:
            raise KernelError(f"a GNSS receiver has no fault {kind!r}; it has {', '.join(actions)}")
        self.counters[f"fault_{kind}"] += 1
        action()

    def _shift_by(self, shift: datetime.timedelta) -> None:
        self._shift = shift

    def _be_honest(self) -> None:
        self._shift = datetime.timedelta()
        self._moved_m = 0.0

    # -- a second ------------------------------------------------------------------------------------

    def _next(self) -> None:
        self._second += 1
        self.kernel.at(self.kernel_ns(self._second), self._tick)

    def _tick(self) -> None:
        if self._pulses and self._board is not None and self.table.pps_line is not None and self.has_fix:
            late_ns = round((STAMP_US + abs(self._rng.gauss(0, self.table.jitter_us))) * US)
            self.kernel.after(late_ns, self._rise)
        if self._speaks:
            delay_ns = round(self.table.delay_ms * MS)
            now = self._start + datetime.timedelta(seconds=self._second) + self._shift
            bodies = self._sentences(now)
            self.kernel.after(delay_ns, lambda: self._speak(bodies))
        self._next()

    def _rise(self) -> None:
        board, line = self._board, self.table.pps_line
        assert board is not None
        assert line is not None
        self.counters["pulses"] += 1
        board.set_level(line, True)
        self.kernel.after(PULSE_NS, lambda: board.set_level(line, False))

    def _speak(self, bodies: tuple[str, ...]) -> None:
        self.counters["seconds_told"] += 1
        for body in bodies:
            self.wire.say(sentence(body))

    def _sentences(self, now: datetime.datetime) -> tuple[str, ...]:
        time, date = now.strftime("%H%M%S.00"), now.strftime("%d%m%y")
        if self._second < 3:
            time = date = ""  # not even its own clock has started
        if not self.has_fix:
            return (
                f"GNRMC,{time},V,,,,,,,{date},,,N",
                f"GNGGA,{time},,,,,0,00,99.99,,,,,,",
                "GNGSA,A,1,,,,,,,,,,,,,99.99,99.99,99.99",
            )
        latitude = self.table.latitude + (self._moved_m + self._rng.gauss(0, 2)) / POLE_M
        place = f"{_angle(latitude, 2, 'NS')},{_angle(self.table.longitude, 3, 'EW')}"
        altitude = f"{self.table.altitude_m + self._rng.gauss(0, 3):.1f}"
        return (
            f"GNRMC,{time},A,{place},0.02,,{date},,,A",
            f"GNGGA,{time},{place},1,09,0.95,{altitude},M,44.6,M,,",
            "GNGSA,A,3,02,05,07,13,15,21,27,29,30,,,,1.71,0.95,1.42",
            f"GNZDA,{time},{now:%d},{now:%m},{now:%Y},00,00",
        )

    def _on_bytes(self, data: bytes) -> None:
        """The only question it knows: UBX-NAV-TIMELS."""
        if _TIMELS_POLL not in data or not self._speaks:
            return
        self.counters["leap_seconds_asked"] += 1
        payload = (
            bytes(8) + bytes((2, self.table.leap_s, 2, 0)) + bytes(11) + bytes((3 if self.has_fix else 0,))
        )
        body = b"\x01\x26" + len(payload).to_bytes(2, "little") + payload
        a = b = 0
        for byte in body:
            a = a + byte & 0xFF
            b = b + a & 0xFF
        self.wire.say(b"\xb5\x62" + body + bytes((a, b)))


def sentence(body: str) -> bytes:
    """With `$`, checksum and end of line."""
    total = 0
    for byte in body.encode():
        total ^= byte
    return f"${body}*{total:02X}\r\n".encode()


def _angle(degrees: float, digits: int, sides: str) -> str:
    whole, part = divmod(abs(degrees), 1)
    minutes = min(part * 60, 59.99999)
    return f"{int(whole):0{digits}d}{minutes:08.5f},{sides[degrees < 0]}"


def gnss_of(table: GnssTable) -> GnssConfig:
    """The radio's settings for it."""
    return GnssConfig(port=table.port, baud=table.baud, pps_line=table.pps_line)


def build_gnss(table: GnssTable | None, kernel: Kernel, board: Board) -> SimGnss | None:
    """The receiver of a scenario, running."""
    return None if table is None else SimGnss(kernel, table, board)
