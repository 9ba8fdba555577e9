"""The packet forwarder of a simulated concentrator: GWMP datagrams, as a server on the network sees them. No sockets.

`send` gets what goes out, with the socket it leaves by: frames and reports by one, requests for downlinks by the
other. `receive` takes what comes back. So whatever serves GWMP can be tested in virtual time, byte for byte.
"""

import enum
from collections import Counter
from collections.abc import Callable
from typing import Final

from hw_sim.concentrator import SimConcentrator
from hw_sim.kernel import Kernel
from radio import gwmp
from radio.errors import GwmpError

SECOND_NS: Final = 1_000_000_000


class Way(enum.Enum):
    """The forwarder's two sockets."""

    UP = enum.auto()  # PUSH_DATA
    DOWN = enum.auto()  # PULL_DATA, TX_ACK


class SimForwarder:
    """One forwarder; it becomes its concentrator's `on_frames`."""

    def __init__(
        self,
        kernel: Kernel,
        concentrator: SimConcentrator,
        eui: bytes,
        send: Callable[[bytes, Way], None],
        *,
        keepalive_s: float = 5.0,
        stat_s: float = 30.0,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._kernel = kernel
        self._concentrator = concentrator
        self._eui = eui
        self._send = send
        self._keepalive_ns = round(keepalive_s * SECOND_NS)
        self._stat_ns = round(stat_s * SECOND_NS)
        self._token = 0
        concentrator.on_frames = self.frames
        kernel.after(0, self._pull)
        kernel.after(self._stat_ns, self._report)

    def frames(self, frames: tuple[gwmp.RxPacket, ...]) -> None:
        """Hand in what the concentrator has heard."""
        self._send(gwmp.encode(gwmp.PushData(self._next_token(), self._eui, frames)), Way.UP)

    def receive(self, datagram: bytes) -> None:
        """Take a datagram of the server; one that cannot be read is counted and otherwise ignored."""
        try:
            message = gwmp.decode(datagram)
        except gwmp.UnsupportedOrder as error:
            self._ack(error.token, gwmp.TxError.TX_FREQ)
            return
        except GwmpError:
            self.counters["malformed"] += 1
            return
        match message:
            case gwmp.PullResp(token=token, txpk=order):
                ack = self._concentrator.order(order)
                self._ack(token, ack.error, ack.power_dbm)
            case gwmp.PushAck():
                self.counters["acknowledged"] += 1
            case gwmp.PullAck():
                self.counters["pulled"] += 1
            case _:
                self.counters["unexpected"] += 1

    def _ack(self, token: int, error: gwmp.TxError, power_dbm: int | None = None) -> None:
        warn = None if power_dbm is None else gwmp.TxError.TX_POWER
        self._send(gwmp.encode(gwmp.TxAck(token, self._eui, error, warn, power_dbm)), Way.DOWN)

    def _pull(self) -> None:
        self._send(gwmp.encode(gwmp.PullData(self._next_token(), self._eui)), Way.DOWN)
        self._kernel.after(self._keepalive_ns, self._pull)

    def _report(self) -> None:
        heard = self._concentrator.counters
        stat = gwmp.Stat(
            rxnb=heard.received + heard.crc_errors, rxok=heard.received, rxfw=heard.received, txnb=heard.sent
        )
        self._send(gwmp.encode(gwmp.PushData(self._next_token(), self._eui, (), stat)), Way.UP)
        self._kernel.after(self._stat_ns, self._report)

    def _next_token(self) -> int:
        self._token = self._token + 1 & 0xFFFF
        return self._token
