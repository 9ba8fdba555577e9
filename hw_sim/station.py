"""A scenario in real time, with the radio process's own code on its gateways: what `fluxgate demo` starts.

Chips, air and devices live on a paced kernel. `radio.service.run_radio` runs as on a Raspberry Pi, on the fake
`spidev` and `gpiod`, its module threads in lock-step with the kernel, and speaks GWMP to a real server over UDP.
"""

import contextlib
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Final

from hw_sim import fakes
from hw_sim.errors import SimError
from hw_sim.gnss import gnss_of
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.platforms import lockstep, lockstep_on_fakes
from hw_sim.scenario import Scenario
from hw_sim.statistics import Statistics
from hw_sim.world import Site, build
from radio.config import RadioConfig
from radio.service import run_radio

WRITE_S: Final = 0.5
LAST_WORDS_S: Final = 3.0  # virtual: after the devices fall silent, for windows and downlinks under way


def run(
    scenario: Scenario,
    server: tuple[str, int],
    eui: bytes,
    speed: float = 1.0,
    statistics: Path | None = None,
    control: Path | None = None,
) -> None:
    """Run until SIGTERM or SIGINT; then the devices fall silent, what is on the air ends, and so does this.

    Each further gateway of the scenario has the next EUI. Raises SimError for one with a concentrator, and what
    a radio or a simulated part failed with.
    """
    if any(plan.concentrator is not None for plan in scenario.gateways):
        raise SimError("a scenario with a concentrator runs in virtual time only: fluxgate sim run")
    kernel = Kernel(scenario.seed)
    world = build(scenario, kernel)
    counts = Statistics(world)
    # A process has one set of fake modules: the first gateway's. The others' radios are on their chips directly.
    hosts = [LocalHost(kernel, site.board) for site in world.sites]
    platforms = [lockstep_on_fakes(hosts[0]), *map(lockstep, hosts[1:])]
    clients = sum(len(site.plan.all_modules) + (site.plan.gnss is not None) for site in world.sites)
    radio_stop, writer_stop = threading.Event(), threading.Event()
    failure: list[BaseException] = []
    ended: list[int] = []

    def radio(index: int, site: Site) -> None:
        config = RadioConfig(
            modules=site.plan.all_modules,
            gnss=None if site.plan.gnss is None else gnss_of(site.plan.gnss),
            gateway_eui=(int.from_bytes(eui) + index).to_bytes(8),
            region=scenario.region,
            server_host=server[0],
            server_port=server[1],
            antenna_gain_dbi=site.plan.antenna_gain_dbi,
            control_socket=control if index == 0 else None,
        )
        try:
            run_radio(config, radio_stop, platforms[index])
        except BaseException as error:
            failure.append(error)
        finally:
            ended.append(index)
            if failure or len(ended) == len(world.sites):
                kernel.stop()

    def write() -> None:
        while statistics is not None and not writer_stop.wait(WRITE_S):
            counts.write(statistics)

    def end(number: int, frame: FrameType | None) -> None:
        for node in world.nodes:
            kernel.inject(node.stop)
        threading.Timer(LAST_WORDS_S / speed, radio_stop.set).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    threads = [threading.Thread(target=write, name="statistics")]
    for index, site in enumerate(world.sites):
        threads.append(threading.Thread(target=radio, args=(index, site), name=f"radio of {site.plan.name}"))
    try:
        for thread in threads:
            thread.start()
        kernel.await_clients(clients)
        kernel.run(pace=speed)
    finally:
        radio_stop.set()
        writer_stop.set()
        kernel.close()
        for thread in threads:
            thread.join()
        fakes.uninstall()
        if statistics is not None:
            with contextlib.suppress(OSError):  # the folder may be gone already
                counts.write(statistics)
    if failure:
        raise failure[0]
