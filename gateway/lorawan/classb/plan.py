"""On which channels and data rate a region's beacons and ping slots are (RP002; LoRaWAN 1.0.3, 16; 1.0.4, 14)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.lorawan.classb.slots import BEACON_PERIOD_MS
from radio.lora import LoRaModulation
from radio.regions import Region

_PERIOD_S = BEACON_PERIOD_MS // 1000


@dataclass(frozen=True, slots=True)
class ClassBPlan:
    """Of one region, with what the gateway's owner has set otherwise."""

    region: Region
    channels_hz: tuple[int, ...]  # more than one: beacon and ping slots hop
    dr: int
    modulation: LoRaModulation
    beacon_hz: int | None = None  # beacons alone, in place of the channels; devices are told by BeaconFreqReq

    @classmethod
    def of(cls, region: Region, beacon_hz: int | None = None) -> ClassBPlan | None:
        """None where nothing certain is known of the region's beacons."""
        beacon = region.beacon
        if beacon is None:
            return None
        modulation = region.downlink_data_rates[beacon.dr]
        return cls(region, beacon.channels_hz, beacon.dr, modulation, beacon_hz)

    def beacon_channel(self, beacon_s: int) -> int:
        """The number of the channel that a beacon is on, as BeaconTimingAns tells it."""
        return beacon_s // _PERIOD_S % len(self.channels_hz)

    def beacon_freq_hz(self, beacon_s: int) -> int:
        return self.beacon_hz or self.channels_hz[self.beacon_channel(beacon_s)]

    def ping_slot(
        self, dev_addr: int, beacon_s: int, told: tuple[int, int] | None = None
    ) -> tuple[int, LoRaModulation]:
        """Frequency and modulation of an address's slots in a beacon period.

        `told` is what the device has accepted by PingSlotChannelReq: Hz (0 for the region's) and data rate.
        """
        freq_hz, dr = told if told is not None else (0, self.dr)
        if not freq_hz:
            channel = (dev_addr + beacon_s // _PERIOD_S) % len(self.channels_hz)
            freq_hz = self.channels_hz[channel]
        return freq_hz, self.region.downlink_data_rates.get(dr, self.modulation)

    def power_dbm(self, freq_hz: int, modulation: LoRaModulation, max_eirp_dbm: float | None) -> int | None:
        """EIRP allowed there; None where the region's limits do not open that frequency to gateways."""
        band = self.region.sub_band_for(freq_hz, modulation.bw_hz)
        if band is None:
            return None
        limit = self.region.max_eirp_dbm if max_eirp_dbm is None else max_eirp_dbm
        return int(min(limit, band.max_eirp_dbm))
