"""The radio process: one thread per module, the concentrator over them, and one for each server.

`Radio` is everything but the servers and may be used without one: `on_frame` then takes the frames, and
`transmit` gives orders. `run_radio` is what the `fluxgate radio` command runs until it is told to stop.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from radio import calibration
from radio.boards import Board, ModuleWiring
from radio.calibrate import Calibrator, Station, borrowed
from radio.concentrator import Concentrator, TxModule, TxResult
from radio.config import ModuleConfig, RadioConfig
from radio.control import ControlError, ControlServer
from radio.errors import RadioError
from radio.forwarder import SECOND_NS, Forwarder
from radio.gwmp import RxPacket, TxPacket
from radio.hardware import realtime
from radio.hardware.clock import MonotonicClock, boot_id, utc_ns
from radio.hardware.gpio import open_line, open_lines
from radio.hardware.spi import SpidevBus
from radio.hardware.uart import SerialDevice
from radio.hardware.wallclock import system_time
from radio.jit import JitTiming
from radio.ledger import Airtime, Moment
from radio.owner import ModuleOwner
from radio.rn2483 import Rn2483
from radio.rn2483_owner import Rn2483Owner, rn2483_transmitter
from radio.rn2483_states import Tuning
from radio.seam import Bus, Clock, Lines
from radio.server_config import ServerConfig
from radio.servers import Downlinks, Fanout, Outlet, Server, Transmit
from radio.state import StateFolder
from radio.station.client import Client
from radio.station.server import StationServer
from radio.sx127x.chip import Chip
from radio.sx127x.modem import Event, Sent
from radio.sx127x.registers import Settings
from radio.sx127x.roaming import RoamingModem
from radio.sx127x.scan import LIMIT_S, ScanJob, ScanPlan, scan_arguments
from radio.time_and_place import OpenPulse, OpenSerial, TimeAndPlace
from radio.timebase import SystemTime
from radio.udp import UdpForwarder

log = logging.getLogger(__name__)

JOIN_S: Final = 5.0  # a module thread looks at `stop` at least once per downlink


@dataclass(frozen=True, slots=True)
class Platform:
    """What the radio runs on: makers of the seam's objects, each called once per module."""

    bus: Callable[[Board, ModuleWiring], Bus]
    lines: Callable[[Board, ModuleWiring, Clock], Lines]
    clock: Callable[[str], Clock]  # one for each thread, by its name
    utc_ns: Callable[[int], int | None] | None = None  # wall time of a clock's time, where there is one
    realtime: bool = False  # ask the operating system for real-time scheduling
    boot_id: str = ""  # of the clock's time: the same as long as it does not begin anew
    serial: OpenSerial | None = None  # a port by its device file and rate
    pulse: OpenPulse | None = None  # a line, by BCM number, that rises with each second of a GNSS receiver
    system: Callable[[], SystemTime | None] | None = None  # the machine's wall clock, and who vouches for it


def linux_platform(gpio: str = "auto") -> Platform:
    """spidev, gpiod (or RPi.GPIO) and the monotonic clock of the machine."""
    return Platform(
        bus=lambda board, wiring: SpidevBus(*wiring.spi, board.spi_hz),
        lines=lambda board, wiring, clock: open_lines(gpio, board, wiring, clock.now_ns),
        clock=lambda _name: MonotonicClock(),
        utc_ns=utc_ns,
        realtime=True,
        boot_id=boot_id(),
        serial=SerialDevice,
        pulse=lambda line, clock: open_line("pps", line, clock.now_ns),
        system=system_time,
    )


