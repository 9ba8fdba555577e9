"""A gateway module whose chip, wires and supply fail, again and again, while frames go up and down.

Each life is a module (`radio.owner`, `radio.sx127x`) on the register-level chip in virtual time, with a device that
sends and orders that come at random. Faults of every kind (`hw_sim.chip_faults`) strike at random moments for a random
while. Judged is what the chip does and what was on the air, not what the driver says of itself:

* nothing leaves the antenna but what was ordered: payload, frequency, power, modulation, direction of the chirps
* a chip that is not as it should be for 2 s has been noticed by then
* 5 s after a fault has ended, at the latest, the module works again, without its process being restarted
* from the moment the chip is right again every uplink is received, and every accepted downlink sent at its time
* every order ends as sent or not sent, and what was not sent was not on the air

Without the driver's checks (`checks=False`) the same run must find something.

python tests/torture/chip_faults.py [--count N] [--seed S] [--unchecked]
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform"), str(ROOT / "tests")]

from hw_sim import registers as reg  # noqa: E402
from hw_sim.air import Air  # noqa: E402
from hw_sim.board import Board as SimBoard  # noqa: E402
from hw_sim.chip_faults import ChipFault  # noqa: E402
from hw_sim.hosts import LocalHost, SimBus, SimClock, SimLines  # noqa: E402
from hw_sim.kernel import Kernel  # noqa: E402
from hw_sim.links import AirSettings  # noqa: E402
from hw_sim.phy import Waveform  # noqa: E402
from hw_sim.records import FrameRecord  # noqa: E402
from hw_sim.sx1276 import SX1276  # noqa: E402
from radio.boards import get_board  # noqa: E402
from radio.gwmp import TxError  # noqa: E402
from radio.hardware.gpio import pins_of  # noqa: E402
from radio.jit import Transmission  # noqa: E402
from radio.lora import LoRaModulation  # noqa: E402
from radio.owner import ModuleOwner  # noqa: E402
from radio.seam import Edge  # noqa: E402
from radio.sx127x import registers as r  # noqa: E402
from radio.sx127x.chip import Chip, Survey  # noqa: E402
from radio.sx127x.modem import Event, NotSent, Received, Sent, State  # noqa: E402
from radio.sx127x.registers import SYNC_WORD_LORAWAN, Mode, Power, Settings  # noqa: E402
from radio.sx127x.roaming import RoamingModem  # noqa: E402

MS = 1_000_000
SECOND = 1000 * MS
DETECT_NS = 2 * SECOND
RECOVER_NS = 5 * SECOND
LIFE = 25  # faults a module lives through
PROBE_NS = 20 * MS  # how often the judge looks at the chip
CALM = AirSettings(fading_db=0.0, decode_width_db=0.01, keep_frames=200)
CHANNELS = (867_100_000, 868_100_000, 868_300_000, 869_525_000)
# How far apart uplinks and downlinks are, on average; a quiet module must notice what is wrong by itself.
TRAFFIC = (
    (SECOND, SECOND),
    (SECOND, SECOND),
    (500 * MS, 10 * SECOND),
    (20 * SECOND, SECOND),
    (60 * SECOND,) * 2,
)
SERVED_NS = 40 * MS  # from a frame's last symbol until it has been read
EXACT_NS = 20_000
FORGIVEN_NS = 700_000  # how far from its time a frame may start while something is wrong


@dataclass
class Findings:
    """What a run has seen."""

    faults: int = 0
    met: Counter[str] = field(default_factory=Counter)  # faults that had a chance to do harm, by kind
    counted: Counter[str] = field(default_factory=Counter)  # what the driver called them
    uplinks: int = 0
    downlinks: int = 0
    not_sent: int = 0
    aborted: int = 0
    detection_ms: list[float] = field(default_factory=list)
    recovery_ms: list[float] = field(default_factory=list)
    wrong: int = 0  # transmissions that nobody ordered like this
    unnoticed: int = 0
    lost: int = 0  # frames, although all was well
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.met.items()))
        counted = ", ".join(f"{name} {count}" for name, count in sorted(self.counted.items()))
        return (
            f"{self.faults} faults, met: {kinds}; counted as {counted}; {self.uplinks} uplinks, {self.downlinks} "
            f"downlinks, {self.not_sent} of them not sent, {self.aborted} cut off; "
            f"seen within {_worst(self.detection_ms)} ms (half of {len(self.detection_ms)} within "
            f"{_median(self.detection_ms)}), working again within {_worst(self.recovery_ms)} ms "
            f"(half of {len(self.recovery_ms)} within {_median(self.recovery_ms)}); "
            f"{self.wrong} wrong transmissions, {self.unnoticed} faults not noticed, {self.lost} frames lost: "
            f"{len(self.problems) or 'no'} problem{'s' if len(self.problems) != 1 else ''}"
        )


def _worst(values: list[float]) -> float:
    return round(max(values, default=0.0))


def _median(values: list[float]) -> float:
    return round(sorted(values)[len(values) // 2]) if values else 0


def _words(record: FrameRecord) -> str:
    cut = f", cut off after {record.airtime_ns / 1000:.0f} us" if record.aborted else ""
    return (
        f"{record.payload[:5].hex()} ({len(record.payload)} bytes), {record.freq_hz} Hz, {record.modulation}, "
        f"{record.power_dbm} dBm, inverted {record.iq_inverted}, CRC {record.crc}{cut}"
    )


class UncheckedChip(Chip):
    """The driver without its checks: for the negative control."""

    def survey(self) -> Survey:
        registers = bytearray(65)
        registers[reg.OP_MODE] = self._op_mode
        registers[reg.RSSI_WIDEBAND] = self.transfers & 0xFF
        return Survey(bytes(registers), self._op_mode, {})

    def sends_as_set(self) -> bool:
        return True

    def holds(self, payload: bytes) -> bool:
        return True

    def _write_surely(self, start: int, burst: bytes) -> None:
        self.write(start, *burst)

    def set_mode(self, mode: Mode) -> None:
        self.command(mode)


class UntimedLines(SimLines):
    """Lines of the RPi.GPIO kind."""

    def read_edges(self) -> list[Edge]:
        return [replace(edge, coarse=True) for edge in super().read_edges()]


@dataclass
class _Direct:
    """SPI without time, for the device."""

    chip: SX1276

    def xfer(self, data: bytes) -> bytes:
        return self.chip.spi(data)


@dataclass(slots=True)
class _Fault:
    kind: ChipFault
    begin_ns: int
    end_ns: int
    over_ns: int | None = None  # when the chip was first seen to be right after it


@dataclass(slots=True)
class _Uplink:
    payload: bytes
    start_ns: int
    end_ns: int


class Life:
    """One module from its first start to its last fault."""

    def __init__(self, number: int, seed: int, faults: int, findings: Findings, *, checks: bool) -> None:
        self.rng = random.Random(f"{seed}/{number}")
        self.findings = findings
        self.name = f"life {number}"
        rng = self.rng
        self.kernel = Kernel(seed=number)
        self.air = Air(self.kernel, CALM)
        self.chip = SX1276(self.kernel, "gateway", strict=False)
        device = SX1276(self.kernel, "device", strict=False)
        self.air.add(self.chip)
        self.air.add(device, x_m=300)
        self.receives = rng.random() < 0.8
        self.uplink_ns, self.downlink_ns = rng.choice(TRAFFIC)
        # A sweep hears a part of the frames only; what it sends is judged all the same.
        self.sweeps = self.receives and rng.random() < 0.02
        self.mod = LoRaModulation(rng.choice((7, 7, 8, 9, 10)), 125_000)
        self.receive = Settings(868_100_000, self.mod)
        board = get_board("generic")
        host = LocalHost(self.kernel, SimBoard.wired(self.kernel, board, [self.chip]))
        lines = (UntimedLines if rng.random() < 0.2 else SimLines)(host, pins_of(board.module(0)))
        chip = (Chip if checks else UncheckedChip)(SimBus(host, 0, 0))
        self.owner = ModuleOwner(
            "module",
            RoamingModem(
                chip,
                self.receive if self.receives else None,
                SYNC_WORD_LORAWAN,
                calibrate_at_hz=868_100_000,
                sweep_sfs=(7, 8) if self.sweeps else (),
            ),
            lines,
            SimClock(host),
            lambda _owner, event: self._on_event(event),
            has_reset=rng.random() < 0.85,
        )
        self.device = Chip(_Direct(device))
        self.stop = threading.Event()
        self.orders: dict[bytes, Transmission] = {}
        self.ended: dict[bytes, tuple[Event, int]] = {}
        self.aired: dict[bytes, FrameRecord] = {}
        self.uplinks: list[_Uplink] = []
        self.heard: Counter[bytes] = Counter()
        self.faults = self._plan(faults)
        self.until_ns = self.faults[-1].end_ns + RECOVER_NS + 3 * SECOND
        self.wrong_since: int | None = None
        self.noticed_since_wrong = False
        self.counted = 0
        self.wave: Waveform | None = None
        self.wanted = r.for_receive(self.receive) | {reg.DIO_MAPPING1: 0, reg.IRQ_FLAGS_MASK: 0x8F}
        self._ids = itertools.count(1)
        self.air.records.observe(self._on_air)

    def run(self) -> None:
        """Live, and be judged."""
        kernel = self.kernel
        thread = kernel.spawn(lambda: self.owner.run(self.stop), "module")
        try:
            kernel.at(SECOND // 2, self._probe)
            kernel.at(SECOND, self._send_uplink)
            kernel.at(SECOND, self._order)
            for fault in self.faults:
                kernel.at(fault.begin_ns, partial(self._strike, fault))
            kernel.run_until(self.until_ns)
            self._judge()
        finally:
            kernel.close()
            thread.join(10)
        findings = self.findings
        findings.faults += len(self.faults)
        findings.uplinks += len(self.uplinks)
        findings.downlinks += len(self.orders)
        findings.counted.update({str(kind): n for kind, n in self.owner.modem.health.by_kind.items()})
        self._unlike_the_model()

    # -- what happens --------------------------------------------------------------------------------

    def _plan(self, count: int) -> list[_Fault]:
        rng, t_ns, faults = self.rng, 3 * SECOND, []
        for _ in range(count):
            t_ns += rng.randrange(4 * SECOND)
            duration_ns = rng.choice((MS, 20 * MS, 200 * MS, SECOND, 3 * SECOND))
            faults.append(_Fault(rng.choice(list(ChipFault)), t_ns, t_ns + duration_ns))
            t_ns += duration_ns + (RECOVER_NS if rng.random() < 0.7 else rng.randrange(SECOND))
        return faults

    def _strike(self, fault: _Fault) -> None:
        faults = self.chip.faults
        before = faults.met[fault.kind]
        faults.inject(fault.kind, fault.end_ns - fault.begin_ns)

        def count() -> None:
            self.findings.met[str(fault.kind)] += faults.met[fault.kind] > before

        self.kernel.at(fault.end_ns, count)

    def _send_uplink(self) -> None:
        rng, now = self.rng, self.kernel.now_ns
        payload = b"\x40" + len(self.uplinks).to_bytes(4, "big") + rng.randbytes(rng.randrange(8, 40))
        device = self.device
        device.write(reg.OP_MODE, 0x80)
        device.write(reg.OP_MODE, 0x81)
        device.configure_transmit(self.receive, Power(14), payload)
        device.command(Mode.TX)
        start_ns = now + 175_000
        self.uplinks.append(_Uplink(payload, start_ns, start_ns))
        gap_ns = rng.randrange(self.uplink_ns // 2, self.uplink_ns * 3 // 2) + (self.mod.sf > 8) * SECOND
        self.kernel.after(gap_ns, self._send_uplink)

    def _order(self) -> None:
        rng, now = self.rng, self.kernel.now_ns
        number = next(self._ids)
        payload = b"\x60" + number.to_bytes(4, "big") + rng.randbytes(rng.choice((8, 12, 30, 120, 222)))
        tx = Transmission(
            number,
            now + rng.randrange(20 * MS, 600 * MS),
            rng.choice(CHANNELS),
            LoRaModulation(rng.choice((7, 7, 8, 9, 10)), 125_000, rng.randrange(1, 5)),
            rng.choice((2, 5, 13, 14, 17, 20)),
            rng.random() < 0.9,
            rng.random() < 0.2,
            rng.choice((8, 8, 10)),
            payload,
        )
        if self.owner.submit(tx, now) is TxError.NONE:
            self.orders[payload] = tx
        self.kernel.after(rng.randrange(self.downlink_ns // 3, self.downlink_ns * 5 // 3), self._order)

    def _on_event(self, event: Event) -> None:
        match event:
            case Received():
                self.heard[event.packet.payload] += 1
            case Sent(tx) | NotSent(tx):
                if tx.payload in self.ended:
                    self._problem(f"order {tx.id} ended twice")
                self.ended[tx.payload] = event, self.owner.clock.now_ns()

    def _on_air(self, record: FrameRecord) -> None:
        if record.sender == "device":
            for uplink in reversed(self.uplinks):
                if uplink.payload == record.payload:
                    uplink.start_ns, uplink.end_ns = record.start_ns, record.end_ns
                    return
        self.findings.aborted += record.aborted
        tx = self.orders.get(record.payload)
        if tx is None:
            self.findings.wrong += 1
            self._problem(f"a payload nobody ordered was on the air: {_words(record)}")
            return
        if record.payload in self.aired:
            self.findings.wrong += 1
            self._problem(f"order {tx.id} was on the air twice")
        self.aired[record.payload] = record
        ordered = (tx.modulation, tx.iq_inverted, tx.crc, tx.power_dbm)
        sent = (record.modulation, record.iq_inverted, record.crc, record.power_dbm)
        if ordered != sent or abs(record.freq_hz - tx.freq_hz) > 62:
            self.findings.wrong += 1
            self._problem(f"order {tx.id} went out wrong: {ordered} at {tx.freq_hz} Hz as {_words(record)}")
        allowed_ns = FORGIVEN_NS if self._disturbed(tx.start_ns - 10 * MS, tx.start_ns) else EXACT_NS
        if abs(record.start_ns - tx.start_ns) > allowed_ns:
            self._problem(
                f"order {tx.id} started {(record.start_ns - tx.start_ns) / 1000:.0f} us from its time"
            )

    # -- the judge -----------------------------------------------------------------------------------

    def _right(self) -> bool:
        """Is the chip where the module spends its life, and as it was set up?"""
        chip, faults = self.chip, self.chip.faults
        state = self.owner.modem.state
        if state in (State.ARMED, State.SENDING):
            return True  # judged by what goes on the air, and when it ends
        if not chip.lora or faults.no_crystal:
            return False
        if self.sweeps:
            return state is State.LISTENING
        if not self.receives:
            return chip.mode == reg.STDBY and state is State.RESTING
        if chip.mode != reg.RXCONT or chip.listening is None or state is not State.LISTENING:
            return False
        if self.wave is None:
            self.wave = chip.listening.wave
        return (
            chip.listening.wave == self.wave
            and not chip.peek(reg.IRQ_FLAGS) & (reg.RX_DONE | faults.stuck_flags)
            and all(
                (chip.peek(at) ^ value) & r.READ_BACK_MASK.get(at, 0xFF) == 0
                for at, value in self.wanted.items()
            )
        )

    def _probe(self) -> None:
        now = self.kernel.now_ns
        counted = sum(self.owner.modem.health.by_kind.values())
        noticed, self.counted = counted > self.counted, counted
        if self._right():
            if self.wrong_since is not None:
                self.findings.recovery_ms.append((now - max(self.wrong_since, self._last_end(now))) / MS)
            self.wrong_since = None
            self.noticed_since_wrong = False
            if self.owner.modem.state in (State.LISTENING, State.RESTING):
                for fault in self.faults:
                    if fault.over_ns is None and fault.end_ns <= now:
                        fault.over_ns = now
        else:
            if self.wrong_since is None:
                self.wrong_since, self.noticed_since_wrong = now, False
            if (noticed or self.owner.modem.state is State.DOWN) and not self.noticed_since_wrong:
                self.noticed_since_wrong = True
                self.findings.detection_ms.append((now - self.wrong_since) / MS)
            since_ns = self.wrong_since
            if not self.noticed_since_wrong and now - since_ns > DETECT_NS:
                self.findings.unnoticed += 1
                self._problem(f"not noticed for 2 s since {since_ns / SECOND:.2f} s: {self._picture(now)}")
                self.noticed_since_wrong = True
            fault_end_ns = max(since_ns, self._last_end(now))
            if RECOVER_NS < now - fault_end_ns <= RECOVER_NS + PROBE_NS:
                self._problem(f"does not work again since {since_ns / SECOND:.2f} s: {self._picture(now)}")
        self.kernel.after(PROBE_NS, self._probe)

    def _last_end(self, now: int) -> int:
        """When the last fault that has begun ends."""
        return max((fault.end_ns for fault in self.faults if fault.begin_ns <= now), default=0)

    def _picture(self, now: int) -> str:
        last = [f for f in self.faults if f.begin_ns <= now][-2:]
        kinds = ", ".join(f"{f.kind} {f.begin_ns / SECOND:.2f} to {f.end_ns / SECOND:.2f} s" for f in last)
        modem = self.owner.modem
        return f"{kinds}; {modem.state.name} {self.owner.fault!r}, {dict(modem.health.by_kind)}, mode {self.chip.mode}"

    def _disturbed(self, start_ns: int, end_ns: int) -> bool:
        """May a fault, or what it took to recover from it, have touched this span?"""
        return any(
            fault.begin_ns <= end_ns and (fault.over_ns is None or start_ns <= fault.over_ns)
            for fault in self.faults
        )

    def _judge(self) -> None:
        last_ns = self.until_ns - 3 * SECOND
        for payload, tx in self.orders.items():
            if tx.start_ns > last_ns:
                continue
            ended, record = self.ended.get(payload), self.aired.get(payload)
            if ended is None:
                self._problem(f"order {tx.id} never ended")
                continue
            event, at_ns = ended
            self.findings.not_sent += isinstance(event, NotSent)
            if isinstance(event, Sent) and (record is None or record.aborted):
                self._problem(f"order {tx.id} is called sent and was not: {record and _words(record)}")
            if isinstance(event, NotSent) and record is not None and not event.maybe_aired:
                self._problem(f"order {tx.id} is called not sent and was: {event.reason}")
            if isinstance(event, NotSent) and not self._disturbed(tx.start_ns - 10 * MS, tx.end_ns):
                self.findings.lost += 1
                self._problem(f"order {tx.id} was not sent although all was well: {event.reason}")
            if at_ns > tx.end_ns + DETECT_NS:
                self._problem(f"order {tx.id} ended {(at_ns - tx.end_ns) / MS:.0f} ms after its frame")
        if self.receives and not self.sweeps:
            self._judge_uplinks(last_ns)

    def _judge_uplinks(self, last_ns: int) -> None:
        away = [(tx.start_ns - 6 * MS, tx.end_ns + 3 * MS) for tx in self.orders.values()]
        for uplink in self.uplinks:
            if uplink.end_ns > last_ns or uplink.end_ns == uplink.start_ns:
                continue
            if any(begin < uplink.end_ns + SERVED_NS and uplink.start_ns < end for begin, end in away):
                continue  # the module was sending
            if not self.heard[uplink.payload] and not self._disturbed(
                uplink.start_ns, uplink.end_ns + SERVED_NS
            ):
                self.findings.lost += 1
                self._problem(f"an uplink at {uplink.start_ns / SECOND:.2f} s was lost although all was well")

    def _unlike_the_model(self) -> None:
        """What it cannot put on the air."""
        wrong = self.chip.warnings["the FSK modem sends"]
        if wrong:
            self.findings.wrong += wrong
            self._problem(f"the FSK modem was sending, {wrong} times")

    def _problem(self, text: str) -> None:
        if len(self.findings.problems) < 1000:
            self.findings.problems.append(f"{self.name}, {self.kernel.now_ns / SECOND:.2f} s: {text}")


def run(
    count: int,
    seed: int,
    *,
    checks: bool = True,
    minutes: float | None = None,
    say: Callable[[str], None] | None = None,
) -> Findings:
    """Inject `count` faults; without `checks` the driver believes what it wrote."""
    findings = Findings()
    began = time.monotonic()
    for number in itertools.count():
        if findings.faults >= count or (minutes is not None and time.monotonic() - began > 60 * minutes):
            break
        Life(number, seed, min(LIFE, count - findings.faults), findings, checks=checks).run()
        if say is not None and number % 20 == 19:
            say(
                f"{findings.faults} faults, {len(findings.problems)} problems, {time.monotonic() - began:.0f} s"
            )
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unchecked", action="store_true", help="the control: a driver without its checks")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    findings = run(
        given.count, given.seed, checks=not given.unchecked, say=lambda line: print(line, flush=True)
    )
    print("\n".join(findings.problems[:50]))
    print(f"{findings}, seed {given.seed}")
    return 1 if bool(findings.problems) is not given.unchecked else 0


if __name__ == "__main__":
    raise SystemExit(main())
