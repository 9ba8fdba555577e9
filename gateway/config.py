"""One TOML file, typed: every setting with its default, unit, bounds and meaning in one place.

`load` reads a file into a `Config`; what does not fit is a `ConfigError` that names file, line and key.
`document` writes the defaults as a commented TOML file: what `fluxgate config show --defaults` prints.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
TABLES = ("module", "upstream")  # settings that are sections of their own, and may be repeated


class ConfigError(Exception):
    """A setting that cannot be used. `line` is 0 where the file as a whole is at fault."""

    def __init__(self, path: Path | str, line: int, key: str, problem: str) -> None:
        self.path, self.line, self.key, self.problem = str(path), line, key, problem
        place = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{place}: {key}: {problem}" if key else f"{place}: {problem}")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class GatewaySection(_Section, frozen=True, kw_only=True):
    """This gateway."""

    name: Annotated[str, Meta(max_length=64, description="shown in the pages and sent upstream")] = "fluxgate"
    eui: Annotated[
        str,
        Meta(
            pattern="^([0-9a-fA-F]{16})?$",
            description="gateway EUI-64, 16 hex digits; empty: from the network card",
        ),
    ] = ""
    data_dir: Annotated[str, Meta(description="databases and secrets live here")] = "/var/lib/fluxgate"
    runtime_dir: Annotated[str, Meta(description="claim code and status file, for local tools")] = (
        "/run/fluxgate"
    )
    region: Annotated[str, Meta(description="regional parameters: EU868, US915, ...")] = "EU868"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class ModuleSection(_Section, frozen=True, kw_only=True):
    """One SX127x module. It hears one channel at one spreading factor at a time."""

    board: Annotated[str, Meta(description="a board of `fluxgate radio boards`, e.g. dragino-hat")] = (
        "dragino-hat"
    )
    index: Annotated[int, Meta(ge=0, le=7, description="which module of that board")] = 0
    freq_hz: Annotated[int, Meta(ge=137_000_000, le=1_020_000_000)] = 868_100_000
    sf: Annotated[int, Meta(ge=6, le=12, description="spreading factor")] = 7
    bw_hz: Literal[125000, 250000, 500000] = 125000
    role: Literal["rx", "tx", "rxtx"] = "rxtx"


class RadioSection(_Section, frozen=True, kw_only=True):
    """The radio process (`fluxgate radio`)."""

    server_host: Annotated[str, Meta(description="GWMP server the frames go to")] = "127.0.0.1"
    server_port: Port = 1700
    tx_lead_us: Annotated[int, Meta(ge=-500, le=3000, description="start downlinks this much early, us")] = (
        400
    )
    antenna_gain_dbi: Annotated[float, Meta(ge=-10, le=20)] = 0.0
    stat_interval_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    module: tuple[ModuleSection, ...] = ()


class LorawanSection(_Section, frozen=True, kw_only=True):
    """The LoRaWAN network and join server."""

    host: Annotated[
        str, Meta(description="address the GWMP server listens on; GWMP has no security: keep to loopback")
    ] = "127.0.0.1"
    port: Port = 1700
    net_id: Annotated[int, Meta(ge=0, le=0xFFFFFF, description="0 and 1 are for private networks")] = 0
    rx1_delay_s: Annotated[int, Meta(ge=1, le=15)] = 1
    adr: Annotated[bool, Meta(description="steer data rate and power of devices that ask for it")] = True
    adr_margin_db: Annotated[float, Meta(ge=0, le=30, description="installation margin")] = 10.0
    adr_max_dr: Annotated[
        int | None,
        Meta(
            description="fastest data rate the radios hear; unset: from [[radio.module]], else the region's",
            examples=[5],
        ),
    ] = None
    rx2_dr: Annotated[int | None, Meta(description="data rate of RX2; unset: the region's", examples=[0])] = (
        None
    )
    max_eirp_dbm: Annotated[
        float | None, Meta(description="of downlinks; unset: the region's", examples=[16])
    ] = None
    cflist_hz: Annotated[
        tuple[int, ...], Meta(max_length=5, description="further uplink channels given at a join")
    ] = ()
    uplink_channels: Annotated[
        tuple[int, ...], Meta(description="indices of the only channels the radios hear; empty: all")
    ] = ()
    status_interval_s: Annotated[
        int, Meta(ge=0, description="between questions for battery and margin; 0: never")
    ] = 86400


class HubSection(_Section, frozen=True, kw_only=True):
    """The log and its readers."""

    commit_interval_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="unconfirmed uplinks gather this long before a commit; larger spares the card",
        ),
    ] = 1.0
    max_messages: Annotated[int, Meta(ge=1000, le=100_000_000, description="messages kept in the log")] = (
        5_000_000
    )


class MqttSection(_Section, frozen=True, kw_only=True):
    """The MQTT door."""

    host: str = "127.0.0.1"
    port: Port = 1883


class HttpSection(_Section, frozen=True, kw_only=True):
    """The HTTP door: REST API, publishing and reading."""

    host: str = "127.0.0.1"
    port: Port = 8080
    workshop_port: Annotated[
        int, Meta(ge=0, le=65535, description="second listener for clients of 2017; 0: none")
    ] = 0


class WebuiSection(_Section, frozen=True, kw_only=True):
    """The admin pages (`fluxgate webui`)."""

    host: str = "127.0.0.1"
    port: Port = 8000
    api_url: Annotated[str, Meta(description="HTTP door of the gateway; empty: from [http]")] = ""
    trusted_hosts: Annotated[
        tuple[str, ...],
        Meta(description="names the pages answer to; empty: any. Guards against DNS rebinding"),
    ] = ()
    secure_cookies: Annotated[bool, Meta(description="the pages are reached over TLS only")] = False


class UpstreamSection(_Section, frozen=True, kw_only=True):
    """One MQTT broker that receives every message, also those of an outage. Repeat the section for more."""

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,31}$", description="names the cursor: keep it")]
    host: str
    port: Port = 8883
    tls: bool = True
    ca_file: Annotated[str, Meta(description="PEM; empty: the system's authorities")] = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password: str = ""
    client_id: Annotated[str, Meta(max_length=128, description="empty: fluxgate-<gateway EUI>")] = ""
    protocol: Literal["3.1.1", "5"] = "5"
    topic: Annotated[str, Meta(description="{channel} and {subtopic} are filled in")] = (
        "channels/{channel}/messages/{subtopic}"
    )
    prefix: Annotated[str, Meta(description="put before every topic")] = ""
    inflight: Annotated[int, Meta(ge=1, le=1000, description="messages sent and not yet acknowledged")] = 100
    keepalive_s: Annotated[int, Meta(ge=5, le=65535)] = 30


class Config(_Section, frozen=True, kw_only=True):
    """Everything; the embedded defaults need no file."""

    gateway: GatewaySection = GatewaySection()
    radio: RadioSection = RadioSection()
    lorawan: LorawanSection = LorawanSection()
    hub: HubSection = HubSection()
    mqtt: MqttSection = MqttSection()
    http: HttpSection = HttpSection()
    webui: WebuiSection = WebuiSection()
    upstream: tuple[UpstreamSection, ...] = ()


def load(path: Path) -> Config:
    """Read the file at `path`. Raises ConfigError naming line and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"
        if isinstance(error, PermissionError):
            reason += " (try it with sudo)"
        raise ConfigError(path, 0, "", f"cannot be read: {reason}") from error
    return parse(text, path)


