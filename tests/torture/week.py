"""A simulated week: devices of all versions and classes, several regions, a gateway behind each.

One world a region, in virtual time: a concentrator (in EU868 two, which hear the same frames), devices of LoRaWAN 1.0.0
to 1.1 and of class A and C, OTAA and ABP, an air that destroys a tenth of all frames. Everybody sends, a third of it
confirmed; an application orders downlinks for class C devices and for a group of them. Then the books of the air, of
the devices and of the log are compared, and each device's data rate and power with what the link budget allows.

A last world has one module on one channel: how much of what devices send is heard, steered and not.

python tests/torture/week.py [--days D] [--devices N] [--seed S] [--regions EU868,US915] [--no-adr]
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform"), str(ROOT / "tests")]

from torture.week_world import SECOND_NS, RegionWorld  # noqa: E402

from hw_sim.concentrator import plan_for  # noqa: E402
from hw_sim.node import Node  # noqa: E402
from hw_sim.node_log import Received  # noqa: E402
from hw_sim.propagation import noise_floor_dbm  # noqa: E402
from hw_sim.scenario import Scenario, parse  # noqa: E402
from hw_sim.simulation import Simulation, settings_of  # noqa: E402
from radio.lora import REQUIRED_SNR_DB  # noqa: E402
from radio.regions import get_region  # noqa: E402
from radio.sx127x.registers import Power  # noqa: E402

DAY_S = 86_400
RADIUS_M = 2500.0
REGIONS = ("EU868", "US915", "AS923-1", "IN865")
LOSS = 0.1
MARGIN_DB = 10.0  # the gateway's installation margin, which is its setting's default
BEST_OF_20_DB = 1.87  # what the best of 20 frames is above the median, at a fading of 1 dB
CEILING_DB = 12.0  # the highest signal-to-noise ratio a receiver reports
STEP_DB = 3.0
EDGE_DB = 2.0
AT_ONCE_NS = SECOND_NS
GROUP_REPEATS = 3  # nobody acknowledges multicast, so an application says important things several times
FIRST_HOURS_S = 6 * 3600  # before orders begin: devices in fixed plans need many tries to join
# (version, class, activation) by turns, so that each region has them all.
KINDS = (
    ("1.0.3", "A", "otaa"),
    ("1.0.4", "C", "otaa"),
    ("1.1", "A", "otaa"),
    ("1.0.0", "A", "otaa"),
    ("1.0.2", "A", "abp"),
    ("1.1", "C", "otaa"),
    ("1.0.4", "A", "otaa"),
    ("1.0.1", "A", "otaa"),
    ("1.0.3", "C", "otaa"),
    ("1.1", "A", "abp"),
    ("1.0.2", "A", "otaa"),
    ("1.0.4", "B", "otaa"),
)
PERIODICITY = 5  # of class B: a slot each 32 seconds


def own_channels(region: str, activation: str) -> str:
    """A device that is personalised for a fixed plan is also set to its network's channels."""
    plan = get_region(region)
    if not plan.fixed_plan or activation != "abp":
        return ""
    wanted = plan_for(plan)
    wide = [] if wanted.wide is None else [wanted.wide.freq_hz]
    return f"channels_hz = {[*wanted.channels_hz, *wide]}"


def scenario(
    region: str, devices: int, seed: int, *, days: float, loss: float = LOSS, radius_m: float = RADIUS_M
) -> Scenario:
    """The region's world."""
    parts = [
        f'title = "A week in {region}"\nseed = {seed}\nregion = "{region}"\nduration_s = {days * DAY_S}',
        f"[air]\nloss = {loss}\nfading_db = 1.0",
    ]
    places = [(0, 0)] if region != "EU868" else [(0, 0), (900, 300)]
    parts += [f"[[gateway]]\nx_m = {x}\ny_m = {y}\n[gateway.concentrator]\ngnss = true" for x, y in places]
    parts.append('[[multicast]]\nname = "sirens"')
    losses = f"[{days * DAY_S * 0.4}]"
    for number in range(devices):
        version, klass, activation = KINDS[number % len(KINDS)]
        group = '\nmulticast = ["sirens"]' if klass == "C" else ""
        parts.append(
            f"""[[nodes]]
name = "d{number}-{version}-{klass}-{activation}"
version = "{version}"
class = "{klass}"
activation = "{activation}"
{own_channels(region, activation)}
periodicity = {PERIODICITY}
{f"rejoin_every_s = {days * DAY_S * 0.45}" if (version, klass, activation) == ("1.1", "A", "otaa") else ""}
sf = 10
radius_m = {radius_m}
interval_s = [600, 1200]
confirmed_share = 0.33
first_s = [1, 600]
power_losses_s = {losses if number % 5 == 3 else "[]"}{group}"""
        )
    return parse("\n".join(parts), f"{region}.toml")


