"""The form of a codec: samples and units as lines of text, and bytes or a value to try.

A sample is one line: port, bytes in hex, then what they are to give as JSON, or nothing: `2 0a00 {"level": 10}`. A unit
is one line: a name, then the unit: `level mm`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from webui.codecs import Codec, Report, Sample
from webui.forms import Form

MAX_SOURCE = 200_000
ASKS = {
    "decodeUplink": "Bytes of a device, to values",
    "encodeDownlink": "A value, to bytes for a device",
    "decodeDownlink": "Bytes for a device, to a value",
}
NAMES = ("name", "description", "source", "samples", "units", "ask", "bytes", "fport", "data")
TEMPLATE = """function decodeUplink(input) {
  var bytes = input.bytes;
  return {
    data: {
      temperature: ((bytes[0] << 24 >> 16) | bytes[1]) / 10
    }
  };
}
"""
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def of_codec(codec: Codec) -> Form:
    """The form as it stands at first."""
    values = {
        "name": codec.name,
        "description": codec.description,
        "source": codec.source,
        "samples": "\n".join(map(sample_line, codec.samples)),
        "units": "\n".join(f"{name} {unit}" for name, unit in codec.units.items()),
    }
    if codec.samples:
        values |= {"bytes": codec.samples[0].payload, "fport": str(codec.samples[0].fport)}
    return Form(values)


def codec_of(name: str, fields: Mapping[str, Any]) -> Codec:
    """A codec out of an exported file. Raises ValueError."""
    return msgspec.convert({**fields, "name": name}, Codec)


def sample_line(sample: Sample) -> str:
    """A sample as a line of text."""
    expected = "" if sample.expected is None else json.dumps(sample.expected, ensure_ascii=False)
    return f"{sample.fport} {sample.payload} {expected}".rstrip()


def read(posted: Mapping[str, str]) -> Form:
    """What was typed; line ends as on the gateway."""
    form = Form({name: posted.get(name, "").replace("\r\n", "\n") for name in NAMES})
    for name in ("name", "description", "bytes", "fport"):
        form.values[name] = form.values[name].strip()
    return form


def body_of(form: Form, name: str, *, force: bool) -> dict[str, Any]:
    """What the API takes to store; notes in the form what does not fit."""
    values = form.values
    if not _NAME.fullmatch(name):
        form.errors["name"] = "Small letters, digits and . _ -, beginning with a letter or digit."
    if not values["source"].strip():
        form.errors["source"] = "There is nothing to run."
    elif len(values["source"]) > MAX_SOURCE:
        form.errors["source"] = f"At most {MAX_SOURCE} characters."
    return {
        "name": name,
        "source": values["source"],
        "description": values["description"][:200],
        "samples": _samples(form),
        "units": units_of(form),
        "force": force,
    }


def trial_of(form: Form) -> dict[str, Any]:
    """What the bench takes; notes in the form what does not fit."""
    values = form.values
    ask = values["ask"] if values["ask"] in ASKS else "decodeUplink"
    body: dict[str, Any] = {"ask": ask, "source": values["source"], "units": units_of(form)}
    if not values["source"].strip():
        form.errors["source"] = "There is nothing to run."
    port = values["fport"] or ("" if ask == "encodeDownlink" else "1")
    if port:
        if port.isascii() and port.isdigit() and len(port) < 4 and 1 <= int(port) <= 223:
            body["fport"] = int(port)
        else:
            form.errors["fport"] = "A port is 1 to 223."
    if ask == "encodeDownlink":
        try:
            body["data"] = json.loads(values["data"] or "{}")
        except ValueError:
            form.errors["data"] = 'JSON, such as {"led": true}.'
        return body
    plain = re.sub(r"[\s:,-]|0x", "", values["bytes"])
    if len(plain) % 2 == 0 and all(each in "0123456789abcdefABCDEF" for each in plain):
        body["payload"] = plain
    elif _BASE64.fullmatch(plain):
        body["base64"] = plain + "=" * (-len(plain) % 4)
    else:
        form.errors["bytes"] = "Hex, two digits a byte, or base64."
    return body


def add_sample(form: Form, report: Report, trial: Mapping[str, Any]) -> None:
    """What was just tried becomes a sample."""
    if report.data is not None and "payload" in trial:
        line = sample_line(Sample(trial["payload"], trial.get("fport", 1), expected=report.data))
        form.values["samples"] = f"{form.values['samples'].rstrip()}\n{line}".lstrip()


def units_of(form: Form) -> dict[str, str]:
    """Units by name; a line that is none is noted in the form."""
    units = {}
    for line in form.values["units"].splitlines():
        words = line.split()
        if len(words) == 2:
            units[words[0]] = words[1]
        elif words:
            form.errors["units"] = f"{line[:40]!r}: a name, a blank, its unit."
    return units


def _samples(form: Form) -> list[dict[str, Any]]:
    samples = []
    for line in form.values["samples"].splitlines():
        parts = line.strip().split(None, 2)
        if not parts:
            continue
        try:
            sample: dict[str, Any] = {"fport": int(parts[0]), "payload": bytes.fromhex(parts[1]).hex()}
            if len(parts) == 3:
                sample["expected"] = json.loads(parts[2])
        except (ValueError, IndexError):
            form.errors["samples"] = f"{line[:60]!r}: port, bytes in hex, and what they give as JSON."
            continue
        samples.append(sample)
    return samples
