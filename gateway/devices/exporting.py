"""The device list as a file for spreadsheets: everything that is shown of a device, and no key."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.devices.views import DeviceView

AT_A_TIME = 200  # lines written before the loop gets a turn

COLUMNS = (
    *("dev_eui", "name", "activation", "join_eui", "dev_addr", "profile", "version", "device_class", "codec"),
    *("expected_interval_s", "state", "last_seen", "missed", "missed_since", "uplinks", "rssi_dbm", "snr_db"),
    *("sf", "battery", "margin_db", "description", "thing_id", "channel_id"),
)
_TIMES = frozenset({"last_seen", "missed_since"})
# A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def device_list(views: Sequence[DeviceView]) -> str:
    """CSV with a header and a byte order mark, by which spreadsheets know UTF-8."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for at, view in enumerate(views):
        if at % AT_A_TIME == AT_A_TIME - 1:
            await asyncio.sleep(0)
        writer.writerow([_cell(name, getattr(view, name)) for name in COLUMNS])
    return "\ufeff" + text.getvalue()


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if name in _TIMES and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    if isinstance(value, str):
        return "'" + value if value.startswith(_FORMULA) else value
    return str(value)
