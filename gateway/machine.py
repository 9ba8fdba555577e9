"""What identifies this machine: the gateway EUI-64, from the configuration or from the network card."""

from __future__ import annotations

from pathlib import Path

NETWORK_CARDS = Path("/sys/class/net")


def gateway_eui(configured: str, cards: Path = NETWORK_CARDS) -> bytes:
    """The configured EUI, else the first real network card's MAC widened by fffe as packet forwarders do."""
    if configured:
        return bytes.fromhex(configured)
    for card in sorted(cards.glob("*/address"), key=_preference):
        address = card.read_text().strip().replace(":", "")
        if len(address) == 12 and int(address, 16):
            mac = bytes.fromhex(address)
            return mac[:3] + b"\xff\xfe" + mac[3:]
    return bytes.fromhex("02000000fffe0001")  # locally administered: no network card at all


def _preference(path: Path) -> tuple[bool, str]:
    """Cards with a device behind them first (bridges, loopback and tunnels have none), then by name."""
    return not (path.parent / "device").exists(), path.parent.name
