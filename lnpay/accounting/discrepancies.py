"""What may be wrong between our books and Strike's: each kind of break, in words, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class DiscrepancyKind(StrEnum):
    """Everything that may be wrong, by a stable word for programs."""

    UNKNOWN_HERE = "unknown_here"
    SECOND_PAYMENT = "second_payment"
    NOT_COUNTED = "not_counted"
    LAPSED_AND_PAID = "lapsed_and_paid"
    NOT_PAID_AT_STRIKE = "not_paid_at_strike"
    MISSING_AT_STRIKE = "missing_at_strike"
    AMOUNT_DIFFERS = "amount_differs"
    LATE_BUT_SETTLED = "late_but_settled"
    IN_TIME_BUT_LATE = "in_time_but_late"
    SHOP_NOT_TOLD = "shop_not_told"
    NO_REFUND = "no_refund"
    REFUND_OF_A_SALE = "refund_of_a_sale"
    REFUND_OF_NOTHING = "refund_of_nothing"
    REFUND_NOT_ALL = "refund_not_all"
    REFUND_FAILED = "refund_failed"
    REFUND_PENDING = "refund_pending"
    REFUND_MISSING = "refund_missing"
    REFUND_AMOUNT_DIFFERS = "refund_amount_differs"
    REFUND_FEE_DIFFERS = "refund_fee_differs"
    REFUND_NOT_RECORDED = "refund_not_recorded"
    REFUNDED_TWICE = "refunded_twice"


K = DiscrepancyKind

WORDS: dict[DiscrepancyKind, tuple[str, str]] = {
    K.UNKNOWN_HERE: (
        "paid at Strike, unknown here",
        "if another program uses this Strike account too, it is that one's: add --shared-account. Otherwise this "
        "database has lost it (was an old backup restored?): hand over the order, or pay it back from the dashboard",
    ),
    K.SECOND_PAYMENT: (
        "an order was paid twice: two of its invoices at Strike are paid",
        "pay the second one back to the customer from Strike's dashboard",
    ),
    K.NOT_COUNTED: (
        "paid at Strike, not counted here",
        "run workers/main_worker.py and workers/expired_worker.py, then this report again; if it stays, see their log",
    ),
    K.LAPSED_AND_PAID: (
        "paid at Strike after LNPay had stopped looking for a payment",
        "pay it back to the customer from Strike's dashboard, or hand over the order",
    ),
    K.NOT_PAID_AT_STRIKE: (
        "paid here, not paid at Strike",
        "look at the invoice in Strike's dashboard; if the money is not there, hold back the order or ask the customer",
    ),
    K.MISSING_AT_STRIKE: (
        "paid here, and Strike knows no such invoice",
        "see whether STRIKE_API_KEY belongs to the account that made it; ask Strike's support with the invoice's id",
    ),
    K.AMOUNT_DIFFERS: (
        "another amount at Strike",
        "Strike's amount is what the account got: book that, and make good the difference with the customer",
    ),
    K.LATE_BUT_SETTLED: (
        "paid after its time, and counted as in time",
        "the order was handed over, so nothing is owed; if it was not, pay the customer back from Strike's dashboard",
    ),
    K.IN_TIME_BUT_LATE: (
        "paid in time, and counted as late",
        "if the refund is not sent, hand over the order and settle the refund: python main.py refunds settle",
    ),
    K.SHOP_NOT_TOLD: (
        "settled, and no message to the shop was ever owed",
        "see whether the shop handed over the order: it was not told by LNPay",
    ),
    K.NO_REFUND: (
        "paid late, and no refund is owed here",
        "pay the customer back from Strike's dashboard",
    ),
    K.REFUND_OF_A_SALE: (
        "a refund of an invoice that was paid in time",
        "if it is not sent, close it: python main.py refunds settle. If it is, ask for the money or the goods back",
    ),
    K.REFUND_OF_NOTHING: (
        "a refund of an unpaid invoice",
        "if it is not sent, close it: python main.py refunds settle. If it is, the money is gone: ask for it back",
    ),
    K.REFUND_NOT_ALL: (
        "a refund of another amount than was received",
        "make good the difference with the customer",
    ),
    K.REFUND_FAILED: (
        "sent here, failed at Strike: the customer has no money",
        "pay the customer back from Strike's dashboard",
    ),
    K.REFUND_PENDING: (
        "sent here, still on its way at Strike",
        "run this report again tomorrow; if it stays, ask Strike's support with the payment's id",
    ),
    K.REFUND_MISSING: (
        "sent here, and Strike knows no such payment",
        "look for it in Strike's dashboard; see whether STRIKE_API_KEY belongs to the account that sent it",
    ),
    K.REFUND_AMOUNT_DIFFERS: (
        "another amount was sent at Strike",
        "Strike's amount is what the customer got: book that, and make good the difference",
    ),
    K.REFUND_FEE_DIFFERS: (
        "another fee was taken at Strike",
        "Strike's fee is what was paid: book that",
    ),
    K.REFUND_NOT_RECORDED: (
        "sent at Strike, not sent here",
        "run workers/refund_failure_worker.py, then this report again; if it stays, close it before it is sent a "
        "second time: python main.py refunds settle",
    ),
    K.REFUNDED_TWICE: (
        "sent twice at Strike",
        "ask the customer for the second payment back, and report it: LNPay must never do this",
    ),
}
"""What each is, and what to do about it."""


@dataclass(frozen=True)
class Discrepancy:
    """One place where the books differ: what stands here, and what stands there."""

    kind: DiscrepancyKind
    invoice_id: str
    here: str
    there: str

    @property
    def what(self) -> str:
        """What is wrong, in words."""
        return WORDS[self.kind][0]

    @property
    def advice(self) -> str:
        """What to do about it."""
        return WORDS[self.kind][1]


@dataclass
class Reconciliation:
    """What came of it.

    since, until: what happened before or later is not compared. payments, refunds: how many in between were looked at.
    new_payments, new_refunds: how many of the period happened after `until`, too recently to compare.
    foreign: paid invoices of another program of the account. by_hand, unnamed: refunds sent that cannot be compared,
    because a person paid them back, or Strike gave no payment id. unfinished: why not everything could be looked at.
    """

    since: datetime
    until: datetime
    discrepancies: list[Discrepancy] = field(default_factory=list)
    payments: int = 0
    refunds: int = 0
    foreign: int = 0
    by_hand: int = 0
    unnamed: int = 0
    new_payments: int = 0
    new_refunds: int = 0
    unfinished: str | None = None

    @property
    def compared(self) -> int:
        """How many payments and refunds were compared."""
        return self.payments + self.refunds - self.by_hand - self.unnamed

    @property
    def too_new(self) -> int:
        """How many payments and refunds of the period happened too recently to compare."""
        return self.new_payments + self.new_refunds

    @property
    def is_empty(self) -> bool:
        """Whether the period has nothing to compare, here or at Strike."""
        return self.until > self.since and not (self.payments or self.refunds or self.too_new)

    @property
    def is_balanced(self) -> bool:
        """Whether the period was compared to `until` and nothing differs. Never when nothing could be compared."""
        is_whole = not self.discrepancies and self.unfinished is None
        return is_whole and (self.compared > 0 or self.is_empty)

    def add(self, kind: DiscrepancyKind, invoice_id: str, here: str, there: str) -> None:
        """Note a break."""
        self.discrepancies.append(Discrepancy(kind, invoice_id, here, there))