# -- what the link budget allows ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """The best link between a device and any of the gateways, without fading: computed here, not asked of anybody."""

    loss_db: float

    def power_dbm(self, node: Node, power_index: int) -> int:
        """What the device's chip really sends."""
        low, high = Power.limits(pa_boost=True)
        offset_db = get_region(node.config.region).tx_power_offset_db[power_index]
        return max(low, min(high, round(node.mac.max_eirp_dbm + offset_db)))

    def slack_db(self, node: Node, dr: int, power_index: int) -> float:
        """Signal-to-noise ratio above what the data rate needs and the installation margin."""
        modulation = get_region(node.config.region).uplink_data_rates[dr]
        snr_db = (
            self.power_dbm(node, power_index)
            - self.loss_db
            - noise_floor_dbm(modulation.bw_hz)
            + BEST_OF_20_DB
        )
        return min(snr_db, CEILING_DB) - REQUIRED_SNR_DB[modulation.sf] - MARGIN_DB


def link_of(world: RegionWorld, node: Node) -> Link:
    path = world.scenario.air.path_loss
    here = node.config.x_m, node.config.y_m
    return Link(min(path.loss_db(math.dist(here, (plan.x_m, plan.y_m))) for plan in world.scenario.gateways))


def optimum(world: RegionWorld, node: Node) -> tuple[int, int]:
    """The fastest data rate, then the weakest power, with which the best of 20 frames still has the margin."""
    region = get_region(node.config.region)
    link = link_of(world, node)
    rates = [dr for dr in region.uplink_data_rates if node.config.dr <= dr <= region.adr_max_dr]
    dr = max((dr for dr in rates if link.slack_db(node, dr, 0) >= 0), default=node.config.dr)
    powers = range(region.max_tx_power_index + 1)
    return dr, max((index for index in powers if link.slack_db(node, dr, index) >= 0), default=0)


def steps_off(world: RegionWorld, node: Node) -> tuple[int, float]:
    """How many data rates, and how many dB of power that is really sent, a device is away from its optimum."""
    dr, power = optimum(world, node)
    link = link_of(world, node)
    return node.mac.dr - dr, abs(link.power_dbm(node, node.mac.tx_power) - link.power_dbm(node, power))


def converged(world: RegionWorld, node: Node) -> bool:
    """Is there no further step to take? A step of the algorithm is 3 dB of what is left above the margin.

    What it goes by is the best of 20 frames that fade, so on the edge of a step either side may come out.
    """
    region, link = get_region(node.config.region), link_of(world, node)
    left_db = link.slack_db(node, node.mac.dr, node.mac.tx_power)
    weakest = link.power_dbm(node, region.max_tx_power_index)
    at_the_end = node.mac.dr == region.adr_max_dr and link.power_dbm(node, node.mac.tx_power) == weakest
    at_the_start = node.mac.dr <= node.config.dr and node.mac.tx_power == 0
    return (left_db < STEP_DB + EDGE_DB or at_the_end) and (left_db > -EDGE_DB or at_the_start)


# -- a world, and what is found in it ------------------------------------------------------------------------


def live(world: RegionWorld, days: float, seed: int) -> None:
    """Let the time pass, with an application that orders downlinks for devices of class C."""
    rng = random.Random(f"{seed}/orders")
    first_s = min(FIRST_HOURS_S, days * DAY_S / 4)
    valves = [node for node in world.nodes() if node.config.device_class != "A"]
    orders = max(10, round(10 * days))
    for number in range(orders):
        at_s = rng.uniform(first_s, days * DAY_S - 600)
        for node in valves:
            payload = f"{node.config.name}/{number}".encode()
            world.at(at_s + rng.uniform(0, 300), order(world, node, payload, confirmed=number % 2 == 0))
        for again in range(GROUP_REPEATS):
            world.at(at_s + 450 + 20 * again, order_group(world, f"all/{number}".encode()))
    world.run(days * DAY_S)
    world.end()


def order_group(world: RegionWorld, payload: bytes) -> Callable[[], None]:
    return lambda: world.order_group(payload)


def order(world: RegionWorld, node: Node, payload: bytes, *, confirmed: bool) -> Callable[[], None]:
    return lambda: world.order(node, payload, confirmed=confirmed)


