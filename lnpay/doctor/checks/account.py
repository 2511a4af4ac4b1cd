"""The Strike account: is it reachable, is the key valid, does it have the scopes, is there money for refunds?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lnpay.doctor.check import Check
from lnpay.doctor.findings import (
    Finding,
    cannot_tell,
    fail,
    ok,
    warn,
)
from lnpay.doctor.formatting import in_words
from lnpay.doctor.target import Target
from lnpay.domain.errors import StrikeError, StrikeRejected
from lnpay.domain.money import BTC
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import RefundState
from lnpay.domain.strike_time import CLOCK_FAIL, CLOCK_WARN, ClockOffset
from lnpay.domain.text import utc_minute
from lnpay.strike.buckets import Bucket
from lnpay.strike.client import StrikeAnswer
from lnpay.strike.invoices import StrikeInvoice

FEW_CALLS = 150
"""With this few calls left, sweeps pause and leave them to webhooks and refunds."""

OWED = (
    RefundState.REQUESTED, RefundState.QUOTED, RefundState.FAILED, RefundState.NEEDS_ADDRESS, RefundState.HELD,
)  # fmt: skip
"""Refunds for which money must still leave the account."""

NO_SUCH_ID = "00000000-0000-0000-0000-000000000000"
"""An id that does not exist, so a call about it has no effect."""

NEW_KEY = "create a key at https://dashboard.strike.me with the scopes listed in README.md, and put it into config/.env"


@dataclass(frozen=True)
class _Probe:
    """A call without effect: Strike checks the key's scopes before it rejects the call for another reason.

    is_vital: without the scope, invoices cannot be created, payments found or refunds sent.
    """

    scope: str
    method: str
    path: str
    bucket: Bucket
    is_vital: bool = True
    body: dict[str, Any] | None = None


INVOICES = (
    _Probe("partner.invoice.create", "POST", "/invoices", Bucket.INVOICE_CREATE, body={}),
    _Probe("partner.invoice.read", "GET", f"/invoices/{NO_SUCH_ID}", Bucket.OTHER),
    _Probe("partner.invoice.quote.generate", "POST", f"/invoices/{NO_SUCH_ID}/quote", Bucket.INVOICE_QUOTE),
    _Probe("partner.invoice.cancel", "PATCH", f"/invoices/{NO_SUCH_ID}/cancel", Bucket.OTHER, is_vital=False),
)
REQUESTS = (
    _Probe(
        "partner.receive-request.create", "POST", "/receive-requests", Bucket.OTHER,
        body={"bolt11": {"expiryInSeconds": -1}},
    ),
    _Probe("partner.receive-request.read", "GET", f"/receive-requests/{NO_SUCH_ID}/receives", Bucket.OTHER),
)  # fmt: skip
"""The create call sends an expiry that Strike refuses: without it, a receive request would be created."""

SELLING = (
    _Probe("partner.rates.ticker", "GET", "/rates/ticker", Bucket.RATES, is_vital=False),
    _Probe("partner.webhooks.manage", "GET", f"/subscriptions/{NO_SUCH_ID}", Bucket.OTHER, is_vital=False),
)
REFUNDING = (
    _Probe(
        "partner.payment-quote.lightning.create", "POST", "/payment-quotes/lightning/lnurl", Bucket.PAYMENT_QUOTE,
        body={},
    ),
    _Probe("partner.payment-quote.execute", "PATCH", f"/payment-quotes/{NO_SUCH_ID}/execute", Bucket.PAYMENT_EXECUTE),
    _Probe("partner.payment.read", "GET", f"/payments/{NO_SUCH_ID}", Bucket.OTHER),
)  # fmt: skip


def _check_key(target: Target) -> Iterator[Finding]:
    try:
        answer = target.strike.ask("GET", f"/invoices/{NO_SUCH_ID}", Bucket.OTHER)
    except StrikeError as error:
        yield from _no_answer(error)
        raise
    yield _reach(answer)
    yield _clock(target.strike.time.offset())
    if answer.status == 401:
        yield fail("strike_key", "Strike rejects STRIKE_API_KEY", NEW_KEY)
        yield cannot_tell("strike_scopes", "Strike rejects the key", "see strike_key")
    elif _was_key_checked(answer):
        yield ok("strike_key", "Strike accepts STRIKE_API_KEY")
        yield _scopes(target)
    else:
        for name in ("strike_key", "strike_scopes"):
            yield cannot_tell(name, "Strike did not evaluate the key", "see strike")


def _no_answer(error: StrikeError) -> Iterator[Finding]:
    if error.status == 429:
        yield fail("strike", "Strike is rate limiting LNPay", "wait: it ends automatically; see strike_budget")
    # If our own budget stopped the call, nothing is known about Strike, and `strike_budget` says so.
    elif error.retry_after_seconds is None:
        yield fail("strike", error.message, "check this machine's network, DNS and firewall, and STRIKE_API_URL")


def _reach(answer: StrikeAnswer) -> Finding:
    if answer.status == 403 and answer.code is None:
        return fail(
            "strike",
            "Strike's edge proxy refuses calls from this network (403 without a reason)",
            "try again later; if it persists, ask Strike's support, or use another network",
        )
    if answer.status >= 500:
        return fail("strike", f"Strike answers {answer.status}", "wait: https://status.strike.me shows Strike's status")
    return ok("strike", "Strike answers")


def _was_key_checked(answer: StrikeAnswer) -> bool:
    """Whether Strike has evaluated the key."""
    return answer.status < 500 and (answer.status != 403 or answer.code is not None)


def _clock(offset: ClockOffset | None) -> Finding:
    name = "clock"
    if offset is None:
        return cannot_tell(name, "Strike's answer has no date", "compare this machine's clock with a reliable one")
    if offset.least <= CLOCK_WARN:
        return ok(name, f"within {CLOCK_WARN.seconds} seconds of Strike's: {offset.in_words}")
    side = "ahead of" if offset.ahead > timedelta() else "behind"
    say = fail if offset.least > CLOCK_FAIL else warn
    return say(
        name,
        f"this machine's clock is {in_words(offset.ahead)} {side} Strike's ({offset.in_words})",
        "let the system set it (timedatectl set-ntp true; on Windows w32tm /resync): "
        "retries, reports and the daily refund limit rely on it, and shops refuse messages with a wrong timestamp",
    )


def _scopes(target: Target) -> Finding:
    receiving = REQUESTS if _is_by_request(target) else INVOICES
    probes = receiving + SELLING + (REFUNDING if target.settings.refunds_enabled else ())
    answers = [(probe, target.strike.ask(probe.method, probe.path, probe.bucket, body=probe.body)) for probe in probes]
    missing = [probe for probe, answer in answers if answer.status == 403 and answer.code is not None]
    unknown = [probe.scope for probe, answer in answers if not _was_key_checked(answer)]
    if missing:
        say = fail if any(probe.is_vital for probe in missing) else warn
        return say("strike_scopes", f"the key lacks {', '.join(probe.scope for probe in missing)}", NEW_KEY)
    if unknown:
        return cannot_tell(
            "strike_scopes", f"Strike did not say whether the key has {', '.join(unknown)}", "run this again"
        )
    return ok("strike_scopes", f"the key has all {len(probes)} required scopes")


def _check_invoicing(target: Target) -> Iterator[Finding]:
    """The newest invoice's `receiverId` names the profile to read; `issuerId` may be shared by accounts."""
    name = "strike_invoicing"
    newest = _newest_invoice(target)
    if newest is None and _is_by_request(target) and target.settings.settle_in == BTC:
        yield ok(name, "RECEIVE_WITH=receive-request needs no invoices in bitcoin")
        return
    if newest is None:
        yield _without_invoices(name, target)
        return
    try:
        profile = target.strike.get_profile(str(newest.raw.get("receiverId")))
        settle_in = target.settings.settle_in
        yield _target_profile(name, profile, settle_in) if _is_by_request(target) else _profile(name, profile)
    except StrikeRejected as error:
        if error.status == 403 and newest.amount_sats is not None and target.settings.settle_in == BTC:
            yield ok(name, "the account's newest invoice is in bitcoin")
        else:
            advice = "use a key with the scope partner.account.profile.read to check this"
            yield cannot_tell(name, "the account's profile cannot be read", advice)


