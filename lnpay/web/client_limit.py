"""How often one client may do something that costs work, in the memory of this process."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

from lnpay.domain.errors import TooManyTries
from lnpay.domain.model import Clock

MOST_CLIENTS = 10_000
"""So many are remembered; a flood from more addresses forgets those that came first."""


def place_of(address: str) -> str:
    """An address as it is counted: a client that has one address of IPv6 has the whole /64."""
    try:
        known = ip_address(address)
    except ValueError:
        return "address unknown"
    if isinstance(known, IPv6Address) and known.ipv4_mapped is None:
        return f"address {ip_network((known, 64), strict=False)}"
    return f"address {known}"


class ClientLimit:
    """`burst` times at once, then one more each `pause`. Safe to share between threads."""

    def __init__(self, burst: int, pause: timedelta, clock: Clock) -> None:
        self._burst, self._pause, self._clock = burst, pause, clock
        self._lock = threading.Lock()
        self._full_at: OrderedDict[str, datetime] = OrderedDict()

    def check(self, client: str, what: str) -> None:
        """Raise TooManyTries, with `what` as its message, unless `client` may do it now."""
        with self._lock:
            wait = self._debt(client) - self._pause * (self._burst - 1)
        if wait > timedelta():
            raise TooManyTries(what, retry_after_seconds=math.ceil(wait.total_seconds()))

    def count(self, client: str) -> None:
        """`client` has done it."""
        with self._lock:
            debt = self._debt(client)
            self._full_at[client] = self._clock() + debt + self._pause
            self._full_at.move_to_end(client)
            while len(self._full_at) > MOST_CLIENTS:
                self._full_at.popitem(last=False)

    def _debt(self, client: str) -> timedelta:
        """How long it takes until all is free again."""
        full_at, now, longest = self._full_at.get(client), self._clock(), self._pause * self._burst
        if full_at is None or full_at <= now:
            return timedelta()
        if full_at - now > longest:  # the clock has been set back
            self._full_at[client] = now + longest
            return longest
        return full_at - now
