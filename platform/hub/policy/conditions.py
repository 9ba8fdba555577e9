"""Conditions of statements: each holds for a request or not, and can say itself in words.

Ladon's are named types with options, IAM's are operators over keys. A value that is missing makes a condition false,
except where IAM defines otherwise: negated operators and `IfExists` hold, `ForAllValues` holds for no values.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

from hub.policy.patterns import BadPattern, Pattern, exactly, wildcard
from hub.policy.regex import BadExpression, Expression, parse
from hub.policy.request import KEYS, Request, Value

MAX_VALUES = 256  # of one condition
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


class BadCondition(ValueError):
    """The text says what cannot be used."""


class Condition(Protocol):
    """One of a statement's conditions; all of them have to hold."""

    @property
    def words(self) -> str: ...

    @property
    def key(self) -> str: ...

    def holds(self, request: Request) -> bool: ...


@dataclass(frozen=True, slots=True)
class Check:
    """A condition about one key: `test` is given its value, and the request."""

    key: str
    words: str
    test: Callable[[Value | None, Request], bool]

    def holds(self, request: Request) -> bool:
        return self.test(request.value(self.key), request)


# Ladon (section 7.1 of its manual: types and options)


def ladon(key: str, kind: str, options: Mapping[str, Any]) -> Condition:
    """Raises BadCondition for an unknown type, wrong options or a key that no request has."""
    make = _LADON.get(kind)
    if make is None:
        raise BadCondition(f"there is no condition type {kind!r}; there are {', '.join(sorted(_LADON))}")
    return make(_known(key), options)


def _string_equal(key: str, options: Mapping[str, Any]) -> Condition:
    wanted = _text_option(options, "equals")
    return Check(key, f"{key} is {wanted!r}", lambda value, _: value == wanted)


def _string_match(key: str, options: Mapping[str, Any]) -> Condition:
    wanted = _text_option(options, "matches")
    try:
        expression = Expression(parse(wanted, anywhere=True))
    except BadExpression as error:
        raise BadCondition(f"matches: {error}") from None
    return Check(
        key,
        f"{key} contains a match of {wanted!r}",
        lambda value, _: isinstance(value, str) and expression.matches(value),
    )


def _cidr(key: str, options: Mapping[str, Any]) -> Condition:
    network = _network(_text_option(options, "cidr"))
    return Check(key, f"{key} is in {network}", lambda value, _: _in_network(value, network))


def _equals_subject(key: str, options: Mapping[str, Any]) -> Condition:
    def test(value: Value | None, request: Request) -> bool:
        return value is not None and value in (request.subject, request.value("subject_id"))

    _no_more(options)
    return Check(key, f"{key} is who asks", test)


def _boolean(key: str, options: Mapping[str, Any]) -> Condition:
    wanted = options.get("value")
    if not isinstance(wanted, bool):
        raise BadCondition("option value: true or false")
    return Check(key, f"{key} is {str(wanted).lower()}", lambda value, _: value is wanted)


def _time_of_day(key: str, options: Mapping[str, Any]) -> Condition:
    _no_more(options, "from", "to", "days")
    start, end = _minutes(_text_option(options, "from")), _minutes(_text_option(options, "to"))
    days = options.get("days", list(_DAYS))
    if not isinstance(days, list) or not days or any(day not in _DAYS for day in days):
        raise BadCondition(f"option days: a list of {', '.join(_DAYS)}")
    chosen = frozenset(_DAYS.index(day) for day in days)
    words = f"{key} is {options['from']} to {options['to']} UTC on {', '.join(days)}"
    return Check(key, words, lambda value, _: _within(value, start, end, chosen))


def _limit(key: str, options: Mapping[str, Any]) -> Condition:
    _no_more(options, "min", "max")
    low, high = options.get("min"), options.get("max")
    if (low is None and high is None) or any(
        each is not None and (isinstance(each, bool) or not isinstance(each, int | float))
        for each in (low, high)
    ):
        raise BadCondition("options min and max: numbers, one of them at least")

    def test(value: Value | None, _: Request) -> bool:
        number = _number(value)
        return number is not None and (low is None or number >= low) and (high is None or number <= high)

    return Check(key, f"{key} is {_span(low, high)}", test)


