"""Pending work: refunds that are stuck or wait for the operator, and workers that do not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from lnpay.doctor.check import Check
from lnpay.doctor.findings import (
    Finding,
    fail,
    ok,
    warn,
)
from lnpay.doctor.formatting import in_words
from lnpay.doctor.target import Target
from lnpay.domain.model import Heartbeat, Refund
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import OPEN_REFUNDS, HoldCause, LatePayments, RefundState
from lnpay.monitoring.overview import PRUNED_SHOWN_FOR, UNSETTLED_AFTER
from lnpay.monitoring.stalled import find_stalled
from lnpay.repository.queries.figures import Waiting
from lnpay.runtime.worker_passes import WORKER_INTERVALS

MOST_LISTED = 5
"""How many invoices a finding names."""

LATE = timedelta(minutes=15)
VERY_LATE = timedelta(hours=1)

EXPIRING_WORKERS = ("main", "expired")
"""The workers that expire unpaid invoices: either is enough to refund an incomplete payment."""

WAITING_FOR_OPERATOR = (RefundState.HELD, RefundState.NEEDS_ADDRESS)
UNSENT = (RefundState.REQUESTED, RefundState.QUOTED, RefundState.FAILED)

SEE = "python main.py refunds list"
"""Lists each of them with its reason."""

START = (
    "put workers/{name}_worker.py into cron or a systemd timer, or start the server with python main.py --with-workers"
)
FILES = {"main": "main", "expired": "expired", "refund": "refund_failure"}
"""Worker name to the prefix of its file name."""


def _check_refunds(target: Target) -> Iterator[Finding]:
    with target.reading() as tx:
        open_ones = tx.figures.waiting_refunds(OPEN_REFUNDS)
        stuck = tx.refunds.count_stuck()
    yield _in_flight(target, open_ones.get(RefundState.IN_FLIGHT), stuck)
    yield _unsent(target, [open_ones[state] for state in UNSENT if state in open_ones])
    yield _waiting(open_ones)


def _in_flight(target: Target, refunds: Waiting | None, stuck: int) -> Finding:
    name = "refunds_in_flight"
    if refunds is None:
        return ok(name, "none")
    age = target.clock() - refunds.since
    text = f"{refunds.count} in flight, the oldest for {in_words(age)}"
    if stuck:
        return fail(
            name,
            f"{text}; for {stuck} of them Strike can no longer say whether they were sent",
            f"{SEE}, look for each in Strike's dashboard, then: refunds settle if it was sent, refunds retry if not",
        )
    if age <= LATE:
        return ok(name, text)
    say = fail if age > VERY_LATE else warn
    return say(name, text, f"check that workers/refund_failure_worker.py runs, then {SEE} and Strike's dashboard")


def _unsent(target: Target, waiting: list[Waiting]) -> Finding:
    name = "refunds_unsent"
    if not waiting:
        return ok(name, "none")
    age = target.clock() - min(one.since for one in waiting)
    text = f"{sum(one.count for one in waiting)} to be sent, the oldest for {in_words(age)}"
    if age <= VERY_LATE:
        return ok(name, text)
    return warn(name, text, f"{SEE} says why: usually an unreachable wallet, a high fee, or a low balance")


def _waiting(open_ones: Mapping[RefundState, Waiting]) -> Finding:
    name = "refunds_waiting"
    counts = {state: open_ones[state].count for state in WAITING_FOR_OPERATOR if state in open_ones}
    if not counts:
        return ok(name, "none is waiting for you")
    text = ", ".join(f"{count} {state}" for state, count in counts.items())
    advice = f"{SEE}, then: refunds approve for held ones, refunds address once the customer gives you one"
    return warn(name, text, advice)


def _check_late_payments(target: Target) -> Iterator[Finding]:
    name, settings = "late_payments", target.settings
    with target.reading() as tx:
        held = [one for one in tx.refunds.in_states((RefundState.HELD,), MOST_HELD) if _is_undecided(one)]
    if held:
        age = in_words(target.clock() - held[0].created_at)
        text = f"{len(held)} held for your decision, the oldest for {age}"
        yield warn(name, text, f"{SEE}, then: refunds accept if you still deliver the order, refunds approve if not")
    elif settings.late_payments is LatePayments.ACCEPT and not settings.rate_max_spread_percent:
        text = "accepted on the price of a single source, because RATE_MAX_SPREAD_PERCENT is 0"
        yield warn(name, text, "set RATE_MAX_SPREAD_PERCENT, or LATE_PAYMENTS to hold or refund")
    else:
        yield ok(name, _LATE_WORDS[settings.late_payments].format(settings.late_accept_percent))


MOST_HELD = 1_000

_LATE_WORDS = {
    LatePayments.REFUND: "late payments are refunded",
    LatePayments.ACCEPT: "late payments are accepted unless the price has fallen by {:f} percent since the sale",
    LatePayments.HOLD: "late payments are held for your decision; none is waiting",
}


def _is_undecided(refund: Refund) -> bool:
    return refund.held_because is HoldCause.LATE_PAYMENT


def _check_workers(target: Target) -> Iterator[Finding]:
    with target.reading() as tx:
        beats = tx.heartbeats.every()
    has_several = len({beat.host for beat in beats}) > 1
    is_any_expiring = any(beat.worker in EXPIRING_WORKERS for beat in beats)
    for worker in WORKER_INTERVALS:
        own = [beat for beat in beats if beat.worker == worker]
        if not own:
            yield _never_ran(target, worker, is_any_expiring=is_any_expiring)
        for beat in own:
            yield _worker(target, beat, f"on {beat.host or 'a host without a name'}: " if has_several else "")


def _never_ran(target: Target, worker: str, *, is_any_expiring: bool) -> Finding:
    """A warning, because webhooks also report payments. But no webhook says that an underpaid invoice has expired."""
    name, text, start = f"worker_{worker}", "it has never run", START.format(name=FILES[worker])
    is_by_request = target.settings.receive_with is ReceiveWith.RECEIVE_REQUEST
    if is_by_request and worker in EXPIRING_WORKERS and not is_any_expiring:
        return fail(name, f"{text}: without it a customer who paid less than the price is not refunded", start)
    return warn(name, text, start)


def _worker(target: Target, beat: Heartbeat, where: str) -> Finding:
    name, start = f"worker_{beat.worker}", START.format(name=FILES[beat.worker])
    age = target.clock() - beat.ended_at
    text = f"{where}its last pass ended {in_words(age)} ago"
    if age > LATE:
        return (fail if age > VERY_LATE else warn)(name, text, f"check that it is started: {start}")
    if beat.trouble is not None:
        troubled = target.clock() - (beat.troubled_since or beat.ended_at)
        lasting = f", as has every pass for {in_words(troubled)}" if troubled > LATE else ""
        say = fail if troubled > VERY_LATE else warn
        return say(name, f"{text} with an error{lasting}: {beat.trouble}", "do what it says; the log has more")
    return ok(name, text)


def _check_invoices(target: Target) -> Iterator[Finding]:
    with target.reading() as tx:
        # Refunds and messages have findings of their own.
        stalled = replace(find_stalled(tx, target.clock()), refunds=None, deliveries=None)
    words = list(stalled.in_words())
    if words:
        advice = "check that the workers run and what they report, and that this machine reaches Strike"
        yield fail("invoices_unread", "; ".join(words), advice)
    else:
        yield ok("invoices_unread", "none: every invoice past its deadline was checked with Strike")


def _check_payments(target: Target) -> Iterator[Finding]:
    name, now = "payments_unsettled", target.clock()
    with target.reading() as tx:
        unsettled = tx.invoices.unsettled(now - UNSETTLED_AFTER, MOST_LISTED + 1)
        pruned = tx.pruned.found_paid(now - PRUNED_SHOWN_FOR, MOST_LISTED + 1)
    lists = ((unsettled, "not settled here"), (pruned, "deleted here before Strike reported the payment"))
    words = [_listed([one.strike_invoice_id for one in found], what) for found, what in lists if found]
    if not words:
        yield ok(name, "none: everything that Strike lists as paid is settled or refunded")
        return
    advice = (
        "look at each in Strike's dashboard; run workers/expired_worker.py once and read its log, which says why it is "
        "not settled; then deliver the order, or refund it from the dashboard"
    )
    yield fail(name, f"Strike lists as paid: {'; '.join(words)}", advice)


def _listed(ids: list[str], what: str) -> str:
    more = " and more" if len(ids) > MOST_LISTED else ""
    return f"{', '.join(ids[:MOST_LISTED])}{more} ({what})"


CHECKS = (
    Check(("payments_unsettled",), _check_payments),
    Check(("refunds_in_flight", "refunds_unsent", "refunds_waiting"), _check_refunds),
    Check(("late_payments",), _check_late_payments),
    Check(("invoices_unread",), _check_invoices),
    Check(tuple(f"worker_{worker}" for worker in WORKER_INTERVALS), _check_workers),
)
