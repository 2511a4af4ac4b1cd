"""Use case: the operator's overview of what needs attention, and of the last days."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta

from lnpay.domain.errors import UnreadableRow
from lnpay.domain.model import (
    Delivery,
    Heartbeat,
    Invoice,
    Refund,
)
from lnpay.domain.states import DeliveryState, InvoiceState, RefundState
from lnpay.monitoring.snapshot import WORKERS
from lnpay.monitoring.stalled import find_stalled
from lnpay.refunds.by_hand import BY_HAND_AFTER
from lnpay.repository import Repository, Transaction
from lnpay.repository.pruned import PrunedInvoice
from lnpay.repository.queries.searches import InvoiceTotal
from lnpay.strike.buckets import Bucket
from lnpay.strike.budget import LIMITS

MOST_SHOWN = 10
"""Per kind; the list of invoices shows all of them."""

FAILS_LONG_AFTER = timedelta(hours=1)
"""A refund that has failed for this long is unlikely to succeed without help."""

UNTOLD_AFTER = timedelta(minutes=10)
"""A shop that has refused messages for this long has more than a brief outage."""

UNSETTLED_AFTER = timedelta(minutes=10)
"""A listed payment that could not be settled for this long will not be settled by the next pass either."""

TROUBLED_AFTER = timedelta(minutes=10)
"""A single failed pass is retried; passes that fail for this long need the operator."""

UNSENT = (RefundState.REQUESTED, RefundState.QUOTED, RefundState.FAILED)
"""Refunds for which no payment can be under way."""

PRUNED_SHOWN_FOR = timedelta(days=90)
"""How long a payment of a deleted invoice is listed: LNPay cannot know whether the operator has handled it."""

ABANDONED_SHOWN_FOR = timedelta(days=30)


@dataclass(frozen=True)
class Owed:
    """A refund and the invoice that it is for."""

    refund: Refund
    invoice: Invoice


@dataclass(frozen=True)
class Untold:
    """A message that the shop does not accept, with its invoice."""

    delivery: Delivery
    invoice: Invoice


@dataclass(frozen=True)
class Attention:
    """What needs the operator, oldest first, at most MOST_SHOWN of each kind.

    unsettled: listed as paid by Strike, but could not be settled.
    pruned: deleted before Strike reported the payment.
    unclear: in flight, and Strike cannot say any more whether it was sent. has_more: there are more of some kind.
    troubled: workers whose passes have needed the operator for TROUBLED_AFTER. stalled: a sentence for each kind of
    stalled work that is not in one of the lists, and one that names unreadable rows.
    """

    unsettled: list[Invoice]
    pruned: list[PrunedInvoice]
    unclear: list[Owed]
    held: list[Owed]
    without_address: list[Owed]
    failing: list[Owed]
    untold: list[Untold]
    has_more: bool
    troubled: list[Heartbeat]
    stalled: list[str]

    @property
    def count(self) -> int:
        """How many items need attention."""
        refunds = (self.unclear, self.held, self.without_address, self.failing)
        kinds = (self.unsettled, self.pruned, *refunds, self.untold, self.troubled, self.stalled)
        return sum(len(kind) for kind in kinds)


@dataclass(frozen=True)
class Day:
    """The totals of one day (UTC): paid in time, paid late, and refunded."""

    date: date
    paid: InvoiceTotal = field(default_factory=InvoiceTotal)
    late: InvoiceTotal = field(default_factory=InvoiceTotal)
    refunded: InvoiceTotal = field(default_factory=InvoiceTotal)


def attention(repository: Repository, now: datetime) -> Attention:
    """What needs the operator. Raises StorageUnavailable."""
    with repository.reading() as tx:
        unsettled = tx.invoices.unsettled(now - UNSETTLED_AFTER, MOST_SHOWN + 1)
        pruned = tx.pruned.found_paid(now - PRUNED_SHOWN_FOR, MOST_SHOWN + 1)
        unclear = _with_invoices(tx, tx.refunds.unclear(now - BY_HAND_AFTER, MOST_SHOWN + 1))
        held = _owed(tx, RefundState.HELD)
        without_address = _owed(tx, RefundState.NEEDS_ADDRESS)
        failing = [one for state in UNSENT for one in _owed(tx, state) if _fails(one.refund, now)]
        untold = _untold(tx, now)
        troubled = [one for one in tx.heartbeats.every() if _is_troubled(one, now)]
        stalled = replace(find_stalled(tx, now), refunds=None, deliveries=None)
    owed = max(len(unclear), len(held), len(without_address), len(failing), len(untold))
    most = max(len(unsettled), len(pruned), owed)
    n = MOST_SHOWN
    unreadable = repository.unreadable.in_words()
    return Attention(
        unsettled[:n],
        pruned[:n],
        unclear[:n],
        held[:n],
        without_address[:n],
        failing[:n],
        untold[:n],
        most > n,
        troubled,
        [*stalled.in_words(), *([] if unreadable is None else [unreadable])],
    )


def _fails(refund: Refund, now: datetime) -> bool:
    is_in_vain = refund.failures + refund.looks > 0 or now - refund.next_attempt_at >= FAILS_LONG_AFTER
    return is_in_vain and now - refund.created_at >= FAILS_LONG_AFTER


def _is_troubled(beat: Heartbeat, now: datetime) -> bool:
    """Whether to list a worker. What the refund worker reports is already in the lists of refunds."""
    is_listed = beat.worker == "refund"
    return not is_listed and beat.troubled_since is not None and now - beat.troubled_since >= TROUBLED_AFTER


def _owed(tx: Transaction, state: RefundState) -> list[Owed]:
    # One more than is shown, to know whether there are more.
    return _with_invoices(tx, tx.refunds.in_states((state,), MOST_SHOWN + 1))


def _with_invoices(tx: Transaction, refunds: list[Refund]) -> list[Owed]:
    found = [(refund, _invoice(tx, refund.invoice_id)) for refund in refunds]
    return [Owed(refund, invoice) for refund, invoice in found if invoice is not None]


def _untold(tx: Transaction, now: datetime) -> list[Untold]:
    deliveries = [
        *tx.deliveries.waiting(DeliveryState.PENDING, None, now - UNTOLD_AFTER, MOST_SHOWN + 1),
        *tx.deliveries.waiting(DeliveryState.ABANDONED, now - ABANDONED_SHOWN_FOR, now, MOST_SHOWN + 1),
    ]
    found = [(delivery, _invoice(tx, delivery.invoice_id)) for delivery in deliveries]
    return [Untold(delivery, invoice) for delivery, invoice in found if invoice is not None]


def _invoice(tx: Transaction, invoice_id: int) -> Invoice | None:
    """The invoice; None if its row is unreadable, which is reported separately."""
    try:
        return tx.invoices.find(invoice_id)
    except UnreadableRow:
        return None


def last_days(repository: Repository, now: datetime, count: int) -> list[Day]:
    """The last `count` days, with today as the last. Raises StorageUnavailable."""
    today = now.astimezone(UTC).date()
    with repository.reading() as tx:
        return [_day(tx, today - timedelta(days=ago)) for ago in reversed(range(count))]


def _day(tx: Transaction, day: date) -> Day:
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(days=1)
    came = tx.searches.paid_between(start, end)
    return Day(
        day,
        came.get(InvoiceState.SETTLED, InvoiceTotal()),
        came.get(InvoiceState.PAID_LATE, InvoiceTotal()),
        tx.searches.refunded_between(start, end),
    )


@dataclass(frozen=True)
class Provider:
    """The call budget at Strike: calls made and allowed in the current window, and blocked buckets with their ends."""

    calls_made: int
    calls_allowed: int
    blocks: dict[str, datetime]


def provider(repository: Repository, now: datetime) -> Provider:
    """The current call budget at Strike. Raises StorageUnavailable."""
    limit = LIMITS[Bucket.OTHER]
    with repository.reading() as tx:
        made = tx.limits.calls_within(Bucket.OTHER, limit.window, limit.slot_seconds)
        left = {str(bucket): tx.limits.blocked_for(bucket) for bucket in Bucket}
    still = {bucket: now + one for bucket, one in left.items() if one > timedelta()}
    return Provider(made, limit.calls, still)


def last_passes(repository: Repository) -> dict[str, list[Heartbeat]]:
    """The last pass of each worker on each host. Raises StorageUnavailable."""
    with repository.reading() as tx:
        known = tx.heartbeats.every()
    return {worker: [one for one in known if one.worker == worker] for worker in WORKERS}