@dataclass
class Findings:
    """A row of the table."""

    region: str
    devices: int
    joined: int
    joins: int
    rejoins: int
    uplinks: int
    heard: int
    stored: int
    twice: int
    lost: int
    confirmed: int  # uplinks
    acked: int
    heard_unacked: int  # given up by their devices although a gateway had heard them
    converged: int
    exact: int
    adaptive: int
    class_b: str  # arrived of ordered, the longest it took; beacons heard of those sent
    orders: int
    sure_orders: int  # of them, confirmed
    sure_arrived: int
    orders_arrived: int
    at_once: int
    worst_s: float
    group_orders: int
    group_expected: int
    group_arrived: int
    rejected: dict[str, int]
    seconds: float
    stragglers: list[str]

    def row(self) -> list[str]:
        return [
            self.region,
            str(self.devices),
            str(self.joined),
            f"{self.joins}+{self.rejoins}",
            str(self.uplinks),
            str(self.heard),
            str(self.stored),
            str(self.twice),
            str(self.lost),
            f"{self.acked}/{self.confirmed}",
            str(self.heard_unacked),
            f"{self.converged}/{self.adaptive} ({self.exact} exact)",
            f"{self.at_once}/{self.orders_arrived}/{self.orders}",
            f"{self.sure_arrived}/{self.sure_orders}",
            self.class_b,
            f"{self.group_arrived}/{self.group_expected}",
            f"{self.seconds:.0f} s",
        ]


HEAD = [
    "region",
    "devices",
    "joined",
    "joins+rejoins",
    "uplinks",
    "heard",
    "stored",
    "twice",
    "lost",
    "acked",
    "heard, not acked",
    "ADR at optimum",
    "class C <=1 s/arrived/ordered",
    "confirmed",
    "class B",
    "multicast",
    "took",
]


def arrivals(
    world: RegionWorld, device_class: str = "C", *, sure: bool = False
) -> Iterator[tuple[str, int, Received | None, int]]:
    """(device, when it was ordered, what arrived or None, how long it took) for each downlink of a class.

    `sure`: of the confirmed ones only.
    """
    classes = {node.config.name: str(node.config.device_class) for node in world.nodes()}
    frames: dict[str, dict[bytes, Received]] = {}
    for node in world.nodes():
        first: dict[bytes, Received] = {}
        for frame in node.received:
            if frame.group is None:
                first.setdefault(frame.payload, frame)
        frames[node.config.name] = first
    for each in world.book.ordered:
        if classes[each.name] != device_class or (sure and not each.confirmed):
            continue
        arrived = frames[each.name].get(each.payload)
        yield each.name, each.at_ns, arrived, 0 if arrived is None else arrived.at_ns - each.at_ns


def class_b(world: RegionWorld) -> str:
    """What became of class B, in a few figures."""
    took = [frame and took_ns for _, _, frame, took_ns in arrivals(world, "B")]
    arrived = [each for each in took if each]
    counters = [node.counters for node in world.nodes() if node.config.device_class == "B"]
    heard, missed = sum(c.beacons for c in counters), sum(c.beacons_missed for c in counters)
    return f"{len(arrived)}/{len(took)} <={max(arrived, default=0) / SECOND_NS:.0f} s, {heard}/{heard + missed} beacons"


def findings(world: RegionWorld, seconds: float) -> Findings:
    nodes = list(world.nodes())
    counters = [node.counters for node in nodes]
    logged = world.logged()
    arrived = [took for _, _, frame, took in arrivals(world) if frame is not None]
    adaptive = [node for node in nodes if node.config.adr and node.joined]
    good = [node for node in adaptive if converged(world, node)]
    members = [node for node in nodes if node.config.groups]
    group_orders = world.book.group_orders // GROUP_REPEATS
    group_heard = sum(len({f.payload for f in node.received if f.group is not None}) for node in members)
    return Findings(
        region=world.scenario.region,
        devices=len(nodes),
        joined=sum(node.joined for node in nodes),
        joins=sum(each.joins for each in counters),
        rejoins=sum(each.rejoins for each in counters),
        uplinks=sum(each.uplinks for each in counters),
        heard=len(world.book.heard),
        stored=logged.total(),
        twice=world.accepted_twice(),
        lost=world.never_stored(),
        confirmed=sum(each.confirmed for each in counters),
        acked=sum(each.acks for each in counters),
        heard_unacked=sum(
            (str(n.config.dev_eui), addr, fcnt & 0xFFFF) in world.book.heard
            for n in nodes
            for addr, fcnt in n.given_up
        ),
        converged=len(good),
        exact=sum(steps_off(world, n) == (0, 0) for n in adaptive),
        adaptive=len(adaptive),
        class_b=class_b(world),
        orders=len(list(arrivals(world))),
        sure_orders=len(list(arrivals(world, sure=True))),
        sure_arrived=sum(frame is not None for _, _, frame, _ in arrivals(world, sure=True)),
        orders_arrived=len(arrived),
        at_once=sum(took <= AT_ONCE_NS for took in arrived),
        worst_s=max(arrived, default=0) / SECOND_NS,
        group_orders=group_orders,
        group_expected=group_orders * len(members),
        group_arrived=group_heard,
        rejected={str(reason): n for reason, n in world.server.counters.rejected.items() if n},
        seconds=seconds,
        stragglers=[
            f"{n.config.name}: DR{n.mac.dr} power {n.mac.tx_power}, best DR{{}} power {{}}".format(
                *optimum(world, n)
            )
            for n in adaptive
            if n not in good
        ],
    )


