"""The demonstration's report: each count taken where it happens, and what got lost between two places."""

from __future__ import annotations

from typing import Any

Counts = dict[str, Any]


def report(
    simulator: Counts, gateway: Counts, mqtt_delivered: int, upstream_delivered: int, expected: int
) -> Counts:
    """Put the counts of simulator, gateway process, MQTT subscriber and upstream broker side by side.

    `simulator` is the simulator's statistics file, `gateway` the gateway's status, `expected` how many messages
    the log holds. `lost` counts frames that a radio module received well and the gateway never saw, plus
    messages of the log that did not reach the subscriber or the upstream broker.
    """
    counters = gateway["counters"]
    rejected = sum(counters["rejected"].values())
    handled = counters["uplinks"] + counters["joins"] + rejected
    lost = {
        "between_radio_and_gateway": max(0, simulator["frames_received"] - handled),
        "between_log_and_mqtt": max(0, expected - mqtt_delivered),
        "between_log_and_upstream": max(0, expected - upstream_delivered),
    }
    return {
        "frames_on_air": simulator["frames_on_air"],
        "frames_received": simulator["frames_received"],
        "joins": counters["joins"],
        "uplinks": counters["uplinks"],
        "rejected": counters["rejected"],
        "messages": expected,
        "senml_records": counters["senml_records"],
        "mqtt_delivered": mqtt_delivered,
        "upstream_delivered": upstream_delivered,
        "downlinks_sent": counters["downlinks_sent"],
        "downlinks_acked": counters["downlinks_acked"],
        "lost": sum(lost.values()),
        "lost_where": lost,
        "fates_on_air": simulator["fates"],
        "virtual_seconds": simulator["virtual_s"],
    }
