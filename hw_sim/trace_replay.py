"""Replays a trace: against the chip model, to see whether it answers as the chip did; or to a driver, as its bus.

Against the model, everything the driver wrote happens again at its time, frames that the chip had heard are put into
the model where the trace shows that they came, and each byte the model answers is compared. What a chip draws from the
air or from its analogue parts (levels, noise, frequency error) is masked.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hw_sim import registers as reg
from hw_sim.errors import SimError
from hw_sim.kernel import Kernel
from hw_sim.modem import DummyLoad, Modem, Packet
from hw_sim.phy import Waveform
from hw_sim.sx1276 import SX1276
from hw_sim.trace import Pin, Record, TakenEdge, Trace, Transfer
from radio.seam import Edge, Readable

TAIL_NS: Final = 10_000  # from the last bit of a transfer to where the recorder looks at the clock
SHOWN: Final = 20  # differences that a command prints
KEPT: Final = 1000  # differences in a report; all are counted
HEADER: Final = 0x10  # ValidHeader: comes and goes with the air

# Bits that are compared; registers that are not named are compared wholly, in LoRa and in FSK mode.
_LORA_MASK: Final[dict[int, int]] = {
    reg.LNA: 0x1F,
    reg.IRQ_FLAGS: 0xFF & ~HEADER,
    **dict.fromkeys(range(reg.VALID_HEADER_CNT, reg.VALID_HEADER_CNT + 2), 0),
    reg.MODEM_STAT: 0,
    reg.PKT_SNR: 0,
    reg.PKT_RSSI: 0,
    reg.RSSI: 0,
    **dict.fromkeys(range(reg.FEI, reg.FEI + 3), 0),
    reg.RSSI_WIDEBAND: 0,
}
_FSK_MASK: Final[dict[int, int]] = {
    reg.LNA: 0x1F,
    reg.FSK_RSSI: 0,
    reg.FSK_IMAGE_CAL: 0xFF & ~0x20,  # when the calibration ends differs from part to part
    reg.FSK_TEMP: 0,
    reg.FSK_IRQ_FLAGS1: 0,
    reg.FSK_IRQ_FLAGS2: 0,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A byte that the model answers in another way than the chip did."""

    record: int  # its number in the trace
    t_ns: int
    register: int
    chip: int
    model: int

    def __str__(self) -> str:
        return (
            f"record {self.record}, {self.t_ns / 1e9:.6f} s: register 0x{self.register:02X} "
            f"of the chip read 0x{self.chip:02X}, of the model 0x{self.model:02X}"
        )


@dataclass(slots=True)
class Report:
    """What a comparison found."""

    transfers: int = 0
    compared: int = 0  # bytes
    masked: int = 0
    frames: int = 0  # put into the model
    registers: Counter[int] = field(default_factory=Counter)  # differences by register
    differences: list[Difference] = field(default_factory=list)  # the first of them


def compare(trace: Trace) -> Report:
    """Against a fresh model, which is not strict: what the recorded driver did is its own affair."""
    return _Comparison(trace).run()