def live_through(
    region: str,
    folder: Path,
    *,
    days: float,
    devices: int,
    seed: int,
    loss: float = LOSS,
    radius_m: float = RADIUS_M,
    adr: bool = True,
) -> Findings:
    """One region's world from its first frame to its findings."""
    began = time.monotonic()
    plan = scenario(region, devices, seed, days=days, loss=loss, radius_m=radius_m)
    world = RegionWorld(plan, folder / region, adr=adr)
    try:
        live(world, days, seed)
        return findings(world, time.monotonic() - began)
    finally:
        world.close()


# -- one module on one channel -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Steering:
    """How much of what devices sent was heard by a gateway with one module on one of three channels."""

    devices: int
    joined: int
    sent: int  # uplinks with a counter of their own, after the first hour
    heard: int  # of those, by the server's count
    told: float  # heard rate that the server itself estimates from gaps in FCnt, the mean over the devices
    tries: float  # join-requests for each join

    @property
    def share(self) -> float:
        return self.heard / self.sent if self.sent else 0.0


STEERED = """
title = "One module, one channel, six devices on three"
region = "EU868"
[air]
fading_db = 1.0
[gateway]
[[gateway.module]]
board = "dragino-hat"
freq_hz = 868100000
sf = 7
"""


def steered(hours: float, seed: int, *, steer: str = "auto") -> Steering:
    """One module, devices of several versions that know nothing of it; `steer` "off": the control."""
    kinds = ("1.0.0", "1.0.2", "1.0.3", "1.0.4", "1.1", "1.1")
    nodes = [
        f"""[[nodes]]
name = "s{number}"
version = "{version}"
radius_m = 300
interval_s = [200, 300]
first_s = [1, 60]"""
        for number, version in enumerate(kinds)
    ]
    plan = parse(f"seed = {seed}\n" + STEERED + "\n".join(nodes), "steered.toml")
    settings = replace(settings_of(plan), steer=steer)
    simulation = Simulation(plan, settings=settings)
    simulation.start()
    try:
        simulation.run(3600)
        sent = sum(node.counters.uplinks for node in simulation.world.nodes)
        heard = simulation.server.counters.uplinks
        simulation.run(3600 * hours)
        statuses = [simulation.server.device(node.config.dev_eui) for node in simulation.world.nodes]
        shares = [status.heard_share for status in statuses if status.heard_share is not None]
        joins = sum(node.counters.joins for node in simulation.world.nodes)
        return Steering(
            devices=len(kinds),
            joined=sum(node.joined for node in simulation.world.nodes),
            sent=sum(node.counters.uplinks for node in simulation.world.nodes) - sent,
            heard=simulation.server.counters.uplinks - heard,
            told=sum(shares) / max(1, len(shares)),
            tries=sum(node.counters.join_requests for node in simulation.world.nodes) / max(1, joins),
        )
    finally:
        simulation.close()


def main() -> int:
    """The long version, by hand."""
    parser = argparse.ArgumentParser(description="A simulated week of LoRaWAN devices.")
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--devices", type=int, default=50, help="of all regions together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--regions", default=",".join(REGIONS))
    parser.add_argument("--loss", type=float, default=LOSS)
    parser.add_argument("--no-adr", action="store_true", help="control: data rates stay where they are")
    options = parser.parse_args()
    regions = options.regions.split(",")
    found: list[Findings] = []
    for number, region in enumerate(regions):
        share = options.devices // len(regions) + (number < options.devices % len(regions))
        with tempfile.TemporaryDirectory() as folder:
            found.append(
                live_through(
                    region,
                    Path(folder),
                    days=options.days,
                    devices=share,
                    seed=options.seed,
                    loss=options.loss,
                    adr=not options.no_adr,
                )
            )
        print(region, found[-1], flush=True)
    rows = [HEAD, *(each.row() for each in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    for each in found:
        for line in each.stragglers:
            print(f"{each.region}: {line}")
    hours = max(1.0, min(48.0, options.days * 24 / 3.5))
    for steer in ("off", "auto"):
        one = steered(hours, options.seed, steer=steer)
        print(
            f"one module of three channels, steering {steer}: {one.joined} of {one.devices} joined with"
            f" {one.tries:.1f} tries each, {one.heard} of {one.sent} uplinks heard ({one.share:.1%};"
            f" the server says {one.told:.1%})"
        )
    return int(any(each.twice or each.lost or each.joined < each.devices for each in found))


if __name__ == "__main__":
    sys.exit(main())
