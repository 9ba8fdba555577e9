"""A gateway whose only radio is an RN2483, with a GNSS receiver: devices join, send and are answered."""

from collections.abc import Callable, Iterator

import pytest

from hw_sim.scenario import ScenarioError, parse
from hw_sim.simulation import Simulation

S = 1_000_000_000

TEXT = """
seed = 3
[gateway]
[[gateway.rn2483]]
port = "/dev/ttyUSB0"
sf = {sf}
[gateway.gnss]
port = "/dev/ttyAMA0"
cold_start_s = 5
host_ppm = -7.0
[[nodes]]
count = 2
sf = {sf}
adr = false
radius_m = 300
channels_hz = [868_100_000]
first_s = [20, 60]
interval_s = [40, 60]
confirmed_share = 0.5
"""


@pytest.fixture
def simulation_for() -> Iterator[Callable[[str], Simulation]]:
    made: list[Simulation] = []

    def make(text: str) -> Simulation:
        made.append(Simulation(parse(text)))
        made[-1].start()
        return made[-1]

    yield make
    for simulation in made:
        simulation.close()


@pytest.mark.parametrize("sf", [7, 9, 12])
def test_devices_join_and_are_answered_through_an_rn2483_alone(
    simulation_for: Callable[[str], Simulation], sf: int
) -> None:
    simulation = simulation_for(TEXT.format(sf=sf))
    simulation.run(600 if sf == 12 else 300)  # a device's duty cycle lets it speak every two minutes at SF12
    counts = simulation.counts()
    assert counts["joined"] == 2
    assert counts["delivered"] >= 6
    assert counts["acknowledged"] >= 1
    starts = [start for node in simulation.world.nodes for start in node.starts]
    lead_ns = simulation.radios[0].config.tx_lead_us * 1000
    assert len(starts) >= 3
    assert max(abs(start.error_ns + lead_ns) for start in starts) < 1_500_000
    status = simulation.radios[0].status(simulation.kernel.now_ns)
    (module,) = status["modules"]
    assert module["kind"] == "rn2483"
    assert module["name"] == "rn2483:ttyUSB0"
    assert module["capabilities"]["timestamps"] == "coarse"
    assert not module["fault"]


def test_the_radio_s_status_tells_time_and_place(simulation_for: Callable[[str], Simulation]) -> None:
    simulation = simulation_for(TEXT.format(sf=9))
    simulation.run(150)
    status = simulation.radios[0].status(simulation.kernel.now_ns)
    assert status["gnss"]["state"] == "fix"
    assert status["time"]["quality"] == "gnss"
    assert status["time"]["ppm"] == pytest.approx(-7.0, abs=0.1)
    assert status["time"]["gps_time"]
    assert status["position"]["latitude"] == pytest.approx(52.52, abs=1e-3)


def test_with_an_sx127x_beside_it_the_rn2483_is_not_asked_to_answer(
    simulation_for: Callable[[str], Simulation],
) -> None:
    both = TEXT.replace("[gateway]", '[gateway]\n[[gateway.module]]\nboard = "dragino-hat"\nsf = 9').format(
        sf=9
    )
    simulation = simulation_for(both)
    simulation.run(200)
    status = simulation.radios[0].status(simulation.kernel.now_ns)
    on_spi, serial = status["modules"]
    assert simulation.counts()["joined"] == 2
    assert on_spi["sent"] >= 2
    assert serial["sent"] == 0
    assert serial["received"] > 0


def test_what_an_rn2483_cannot_do_is_said_with_its_place() -> None:
    with pytest.raises(ScenarioError, match="863"):
        parse(TEXT.format(sf=9).replace("sf = 9\n[gateway.gnss]", "freq_hz = 915_000_000\n[gateway.gnss]"))