class Radio:
    """All modules of a configuration, running in their threads between `start` and `stop`.

    `on_frame` gets each frame and the time its last symbol ended, in the thread of the module that heard it;
    it may call `transmit` from there. `on_sent` is told of each downlink that has left.
    """

    def __init__(
        self,
        config: RadioConfig,
        platform: Platform,
        on_frame: Callable[[RxPacket, int], None],
        on_sent: Callable[[Sent], None] | None = None,
    ) -> None:
        self.config = config
        self.failure: BaseException | None = None  # what ended the first thread that failed
        self.granted = realtime.Granted()
        self._quiet = realtime.Quiet() if platform.realtime else None
        self.servers: Callable[[], list[dict[str, Any]]] = list  # their status, where there are any
        self.ended = threading.Event()  # set when a module thread has ended, wanted or not
        self._platform = platform
        self._on_sent = on_sent
        self._stop = threading.Event()
        self._state_clock: Clock | None = None
        self._owners: list[ModuleOwner | Rn2483Owner] = []
        self._threads: list[threading.Thread] = []
        self._buses: list[Bus] = []
        self._stations: list[tuple[Station, ModuleOwner]] = []
        self.state = StateFolder(config.state_dir)
        self.calibration = calibration.kept_in(self.state)
        self.place = TimeAndPlace(
            config.gnss,
            platform.clock,
            serial=platform.serial,
            pulse=platform.pulse,
            system=platform.system,
            utc_ns=platform.utc_ns,
            state=self.state,
        )
        self._airtime = Airtime(config.region_data.sub_bands, self.state, self._moment)
        self.concentrator = Concentrator(
            config.region_data,
            on_frame,
            airtime=self._airtime,
            antenna_gain_dbi=config.antenna_gain_dbi,
            tx_lead_us=config.tx_lead_us,
            utc_ns=self.place.utc_ns,
            gps_ms=self.place.time.gps_ms,
            mono_of_gps_ms=self.place.time.mono_of_gps_ms,
            forward_crc_errors=config.forward_crc_errors,
            private=[module.private for module in config.modules],
            sync_word=config.sync_word,
        )

    def start(self) -> None:
        """Open the hardware and start the threads. Raises RadioError or OSError where a module is not there."""
        transmitters = []
        try:
            for channel, module in enumerate(self.config.modules):
                owner: ModuleOwner | Rn2483Owner
                if module.kind == "rn2483":
                    owner = self._serial_owner(channel, module)
                    able = rn2483_transmitter(owner, module.role.receives)
                else:
                    owner = self._owner(channel, module)
                    wiring = module.wiring
                    able = TxModule(owner, module.role.receives, wiring.pa_boost, wiring.max_power_dbm)
                self._owners.append(owner)
                if module.role.transmits:
                    transmitters.append(able)
        except ImportError as error:
            raise RadioError(f"{error}: install the Raspberry Pi extra, fluxgate[pi]") from error
        self.concentrator.use(transmitters)
        self._airtime.start()
        self.place.start(self._stop)
        for doubt in self.config.doubts:
            log.warning("%s", doubt)
        for owner in self._owners:
            thread = threading.Thread(
                target=self._run, args=(owner,), name=f"radio {owner.name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def transmit(self, order: TxPacket, now_ns: int) -> TxResult:
        """Accept or refuse a downlink (see `Concentrator.transmit`), from any thread."""
        return self.concentrator.transmit(order, now_ns)

    def stop(self) -> None:
        """End the threads and wait for them. The modules are left asleep."""
        self.ask_to_stop()
        for thread in self._threads:
            thread.join(JOIN_S)
        self.place.join(JOIN_S)
        self._airtime.stop()
        for bus in self._buses:
            if isinstance(bus, SpidevBus):
                bus.close()

    def scan(
        self,
        start_hz: int,
        stop_hz: int,
        step_hz: int = 200_000,
        dwell_ms: int = 10,
        module: int | None = None,
    ) -> dict[str, Any]:
        """Signal strength by frequency, measured by one module in its pauses; blocks until that is done.

        `module` is its place in the configuration; None: one that does not receive, else the first. From any thread
        but the modules'. Raises ValueError or RadioError with what to mend.
        """
        job = ScanJob(ScanPlan(start_hz, stop_hz, step_hz, dwell_ms))
        owner = self._scanning_module(module)
        if not owner.post_scan(job):
            raise RadioError(f"module {owner.name} has other scans to do: try again in a minute")
        if not job.done.wait(LIMIT_S):
            owner.cancel_scan(job)
            raise RadioError(
                f"module {owner.name} came to nothing of it in {LIMIT_S} s: {owner.fault or 'it is busy'}"
            )
        if job.failure:
            raise RadioError(f"module {owner.name}: {job.failure}")
        return job.result(owner.name)

    def calibrate(self) -> dict[str, Any]:
        """Have the first two SX127x modules measure each other's delays, use the result and keep it; TRANSMITS.

        Blocks for about half a minute, in which these two do nothing else. From any thread but the modules'. Raises
        RadioError or OSError.
        """
        if len(self._stations) < 2:
            raise RadioError("calibrating takes two SX127x modules, and there is one ([[radio.module]])")
        (first, _), (second, _) = pair = self._stations[:2]
        clock, config, said = self._platform.clock("calibrate"), self.config, list[str]()
        work = Calibrator(
            (first, second),
            clock,
            config.region_data,
            self._airtime,
            antenna_gain_dbi=config.antenna_gain_dbi - config.cable_loss_db,
            say=said.append,
            stop=self._stop.is_set,
        )
        utc_ns = self.place.utc_ns(clock.now_ns())
        with borrowed([owner for _, owner in pair], clock):
            found = work.run(
                [module.modulation for module in config.modules],
                None if utc_ns is None else utc_ns // SECOND_NS,
            )
        self.calibration = found
        for _, owner in self._stations:
            owner.modem.rx_done_latency_ns = found.rx_done_latency_ns
            owner.modem.start_latency_ns = found.start_latency_ns
        kept = self.state.write(calibration.NAME, calibration.to_state(found))
        return found.status() | {"kept": kept, "said": said, "left_out": list(work.left_out)}

    def _scanning_module(self, index: int | None) -> ModuleOwner:
        able = {
            i: (config.role.receives, owner)
            for i, (owner, config) in enumerate(zip(self._owners, self.config.modules, strict=True))
            if isinstance(owner, ModuleOwner)
        }
        if index is None and able:
            index = min(able, key=lambda i: (able[i][0], i))
        if index not in able:
            raise RadioError(
                f"there is no SX127x module {'' if index is None else index} that could scan: "
                f"give one of {sorted(able)}"
            )
        return able[index][1]

    def ask_to_stop(self) -> None:
        """End the threads; does not wait."""
        self._stop.set()
        for owner in self._owners:
            owner.clock.wake()
        self.place.wake()

    def status(self, now_ns: int) -> dict[str, Any]:
        """Everything there is to know, as plain values: modules, counters, duty cycle."""
        return {
            "modules": [
                {
                    "name": owner.name,
                    "role": str(module.role),
                    "freq_hz": module.freq_hz,
                    "datr": module.modulation.datr,
                    "realtime": self.granted.has_priority(owner.name),
                    **owner.status(now_ns),
                }
                for owner, module in zip(self._owners, self.config.modules, strict=True)
            ],
            "mono_ns": now_ns,
            "realtime": self.granted.status(),
            "counters": dict(self.concentrator.counters),
            "calibration": self.calibration.status(),
            "servers": self.servers(),
            **self.place.status(now_ns),
            **self.concentrator.status(now_ns),
        }

    def _owner(self, channel: int, module: ModuleConfig) -> ModuleOwner:
        board, wiring = module.board_data, module.wiring
        clock = self._platform.clock(module.name)
        lines = self._platform.lines(board, wiring, clock)
        self._buses.append(self._platform.bus(board, wiring))
        sync_word = self.config.sync_word_of(module)
        modem = RoamingModem(
            chip=Chip(self._buses[-1]),
            receive=Settings(module.freq_hz, module.modulation, sync_word=sync_word)
            if module.role.receives
            else None,
            sync_word=sync_word,
            pa_boost=wiring.pa_boost,
            calibrate_at_hz=module.freq_hz,
            rx_done_latency_ns=self.calibration.rx_done_latency_ns,
            start_latency_ns=self.calibration.start_latency_ns,
            sweep_sfs=module.sweep_sfs,
        )

        owner = ModuleOwner(
            module.name,
            modem,
            lines,
            clock,
            lambda _owner, event: self._on_event(channel, event),
            has_reset=wiring.reset is not None,
            spi_hz=board.spi_hz,
            quiet=self._quiet,
            timing=JitTiming.listening(self.config.region_data.lbt),
        )
        self._stations.append((Station(module.name, board, wiring, self._buses[-1], lines), owner))
        return owner

    def _serial_owner(self, channel: int, module: ModuleConfig) -> Rn2483Owner:
        if self._platform.serial is None:
            raise RadioError(f"module {module.name}: there are no serial ports here")
        receive = Tuning(module.freq_hz, module.modulation, iq_inverted=False, crc=True)
        sync_word = self.config.sync_word_of(module)
        modem = Rn2483(receive if module.role.receives else None, sync_word, module.baud)
        return Rn2483Owner(
            module.name,
            modem,
            self._platform.serial(module.port, module.baud),
            self._platform.clock(module.name),
            lambda _owner, event: self._on_event(channel, event),
        )

    def _on_event(self, channel: int, event: Event) -> None:
        self.concentrator.on_event(channel, event)
        if isinstance(event, Sent) and self._on_sent is not None:
            self._on_sent(event)

    def _moment(self) -> Moment:
        if self.config.state_dir is None:  # nothing is written: no clock is needed
            return Moment(0, "")
        if self._state_clock is None:
            self._state_clock = self._platform.clock("state")
        mono_ns = self._state_clock.now_ns()
        error_ns = self.place.time.error_ns(mono_ns)
        known = error_ns is not None and error_ns < SECOND_NS
        return Moment(mono_ns, self._platform.boot_id, self.place.time.utc_ns(mono_ns) if known else None)

    def _run(self, owner: ModuleOwner | Rn2483Owner) -> None:
        if self._platform.realtime:
            self.granted.thread(owner.name)
        try:
            owner.run(self._stop)
        except BaseException as error:
            log.exception("radio module %s: its thread failed", owner.name)
            self.failure = self.failure or error
        finally:
            self.ended.set()


def run_radio(config: RadioConfig, stop: threading.Event, platform: Platform | None = None) -> None:
    """Run modules and servers until `stop` is set. The first thread to fail ends all: its error is raised.

    Raises RadioError or OSError where the hardware is not there.
    """
    platform = linux_platform(config.gpio) if platform is None else platform
    clock = platform.clock("servers")  # of the same time base as the modules'
    radio: Radio
    downlinks = Downlinks(lambda order, now_ns: radio.transmit(order, now_ns))
    servers = Fanout(_outlets(config, clock, downlinks, lambda: radio.place), downlinks, clock.now_ns)
    radio = Radio(
        config, platform, lambda rx, _end_ns: servers.frame(rx), lambda sent: servers.sent(sent.tx.id)
    )
    radio.servers = servers.status
    radio.start()
    control = _control(config, radio, clock)
    servers.start(radio.ended.set)
    if platform.realtime:
        radio.granted.process()
    try:
        while not stop.is_set() and not radio.ended.wait(0.5):
            pass
    finally:
        if control is not None:
            control.close()
        radio.stop()
        servers.stop(JOIN_S)
    if radio.failure is not None:
        raise radio.failure
    if servers.failure is not None:
        raise servers.failure


def _outlets(
    config: RadioConfig, clock: Clock, downlinks: Downlinks, place: Callable[[], TimeAndPlace]
) -> list[Outlet]:
    """The servers of a configuration, the local gateway first."""
    local = ServerConfig.local(config.server_host, config.server_port)
    return [
        Outlet(_server(each, config, clock, downlinks.of(each.name), place), each.filter.why_not)
        for each in (local, *config.servers)
    ]


def _server(
    server: ServerConfig,
    config: RadioConfig,
    clock: Clock,
    transmit: Transmit,
    place: Callable[[], TimeAndPlace],
) -> Server:
    if server.kind == "station":
        client = Client(
            config.region_data,
            transmit,
            name=server.name,
            downlinks=server.downlinks,
            heard_hz=[module.freq_hz for module in config.modules if module.role.receives],
            utc_ns=lambda mono_ns: place().utc_ns(mono_ns),
        )
        return StationServer(client, config.gateway_eui, server.uri, server.credentials, clock)
    core = Forwarder(
        config.gateway_eui,
        transmit,
        name=server.name,
        downlinks=server.downlinks,
        keepalive_ns=round(config.keepalive_s * SECOND_NS),
        stat_ns=round(config.stat_interval_s * SECOND_NS),
        utc_ns=lambda mono_ns: place().utc_ns(mono_ns),
        position=lambda: place().position(),
    )
    return UdpForwarder(core, server.host, server.port, clock)


def _control(config: RadioConfig, radio: Radio, clock: Clock) -> ControlServer | None:
    """The socket on which the process can be asked. A radio that cannot be asked still does its work."""
    if config.control_socket is None:
        return None
    control = ControlServer(config.control_socket)
    control.handle("status", lambda _args: radio.status(clock.now_ns()))
    control.handle("calibrate", lambda _args: radio.calibrate())
    control.handle("scan", lambda args: radio.scan(**scan_arguments(args)))
    try:
        control.start()
    except ControlError as error:
        log.warning("%s", error)
        control.close()
        return None
    return control
