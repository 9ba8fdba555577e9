"""A scenario in real time, with the radio process's own code on its modules: what `fluxgate demo` starts.

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
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.platforms import lockstep_on_fakes
from hw_sim.scenario import Scenario
from hw_sim.statistics import Statistics
from hw_sim.world import build
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

    Raises what the radio or a simulated part failed with.
    """
    kernel = Kernel(scenario.seed)
    world = build(scenario, kernel)
    counts = Statistics(world)
    radio_stop, writer_stop = threading.Event(), threading.Event()
    failure: list[BaseException] = []
    config = RadioConfig(
        modules=scenario.modules,
        gateway_eui=eui,
        region=scenario.region,
        server_host=server[0],
        server_port=server[1],
        antenna_gain_dbi=scenario.antenna_gain_dbi,
        control_socket=control,
    )
    platform = lockstep_on_fakes(LocalHost(kernel, world.board))

    def radio() -> None:
        try:
            run_radio(config, radio_stop, platform)
        except BaseException as error:
            failure.append(error)
        finally:
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
    threads = [threading.Thread(target=target, name=target.__name__) for target in (radio, write)]
    try:
        for thread in threads:
            thread.start()
        kernel.await_clients(len(scenario.modules))
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
