"""The windows that a device listens in: where and when a downlink can be sent (LoRaWAN 1.0.2, 3.3).

RX1 of class A opens a delay after the uplink ended, on a channel and data rate that follow from the uplink's; RX2
one second later on fixed ones. The GWMP forwarder counts the time, so a window is a count of its 32-bit microsecond
counter. A device of class C keeps its RX2 open all the time: that window is now.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.lorawan.device import Session
from gateway.lorawan.settings import Settings
from radio.gwmp import U32, RxPacket, TxPacket
from radio.lora import LoRaModulation
from radio.regions import Region

JOIN_ACCEPT_DELAY_S = 5  # JOIN_ACCEPT_DELAY1, whatever RxDelay says


@dataclass(frozen=True, slots=True)
class Window:
    """Without `tmst` and `tmms` it is open now."""

    name: str  # RX1, RX2, RXC, ping slot
    freq_hz: int
    modulation: LoRaModulation
    powe_dbm: int
    max_payload: int  # N: FOpts and FRMPayload together
    tmst: int | None = None  # u32 us
    tmms: int | None = None  # GPS ms

    def packet(self, phy: bytes) -> TxPacket:
        return TxPacket(
            tmst=self.tmst,
            imme=self.tmst is None and self.tmms is None,
            freq_hz=self.freq_hz,
            rfch=0,
            powe_dbm=self.powe_dbm,
            modulation=self.modulation,
            ipol=True,
            data=phy,
            ncrc=True,
            tmms=self.tmms,
        )


def data_windows(
    region: Region,
    settings: Settings,
    rx: RxPacket,
    delay_s: int,
    rx1_dr_offset: int,
    rx2_dr: int,
    *,
    rx1_freq_hz: int | None = None,
    rx2_freq_hz: int | None = None,
) -> tuple[Window, ...]:
    """The usable windows after `rx`, RX1 first; none, one or two. Frequencies of None are the region's."""
    windows = (
        _rx1(region, settings, rx, delay_s, rx1_dr_offset, rx1_freq_hz),
        window(
            *("RX2", region, settings, region.rx2[0] if rx2_freq_hz is None else rx2_freq_hz, rx2_dr),
            tmst=_later(rx.tmst, delay_s + 1),
        ),
    )
    return tuple(each for each in windows if each is not None)


def session_windows(region: Region, settings: Settings, rx: RxPacket, session: Session) -> tuple[Window, ...]:
    """Those of a session, as MAC commands have settled them."""
    return data_windows(
        region,
        settings,
        rx,
        session.rx1_delay_s,
        session.rx1_dr_offset,
        session.rx2_dr,
        rx1_freq_hz=session.mac.channels.rx1_hz(rx.freq_hz),
        rx2_freq_hz=session.rx2_freq_hz,
    )


def join_windows(region: Region, settings: Settings, rx: RxPacket) -> tuple[Window, ...]:
    """Those of a join-accept: the region's values, because the device knows no others yet (6.2.5)."""
    return data_windows(region, settings, rx, JOIN_ACCEPT_DELAY_S, 0, region.rx2[1])


def class_c_window(region: Region, settings: Settings, session: Session) -> Window | None:
    """RX2 of a device of class C, open now; None where its data rate takes nothing."""
    freq_hz = region.rx2[0] if session.rx2_freq_hz is None else session.rx2_freq_hz
    return window("RXC", region, settings, freq_hz, session.rx2_dr)


def window(
    name: str,
    region: Region,
    settings: Settings,
    freq_hz: int,
    dr: int,
    *,
    tmst: int | None = None,
    tmms: int | None = None,
) -> Window | None:
    """A window at that time, on that frequency; None where no downlink can be sent there."""
    modulation = region.downlink_data_rates.get(dr)
    if modulation is None:
        return None
    band = region.sub_band_for(freq_hz, modulation.bw_hz)
    max_payload = region.max_payload(dr, dwell=settings.limit_dwell)
    if band is None or not max_payload:  # nothing fits into the dwell limit at the slowest data rates
        return None
    eirp_dbm = region.max_eirp_dbm if settings.max_eirp_dbm is None else settings.max_eirp_dbm
    powe_dbm = int(min(eirp_dbm, band.max_eirp_dbm))
    return Window(name, freq_hz, modulation, powe_dbm, max_payload, tmst, tmms)


def _rx1(
    region: Region, settings: Settings, rx: RxPacket, delay_s: int, offset: int, moved_hz: int | None
) -> Window | None:
    """`moved_hz`: where DlChannelReq has moved it."""
    uplink_dr = region.dr_of(rx.modulation)
    if uplink_dr is None:
        return None
    try:
        freq_hz, dr = region.rx1(rx.freq_hz, uplink_dr, offset)
    except ValueError:  # a channel or data rate outside the plan has no RX1
        return None
    return window("RX1", region, settings, moved_hz or freq_hz, dr, tmst=_later(rx.tmst, delay_s))


def _later(tmst: int, delay_s: int) -> int:
    return (tmst + delay_s * 1_000_000) % U32
