"""The configuration file: TOML, typed by `gateway.settings`.

`load` reads a file into a `Config`; what does not fit is a `ConfigError` that names file, line and key.
`document` writes the defaults as a commented TOML file: what `fluxgate config show --defaults` prints.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from msgspec import Meta

from gateway.settings import (
    TABLES,
    Config,
    ModuleSection,
    NatsSection,
    Section,
    ServerSection,
    StationGatewaySection,
    SubBandSection,
    UpstreamSection,
)

# Sections that are given once for each destination, with an example of what has no default
REPEATED: dict[str, tuple[type[Section], str, dict[str, Any]]] = {
    "upstream": (UpstreamSection, "[[upstream]]", {"name": "cloud", "host": "broker.example"}),
    "nats": (NatsSection, "[[nats]]", {"name": "fleet", "servers": ("nats.example",)}),
}
# Sections within a section, by the names of both
NESTED: dict[str, dict[str, tuple[type[Section], dict[str, Any]]]] = {
    "radio": {
        "module": (ModuleSection, {}),
        "server": (ServerSection, {"name": "other", "host": "lns.example"}),
        "sub_band": (
            SubBandSection,
            {"min_hz": 868_000_000, "max_hz": 868_600_000, "duty": 0.01, "max_eirp_dbm": 16.15},
        ),
    },
    "station": {"gateway": (StationGatewaySection, {"eui": "b827ebfffe123456"})},
}
SECRET = frozenset({"password", "token", "token_before"})


class ConfigError(Exception):
    """A setting that cannot be used. `line` is 0 where the file as a whole is at fault."""

    def __init__(self, path: Path | str, line: int, key: str, problem: str) -> None:
        self.path, self.line, self.key, self.problem = str(path), line, key, problem
        place = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{place}: {key}: {problem}" if key else f"{place}: {problem}")


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
    taken: set[str] = set()
    for kind in REPEATED:
        for index, section in enumerate(getattr(config, kind)):
            name = section.name
            if name not in taken:
                taken.add(name)
                continue
            keys = [kind, index, "name"]
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
        if field.name in REPEATED:
            lines += _commented(*REPEATED[field.name])
            continue
        lines += [f"# {kind.__doc__}", f"[{field.name}]", *_settings(kind), ""]
        for name, (inner, examples) in NESTED.get(field.name, {}).items():
            lines += _commented(inner, f"[[{field.name}.{name}]]", examples)
    return "\n".join(lines).rstrip() + "\n"


def show(config: Config, *, secrets: bool = False) -> str:
    """The configuration in force as TOML; passwords only where `secrets` are wanted."""
    lines: list[str] = []
    for name in config.__struct_fields__:
        section = getattr(config, name)
        if name in REPEATED:
            for one in section:
                lines += [f"[[{name}]]", *_values(one, secrets), ""]
            continue
        lines += [f"[{name}]", *_values(section, secrets), ""]
        for inner in NESTED.get(name, {}):
            for one in getattr(section, inner):
                lines += [f"[[{name}.{inner}]]", *_values(one, secrets), ""]
    return "\n".join(lines).rstrip() + "\n"


def _values(section: Section, secrets: bool) -> Iterator[str]:
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if name in TABLES or value is None:
            continue
        if name in SECRET and value and not secrets:
            yield f"# {name} is set and not shown"
        else:
            yield f"{name} = {_toml(value)}"


def _commented(kind: type[Section], header: str, examples: dict[str, Any]) -> list[str]:
    return [f"# {kind.__doc__}", f"#{header}", *(f"#{line}" for line in _settings(kind, examples)), ""]


def _settings(kind: type[Section], examples: dict[str, Any] | None = None) -> Iterator[str]:
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


def flat(config: Config) -> dict[str, str]:
    """Each setting's dotted name with its value as JSON: what changed between two starts, value by value."""
    found: dict[str, str] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                walk(f"{name}.{key}" if name else key, below)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, below in enumerate(value):
                walk(f"{name}[{number}]", below)
        else:
            found[name] = msgspec.json.encode(value).decode()

    walk("", msgspec.to_builtins(config))
    return found
