"""A chip on a bench: registers by number, no driver in between."""

from collections.abc import Callable, Iterator

import pytest

from hw_sim import registers as reg
from hw_sim.air import Air
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.records import Fate, FrameRecord
from hw_sim.sx1276 import SX1276

US = 1_000
MS = 1_000_000
S = 1_000_000_000


class Bench:
    """One chip and the few calls a test needs."""

    def __init__(self, kernel: Kernel, chip: SX1276) -> None:
        self.kernel = kernel
        self.chip = chip
        self.edges: list[tuple[str, bool, int]] = []
        chip.on_dio = lambda line, level, t_ns: self.edges.append((line, level, t_ns))

    def read(self, address: int) -> int:
        return self.chip.spi(bytes((address, 0)))[1]

    def burst(self, address: int, count: int) -> bytes:
        return self.chip.spi(bytes((address,)) + bytes(count))[1:]

    def write(self, address: int, *values: int) -> bytes:
        return self.chip.spi(bytes((address | 0x80, *values)))[1:]

    def run(self, ns: int) -> None:
        self.kernel.run_until(self.kernel.now_ns + ns)

    def lora(self, mode: int = reg.STDBY) -> None:
        """From wherever it is to a LoRa mode, by way of SLEEP."""
        self.write(reg.OP_MODE, self.read(reg.OP_MODE) & 0x80)
        self.write(reg.OP_MODE, 0x80)
        self.write(reg.OP_MODE, 0x80 | mode)
        self.run(MS)

    def setup(
        self,
        *,
        freq_hz: int = 868_100_000,
        sf: int = 7,
        bw: int = 7,
        crc: bool = True,
        inverted: bool = False,
        dio: tuple[int, int] = (0, 0),
    ) -> None:
        """LoRaWAN settings as a careful driver writes them, ending in standby."""
        self.lora()
        self.write(reg.FRF_MSB, *round(freq_hz * (1 << 19) / 32e6).to_bytes(3, "big"))
        self.write(reg.PA_CONFIG, 0xFC)  # PA_BOOST, 14 dBm
        self.write(reg.FIFO_TX_BASE, 0, 0)
        self.write(reg.MODEM_CONFIG1, bw << 4 | 0x02)
        self.write(reg.MODEM_CONFIG2, sf << 4 | crc << 2, 0x64)
        self.write(reg.MODEM_CONFIG3, 0x0C if (1 << sf) / (125 << (bw - 7)) >= 16 else 0x04)
        self.write(reg.IF_FREQ1, 0x40, 0x00, 0x43 if bw < 9 else 0xC3)
        self.write(reg.SYNC_WORD, 0x34)
        self.write(reg.INVERT_IQ, 0x66 if inverted else 0x27)
        self.write(reg.INVERT_IQ2, 0x19 if inverted else 0x1D)
        self.write(reg.DIO_MAPPING1, *dio)
        self.write(reg.IRQ_FLAGS, 0xFF)
        self.edges.clear()

    def load(self, payload: bytes) -> None:
        self.write(reg.FIFO_ADDR_PTR, 0)
        self.write(reg.FIFO, *payload)
        self.write(reg.PAYLOAD_LENGTH, len(payload))

    def fetch(self) -> bytes:
        """The last packet, as a driver reads it."""
        self.write(reg.FIFO_ADDR_PTR, self.read(reg.FIFO_RX_CURRENT))
        return self.burst(reg.FIFO, self.read(reg.RX_NB_BYTES))


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel(seed=1)
    yield made
    made.close()


@pytest.fixture
def make_bench(kernel: Kernel) -> Callable[..., Bench]:
    def make(name: str = "chip", **options: object) -> Bench:
        return Bench(kernel, SX1276(kernel, name, **options))  # type: ignore[arg-type]

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


class Link:
    """Two chips 100 m apart on a calm air: no fading, no luck."""

    def __init__(self, kernel: Kernel, air: Air, tx: Bench, rx: Bench) -> None:
        self.kernel = kernel
        self.air = air
        self.tx = tx
        self.rx = rx

    def setup(self, **settings: object) -> None:
        """Both ends alike."""
        self.tx.setup(**settings)  # type: ignore[arg-type]
        self.rx.setup(**settings)  # type: ignore[arg-type]

    def send(self, payload: bytes = b"hello", wait_ns: int = 3 * S) -> None:
        """One frame, and time for it to arrive."""
        self.tx.load(payload)
        self.tx.write(reg.OP_MODE, 0x83)
        self.run(wait_ns)

    def run(self, ns: int) -> None:
        self.kernel.run_until(self.kernel.now_ns + ns)

    @property
    def last(self) -> FrameRecord:
        return self.air.records.frames[-1]

    def fate(self) -> Fate:
        return self.last.fate("rx")


CALM = AirSettings(fading_db=0.0, decode_width_db=1e-6)


@pytest.fixture
def make_link(kernel: Kernel, make_bench: Callable[..., Bench]) -> Callable[..., Link]:
    def make(distance_m: float = 100.0, settings: AirSettings = CALM, **options: object) -> Link:
        air = Air(kernel, settings)
        tx, rx = make_bench("tx"), make_bench("rx", **options)
        air.add(tx.chip)
        air.add(rx.chip, distance_m)
        link = Link(kernel, air, tx, rx)
        link.setup()
        return link

    return make


@pytest.fixture
def link(make_link: Callable[..., Link]) -> Link:
    return make_link()
