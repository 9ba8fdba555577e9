"""Faults of counters, channels, downlinks, the device itself, and the gateway."""

from __future__ import annotations

import random

from gateway.diagnosis.finding import GATEWAY
from gateway.diagnosis.reasons import Kind
from gateway.link import NOT_ANSWERED, NOT_ASKED
from gateway.lorawan import frames
from gateway.lorawan.profile import DeviceClass
from hub.message import TimeQuality
from radio.gwmp import TxError

from .diagnosis_site import (
    Node,
    Site,
    abp,
    fault,
    good,
    joined,
    site_of,
)

# Counters and repetitions


@fault(Kind.COUNTER_RESET)
def counter_reset(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = abp(site, Node.new(rng))
    good(site, node, rng.randint(2, 12))
    node.fcnt = 0
    for _ in range(rng.randint(1, 3)):
        site.hear(node.uplink(), after_s=60)
    return site, str(node.dev_eui)


@fault(Kind.COUNTER_RESET)
def counter_set_back(rng: random.Random, on: bool) -> tuple[Site, str]:
    """Its counter is saved now and then only: after a power cut it goes on from an older one."""
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    node.fcnt += 1000
    good(site, node)
    node.fcnt -= rng.randint(50, 900)
    for _ in range(rng.randint(2, 4)):
        site.hear(node.uplink(), after_s=60)
    return site, str(node.dev_eui)


@fault(Kind.SHORT_COUNTER)
def short_counter(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = rng.choice((joined, abp))(site, Node.new(rng))
    node.fcnt = 65_536 - rng.randint(1, 5)
    good(site, node, 65_536 - node.fcnt)
    node.fcnt = 0
    for _ in range(rng.randint(1, 4)):
        site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.COUNTER_GAP)
def counter_gap(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = rng.choice((joined, abp))(site, Node.new(rng))
    node.fcnt += 65_536 * rng.randint(3, 40) + rng.randrange(1000)
    site.hear(node.uplink())
    return site, str(node.dev_eui)


@fault(Kind.FRAME_REPLAYED)
def frame_replayed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    recorded = []
    for _ in range(6):
        recorded.append(node.uplink())
        site.hear(recorded[-1])
    good(site, node, 2)
    for _ in range(rng.randint(2, 4)):
        site.hear(rng.choice(recorded), after_s=rng.choice((0.5, 30)))
        good(site, node, 1)
    site.hear(rng.choice(recorded), after_s=rng.choice((0.5, 30)))
    return site, str(node.dev_eui)


@fault(Kind.FRAME_REPLAYED)
def recorded_and_repeated_at_once(rng: random.Random, on: bool) -> tuple[Site, str]:
    """Everything that was recorded of an ABP device, again and in order, faster than a device could."""
    site = site_of(rng, on)
    node = abp(site, Node.new(rng))
    recorded = [node.uplink() for _ in range(rng.randint(4, 20))]
    for frame in recorded:
        site.hear(frame, after_s=60)
    good(site, node, 1)
    for frame in recorded:
        site.hear(frame, after_s=rng.uniform(0.1, 1.5))
    return site, str(node.dev_eui)


@fault(Kind.DUPLICATE_FLOOD)
def duplicate_flood(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    for _ in range(4):
        frame = node.uplink()
        site.hear(frame, after_s=5)
        for _ in range(12):
            site.hear(frame, after_s=0.01)
    return site, str(node.dev_eui)


@fault(Kind.ACK_UNHEARD)
def ack_unheard(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    frame = node.uplink(confirmed=True)
    for _ in range(rng.randint(4, 8)):
        site.hear(frame, after_s=rng.uniform(3, 8))
    return site, str(node.dev_eui)


@fault(Kind.FRAME_DAMAGED)
def frame_damaged(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    damaged = bytearray(node.uplink())
    damaged[rng.randrange(8, len(damaged))] ^= rng.randrange(1, 256)
    site.hear(bytes(damaged))
    return site, str(node.dev_eui)


@fault(Kind.CRC_ERRORS)
def crc_errors(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    for _ in range(rng.randint(1, 5)):
        damaged = bytearray(node.uplink())
        damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
        site.hear(bytes(damaged), stat=-1)
    return site, GATEWAY


# Channels and data rates


@fault(Kind.WRONG_REGION)
def wrong_region(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on, "US915"), Node.new(rng)
    site.server.add_device(node.otaa())
    site.hear(node.request(), freq_hz=rng.choice((868_100_000, 868_300_000, 433_175_000)))
    return site, str(node.dev_eui)


@fault(Kind.CHANNEL_UNKNOWN)
def channel_unknown(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = rng.choice((joined, abp))(site, Node.new(rng))
    site.hear(node.uplink(), freq_hz=rng.choice((867_100_000, 867_500_000, 869_525_000)))
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.DATA_RATE_UNKNOWN)
def data_rate_unknown(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = abp(site, Node.new(rng))
    site.hear(node.uplink(), sf=rng.choice((8, 9)), bw_hz=500_000)
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.SUB_BAND_OTHER)
def sub_band_other(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on, "US915", uplink_channels=tuple(range(8, 16))), Node.new(rng)
    site.server.add_device(node.otaa())
    site.hear(node.request(), freq_hz=902_300_000 + 200_000 * rng.randrange(8))
    return site, str(node.dev_eui)


# Downlinks


def _confirmed(rng: random.Random, site: Site, number: int) -> str:
    node = joined(site, Node.new(rng))
    for _ in range(number):
        site.hear(node.uplink(confirmed=True), after_s=60)
    return str(node.dev_eui)


@fault(Kind.RX_WINDOW_MISSED)
def rx_window_missed(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    site.radio.error, site.radio.slow_s = TxError.TOO_LATE, rng.uniform(2.01, 3)
    site.hear(node.uplink(confirmed=True))
    return site, str(node.dev_eui)


def _refused(error: TxError, kind: Kind, says: str = "") -> None:
    def inject(rng: random.Random, on: bool) -> tuple[Site, str]:
        site = site_of(rng, on)
        node = joined(site, Node.new(rng))
        site.radio.error, site.radio.says = error, says
        for _ in range(rng.randint(1, 3)):
            site.hear(node.uplink(confirmed=True))
        return site, str(node.dev_eui)

    fault(kind)(inject)


_refused(TxError.TOO_EARLY, Kind.DOWNLINK_TOO_EARLY)
_refused(TxError.COLLISION_PACKET, Kind.DOWNLINK_COLLISION)
_refused(TxError.COLLISION_BEACON, Kind.BEACON_COLLISION)
_refused(TxError.COLLISION_PACKET, Kind.DUTY_CYCLE_USED, "the duty cycle of 868-868.6 MHz is used up")
_refused(TxError.TOO_LATE, Kind.FORWARDER_GONE, NOT_ASKED)
_refused(TxError.TOO_LATE, Kind.FORWARDER_GONE, NOT_ANSWERED)
_refused(TxError.TX_FREQ, Kind.FREQUENCY_REFUSED)
_refused(TxError.TX_POWER, Kind.POWER_REFUSED)
_refused(TxError.GPS_UNLOCKED, Kind.GPS_UNLOCKED)


@fault(Kind.NO_WINDOW)
def no_window(rng: random.Random, on: bool) -> tuple[Site, str]:
    """Under a dwell limit the slowest data rates carry nothing."""
    site, node = site_of(rng, on, "AS923-1", limit_dwell=True, rx2_dr=0), Node.new(rng)
    site.server.add_device(node.otaa())
    outcome = site.hear(node.request(), freq_hz=923_200_000)
    assert outcome.downlink is not None
    node.hear_accept(outcome.downlink.windows[0].data)
    site.hear(node.uplink(), freq_hz=923_200_000)
    site.hear(node.uplink(confirmed=True), freq_hz=923_200_000, sf=12)
    return site, str(node.dev_eui)


@fault(Kind.DOWNLINK_UNACKNOWLEDGED)
def downlink_unacknowledged(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    site.server.queue_downlink(node.dev_eui, 10, b"\x01", True, now=site.now())
    for _ in range(rng.randint(4, 6)):
        site.hear(node.uplink(), after_s=60)
    return site, str(node.dev_eui)


@fault(Kind.CLASS_MISMATCH)
def class_mismatch(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    name = site.profile("valve", device_class=DeviceClass.C)
    node = joined(site, Node.new(rng), profile=name)
    site.server.queue_downlink(node.dev_eui, 10, b"\x01", True, now=site.now())
    for _ in range(rng.randint(40, 80)):
        site.wait(1)
        for downlink in site.server.due(site.now()).downlinks:
            site.send(downlink)
    return site, str(node.dev_eui)


# The device


@fault(Kind.SILENT)
def silent(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    interval_s = rng.choice((600, 3600, 86_400))
    node = joined(site, Node.new(rng), profile=site.profile("often", expected_interval_s=interval_s))
    site.look()
    site.wait(interval_s * rng.uniform(2.6, 5))
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.NEVER_HEARD)
def never_heard(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    site.server.add_device(node.otaa())
    site.look()
    site.wait(rng.uniform(3700, 7200))
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.WEAK_SIGNAL)
def weak_signal(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    site.hear(node.uplink(), snr_db=rng.uniform(-8, -4.6))
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.LOW_BATTERY)
def low_battery(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on, status_interval_s=3600)
    node = joined(site, Node.new(rng))
    site.hear(node.uplink(fopts=bytes((0x06, rng.randint(1, 25), 10))))
    site.look()
    return site, str(node.dev_eui)


@fault(Kind.FPORT_ZERO)
def fport_zero(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    frame = frames.build_uplink(
        node.crypto,  # type: ignore[arg-type]  # it has joined
        node.dev_addr,
        node.fcnt,
        fport=0,
        payload=b"\xaa\x01" + rng.randbytes(5),
    )
    site.hear(frame)
    return site, str(node.dev_eui)


@fault(Kind.MAC_UNREADABLE)
def mac_unreadable(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    site.hear(node.uplink(fopts=bytes((0x70, rng.randrange(256)))))
    return site, str(node.dev_eui)


@fault(Kind.MULTICAST_UPLINK)
def multicast_uplink(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = abp(site, Node.new(rng))
    site.groups = (int(node.dev_addr),)
    site.hear(node.uplink(confirmed=True))
    return site, str(node.dev_eui)


# The gateway and the air


@fault(Kind.RADIO_SILENT)
def radio_silent(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    site.connected = False
    site.look()
    site.wait(rng.uniform(60, 600))
    site.look()
    return site, GATEWAY


@fault(Kind.TIME_UNSET)
def time_unset(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    node = joined(site, Node.new(rng))
    site.quality = TimeQuality.UNSET
    site.hear(node.uplink(fopts=b"\x0d"))
    return site, GATEWAY


@fault(Kind.FOREIGN_GATEWAY)
def foreign_gateway(rng: random.Random, on: bool) -> tuple[Site, str]:
    site, node = site_of(rng, on), Node.new(rng)
    node.start_abp()
    assert node.crypto is not None
    site.hear(frames.build_downlink(node.crypto, node.dev_addr, rng.randrange(100), fport=1, payload=b"\x01"))
    return site, GATEWAY


@fault(Kind.NOT_LORAWAN)
def not_lorawan(rng: random.Random, on: bool) -> tuple[Site, str]:
    site = site_of(rng, on)
    site.hear(bytes((0x01, 0x02)) + rng.randbytes(rng.randrange(20)))
    return site, GATEWAY