class _Comparison(DummyLoad):
    """One replay; it is what the model's antenna is connected to."""

    def __init__(self, trace: Trace) -> None:
        self._records = trace.records
        self._kernel = Kernel()
        self._chip = SX1276(self._kernel, trace.module, strict=False)
        self._chip.medium = self
        self._report = Report()
        self._zero_ns = min((_begins_ns(record) for record in trace.records), default=0)
        self._flags = [
            (record.t_ns, value, number)
            for number, record in enumerate(trace.records)
            if isinstance(record, Transfer)
            for address, value in record.reads()
            if address == reg.IRQ_FLAGS
        ]

    def run(self) -> Report:
        for record, number in sorted(
            ((record, number) for number, record in enumerate(self._records)),
            key=lambda pair: (_happens_ns(pair[0]), pair[1]),
        ):
            self._kernel.run_until(max(self._kernel.now_ns, _happens_ns(record) - self._zero_ns))
            if isinstance(record, Transfer):
                self._transfer(record, number)
            elif isinstance(record, TakenEdge):
                if record.level and record.line == "dio0":
                    self._hear(number)
            elif record.driven and record.line == "reset":
                self._chip.set_reset(record.level)
        self._kernel.close()
        return self._report

    def _transfer(self, record: Transfer, number: int) -> None:
        report = self._report
        report.transfers += 1
        if any(address == reg.IRQ_FLAGS and value & reg.RX_DONE for address, value in record.reads()):
            self._hear(number)
        in_lora, answer = self._chip.lora, self._chip.spi(record.mosi)
        shared = bool(self._chip.peek(reg.OP_MODE) & reg.ACCESS_SHARED_REG)
        masks = _LORA_MASK if in_lora and not shared else _FSK_MASK
        address = record.mosi[0] & 0x7F
        for chip, model in zip(record.miso[1:], answer[1:], strict=True):
            mask = masks.get(address, 0xFF)
            report.compared += mask != 0
            report.masked += mask == 0
            if (chip ^ model) & mask:
                report.registers[address] += 1
                if len(report.differences) < KEPT:
                    t_ns = record.t_ns - self._zero_ns
                    report.differences.append(Difference(number, t_ns, address, chip, model))
            address = address and (address + 1) & 0x7F

    # -- what the air did ------------------------------------------------------------------------------

    def _hear(self, number: int) -> None:
        """The chip had received a frame by now: so has the model, from what the driver read of it later."""
        chip = self._chip
        if chip.listening is None or chip.peek(reg.IRQ_FLAGS) & reg.RX_DONE:
            return
        packet, coding_rate = _packet(self._records[number:])
        self._report.frames += 1
        chip.preamble_locked()
        chip.header_received(len(packet.payload), coding_rate)
        chip.packet_received(packet)

    def listen(self, chip: Modem) -> None:
        """In RXSINGLE a frame that comes keeps the window from timing out."""
        if chip.mode == reg.RXSINGLE and self._next_flags(reg.RX_DONE | reg.RX_TIMEOUT) & reg.RX_DONE:
            chip.preamble_locked()

    def activity(self, chip: Modem, wave: Waveform, start_ns: int, end_ns: int) -> bool:
        """As the flags read next tell."""
        return bool(self._next_flags(reg.CAD_DONE) & reg.CAD_DETECTED)

    def _next_flags(self, wanted: int) -> int:
        """The flags where the trace first shows any of `wanted` from now on."""
        start = bisect_left(self._flags, (self._kernel.now_ns + self._zero_ns,))
        return next((value for _, value, _ in self._flags[start:] if value & wanted), 0)


def _begins_ns(record: Record) -> int:
    return min(record.t_ns, _happens_ns(record))


def _happens_ns(record: Record) -> int:
    """When it took effect."""
    if isinstance(record, TakenEdge):
        return record.edge_ns
    return max(0, record.t_ns - TAIL_NS) if isinstance(record, Transfer) else record.t_ns


def _packet(records: Sequence[Record]) -> tuple[Packet, int]:
    """The frame that the driver reads from here on, and its coding rate."""
    seen: dict[int, int] = {}
    payload: bytes | None = None
    for record in records:
        if not isinstance(record, Transfer):
            continue
        if record.mosi[0] == reg.FIFO and len(record.mosi) > 1:
            payload = record.miso[1:]
            break
        if record.mosi[0] == reg.IRQ_FLAGS | 0x80 and seen.get(reg.IRQ_FLAGS, 0) & reg.RX_DONE:
            break  # cleared without a look at the frame
        for address, value in record.reads():
            if address != reg.IRQ_FLAGS or value & reg.RX_DONE or address not in seen:
                seen[address] = value
    length = seen.get(reg.RX_NB_BYTES, len(payload or b""))
    damaged = bool(seen.get(reg.IRQ_FLAGS, 0) & reg.PAYLOAD_CRC_ERROR)
    crc_present = bool(seen.get(reg.HOP_CHANNEL, 0x40) & 0x40) or damaged
    whole = (payload or b"")[:length].ljust(length, b"\0")
    packet = Packet(whole, crc_present, not damaged, -100.0, 0.0, 0.0)
    return packet, seen.get(reg.MODEM_STAT, 0x20) >> 5 or 1


