"""The discrepancies that can exist between LNPay's records and Strike's, each with a description and advice."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class DiscrepancyKind(StrEnum):
    """Every kind of discrepancy, as a stable word for programs."""

    UNKNOWN_HERE = "unknown_here"
    SECOND_PAYMENT = "second_payment"
    NOT_COUNTED = "not_counted"
    LAPSED_AND_PAID = "lapsed_and_paid"
    NOT_PAID_AT_STRIKE = "not_paid_at_strike"
    MISSING_AT_STRIKE = "missing_at_strike"
    AMOUNT_DIFFERS = "amount_differs"
    CREDITED_DIFFERS = "credited_differs"
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
        "if another program uses this Strike account too, the payment is its own: add --shared-account. Otherwise this "
        "database has lost it (was an old backup restored?): fulfil the order, or refund it from Strike's dashboard",
    ),
    K.SECOND_PAYMENT: (
        "order paid twice: two of its invoices are paid at Strike",
        "refund the second payment from Strike's dashboard",
    ),
    K.NOT_COUNTED: (
        "paid at Strike, not counted here",
        "run workers/main_worker.py and workers/expired_worker.py, then this report again; if it persists, see the log",
    ),
    K.LAPSED_AND_PAID: (
        "paid at Strike after LNPay had stopped watching the invoice",
        "refund it from Strike's dashboard, or fulfil the order",
    ),
    K.NOT_PAID_AT_STRIKE: (
        "paid here, not paid at Strike",
        "check the invoice in Strike's dashboard; if the money is not there, hold the order or contact the customer",
    ),
    K.MISSING_AT_STRIKE: (
        "paid here, but Strike has no such invoice",
        "check that STRIKE_API_KEY belongs to the account that made it; give Strike's support the invoice's id",
    ),
    K.AMOUNT_DIFFERS: (
        "different amount at Strike",
        "Strike's amount is what the account received: book that, and settle the difference with the customer",
    ),
    K.CREDITED_DIFFERS: (
        "different amount credited at Strike",
        "Strike's amount is what the account was credited: book that",
    ),
    K.LATE_BUT_SETTLED: (
        "paid late, but counted as on time",
        "if the order was fulfilled, nothing is owed; if not, refund the customer from Strike's dashboard",
    ),
    K.IN_TIME_BUT_LATE: (
        "paid on time, but counted as late",
        "if the refund is not sent yet, fulfil the order and close the refund: python main.py refunds settle",
    ),
    K.SHOP_NOT_TOLD: (
        "settled, but no notification to the shop was recorded",
        "check whether the shop fulfilled the order: LNPay did not notify it",
    ),
    K.NO_REFUND: (
        "paid late, but no refund is recorded here",
        "refund the customer from Strike's dashboard",
    ),
    K.REFUND_OF_A_SALE: (
        "refund of an invoice that was paid on time",
        "if it is not sent yet, close it: python main.py refunds settle. If it is, ask for the money or the goods back",
    ),
    K.REFUND_OF_NOTHING: (
        "refund of an unpaid invoice",
        "if it is not sent yet, close it: python main.py refunds settle. If it is, ask the customer to return it",
    ),
    K.REFUND_NOT_ALL: (
        "refund differs from the amount received",
        "settle the difference with the customer",
    ),
    K.REFUND_FAILED: (
        "sent here, failed at Strike: the customer has not received it",
        "refund the customer from Strike's dashboard",
    ),
    K.REFUND_PENDING: (
        "sent here, still pending at Strike",
        "run this report again tomorrow; if it persists, give Strike's support the payment's id",
    ),
    K.REFUND_MISSING: (
        "sent here, but Strike has no such payment",
        "look for it in Strike's dashboard; check that STRIKE_API_KEY belongs to the account that sent it",
    ),
    K.REFUND_AMOUNT_DIFFERS: (
        "different amount sent at Strike",
        "Strike's amount is what the customer received: book that, and settle the difference",
    ),
    K.REFUND_FEE_DIFFERS: (
        "different fee at Strike",
        "Strike's fee is what you paid: book that",
    ),
    K.REFUND_NOT_RECORDED: (
        "sent at Strike, not recorded as sent here",
        "run workers/refund_failure_worker.py, then this report again; if it persists, close it before it is sent "
        "twice: python main.py refunds settle",
    ),
    K.REFUNDED_TWICE: (
        "sent twice at Strike",
        "ask the customer to return the second payment, and report this bug: LNPay must never pay twice",
    ),
}
"""Description and advice for each kind."""


@dataclass(frozen=True)
class Discrepancy:
    """One difference between LNPay's records (here) and Strike's (there)."""

    kind: DiscrepancyKind
    invoice_id: str
    here: str
    there: str

    @property
    def what(self) -> str:
        """The description."""
        return WORDS[self.kind][0]

    @property
    def advice(self) -> str:
        """What the operator should do."""
        return WORDS[self.kind][1]


@dataclass
class Reconciliation:
    """The result of a comparison.

    since, until: anything earlier or later is not compared. payments, refunds: how many in between were checked.
    new_payments, new_refunds: how many of the period happened after `until`, too recently to compare.
    foreign: paid invoices of other programs on the account. by_hand, unnamed: sent refunds that cannot be compared,
    because they were paid in another way, or Strike gave no payment id. unfinished: why some could not be checked.
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
        """Record a discrepancy."""
        self.discrepancies.append(Discrepancy(kind, invoice_id, here, there))