_LADON: Mapping[str, Callable[[str, Mapping[str, Any]], Condition]] = {
    "StringEqualCondition": _string_equal,
    "StringMatchCondition": _string_match,
    "CIDRCondition": _cidr,
    "EqualsSubjectCondition": _equals_subject,
    "BooleanCondition": _boolean,
    "TimeOfDayCondition": _time_of_day,
    "NumberCondition": _limit,
}


# AWS IAM (its reference of condition operators)


def iam(operator: str, key: str, values: Any) -> Condition:
    """Raises BadCondition for an unknown operator or key, or values that are not of its kind."""
    quantifier, _, name = operator.rpartition(":")
    if quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise BadCondition(f"{operator!r}: before the colon stands ForAllValues or ForAnyValue")
    wanted = values if isinstance(values, list) else [values]
    if not wanted or len(wanted) > MAX_VALUES:
        raise BadCondition(f"one to {MAX_VALUES} values")
    known = _known(_ALIASES.get(key.lower(), key.lower().removeprefix("fluxgate:")))
    if name == "Null":
        return _null(known, wanted)
    name, if_exists = (name.removesuffix("IfExists"), True) if name.endswith("IfExists") else (name, False)
    kind = _IAM.get(name)
    if kind is None:
        raise BadCondition(f"there is no operator {name!r}; there are {', '.join(sorted(_IAM))}, Null")
    tests = [kind.make(each) for each in wanted]
    one_of = " nor ".join if kind.negated else " or ".join

    def test(value: Value | None, request: Request) -> bool:
        if value is None:
            return if_exists or quantifier == "ForAllValues" or (kind.negated and not quantifier)
        given = value if isinstance(value, tuple) else (value,)
        results = [any(check(one, request) for check in tests) != kind.negated for one in given]
        return (
            all(results)
            if quantifier == "ForAllValues" or (kind.negated and not quantifier)
            else any(results)
        )

    words = f"{known} {kind.words} {one_of(repr(each) for each in wanted)}" + (
        ", if there is one" if if_exists else ""
    )
    return Check(known, words, test)


_Test = Callable[[Value, Request], bool]


@dataclass(frozen=True, slots=True)
class _Operator:
    words: str
    make: Callable[[Any], _Test]  # from a value of the document; raises BadCondition
    negated: bool = False


def _equal(wanted: Any) -> _Test:
    pattern = _pattern(exactly, _text(wanted))
    return lambda value, request: pattern.matches(_shown(value), request.text)


def _equal_any_case(wanted: Any) -> _Test:
    text = _text(wanted).casefold()
    return lambda value, _: _shown(value).casefold() == text


def _like(wanted: Any) -> _Test:
    pattern = _pattern(wildcard, _text(wanted))
    return lambda value, request: pattern.matches(_shown(value), request.text)


def _numeric(compare: Callable[[float, float], bool]) -> Callable[[Any], _Test]:
    def make(wanted: Any) -> _Test:
        number = _number(wanted)
        if number is None:
            raise BadCondition(f"{wanted!r} is no number")

        def test(value: Value, _: Request) -> bool:
            given = _number(value)
            return given is not None and compare(given, number)

        return test

    return make


def _date(compare: Callable[[float, float], bool]) -> Callable[[Any], _Test]:
    def make(wanted: Any) -> _Test:
        moment = _moment(wanted)

        def test(value: Value, _: Request) -> bool:
            given = _number(value)
            return given is not None and compare(given, moment)

        return test

    return make


def _truth(wanted: Any) -> _Test:
    text = str(wanted).lower()
    if text not in ("true", "false"):
        raise BadCondition(f"{wanted!r} is neither true nor false")
    return lambda value, _: _shown(value).lower() == text


def _address(wanted: Any) -> _Test:
    network = _network(_text(wanted))
    return lambda value, _: _in_network(value, network)