class TraceMismatch(SimError):
    """The driver does something else than the recorded one did."""

    def __init__(self, record: int, expected: str, got: str) -> None:
        self.record = record
        super().__init__(f"record {record}: the trace has {expected}, the driver did {got}")


class Player:
    """A trace as the bus, lines and clock of a driver, which must do again exactly what was recorded."""

    def __init__(self, trace: Trace) -> None:
        self._records = trace.records
        self._at = 0
        self._now_ns = trace.records[0].t_ns if trace.records else 0
        self._edges: deque[Edge] = deque()

    @property
    def finished(self) -> bool:
        """Was everything played?"""
        self._collect()
        return self._at == len(self._records)

    # -- bus -------------------------------------------------------------------------------------------

    def xfer(self, data: bytes) -> bytes:
        """See `radio.seam.Bus`. Raises TraceMismatch."""
        record = self._next(f"spi {bytes(data).hex()}")
        if not isinstance(record, Transfer) or record.mosi != bytes(data):
            raise TraceMismatch(self._at - 1, str(record), f"spi {bytes(data).hex()}")
        return record.miso

    # -- lines -----------------------------------------------------------------------------------------

    backend: str = "trace"
    poll_ns: int | None = None

    def fileno(self) -> int | None:
        """See `radio.seam.Lines`."""
        return None

    def read_edges(self) -> list[Edge]:
        """See `radio.seam.Lines`."""
        self._collect()
        taken = list(self._edges)
        self._edges.clear()
        return taken

    def get(self, name: str) -> bool:
        """See `radio.seam.Lines`. Raises TraceMismatch."""
        return self._pin(name, None)

    def set(self, name: str, level: bool) -> None:
        """See `radio.seam.Lines`. Raises TraceMismatch."""
        self._pin(name, level)

    def close(self) -> None:
        """See `radio.seam.Lines`."""

    # -- clock -----------------------------------------------------------------------------------------

    def now_ns(self) -> int:
        """See `radio.seam.Clock`: the time of what was played last."""
        return self._now_ns

    def wait(self, lines: Sequence[Readable], until_ns: int | None) -> None:
        """See `radio.seam.Clock`: up to what comes next."""
        if self._at < len(self._records):
            self._advance(min(self._records[self._at].t_ns, self._now_ns if until_ns is None else until_ns))

    def sleep_until(self, t_ns: int) -> None:
        """See `radio.seam.Clock`."""
        self._advance(t_ns)

    def wake(self) -> None:
        """See `radio.seam.Clock`: nobody waits."""

    def _advance(self, t_ns: int) -> None:
        self._now_ns = max(self._now_ns, t_ns)

    def _pin(self, name: str, level: bool | None) -> bool:
        did = f"get {name}" if level is None else f"set {name} {level:d}"
        record = self._next(did)
        if (
            not isinstance(record, Pin)
            or (record.line, record.driven) != (name, level is not None)
            or level not in (None, record.level)
        ):
            raise TraceMismatch(self._at - 1, str(record), did)
        return record.level

    def _next(self, did: str) -> Record:
        self._collect()
        if self._at == len(self._records):
            raise TraceMismatch(self._at, "nothing more", did)
        record = self._records[self._at]
        self._at += 1
        self._advance(record.t_ns)
        return record

    def _collect(self) -> None:
        """Edges that come before the next transfer or level."""
        while self._at < len(self._records):
            record = self._records[self._at]
            if not isinstance(record, TakenEdge):
                return
            self._at += 1
            self._advance(record.t_ns)
            self._edges.append(Edge(record.line, record.level, record.edge_ns, record.seqno))
