"""Noise taken for a frame: now and then a receiver that hears nothing finds a header in it.

As on the chip: the receiver is locked for as long as that header says the frame lasts, deaf to real ones, and
then reports RxDone with garbage. Such headers come in proportion to the symbols a receiver looks at.
"""

from collections.abc import Callable

from hw_sim.kernel import Kernel
from hw_sim.links import Lock, Station
from hw_sim.modem import Listening, Packet
from hw_sim.propagation import noise_floor_dbm

# The fastest symbols there are, SF6 at 500 kHz, come eight times as often as those of SF7 at 125 kHz.
_FASTEST = 8
_SF7_125K_NS = 1_024_000


class FalseHeaders:
    """One random process for each station; `listen_again(station, listening, since_ns)` sets a receiver free."""

    def __init__(
        self, kernel: Kernel, per_hour: float, listen_again: Callable[[Station, Listening, int], None]
    ) -> None:
        self._kernel = kernel
        self._mean_ns = 3600e9 / (per_hour * _FASTEST)
        self._listen_again = listen_again
        self._rng = kernel.rng("air/false headers")

    def add(self, station: Station) -> None:
        """From now on, noise fools this receiver whenever it listens."""

        def strike() -> None:
            self._strike(station)
            self._kernel.after(round(self._rng.expovariate(1 / self._mean_ns)), strike)

        self._kernel.after(round(self._rng.expovariate(1 / self._mean_ns)), strike)

    def _strike(self, station: Station) -> None:
        chip = station.chip
        listening = chip.listening
        share = 0.0
        if listening is not None:
            share = _SF7_125K_NS / (listening.wave.symbol_ns * _FASTEST)
        draw, length, coding_rate = self._rng.random(), self._rng.randrange(1, 256), self._rng.randrange(1, 5)
        if listening is None or draw >= share or station.lock is not None or listening.wave.implicit_header:
            return
        lock = station.lock = Lock(None, listening)
        chip.preamble_locked()
        good = chip.header_received(length, coding_rate)
        if station.lock is not lock:
            return  # whoever watches ValidHeader has switched the receiver off
        if good:
            body_ns = listening.wave.airtime_ns(length) - listening.wave.header_ns()
            lock.event = self._kernel.after(body_ns, lambda: self._end(station, lock, length))
        else:
            station.lock = None
            chip.lock_lost()

    def _end(self, station: Station, lock: Lock, length: int) -> None:
        station.lock = None
        chip, listening = station.chip, lock.listening
        noise_dbm = noise_floor_dbm(listening.wave.modulation.bw_hz)
        crc_present = self._rng.random() < 0.5  # a header of noise says either
        packet = Packet(self._rng.randbytes(length), crc_present, False, noise_dbm, -20.0, 0.0)
        chip.packet_received(packet)
        self._listen_again(station, listening, self._kernel.now_ns)