_IAM: Mapping[str, _Operator] = {
    "StringEquals": _Operator("is", _equal),
    "StringNotEquals": _Operator("is neither", _equal, negated=True),
    "StringEqualsIgnoreCase": _Operator("is, in any case,", _equal_any_case),
    "StringNotEqualsIgnoreCase": _Operator("is, in no case, either", _equal_any_case, negated=True),
    "StringLike": _Operator("is like", _like),
    "StringNotLike": _Operator("is not like", _like, negated=True),
    "NumericEquals": _Operator("equals", _numeric(float.__eq__)),
    "NumericNotEquals": _Operator("does not equal", _numeric(float.__eq__), negated=True),
    "NumericLessThan": _Operator("is less than", _numeric(float.__lt__)),
    "NumericLessThanEquals": _Operator("is at most", _numeric(float.__le__)),
    "NumericGreaterThan": _Operator("is more than", _numeric(float.__gt__)),
    "NumericGreaterThanEquals": _Operator("is at least", _numeric(float.__ge__)),
    "DateEquals": _Operator("is at", _date(float.__eq__)),
    "DateNotEquals": _Operator("is not at", _date(float.__eq__), negated=True),
    "DateLessThan": _Operator("is before", _date(float.__lt__)),
    "DateLessThanEquals": _Operator("is not after", _date(float.__le__)),
    "DateGreaterThan": _Operator("is after", _date(float.__gt__)),
    "DateGreaterThanEquals": _Operator("is not before", _date(float.__ge__)),
    "Bool": _Operator("is", _truth),
    "IpAddress": _Operator("is in", _address),
    "NotIpAddress": _Operator("is not in", _address, negated=True),
}

# Keys of AWS that mean the same here, in lower case as its keys have no case
_ALIASES = {
    "aws:sourceip": "source_ip",
    "aws:currenttime": "current_time",
    "aws:epochtime": "current_time",
    "aws:username": "subject_name",
    "aws:userid": "subject_id",
}


def _null(key: str, wanted: Sequence[Any]) -> Condition:
    (text,) = {str(each).lower() for each in wanted} if len(wanted) == 1 else {""}
    if text not in ("true", "false"):
        raise BadCondition("Null takes true (the key is missing) or false (it is there)")
    missing = text == "true"
    return Check(
        key, f"{key} is {'not known' if missing else 'known'}", lambda value, _: (value is None) == missing
    )


# What both share


def _known(key: str) -> str:
    if key not in KEYS:
        raise BadCondition(f"no request has a {key!r}; there are {', '.join(KEYS)}")
    return key


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise BadCondition(f"{value!r} is no text")


def _text_option(options: Mapping[str, Any], name: str) -> str:
    value = options.get(name)
    if not isinstance(value, str):
        raise BadCondition(f"option {name}: a text")
    return value


def _no_more(options: Mapping[str, Any], *known: str) -> None:
    if more := set(options) - set(known):
        raise BadCondition(
            f"there is no option {min(more)!r}" + (f"; there are {', '.join(known)}" if known else "")
        )


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pattern(make: Callable[[str], Pattern], text: str) -> Pattern:
    try:
        return make(text)
    except BadPattern as error:
        raise BadCondition(str(error)) from None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None or isinstance(value, tuple):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _moment(value: Any) -> float:
    """A date of a document: ISO 8601, or seconds since 1970."""
    number = _number(value)
    if number is not None:
        return number
    try:
        moment = datetime.fromisoformat(_text(value))
    except ValueError:
        raise BadCondition(f"{value!r} is no date such as 2026-03-01T08:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadCondition(f"{text!r} is no network such as 192.168.1.0/24") from None


def _in_network(value: Value | None, network: _Network) -> bool:
    address = _parsed_address(value) if isinstance(value, str) else None
    return address is not None and address.version == network.version and address in network


@lru_cache(maxsize=1024)
def _parsed_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None for what is no address. One of IPv4 within IPv6 is the IPv4 address it carries."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _minutes(text: str) -> int:
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise BadCondition(f"{text!r} is no time of day such as 08:30")
    return int(found[1]) * 60 + int(found[2])


def _within(value: Value | None, start: int, end: int, days: frozenset[int]) -> bool:
    """Whether a moment lies in a span of the day, which may go over midnight; it then belongs to the day it began."""
    seconds = _number(value)
    if seconds is None:
        return False
    minutes = int(seconds // 60)
    day, minute = (minutes // 1440 + 3) % 7, minutes % 1440  # 1970-01-01 was a Thursday
    if start <= end:
        return start <= minute < end and day in days
    return (minute >= start and day in days) or (minute < end and (day - 1) % 7 in days)


def _span(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
