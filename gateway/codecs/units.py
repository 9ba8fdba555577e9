"""Units of the SenML registry (RFC 8428, RFC 8798) for values whose names say what they are.

Only units that need no conversion, and no guesses: a `battery` may be volts or per cent, so it gets none.
"""

from __future__ import annotations

import re

# By the whole last name, in lower case without "_" and "-"
BY_NAME = {
    "temperature": "Cel",
    "temp": "Cel",
    "temperaturec": "Cel",
    "tempc": "Cel",
    "airtemperature": "Cel",
    "watertemperature": "Cel",
    "soiltemperature": "Cel",
    "dewpoint": "Cel",
    "internaltemperature": "Cel",
    "externaltemperature": "Cel",
    "boardtemperature": "Cel",
    "humidity": "%RH",
    "hum": "%RH",
    "relativehumidity": "%RH",
    "airhumidity": "%RH",
    "rh": "%RH",
    "latitude": "lat",
    "lat": "lat",
    "longitude": "lon",
    "lon": "lon",
    "lng": "lon",
    "altitude": "m",
    "co2": "ppm",
    "illuminance": "lx",
    "illumination": "lx",
    "lux": "lx",
    "rssi": "dBm",
    "snr": "dB",
    "ph": "pH",
    "voltage": "V",
    "batteryvoltage": "V",
    "vbat": "V",
    "batv": "V",
    "current": "A",
    "frequency": "Hz",
    "windspeed": "m/s",
    "winddirection": "deg",
    "heading": "deg",
    "noiselevel": "dB",
    "laeq": "dB",
}

# By the last word of the name: battery_mV, pressureHpa, level-cm
BY_WORD = {
    "c": "Cel",
    "degc": "Cel",
    "celsius": "Cel",
    "kelvin": "K",
    "rh": "%RH",
    "percent": "/100",
    "pct": "/100",
    "v": "V",
    "volt": "V",
    "volts": "V",
    "mv": "mV",
    "a": "A",
    "ma": "mA",
    "w": "W",
    "kw": "kW",
    "va": "VA",
    "wh": "Wh",
    "kwh": "kWh",
    "pa": "Pa",
    "hpa": "hPa",
    "ppm": "ppm",
    "ppb": "ppb",
    "lux": "lx",
    "lx": "lx",
    "db": "dB",
    "dbm": "dBm",
    "hz": "Hz",
    "mhz": "MHz",
    "ms": "ms",
    "seconds": "s",
    "sec": "s",
    "minutes": "min",
    "hours": "h",
    "mm": "mm",
    "cm": "cm",
    "meters": "m",
    "metres": "m",
    "km": "km",
    "m3": "m3",
    "kg": "kg",
    "g": "g",
    "liters": "l",
    "litres": "l",
    "deg": "deg",
    "degrees": "deg",
    "kmh": "km/h",
    "mps": "m/s",
    "ohm": "Ohm",
}

# The payload that TS013 codecs normalize to, by its path (the schema of The Things Stack)
NORMALIZED = {
    "air/temperature": "Cel",
    "air/relativeHumidity": "%RH",
    "air/pressure": "hPa",
    "air/co2": "ppm",
    "air/lightIntensity": "lx",
    "wind/speed": "m/s",
    "wind/direction": "deg",
    "soil/depth": "cm",
    "soil/moisture": "/100",
    "soil/temperature": "Cel",
    "soil/pH": "pH",
    "soil/n": "ppm",
    "soil/p": "ppm",
    "soil/k": "ppm",
    "water/temperature/min": "Cel",
    "water/temperature/max": "Cel",
    "water/temperature/avg": "Cel",
    "water/temperature/current": "Cel",
    "metering/water/total": "l",
    "rain/intensity": "mm/h",
    "rain/cumulative": "mm",
    "action/motion/count": "count",
    "position/latitude": "lat",
    "position/longitude": "lon",
    "position/altitude": "m",
    "battery": "V",
}

# As codecs write them beside a value, where that is not the registered form
WRITTEN = {
    "°c": "Cel",
    "ºc": "Cel",
    "c": "Cel",
    "celsius": "Cel",
    "degc": "Cel",
    "%": "/100",
    "percent": "/100",
    "%rh": "%RH",
    "lux": "lx",
    "mbar": "hPa",
    "°": "deg",
    "volt": "V",
    "sec": "s",
    "μg/m3": "ug/m3",
    "µg/m3": "ug/m3",
    "µg/m³": "ug/m3",
    "μg/m³": "ug/m3",
    "m³": "m3",
    "l/min": "l/min",
}

_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNIT = re.compile(r"[A-Za-z0-9%/.^-]{1,24}", re.ASCII)


def of_name(name: str) -> str:
    """The unit that the last part of a name tells; "" where it tells none."""
    last = name.rpartition("/")[2]
    whole = last.lower().replace("_", "").replace("-", "")
    if (unit := BY_NAME.get(whole)) is not None:
        return unit
    words = last.replace("-", "_").split("_")
    if len(words) > 1:
        return BY_WORD.get(words[-1].lower(), "")
    words = _CAPITALS.split(last)
    # One capital alone may be the end of a unit (batterymV), so it tells nothing.
    return BY_WORD.get(words[-1].lower(), "") if len(words) > 1 and len(words[-1]) > 1 else ""


def of_text(text: str) -> str:
    """A unit as a codec or a person wrote it; "" where it cannot be one."""
    text = text.strip()
    known = WRITTEN.get(text.lower())
    if known is not None:
        return known
    return text if _UNIT.fullmatch(text) else ""
