"""The demonstration's live table on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

Status = dict[str, Any]

KIND_STYLES = {"join": "cyan", "uplink": "green", "downlink": "magenta", "rejected": "red"}

# Of the table of devices, with the width that its widest entry needs.
COLUMNS = (
    ("name", 10),
    ("DevEUI", 16),
    ("DevAddr", 8),
    ("uplinks", 7),
    ("FCnt", 5),
    ("RSSI", 4),
    ("SNR", 5),
    ("SF", 2),
)


def render(
    welcome: str, simulator: Status | None, gateway: Status | None, delivered: tuple[int, int]
) -> Group:
    """The whole screen: addresses, the way of the data in counts, devices, last frames."""
    parts: list[Any] = [Panel(Text(welcome), title="Fluxgate", border_style="blue")]
    if simulator and gateway:
        parts += [_way(simulator, gateway, delivered), _devices(gateway), _frames(gateway)]
    else:
        parts.append(Text("starting ...", style="dim"))
    return Group(*parts)


def _way(simulator: Status, gateway: Status, delivered: tuple[int, int]) -> Table:
    counters = gateway["counters"]
    upstream = gateway["upstream"][0] if gateway["upstream"] else {"state": "none", "queued": 0}
    table = Table(expand=True, show_edge=False)
    for heading in (
        "on air",
        "received",
        "joins",
        "uplinks",
        "SenML records",
        "MQTT",
        "upstream",
        "downlinks",
    ):
        table.add_column(heading, justify="right")
    table.add_row(
        str(simulator["frames_on_air"]),
        str(simulator["frames_received"]),
        str(counters["joins"]),
        str(counters["uplinks"]),
        str(counters["senml_records"]),
        str(delivered[0]),
        f"{delivered[1]} ({upstream['state']}, {upstream['queued']} waiting)",
        f"{counters['downlinks_sent']} ({counters['downlinks_acked']} acknowledged)",
    )
    return table


def _devices(gateway: Status) -> Table:
    table = Table(title="Devices", expand=True, title_justify="left")
    for heading, width in COLUMNS:
        table.add_column(heading, no_wrap=True, min_width=width)
    table.add_column("last values", no_wrap=True, overflow="ellipsis", ratio=1)
    latest = {
        frame.get("dev_eui"): frame["values"]
        for frame in gateway["frames"]
        if frame["kind"] == "uplink" and frame.get("values")
    }
    for device in gateway["shown_devices"]:
        table.add_row(
            device["name"],
            device["dev_eui"],
            device["dev_addr"] or "joining",
            str(device["uplinks"]),
            _or_dash(device["fcnt_up"]),
            _or_dash(device["rssi_dbm"]),
            _or_dash(device["snr_db"]),
            _or_dash(device["sf"]),
            values_in_words(latest.get(device["dev_eui"], [])),
        )
    return table


def _frames(gateway: Status) -> Table:
    table = Table(title="Frames", expand=True, title_justify="left", show_header=False, show_edge=False)
    for frame in gateway["frames"][-8:]:
        style = KIND_STYLES.get(frame["kind"], "")
        what = (
            frame.get("detail") or values_in_words(frame.get("values", [])) or f"{frame.get('size', 0)} bytes"
        )
        table.add_row(
            Text(frame["kind"], style=style),
            frame.get("name") or frame.get("dev_eui") or frame.get("dev_addr") or "",
            f"{frame['freq_hz'] / 1e6:.3f} MHz {frame['datr']}" if "freq_hz" in frame else "",
            what,
        )
    return table


def values_in_words(values: list[dict[str, Any]], most: int = 4) -> str:
    """SenML values as `name 21.5 Cel`, the first few of them."""
    words = []
    for value in values[:most]:
        shown = next((value[key] for key in ("v", "vs", "vb") if key in value), "")
        text = f"{shown:g}" if isinstance(shown, float) else str(shown)
        words.append(f"{value['n']} {text} {value.get('u', '')}".strip())
    return ", ".join(words)


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
