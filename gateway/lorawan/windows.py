"""The two receive windows of a class A device: where and when its answer can be sent (LoRaWAN 1.0.2, 3.3).

RX1 opens a delay after the uplink ended, on a channel and data rate that follow from the uplink's; RX2 one
second later on fixed ones. The GWMP forwarder counts the time, so a window is a count of its 32-bit
microsecond counter.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.lorawan.settings import Settings
from radio.gwmp import U32, RxPacket, TxPacket
from radio.lora import LoRaModulation
from radio.regions import Region

JOIN_ACCEPT_DELAY_S = 5  # JOIN_ACCEPT_DELAY1, whatever RxDelay says


@dataclass(frozen=True, slots=True)
class Window:
    name: str  # RX1, RX2
    tmst: int  # u32 us
    freq_hz: int
    modulation: LoRaModulation
    powe_dbm: int
    max_payload: int  # N: FOpts and FRMPayload together

    def packet(self, phy: bytes) -> TxPacket:
        return TxPacket(
            tmst=self.tmst,
            imme=False,
            freq_hz=self.freq_hz,
            rfch=0,
            powe_dbm=self.powe_dbm,
            modulation=self.modulation,
            ipol=True,
            data=phy,
            ncrc=True,
        )


def data_windows(
    region: Region, settings: Settings, rx: RxPacket, delay_s: int, rx1_dr_offset: int, rx2_dr: int
) -> tuple[Window, ...]:
    """The usable windows after `rx`, RX1 first; none, one or two."""
    windows = (
        _rx1(region, settings, rx, delay_s, rx1_dr_offset),
        _window("RX2", region, settings, rx.tmst, delay_s + 1, region.rx2[0], rx2_dr),
    )
    return tuple(window for window in windows if window is not None)


def join_windows(region: Region, settings: Settings, rx: RxPacket) -> tuple[Window, ...]:
    """Those of a join-accept: the region's values, because the device knows no others yet (6.2.5)."""
    return data_windows(region, settings, rx, JOIN_ACCEPT_DELAY_S, 0, region.rx2[1])


def _rx1(region: Region, settings: Settings, rx: RxPacket, delay_s: int, offset: int) -> Window | None:
    uplink_dr = region.dr_of(rx.modulation)
    if uplink_dr is None:
        return None
    try:
        freq_hz, dr = region.rx1(rx.freq_hz, uplink_dr, offset)
    except ValueError:  # a channel or data rate outside the plan has no RX1
        return None
    return _window("RX1", region, settings, rx.tmst, delay_s, freq_hz, dr)


def _window(
    name: str, region: Region, settings: Settings, tmst: int, delay_s: int, freq_hz: int, dr: int
) -> Window | None:
    modulation = region.downlink_data_rates.get(dr)
    if modulation is None:
        return None
    band = region.sub_band_for(freq_hz, modulation.bw_hz)
    max_payload = region.max_payload(dr, dwell=settings.limit_dwell)
    if band is None or not max_payload:  # nothing fits into the dwell limit at the slowest data rates
        return None
    eirp_dbm = region.max_eirp_dbm if settings.max_eirp_dbm is None else settings.max_eirp_dbm
    return Window(
        name=name,
        tmst=(tmst + delay_s * 1_000_000) % U32,
        freq_hz=freq_hz,
        modulation=modulation,
        powe_dbm=int(min(eirp_dbm, band.max_eirp_dbm)),
        max_payload=max_payload,
    )
