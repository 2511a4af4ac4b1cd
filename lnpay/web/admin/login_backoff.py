"""Use case: let the operator log in, and slow down guessing.

Wrong passwords are counted in the database, for each address and for all strangers together, so that several processes
permit no additional guesses, and several addresses only a few.

Others cannot lock the operator out. Each address adds only its first wrong tries to those of all strangers, and while
strangers must wait, the right password is still accepted from an address with few wrong tries. A browser that has
logged in before is counted separately.

Addresses behind a proxy are distinguished if TRUSTED_PROXIES names that proxy.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from lnpay.domain.errors import TooManyTries, Unauthorized
from lnpay.repository import Repository, Transaction
from lnpay.web.client_limit import place_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoginBackoff:
    """`free` wrong tries cost nothing; then each one doubles the pause, from `first` up to `longest`."""

    free: int
    first: timedelta
    longest: timedelta

    def pause_after(self, wrong: int) -> timedelta:
        """How long the next try must wait after this many wrong ones."""
        over = wrong - self.free
        return timedelta(0) if over < 0 else min(self.longest, self.first * 2 ** min(over, 10))


PER_CLIENT = LoginBackoff(5, timedelta(seconds=10), timedelta(minutes=5))
ALL_STRANGERS = LoginBackoff(50, timedelta(seconds=2), timedelta(minutes=1))

FORGET_AFTER = timedelta(hours=2)
"""Wrong tries are forgotten once this much time has passed since the last pause."""

STRANGERS = "strangers"

FEW_WRONG_TRIES = 2
"""With at most this many wrong tries, an address's right password does not have to wait because of other strangers."""


def log_in(repository: Repository, password: str, given: str, address: str, browser: str | None, now: datetime) -> None:
    """Return if `given` is the password.

    browser: the id of one that has logged in before; None for a stranger, who is identified by `address`.
    Raises Unauthorized, or TooManyTries while this client, or every stranger, must wait.
    """
    is_right = hmac.compare_digest(_digest(given), _digest(password))
    who = f"browser {browser}" if browser else place_of(address)
    with repository.transaction() as tx:
        tx.logins.forget_before(now - FORGET_AFTER)
        # Always locked in this order, so that two logins cannot deadlock.
        wrong, free_at = tx.logins.tries(who, now)
        _refuse_before(free_at, now)
        must_wait_until = now if browser else _try_as_stranger(tx, wrong, now, is_right=is_right)
        if is_right and must_wait_until <= now:
            tx.logins.forget(who)
        elif not is_right:
            tx.logins.set_tries(who, wrong + 1, now + PER_CLIENT.pause_after(wrong + 1))
    # After the commit, so that a try that is refused still counts.
    _refuse_before(must_wait_until, now)
    if not is_right:
        log.warning("admin login failed address=%s", address)
        raise Unauthorized("the password is wrong")
    log.info("admin login address=%s", address)


def _try_as_stranger(tx: Transaction, wrong: int, now: datetime, *, is_right: bool) -> datetime:
    """Count a try towards the limit of all strangers. Returns when it may be made: `now`, or later.

    wrong: earlier wrong tries from the same address. Only the free tries of an address count, so that one address
    alone never makes the others wait.
    """
    wrong_of_all, free_at = tx.logins.tries(STRANGERS, now)
    if free_at > now:
        return now if is_right and wrong <= FEW_WRONG_TRIES else free_at
    if not is_right and wrong < PER_CLIENT.free:
        tx.logins.set_tries(STRANGERS, wrong_of_all + 1, now + ALL_STRANGERS.pause_after(wrong_of_all + 1))
    return now


def _digest(text: str) -> bytes:
    # Compare hashes of equal length, so that the timing does not reveal the password's length.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _refuse_before(free_at: datetime, now: datetime) -> None:
    if free_at > now:
        wait = math.ceil((free_at - now).total_seconds())
        raise TooManyTries("too many wrong passwords", retry_after_seconds=wait)
