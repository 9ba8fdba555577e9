"""How often somebody may guess: growing pauses for each account and each address, that never lock the owner out.

Pure: time is an argument, seconds of the monotonic clock. A try counts as wrong until it was right, so tries at the
same moment cannot slip past. Three kinds of counter:

* of an account, for everybody whom it does not know: 12 tries in four minutes, then one every two minutes, some 40 an
  hour.
* of an account, for each device and address it was signed in from well before. An attacker who keeps the first counter
  busy does not touch these, so the owner gets in all the same.
* of an address (IPv6: of a /64, which is what one line gets), whatever the accounts. A device that the account knows
  passes this one by: who shares an address with the attacker is not shut out with him.

Addresses somebody typed that are no account's are counted the same way, so that the pauses do not tell them apart.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from .errors import TooManyTries

MAX_UNKNOWN = 4096  # names without an account that are remembered; the one tried longest ago goes
MAX_KNOWN_PLACES = 4096  # devices and addresses of accounts
MAX_ADDRESSES = 4096
FREE_TRIES = 5  # of an account, before the first pause
FREE_TRIES_OF_ADDRESS = 20  # of an address: several people may sit behind it
FIRST_PAUSE_S = 1.0  # doubled by each further try
LONGEST_PAUSE_S = 120.0  # so 5 + 7 + 29 tries in the first hour, and 30 in each later one
FORGET_AFTER_S = 3600.0  # without a try

K = TypeVar("K")


@dataclass(slots=True)
class _Counter:
    count: int = 0
    last_s: float = 0.0
    address: str = ""  # where the tries came from; "*" for several places

    def wait_s(self, free: int, now_s: float) -> float:
        """Seconds until the next try."""
        if now_s - self.last_s > FORGET_AFTER_S:
            self.count, self.address = 0, ""
        if self.count < free:
            return 0.0
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.count - free, 16))
        return max(0.0, self.last_s + pause - now_s)

    def take(self, address: str, now_s: float) -> None:
        self.count, self.last_s = self.count + 1, now_s
        self.address = address if self.address in ("", address) else "*"


@dataclass(frozen=True, slots=True)
class Try:
    """A try that was let through, until it is known whether it was right."""

    counters: tuple[_Counter, ...]
    address: str


class Lockout:
    """The counters of one gateway. One thread at a time."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Counter] = {}  # by user id: no more than there are accounts
        self._unknown: OrderedDict[str, _Counter] = OrderedDict()
        self._places: OrderedDict[tuple[str, str], _Counter] = OrderedDict()
        self._addresses: OrderedDict[str, _Counter] = OrderedDict()
        self.refused = 0

    def begin(
        self,
        now_s: float,
        address: str,
        *,
        account: str = "",
        name: str = "",
        device: str = "",
        known: bool = False,
    ) -> Try:
        """Let a try through. Raises TooManyTries while a pause lasts.

        `account` is a user's id, or "" and `name` what was typed. `device` is one the account knows; `known` says
        that it was signed in from the address well before.
        """
        network = network_of(address)
        if account and device:
            counters = [(_of(self._places, (account, f"device {device}"), MAX_KNOWN_PLACES), FREE_TRIES)]
        else:
            if not account:
                own = _of(self._unknown, name[:256].lower(), MAX_UNKNOWN)
            elif known:
                own = _of(self._places, (account, network), MAX_KNOWN_PLACES)
            else:
                own = self._accounts.setdefault(account, _Counter())
            of_address = _of(self._addresses, network, MAX_ADDRESSES)
            counters = [(own, FREE_TRIES), (of_address, FREE_TRIES_OF_ADDRESS)]
        wait_s = max(counter.wait_s(free, now_s) for counter, free in counters)
        if wait_s > 0.0:
            self.refused += 1
            shown = math.ceil(wait_s)
            raise TooManyTries(f"too many wrong passwords or codes: try again in {shown} s", wait_s)
        for counter, _ in counters:
            counter.take(network, now_s)
        return Try(tuple(counter for counter, _ in counters), network)

    def right(self, one: Try) -> None:
        """It was right. What the same address had wrong before is forgiven to the account, and nobody else's tries."""
        own, *of_address = one.counters
        if own.address == one.address:
            own.count, own.address = 0, ""
        else:
            own.count -= 1
        for counter in of_address:
            counter.count -= 1

    def take_back(self, one: Try) -> None:
        """It was neither right nor wrong: as if it had not been made."""
        for counter in one.counters:
            counter.count -= 1

    def lift(self, account: str = "") -> None:
        """End the pauses of an account, and all pauses of addresses; of everybody where none is named."""
        if account:
            self._accounts.pop(account, None)
            for key in [key for key in self._places if key[0] == account]:
                del self._places[key]
        else:
            self._accounts.clear()
            self._places.clear()
            self._unknown.clear()
        self._addresses.clear()

    def forget(self, account: str) -> None:
        """The account is gone."""
        self._accounts.pop(account, None)


def network_of(address: str) -> str:
    """What counts as one address: an IPv4 address, the /64 of an IPv6 one, anything else as it is."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _of(counters: OrderedDict[K, _Counter], key: K, bound: int) -> _Counter:
    """The counter of `key`, now the youngest; the one tried longest ago goes where there are too many."""
    counter = counters.pop(key, None) or _Counter()
    counters[key] = counter
    if len(counters) > bound:
        counters.popitem(last=False)
    return counter
