"""Simple nodes in words, and their forms: what people type turned into what the API takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from webui.forms import Form, maybe_hex
from webui.simple import SimpleNode, SimpleStranger
from webui.words import frequency

HEADERS = {
    "radiohead": "RadioHead header (TO, FROM, ID, FLAGS)",
    "byte": "Address in a byte of the frame",
    "single": "No address: the only node on its frequency",
}
MAX_BYTES = 251
FIELDS = ("name", "header", "address", "own_address", "place", "freq_mhz", "codec")
DEFAULTS = {"header": "radiohead", "address": "", "own_address": "0", "place": "0", "codec": "raw"}


def told_by(node: SimpleNode) -> str:
    """How its frames are known."""
    where = "" if node.freq_hz is None else f" on {frequency(node.freq_hz)}"
    if node.header == "radiohead":
        return f"RadioHead address {node.address}{where}"
    if node.header == "byte":
        return f"address {node.address} in byte {node.place}{where}"
    return f"the only one{where}"


def suggestion(stranger: SimpleStranger) -> dict[str, int]:
    """What a form should say for a sender that was heard: most likely a RadioHead node."""
    head = bytes.fromhex(stranger.first_bytes)
    return {"address": head[1], "own_address": head[0]} if len(head) == 4 and head[1] != 0xFF else {}


def read_node(posted: Mapping[str, str]) -> tuple[Form, dict[str, object]]:
    """The form with a sentence for each field that is not good, and the body of the request."""
    form = Form(values={name: posted.get(name, "").strip() for name in FIELDS})
    values, errors = form.values, form.errors
    body: dict[str, object] = {
        "header": values["header"],
        "name": values["name"],
        "codec": values["codec"],
        "acknowledge": posted.get("acknowledge") == "yes",
    }
    if values["header"] not in HEADERS:
        errors["header"] = "Choose how its frames name it."
    for name, what, needed in (
        ("address", "The node's address", values["header"] != "single"),
        ("own_address", "The gateway's address", False),
        ("place", "The byte's place", False),
    ):
        text = values[name]
        if not text and not needed:
            continue
        number = int(text, 0) if _is_number(text) else -1
        if not 0 <= number <= 255:
            errors[name] = f"{what} is a number from 0 to 255, or 0x00 to 0xff."
        else:
            body[name] = number
    if values["freq_mhz"]:
        try:
            body["freq_hz"] = round(float(values["freq_mhz"].replace(",", ".")) * 1_000_000)
        except (ValueError, OverflowError):
            errors["freq_mhz"] = "A frequency in MHz, such as 868.45."
    elif values["header"] == "single":
        errors["freq_mhz"] = "A node without an address needs the frequency that it has for itself."
    return form, body


def read_payload(text: str) -> str | None:
    """Hex as the API takes it; None where it is none, or too long."""
    digits = "".join(text.split()).replace(":", "").lower()
    if not digits or len(digits) % 2 or len(digits) > 2 * MAX_BYTES:
        return None
    return maybe_hex(digits, len(digits) // 2)


def _is_number(text: str) -> bool:
    digits = text.lower().removeprefix("0x")
    if text.lower().startswith("0x"):
        return 0 < len(digits) <= 2 and all(each in "0123456789abcdef" for each in digits)
    return digits.isascii() and digits.isdigit() and len(digits) <= 3 and (digits == "0" or digits[0] != "0")