def _newest_invoice(target: Target) -> StrikeInvoice | None:
    """None if there is none, or if the key may not read invoices and does not need to."""
    try:
        return target.strike.newest_invoice()
    except StrikeRejected as error:
        if error.status == 403 and _is_by_request(target):
            return None
        raise


def _without_invoices(name: str, target: Target) -> Finding:
    if _is_by_request(target):
        currency = target.settings.settle_in
        advice = f"make sure in Strike's app that the account can hold {currency}"
        return cannot_tell(name, "Strike identifies the account only in its invoices, and there are none", advice)
    return cannot_tell(name, "the account has no invoice yet", "create one for a small amount, then run this again")


def _profile(name: str, profile: dict[str, Any]) -> Finding:
    if _can_invoice_bitcoin(profile):
        return ok(name, "the account can issue invoices in bitcoin")
    return fail(
        name,
        "the account cannot issue invoices in bitcoin, so every invoice is refused",
        "set RECEIVE_WITH=receive-request, which needs no such invoices; or complete the steps in Strike's app that "
        "are required to receive bitcoin",
    )


def _is_by_request(target: Target) -> bool:
    return target.settings.receive_with is ReceiveWith.RECEIVE_REQUEST


def _target_profile(name: str, profile: dict[str, Any], settle_in: str) -> Finding:
    """Whether payments of receive requests can be credited in SETTLE_IN."""
    currencies = [one for one in profile.get("currencies") or () if isinstance(one, dict)]
    available = sorted(str(one.get("currency")) for one in currencies if one.get("isAvailable") is True)
    no_invoices = "" if _can_invoice_bitcoin(profile) else "; it cannot issue invoices in bitcoin, and need not"
    if settle_in in available:
        return ok(name, f"the account can be credited in {settle_in}{no_invoices}")
    return fail(
        name,
        f"SETTLE_IN is {settle_in}, which the account does not have, so payments cannot be credited in it",
        f"set SETTLE_IN to one of {', '.join(available)}" if available else "ask Strike's support",
    )


