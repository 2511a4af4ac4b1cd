"""The price of bitcoin: which sources answer, and do they agree?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import partial
from itertools import combinations

from lnpay.doctor.check import Check
from lnpay.doctor.findings import (
    Finding,
    fail,
    ok,
    warn,
)
from lnpay.doctor.formatting import in_words
from lnpay.doctor.run_parallel import run_parallel
from lnpay.doctor.target import Target
from lnpay.domain.model import Rate
from lnpay.rates.sources import RateSource, RateSourceError

SOURCES = ("coingecko", "coinbase", "strike")

ANSWER_SECONDS = 8.0
"""Deadline for all sources together; a slower source would also keep customers waiting."""

CHECK_NETWORK = "check this machine's network and firewall; invoices are still created while another source answers"

Answer = Rate | RateSourceError | None
"""A price, the reason why there is none, or None if the source does not know the currency."""


def _check_prices(target: Target) -> Iterator[Finding]:
    answers: dict[str, Answer] = {}
    tasks = [partial(_ask, source, target.settings.currency, answers) for source in target.rate_sources]
    run_parallel(tasks, ANSWER_SECONDS)
    # A copy: a late answer must not change the list while it is read.
    found = {name: answers.get(name, RateSourceError("did not answer in time")) for name in SOURCES}
    usable = {name: answer for name, answer in found.items() if isinstance(answer, Rate) and _is_fresh(target, answer)}
    for name, answer in found.items():
        yield _source_finding(target, name, answer)
    yield _agreement(target, usable, has_others=sum(answer is not None for answer in found.values()) > 1)


def _ask(source: RateSource, currency: str, answers: dict[str, Answer]) -> None:
    try:
        answers[source.name] = source.fetch(currency)
    except RateSourceError as error:
        answers[source.name] = error


def _is_fresh(target: Target, rate: Rate) -> bool:
    return (target.clock() - rate.as_of).total_seconds() <= target.settings.rate_max_age_seconds


def _source_finding(target: Target, source: str, answer: Answer) -> Finding:
    name, currency = f"rate_{source}", target.settings.currency
    if isinstance(answer, RateSourceError):
        # Without the library's error class, which follows the colon.
        return warn(name, f"{source} {answer.message.partition(':')[0]}", CHECK_NETWORK)
    if answer is None:
        return ok(name, f"{source} does not have {currency}: the other sources are used")
    age = in_words(target.clock() - answer.as_of)
    if not _is_fresh(target, answer):
        return warn(
            name,
            f"{source}'s price is {age} old, more than RATE_MAX_AGE: it is not used",
            "wait; if it persists, compare this machine's clock with a reliable one",
        )
    return ok(name, f"{answer.price:,.2f} {currency}, {age} old")


def _agreement(target: Target, rates: Mapping[str, Rate], *, has_others: bool) -> Finding:
    """has_others: whether a second source knows the currency, or did not say that it does not."""
    name, most = "rates", target.settings.rate_max_spread_percent
    if not rates:
        return fail(name, "there is no price: no invoice can be created", "check the three sources above")
    if not most:
        return ok(name, "RATE_MAX_SPREAD_PERCENT is 0: prices are not compared")
    if len(rates) == 1:
        return _single_source(name, next(iter(rates)), has_others=has_others)
    # LNPay compares the first two sources that answer, in this order.
    spreads = {pair: _spread_percent(*(rates[one] for one in pair)) for pair in combinations(rates, 2)}
    widest = max(spreads, key=lambda pair: spreads[pair])
    text = f"{widest[0]} and {widest[1]} differ by {spreads[widest]:.2f} percent"
    if spreads[widest] <= most:
        return ok(name, text)
    say, then = (fail, "no invoice can be created") if next(iter(spreads.values())) > most else (warn, "one is wrong")
    return say(
        name,
        f"{text}, more than RATE_MAX_SPREAD_PERCENT={most}: {then}",
        "wait, and compare both with a third price. If markets differ that much in your currency, raise "
        "RATE_MAX_SPREAD_PERCENT",
    )


def _single_source(name: str, source: str, *, has_others: bool) -> Finding:
    if not has_others:
        return ok(name, f"only {source} has this currency: its price is trusted")
    advice = "it is trusted for now; check the other sources above"
    return warn(name, f"only {source} has a usable price: nothing to compare it with", advice)


def _spread_percent(one: Rate, other: Rate) -> Decimal:
    return abs(one.price - other.price) * 100 / min(one.price, other.price)


CHECKS = (Check((*(f"rate_{source}" for source in SOURCES), "rates"), _check_prices),)