def parse(text: str, path: Path | str = "configuration") -> Config:
    """Parse the text of a configuration file; `path` is only named in errors. Raises ConfigError."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise ConfigError(path, int(found.group(1)) if found else 0, "", f"not TOML: {error}") from error
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        unknown = re.search(r"unknown field `(.+)`", problem)
        keys = _key_path(where.rstrip("`"))
        if unknown:
            keys.append(unknown.group(1))
            problem = "no such setting; `fluxgate config show --defaults` lists them all"
        raise ConfigError(path, _line_of(text, keys), _spell(keys), _plain(problem)) from error
    names = [upstream.name for upstream in config.upstream]
    for index, name in enumerate(names):
        if name in names[:index]:
            keys = ["upstream", index, "name"]
            raise ConfigError(path, _line_of(text, keys), _spell(keys), f"{name!r} is used twice")
    return config


def _plain(problem: str) -> str:
    return problem.replace("Expected", "expected").replace("Object missing required field", "missing setting")


def _key_path(where: str) -> list[str | int]:
    """`.radio.module[0].sf` as ["radio", "module", 0, "sf"]."""
    return [int(index) if index else name for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", where)]


def _spell(keys: list[str | int]) -> str:
    spelled = ""
    for key in keys:
        spelled += f"[{key}]" if isinstance(key, int) else f".{key}" if spelled else key
    return spelled


def _line_of(text: str, keys: list[str | int]) -> int:
    """Line of the deepest part of `keys` that the file spells out, 0 if none (a missing section)."""
    best = 0
    depth = 0
    section: list[str | int] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)\s*([\w.\"-]+)\s*\]\]?", line)
        if header:
            name = header.group(2)
            section = list(name.split("."))
            if header.group(1) == "[[":
                section.append(counts.get(name, 0))
                counts[name] = counts.get(name, 0) + 1
            candidate = section
        else:
            assignment = re.match(r"\s*\"?([\w-]+)\"?\s*=", line)
            if not assignment:
                continue
            candidate = [*section, assignment.group(1)]
        if len(candidate) > depth and candidate == keys[: len(candidate)]:
            best, depth = number, len(candidate)
    return best


def document() -> str:
    """The defaults as a commented TOML file that `load` accepts."""
    lines = ["# Settings of Fluxgate with their defaults. A line that is left out keeps its default.", ""]
    for field in msgspec.structs.fields(Config):
        kind = get_type_hints(Config)[field.name]
        if field.name == "upstream":
            lines += _commented(UpstreamSection, "[[upstream]]", {"name": "cloud", "host": "broker.example"})
            continue
        lines += [f"# {kind.__doc__}", f"[{field.name}]", *_settings(kind), ""]
        if kind is RadioSection:
            lines += _commented(ModuleSection, "[[radio.module]]", {})
    return "\n".join(lines).rstrip() + "\n"


def show(config: Config, *, secrets: bool = False) -> str:
    """The configuration in force as TOML; passwords only where `secrets` are wanted."""
    lines: list[str] = []
    for name in config.__struct_fields__:
        section = getattr(config, name)
        if name == "upstream":
            for upstream in section:
                lines += ["[[upstream]]", *_values(upstream, secrets), ""]
            continue
        lines += [f"[{name}]", *_values(section, secrets), ""]
        for module in config.radio.module if name == "radio" else ():
            lines += ["[[radio.module]]", *_values(module, secrets), ""]
    return "\n".join(lines).rstrip() + "\n"


def _values(section: _Section, secrets: bool) -> Iterator[str]:
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if name in TABLES or value is None:
            continue
        if name == "password" and value and not secrets:
            yield "# password is set and not shown"
        else:
            yield f"{name} = {_toml(value)}"


def _commented(kind: type[_Section], header: str, examples: dict[str, Any]) -> list[str]:
    return [f"# {kind.__doc__}", f"#{header}", *(f"#{line}" for line in _settings(kind, examples)), ""]


def _settings(kind: type[_Section], examples: dict[str, Any] | None = None) -> Iterator[str]:
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        if field.name in TABLES:
            continue
        value = (examples or {}).get(field.name, field.default)
        metas = getattr(hints[field.name], "__metadata__", ())
        notes = [note for meta in metas for note in (meta.description, _bounds(meta)) if note]
        choices = getattr(hints[field.name], "__args__", ())
        if not notes and len(choices) > 1:
            notes = [" | ".join(str(choice) for choice in choices)]
        note = f"  # {'; '.join(notes)}" if notes else ""
        if value is None:
            yield f"#{field.name} = {_toml(_example(metas))}{note}"
        else:
            yield f"{field.name} = {_toml(value)}{note}"


def _example(metas: Sequence[Meta]) -> object:
    """The example of a setting that has no default."""
    return next(example for meta in metas for example in meta.examples or ())


def _bounds(meta: Meta) -> str:
    low = meta.ge if meta.ge is not None else meta.gt
    return f"{low} to {meta.le}" if low is not None and meta.le is not None else ""


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
