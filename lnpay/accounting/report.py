"""Use case: the payments and refunds of a period, line by line and in total.

Lines are produced one at a time, so that a year of a busy shop needs no more memory than a day.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import TypeVar

from lnpay.domain.errors import InvalidRequest
from lnpay.domain.money import CurrencyAmount, sats_to_fiat
from lnpay.domain.states import Accepter, RefundKind, RefundState
from lnpay.repository import Repository
from lnpay.repository.pruned import PrunedTotal
from lnpay.repository.queries.ledger_queries import (
    PAGE,
    LedgerInvoice,
    LedgerQueries,
    LedgerRefund,
    PageEnd,
)

Row = TypeVar("Row", LedgerInvoice, LedgerRefund)


@dataclass(frozen=True)
class Period:
    """Whole days from `first` to `last`, inclusive, in the time zone `zone`."""

    first: date
    last: date
    zone: tzinfo

    @property
    def start(self) -> datetime:
        """When the first day begins."""
        return datetime.combine(self.first, time.min, self.zone)

    @property
    def end(self) -> datetime:
        """When the day after the last one begins."""
        return datetime.combine(self.last + timedelta(days=1), time.min, self.zone)

    def __str__(self) -> str:
        return f"{self.first} to {self.last} ({self.zone})"


def make_period(first: date | None, last: date | None, zone: tzinfo, now: datetime) -> Period:
    """The days from `first` to `last`: last month if both are missing, up to today if `last` is.

    Raises InvalidRequest.
    """
    today = now.astimezone(zone).date()
    if first is None:
        if last is not None:
            raise InvalidRequest("--to needs --from: give the first day of the report")
        last = today.replace(day=1) - timedelta(days=1)
        return Period(last.replace(day=1), last, zone)
    last = last or today
    if last < first:
        raise InvalidRequest(f"the report would end on {last}, before it begins on {first}: swap --from and --to")
    return Period(first, last, zone)


class ReportLineKind(StrEnum):
    """What a line reports."""

    PAYMENT = "payment"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One payment or refund.

    at: when it was paid or sent; an unsent refund is listed when it became due, and is not totalled.
    amount_fiat, fee_fiat: at the price of the sale. fee_sats: what Strike took for sending a refund, if known.
    payment_id: of that sending, at Strike. note: why a refund waits, how the operator closed it, or who accepted a late
    payment. credited: what Strike credited for a payment of a receive request; None where it did not say.
    """

    at: datetime
    kind: ReportLineKind
    state: str
    invoice_id: str
    correlation_id: str
    currency: str
    amount_fiat: Decimal
    amount_sats: int
    fee_fiat: Decimal | None
    fee_sats: int | None
    price: Decimal
    price_source: str
    price_at: datetime
    payment_id: str | None = None
    note: str | None = None
    refund_kind: RefundKind | None = None
    credited: CurrencyAmount | None = None

    @property
    def is_owed(self) -> bool:
        """Whether this is a refund that is not sent yet."""
        return self.kind is ReportLineKind.REFUND and self.state != RefundState.SENT

    @property
    def net_sats(self) -> int:
        """The change to the account's balance."""
        if self.kind is ReportLineKind.PAYMENT:
            return self.amount_sats
        return 0 if self.is_owed else -self.amount_sats - (self.fee_sats or 0)

    @property
    def net_fiat(self) -> Decimal:
        """The same in the currency of the sale."""
        if self.kind is ReportLineKind.PAYMENT:
            return self.amount_fiat
        return self.amount_fiat * 0 if self.is_owed else -self.amount_fiat - (self.fee_fiat or 0)


def report_lines(repository: Repository, period: Period) -> Iterator[ReportLine]:
    """Every payment and refund of the period, in the order of time, a page in memory at a time."""
    start, end = period.start, period.end
    paid = read_all(repository, lambda ledger, after: ledger.paid(start, end, after), paid_page_end)
    sent = read_all(repository, lambda ledger, after: ledger.refunds_sent(start, end, after), refund_page_end)
    waiting = read_all(repository, lambda ledger, after: ledger.refunds_waiting(start, end, after), refund_page_end)
    return heapq.merge(
        map(_payment_line, paid), map(_refund_line, sent), map(_refund_line, waiting), key=attrgetter("at")
    )


def read_all(
    repository: Repository,
    read_page: Callable[[LedgerQueries, PageEnd | None], list[Row]],
    place_of: Callable[[Row], PageEnd],
) -> Iterator[Row]:
    """Every row of `read_page`, page by page; each page continues after the end of the last."""
    after = None
    while True:
        with repository.reading() as tx:
            rows = read_page(tx.ledger, after)
        yield from rows
        if len(rows) < PAGE:
            return
        after = place_of(rows[-1])


def paid_page_end(invoice: LedgerInvoice) -> PageEnd:
    """The position after which the next page of paid invoices begins."""
    assert invoice.paid_at is not None  # noqa: S101 - rows selected by paid_at have one
    return invoice.paid_at, invoice.id


def refund_page_end(refund: LedgerRefund) -> PageEnd:
    """The position after which the next page of refunds begins."""
    return refund.at, refund.id


