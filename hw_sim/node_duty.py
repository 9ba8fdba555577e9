"""When a device may send again: its share of each sub-band, of all together, and the slower pace of joining."""

from typing import Final

from radio.regions import Region, SubBand

SECOND_NS: Final = 1_000_000_000
# Join-requests (LoRaWAN 1.0.2, 7): share of time on air by the seconds since the first one.
JOIN_DUTY: Final = ((3600, 0.01), (11 * 3600, 0.001))
JOIN_DUTY_LATER: Final = 0.0001


class NodeDuty:
    """Off-times: after a frame of airtime T in a band of share d, that band stays silent for T/d - T."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._free_ns: dict[SubBand, int] = {}
        self._all_free_ns = 0
        self._first_join_ns: int | None = None

    def free_from(self, freq_hz: int) -> int:
        """The first instant at which this channel may be used."""
        band = self._band(freq_hz)
        return self._all_free_ns if band is None else max(self._all_free_ns, self._free_ns.get(band, 0))

    def book(
        self, freq_hz: int, end_ns: int, airtime_ns: int, *, max_duty: float = 1.0, join: bool = False
    ) -> None:
        """A frame has left at `end_ns`. `max_duty`: the network's limit over all bands (DutyCycleReq)."""
        band = self._band(freq_hz)
        if band is not None and band.duty < 1:
            self._free_ns[band] = end_ns + _silence_ns(airtime_ns, band.duty)
        if join:
            if self._first_join_ns is None:
                self._first_join_ns = end_ns
            max_duty = min(max_duty, _join_duty((end_ns - self._first_join_ns) / SECOND_NS))
        if max_duty < 1:
            self._all_free_ns = max(self._all_free_ns, end_ns + _silence_ns(airtime_ns, max_duty))

    def joined(self) -> None:
        """The pace of joining no longer holds anything back."""
        self._first_join_ns = None
        self._all_free_ns = 0

    def _band(self, freq_hz: int) -> SubBand | None:
        bands = self._region.sub_bands
        return next((band for band in bands if band.min_hz <= freq_hz <= band.max_hz), None)


def _silence_ns(airtime_ns: int, duty: float) -> int:
    return round(airtime_ns / duty) - airtime_ns


def _join_duty(since_s: float) -> float:
    return next((duty for until_s, duty in JOIN_DUTY if since_s < until_s), JOIN_DUTY_LATER)
