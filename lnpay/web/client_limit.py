"""Rate limits per client, kept in the memory of this process."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

from lnpay.domain.errors import TooManyTries
from lnpay.domain.model import Clock

MOST_CLIENTS = 10_000
"""How many clients are remembered; beyond that, the oldest are forgotten."""


def place_of(address: str) -> str:
    """The key an address is counted under: for IPv6 the whole /64, because one client has all of it."""
    try:
        known = ip_address(address)
    except ValueError:
        return "address unknown"
    if isinstance(known, IPv6Address) and known.ipv4_mapped is None:
        return f"address {ip_network((known, 64), strict=False)}"
    return f"address {known}"


class ClientLimit:
    """Permits `burst` actions at once, then one more per `pause`. Thread-safe."""

    def __init__(self, burst: int, pause: timedelta, clock: Clock) -> None:
        self._burst, self._pause, self._clock = burst, pause, clock
        self._lock = threading.Lock()
        self._full_at: OrderedDict[str, datetime] = OrderedDict()

    def check(self, client: str, what: str) -> None:
        """Raise TooManyTries with the message `what` unless `client` may act now."""
        with self._lock:
            wait = self._debt(client) - self._pause * (self._burst - 1)
        if wait > timedelta():
            raise TooManyTries(what, retry_after_seconds=math.ceil(wait.total_seconds()))

    def count(self, client: str) -> None:
        """Count an action of `client`."""
        with self._lock:
            debt = self._debt(client)
            self._full_at[client] = self._clock() + debt + self._pause
            self._full_at.move_to_end(client)
            while len(self._full_at) > MOST_CLIENTS:
                self._full_at.popitem(last=False)

    def _debt(self, client: str) -> timedelta:
        """How long until the client has its full burst again."""
        full_at, now, longest = self._full_at.get(client), self._clock(), self._pause * self._burst
        if full_at is None or full_at <= now:
            return timedelta()
        if full_at - now > longest:  # the clock has been set back
            self._full_at[client] = now + longest
            return longest
        return full_at - now
