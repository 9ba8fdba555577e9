"""The region a gateway's configuration names: for the radio and the network server the same one."""

from gateway.settings import Config
from radio.regions import Region, SubBand, get_region


def region_of(config: Config) -> Region:
    """The region's parameters, with the values and limits the configuration asks for. Raises ValueError."""
    region = get_region(config.gateway.region, config.gateway.region_profile)
    bands = sub_bands(config)
    return region.with_sub_bands(bands) if bands else region


def sub_bands(config: Config) -> tuple[SubBand, ...]:
    """National limits in place of the region's; empty: the region's hold. Raises ValueError."""
    return tuple(
        SubBand(band.min_hz, band.max_hz, band.duty, band.max_eirp_dbm) for band in config.radio.sub_band
    )
