"""Use case: let the operator in, and slow down whoever guesses.

Wrong passwords are counted in the database, for each address and for all strangers together, so that neither many
processes nor many addresses give more guesses. Both pauses are short enough that the right operator is never kept out
for more than some minutes. A browser that has been in before is counted by itself: strangers cannot keep it out at all.

Behind a proxy all strangers have the proxy's address and count as one: what a header says of theirs can be made up.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

from lnpay.errors import TooManyTries, Unauthorized
from lnpay.repository import Repository

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """So many wrong tries are free; then each makes the pause twice as long, from `first` to `longest`."""

    free: int
    first: timedelta
    longest: timedelta

    def pause_after(self, wrong: int) -> timedelta:
        """How long the next try has to wait after so many wrong ones."""
        over = wrong - self.free
        return timedelta(0) if over < 0 else min(self.longest, self.first * 2 ** min(over, 10))


WITH_ONE = Patience(5, timedelta(seconds=10), timedelta(minutes=5))
WITH_STRANGERS = Patience(50, timedelta(seconds=2), timedelta(minutes=1))

FORGET_AFTER = timedelta(hours=2)
"""Tries are forgotten when so much time has passed since the last pause."""

STRANGERS = "strangers"


def log_in(repository: Repository, password: str, given: str, address: str, browser: str | None, now: datetime) -> None:
    """Return when `given` is the password.

    browser: the name of one that has been in before; None for a stranger, who comes from `address`.
    Raises Unauthorized, and TooManyTries while nobody is let in, whether the password is right or not.
    """
    is_right = hmac.compare_digest(_digest(given), _digest(password))
    counters = {f"browser {browser}": WITH_ONE} if browser else {_place(address): WITH_ONE, STRANGERS: WITH_STRANGERS}
    with repository.transaction() as tx:
        tx.logins.forget_before(now - FORGET_AFTER)
        # Always in this order, so that two never wait for each other.
        tries = {who: tx.logins.tries(who, now) for who in sorted(counters)}
        _refuse_before(max(free_at for _, free_at in tries.values()), now)
        for who, (wrong, _) in tries.items():
            if not is_right:
                tx.logins.set_tries(who, wrong + 1, now + counters[who].pause_after(wrong + 1))
            elif who != STRANGERS:
                tx.logins.forget(who)
    if not is_right:
        log.warning("wrong password for the operator's page address=%s", address)
        raise Unauthorized("this is not the password")
    log.info("the operator has logged in address=%s", address)


def _digest(text: str) -> bytes:
    # Of one length, so that not even the length of the password can be measured.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _place(address: str) -> str:
    """An address as it is counted: who has one of IPv6 has the whole /64."""
    try:
        known = ip_address(address)
    except ValueError:
        return "address unknown"
    if isinstance(known, IPv6Address) and known.ipv4_mapped is None:
        return f"address {ip_network((known, 64), strict=False)}"
    return f"address {known}"


def _refuse_before(free_at: datetime, now: datetime) -> None:
    if free_at > now:
        wait = math.ceil((free_at - now).total_seconds())
        raise TooManyTries("too many wrong passwords", retry_after_seconds=wait)