_ACCEPTED = {
    Accepter.RULE: "paid late, accepted by LATE_PAYMENTS=accept",
    Accepter.OPERATOR: "paid late, accepted by you",
}


def _payment_line(invoice: LedgerInvoice) -> ReportLine:
    assert invoice.paid_at is not None  # noqa: S101 - rows selected by paid_at have one
    assert invoice.received_sats is not None  # noqa: S101 - a CHECK ties the amount to paid_at
    line = _line(invoice, invoice.paid_at, ReportLineKind.PAYMENT, invoice.state, invoice.received_sats)
    if invoice.credited_amount is not None and invoice.credited_currency is not None:
        line = replace(line, credited=CurrencyAmount(invoice.credited_amount, invoice.credited_currency))
    return line if invoice.accepted_by is None else replace(line, note=_ACCEPTED[invoice.accepted_by])


def _refund_line(refund: LedgerRefund) -> ReportLine:
    line = _line(refund.invoice, refund.at, ReportLineKind.REFUND, refund.state, refund.amount_sats, refund.fee_sats)
    return replace(line, payment_id=refund.payment_id, note=refund.reason, refund_kind=refund.kind)


def _line(
    invoice: LedgerInvoice,
    at: datetime,
    kind: ReportLineKind,
    state: str,
    amount_sats: int,
    fee_sats: int | None = None,
) -> ReportLine:
    return ReportLine(
        at=at,
        kind=kind,
        state=state,
        invoice_id=invoice.strike_invoice_id,
        correlation_id=invoice.correlation_id,
        currency=invoice.currency,
        amount_fiat=_worth(invoice, amount_sats),
        amount_sats=amount_sats,
        fee_fiat=None if fee_sats is None else sats_to_fiat(fee_sats, invoice.rate_price, invoice.currency),
        fee_sats=fee_sats,
        price=invoice.rate_price,
        price_source=invoice.rate_source,
        price_at=invoice.rate_as_of,
    )


def _worth(invoice: LedgerInvoice, sats: int) -> Decimal:
    """`sats` at the price of the sale; exactly the shop's amount if it is the whole payment."""
    if sats == invoice.amount_sats:
        return invoice.amount_fiat
    return sats_to_fiat(sats, invoice.rate_price, invoice.currency)


@dataclass
class CurrencyTotal:
    """The totals of one currency, in that currency and in sats."""

    payments: int = 0
    refunds: int = 0
    received: Decimal = Decimal(0)
    refunded: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    received_sats: int = 0
    refunded_sats: int = 0
    fees_sats: int = 0

    @property
    def net(self) -> Decimal:
        """The net amount in the currency."""
        return self.received - self.refunded - self.fees

    @property
    def net_sats(self) -> int:
        """The net amount in sats."""
        return self.received_sats - self.refunded_sats - self.fees_sats

    def add(self, line: ReportLine) -> None:
        """Add a payment or a sent refund."""
        if line.kind is ReportLineKind.PAYMENT:
            self.payments += 1
            self.received += line.amount_fiat
            self.received_sats += line.amount_sats
            return
        self.refunds += 1
        self.refunded += line.amount_fiat
        self.refunded_sats += line.amount_sats
        self.fees += line.fee_fiat or 0
        self.fees_sats += line.fee_sats or 0


@dataclass
class Totals:
    """The totals of all lines.

    owed, owed_sats: refunds of the period that are not sent yet; listed but not totalled.
    deleted: unpaid orders of these days (UTC) that were deleted since; not totalled either.
    credited: what Strike credited for payments of receive requests, by currency.
    """

    by_currency: dict[str, CurrencyTotal] = field(default_factory=dict)
    owed: int = 0
    owed_sats: int = 0
    deleted: list[PrunedTotal] = field(default_factory=list)
    credited: dict[str, Decimal] = field(default_factory=dict)

    def add(self, line: ReportLine) -> None:
        """Add a line."""
        if line.credited is not None:
            currency = line.credited.currency
            self.credited[currency] = self.credited.get(currency, Decimal(0)) + line.credited.amount
        if line.is_owed:
            self.owed += 1
            self.owed_sats += line.amount_sats
        else:
            nothing = line.amount_fiat * 0  # with the decimals of the currency
            self.by_currency.setdefault(
                line.currency, CurrencyTotal(received=nothing, refunded=nothing, fees=nothing)
            ).add(line)

    @property
    def all_sats(self) -> CurrencyTotal:
        """The total in sats over all currencies; its fiat amounts stay zero, because currencies cannot be added."""
        sums = self.by_currency.values()
        return CurrencyTotal(
            payments=sum(one.payments for one in sums),
            refunds=sum(one.refunds for one in sums),
            received_sats=sum(one.received_sats for one in sums),
            refunded_sats=sum(one.refunded_sats for one in sums),
            fees_sats=sum(one.fees_sats for one in sums),
        )


def deleted_orders(repository: Repository, period: Period) -> list[PrunedTotal]:
    """Orders of the period that were deleted, by day (UTC), currency and final state."""
    with repository.reading() as tx:
        return tx.pruned.totals(period.first, period.last)


def counted(lines: Iterator[ReportLine], totals: Totals) -> Iterator[ReportLine]:
    """Yield the same lines, adding each to `totals`."""
    for line in lines:
        totals.add(line)
        yield line
