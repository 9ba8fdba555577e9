"""A delivery list, looked at line by line before any of it happens, and then registered whole or in part.

A plan is made once and kept for a while: the person who has read it confirms that plan, not the file again.
"""

from __future__ import annotations

import enum
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from gateway.devices.csvfile import Table
from gateway.devices.fields import Asked, FieldErrors, Given, from_row, read
from gateway.lorawan.profile import Profile
from gateway.lorawan.types import DevEUI

MAX_PLANS = 8  # held at a time; of the largest each is about 20 MB
PLAN_LIFE_S = 15 * 60.0
AT_A_TIME = 100  # lines read before the loop gets a turn
_SECOND_NS = 10**9


class LineState(enum.StrEnum):
    NEW = "new"
    WRONG = "wrong"
    TWICE = "twice"  # a line above has that DevEUI
    REGISTERED = "registered"


class Line(msgspec.Struct, frozen=True):
    """What would happen with one line of the file. No keys."""

    line: int
    state: LineState
    dev_eui: str
    name: str
    activation: str = ""
    profile: str = ""
    codec: str = ""
    problems: list[str] = []
    warnings: list[str] = []


@dataclass(frozen=True, slots=True)
class Defaults:
    """For lines that do not say it themselves."""

    profile: str = ""
    codec: str = ""
    channel_id: str = ""
    expected_interval_s: int | None = None


@dataclass(slots=True)
class Plan:
    """A whole file, read and checked."""

    lines: list[Line] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list, repr=False)  # of the lines that are new, in their order
    columns: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        counts = dict.fromkeys((str(state) for state in LineState), 0)
        for line in self.lines:
            counts[line.state] += 1
        return counts

    @property
    def whole(self) -> bool:
        """Every line can be registered."""
        return len(self.asked) == len(self.lines)


class Planner:
    """Makes plans against what the gateway has now."""

    def __init__(
        self, profiles: Mapping[str, Profile], codecs: Collection[str], known: Callable[[DevEUI], bool]
    ) -> None:
        self._profiles, self._codecs, self._known = profiles, codecs, known

    async def plan(self, table: Table, defaults: Defaults, pause: Callable[[], Awaitable[object]]) -> Plan:
        """`pause` is awaited once for every AT_A_TIME lines, so that radio and people are served meanwhile."""
        plan = Plan(columns=table.columns, ignored=table.ignored)
        seen: dict[int, int] = {}
        for at, row in enumerate(table.rows):
            self._add(plan, row.line, row.values, defaults, seen)
            if at % AT_A_TIME == AT_A_TIME - 1:
                await pause()
        return plan

    def _add(
        self, plan: Plan, line: int, values: Mapping[str, str], defaults: Defaults, seen: dict[int, int]
    ) -> None:
        try:
            given = _with_defaults(from_row(values), defaults)
            asked = read(given, self._profiles, self._codecs, self._known)
        except FieldErrors as error:
            plan.lines.append(
                Line(
                    line,
                    LineState.WRONG,
                    values.get("dev_eui", "")[:32],
                    values.get("name", "")[:64],
                    problems=list(error.errors.values()),
                )
            )
            return
        eui = asked.config.dev_eui
        state, problems = LineState.NEW, []
        warnings = list(asked.warnings)
        if eui in seen:
            state = LineState.TWICE
            problems.append(f"{eui} stands in line {seen[eui]} already")
        elif self._known(eui):
            state = LineState.REGISTERED
            problems.append(f"{eui} is registered already, and stays as it is")
        elif eui.reversed in seen:
            warnings.append(
                f"line {seen[eui.reversed]} has this DevEUI with its bytes reversed: one of them is wrong"
            )
        seen.setdefault(eui, line)
        if state is LineState.NEW:
            plan.asked.append(asked)
        config = asked.config
        plan.lines.append(
            Line(
                line,
                state,
                str(eui),
                config.name,
                config.activation.value,
                config.profile,
                config.codec,
                problems,
                warnings,
            )
        )


def _with_defaults(given: Given, defaults: Defaults) -> Given:
    changes: dict[str, object] = {}
    if defaults.profile and not given.profile:
        changes["profile"] = defaults.profile
    if defaults.codec and not given.codec:
        changes["codec"] = defaults.codec
    if defaults.channel_id and not given.channel_id:
        changes["channel_id"] = defaults.channel_id
    if given.expected_interval_s is None:
        changes["expected_interval_s"] = defaults.expected_interval_s
    return msgspec.structs.replace(given, **changes)


class Plans:
    """Plans that wait for their confirmation: few, each for a while. Times are monotonic nanoseconds."""

    def __init__(self) -> None:
        self._plans: OrderedDict[str, tuple[Plan, int]] = OrderedDict()
        self.forgotten = 0  # pushed out by newer ones

    def keep(self, plan: Plan, now_ns: int) -> str:
        """A name for it that nobody can guess."""
        self._expire(now_ns)
        name = secrets.token_urlsafe(16)
        self._plans[name] = plan, now_ns + int(PLAN_LIFE_S * _SECOND_NS)
        if len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)
            self.forgotten += 1
        return name

    def get(self, name: str, now_ns: int) -> Plan | None:
        self._expire(now_ns)
        found = self._plans.get(name)
        return found[0] if found else None

    def forget(self, name: str) -> None:
        self._plans.pop(name, None)

    def _expire(self, now_ns: int) -> None:
        for name, (_, until_ns) in list(self._plans.items()):
            if now_ns >= until_ns:
                del self._plans[name]
