"""A device half and the network back to back over a bad link: lost frames, replays, restarts, a roll-over.

Whatever the link loses or repeats and whenever the network is killed: each uplink is published at most once,
each acknowledged one is stored, and no counter is ever used twice.
"""

import random

import pytest

from gateway.lorawan.outcome import Joined, Rejected, Uplink


class Life:
    def __init__(self, network, node, seed):
        self.network, self.node, self.rng = network, node, random.Random(seed)
        self.published: list[bytes] = []  # committed
        self.sent: list[bytes] = []
        self.delivered: list[bytes] = []  # downlink payloads that reached the device
        self.recorded: list[bytes] = []  # by somebody who replays
        self.fcnts_down: set[tuple[int, int]] = set()
        self.acked = 0

    def lossy(self, share: float) -> bool:
        return self.rng.random() < share

    def air(self, phy: bytes, *, kill: bool = False):
        """A frame through the air to the network; None where it is lost or the network dies before its commit."""
        self.recorded.append(phy)
        if self.lossy(0.2):
            return None
        outcome = self.network.hear(phy, commit=False)
        if kill:
            self.network.restart()
            return None
        self.network.commit(outcome.writes)
        if isinstance(outcome, Uplink):
            self.published.append(outcome.payload)
        if getattr(outcome, "downlink", None) is not None:
            self.network.sent(outcome.downlink)
            if outcome.downlink.fcnt is not None:
                counter = (self.node.dev_addr, outcome.downlink.fcnt)
                assert counter not in self.fcnts_down
                self.fcnts_down.add(counter)
        return outcome

    def join(self):
        while True:
            outcome = self.air(self.node.join_request(), kill=self.lossy(0.1))
            if isinstance(outcome, Joined) and not self.lossy(0.3):
                self.node.hear_accept(outcome.downlink.windows[0].data)
                return

    def uplink(self, number: int):
        """A confirmed uplink every third time, repeated until acknowledged."""
        payload = number.to_bytes(4, "big")
        self.sent.append(payload)
        confirmed = number % 3 == 0
        phy = self.node.uplink(payload, confirmed=confirmed, ack=self.owes_ack)
        self.owes_ack = False
        for _ in range(8 if confirmed else 1):
            outcome = self.air(phy, kill=self.lossy(0.03))
            downlink = getattr(outcome, "downlink", None)
            if downlink is None or self.lossy(0.25):
                continue
            frame, clear = self.node.hear(downlink)
            self.owes_ack = frame.confirmed
            if frame.fport:
                self.delivered.append(clear)
            if confirmed:
                assert frame.ack
                assert payload in self.published, "acknowledged, so it must be stored"
                self.acked += 1
                return

    owes_ack = False

    def replay(self):
        outcome = self.network.hear(self.rng.choice(self.recorded[:-8]), commit=True)
        assert isinstance(outcome, Rejected | Joined), "a replay is never an uplink"


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_published_twice_and_nothing_acknowledged_is_lost(network, node, seed):
    network.add(node.config)
    life = Life(network, node, seed)
    life.join()
    node.fcnt_up = 65_400  # the roll-over is near
    orders = {}
    for number in range(400):
        life.uplink(number)
        if number % 20 == 0:
            payload = b"order %d" % number
            orders[network.queue(node, payload, confirmed=True)] = payload
        if number > 20 and life.lossy(0.1):
            before = len(life.published)
            life.replay()
            assert len(life.published) == before
        if life.lossy(0.02):
            network.restart()
        if life.lossy(0.01):
            life.join()
    assert len(life.published) == len(set(life.published))
    assert set(life.published) <= set(life.sent)
    assert len(life.published) > 200
    assert life.acked > 80
    assert set(life.delivered) <= set(orders.values())
    assert len(set(life.delivered)) > 10


def test_the_counter_of_a_life_long_session_passes_65535(network, node):
    network.add(node.config)
    network.join(node)
    node.fcnt_up = 65_530
    counters = [network.hear(node.uplink()).fcnt for _ in range(12)]
    assert counters == list(range(65_530, 65_542))