def _can_invoice_bitcoin(profile: dict[str, Any]) -> bool:
    currencies = [one for one in profile.get("currencies") or () if isinstance(one, dict)]
    return any(one.get("currency") == "BTC" and one.get("isInvoiceable") is True for one in currencies)


def _check_balance(target: Target) -> Iterator[Finding]:
    name = "strike_balance"
    with target.reading() as tx:
        owed = tx.backlog.owed_sats(OWED)
    try:
        yield _balance(name, owed, target.strike.available_sats())
    except StrikeRejected as error:
        if error.status != 403:
            raise
        if owed:
            why = f"{owed:,} sats are owed in refunds, and the key may not read the balance"
            yield cannot_tell(name, why, "use a key with the scope partner.balances.read to check this")
        else:
            yield ok(name, "no refund is owed")


def _balance(name: str, owed: int, available: int) -> Finding:
    if available >= owed:
        return ok(name, f"{available:,} sats, and {owed:,} are owed in refunds")
    return fail(
        name,
        f"{owed:,} sats are owed in refunds and the account has {available:,}",
        f"deposit {owed - available:,} sats plus fees: refunds are waiting for it",
    )


def _check_budget(target: Target) -> Iterator[Finding]:
    name = "strike_budget"
    now = target.clock()
    with target.reading() as tx:
        left_of = {bucket: tx.limits.blocked_for(bucket) for bucket in Bucket}
    locked = {bucket: now + one for bucket, one in left_of.items() if one > timedelta()}
    left = target.calls_left()
    if locked:
        until = max(locked.values())
        yield fail(
            name,
            f"Strike has locked us out ({', '.join(locked)}) until {utc_minute(until)}",
            f"wait {in_words(until - now)}: it ends automatically. Find out what else calls Strike from this address",
        )
    elif left == 0:
        yield fail(name, *_spent(left))
    elif left <= FEW_CALLS:
        yield warn(name, *_spent(left))
    else:
        yield ok(name, f"{left} calls are left in the current ten minutes")


def _spent(left: int) -> tuple[str, str]:
    return (
        f"{left or 'no'} calls to Strike are left in the current ten minutes",
        "wait ten minutes; if it happens again, run the workers less often, and find out what else uses this database",
    )


CHECKS = (
    Check(("strike", "clock", "strike_key", "strike_scopes"), _check_key),
    Check(("strike_invoicing",), _check_invoicing),
    Check(("strike_balance",), _check_balance),
    Check(("strike_budget",), _check_budget),
)
