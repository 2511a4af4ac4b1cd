"""Use case: compare LNPay's records of a period with Strike's, and report every discrepancy.

1. Our own rows are checked first: a contradiction within them is a discrepancy, no matter what Strike says.
2. Strike's list of paid invoices is read from the newest back past the beginning of the period. What is paid there must
   be paid here, with the same amount. The list can only be ordered by `created`, so it is read with a margin.
3. An invoice paid here but missing from the list is read by its id before it is reported.
4. Payments of receive requests are compared with Strike's list of receives.
5. Strike has no list of payments. Each payment that a refund's history names is read by its id.

Nothing is changed. Calls use a fraction of the budget that all processes share; when it is used up, this waits.
What could not be checked is reported, and so is what is too new to compare. A comparison that was not finished,
or had nothing to compare yet, never "balances".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, islice

from lnpay.accounting.auditor import Auditor, Item, ListRepeats, ask_for, read_pages, refuses_or_repeats
from lnpay.accounting.discrepancies import DiscrepancyKind, Reconciliation
from lnpay.accounting.receives import ReceiveAudit, is_refunded_with_others, is_request
from lnpay.accounting.report import (
    Period,
    paid_page_end,
    read_all,
    refund_page_end,
)
from lnpay.accounting.strangers import report_strangers
from lnpay.domain.errors import (
    StrikeError,
    StrikeRejected,
    StrikeUnavailable,
)
from lnpay.domain.events import EventType
from lnpay.domain.states import UNWATCHED, Closer, InvoiceState, RefundKind
from lnpay.domain.text import utc_second
from lnpay.repository.queries.ledger_queries import IDS_AT_ONCE, LedgerInvoice, LedgerRefund
from lnpay.strike.answers import Payment, PaymentStatus
from lnpay.strike.invoices import (
    InvoicePage,
    InvoiceStatus,
    StrikeInvoice,
)

log = logging.getLogger(__name__)

K = DiscrepancyKind

LIFE_OF_AN_INVOICE = timedelta(days=2)
"""No invoice is paid later than this after its creation: at most a day to pay, and its payment request."""

STILL_MOVING = timedelta(minutes=10)
"""Newer payments may still be on their way through webhook and workers, so they are not compared yet."""


def reconcile_books(auditor: Auditor, period: Period) -> Reconciliation:
    """Compare a period with Strike. Never raises StrikeError: the result says what could not be done."""
    until = min(period.end, auditor.clock() - STILL_MOVING)
    audit = _Audit(auditor, period, until)
    try:
        audit.run()
    except StrikeError as error:
        log.info("reconciliation stopped error=%s", error.message)
        audit.result.unfinished = _why_stopped(error)
    return audit.result


def _why_stopped(error: StrikeError) -> str:
    if error.status == 401:
        return "Strike rejects STRIKE_API_KEY: put a valid key into config/.env and run this again"
    if error.status == 403:
        return "STRIKE_API_KEY lacks a scope: partner.invoice.read and partner.payment.read are needed"
    if isinstance(error, StrikeUnavailable) and error.retry_after_seconds:
        return f"Strike's rate limit is reached: run this again in {-(-error.retry_after_seconds // 60)} minutes"
    return f"Strike's records could not be read completely ({error.message}): run this again later"


class _Audit:
    """One comparison in progress: from `start` to `end`, with the findings so far."""

    def __init__(self, auditor: Auditor, period: Period, until: datetime) -> None:
        self.auditor, self.period = auditor, period
        self.start, self.end = period.start, until
        self.result = Reconciliation(self.start, until)
        self._listed: set[int] = set()
        self._seen: set[str] = set()
        """Strike's ids of the rows compared so far: a new payment moves a row to the next page."""
        self._read_as_unpaid: set[int] = set()
        self._odd_rows = 0
        self._too_new: set[str] = set()
        """Strike's ids of invoices paid too recently."""
        self._oldest_opened_at = self.start - LIFE_OF_AN_INVOICE

    def run(self) -> None:
        self._count_too_new()
        self._check_own_rows()
        is_listed = self._compare_list()
        if not is_listed:
            self._read_unpaid()
        self._read_unlisted()
        ReceiveAudit(self.auditor, self.result, self.start, self.end, self._oldest_opened_at).run()
        self._compare_refunds()

    # Payments that are too new.

    def _count_too_new(self) -> None:
        """Count what the period has after `end`, so that the report can say that it was not compared."""
        repository, start, end = self.auditor.repository, max(self.start, self.end), self.period.end
        paid = read_all(repository, lambda ledger, after: ledger.paid(start, end, after), paid_page_end)
        self._too_new.update(invoice.strike_invoice_id for invoice in paid)
        sent = read_all(repository, lambda ledger, after: ledger.refunds_sent(start, end, after), refund_page_end)
        waiting = read_all(repository, lambda ledger, after: ledger.refunds_waiting(start, end, after), refund_page_end)
        self.result.new_payments = len(self._too_new)
        self.result.new_refunds = sum(1 for _ in chain(sent, waiting))

    def _note_too_new(self, page: list[StrikeInvoice]) -> None:
        """Count payments that only Strike has and that are too new."""
        start = max(self.start, self.end)
        self._too_new.update(one.invoice_id for one in page if start <= one.created_at < self.period.end)
        self.result.new_payments = len(self._too_new)

    # Our own rows.

    def _paid(self) -> Iterator[LedgerInvoice]:
        start, end = self.start, self.end
        return read_all(self.auditor.repository, lambda ledger, after: ledger.paid(start, end, after), paid_page_end)

    def _check_own_rows(self) -> None:
        for batch in _batches(self._paid()):
            with self.auditor.repository.reading() as tx:
                ids = [invoice.id for invoice in batch]
                refunded = tx.ledger.refunded_among(ids)
                told = tx.ledger.notified_among(ids, EventType.INVOICE_SETTLED)
            for invoice in batch:
                self.result.payments += 1
                self._oldest_opened_at = min(self._oldest_opened_at, invoice.opened_at)
                self._check_time(invoice, invoice.paid_at)
                self._check_consequence(invoice, is_refunded=invoice.id in refunded, was_notified=invoice.id in told)
            self.auditor.progress("payments here", self.result.payments)

    def _check_time(self, invoice: LedgerInvoice, paid_at: datetime | None) -> None:
        """Check that the state agrees with the time of the payment."""
        if paid_at is None or is_request(invoice):
            return
        is_late = paid_at > invoice.expires_at
        is_accepted = is_late and invoice.accepted_by is not None
        if is_accepted or is_late == (invoice.state is InvoiceState.PAID_LATE):
            return
        kind = K.LATE_BUT_SETTLED if is_late else K.IN_TIME_BUT_LATE
        self.result.add(
            kind,
            invoice.strike_invoice_id,
            _state(invoice),
            f"paid {utc_second(paid_at)}, due {utc_second(invoice.expires_at)}",
        )

    def _check_consequence(self, invoice: LedgerInvoice, *, is_refunded: bool, was_notified: bool) -> None:
        """A sale requires a message, a late payment a refund. The refund itself is checked with the refunds."""
        if invoice.state is InvoiceState.PAID_LATE and not is_refunded:
            self.result.add(K.NO_REFUND, invoice.strike_invoice_id, _state(invoice), "-")
        is_message_wanted = EventType.INVOICE_SETTLED in self.auditor.events
        if invoice.state is InvoiceState.SETTLED and is_message_wanted and not was_notified:
            self.result.add(K.SHOP_NOT_TOLD, invoice.strike_invoice_id, _state(invoice), "-")

    # Strike's list of paid invoices.

    def _compare_list(self) -> bool:
        """Compare with Strike's list. False if Strike refuses it; the result says what that leaves unchecked."""
        try:
            for page in self._pages():
                self._note_too_new(page.invoices)
                first, end = self._oldest_opened_at, self.end
                rows = {one.invoice_id: one for one in page.invoices if first <= one.created_at < end}
                self._compare_page([one for name, one in rows.items() if name not in self._seen])
                self._seen.update(rows)
                self._compare_odd_rows(page)
        except (StrikeRejected, ListRepeats) as error:
            if error.status == 401:
                raise
            log.warning("strike's list is unavailable, reading invoices one by one error=%s", error.message)
            self.result.unfinished = (
                f"Strike {refuses_or_repeats(error)} its list of invoices, so payments unknown to LNPay cannot be "
                "found; every invoice that LNPay knows was read one by one. Run this again later, or "
                "check the dashboard"
            )
            return False
        return True

    def _pages(self) -> Iterator[InvoicePage]:
        """Paid invoices, newest first, until they are too old to have been paid in the period."""
        read = partial(self.auditor.strike.list_invoices, InvoiceStatus.PAID)
        for page in read_pages(self.auditor, "paid invoices at Strike", read, lambda page: page.ids):
            yield page
            if page.reaches(self._oldest_opened_at):
                return

    def _compare_odd_rows(self, page: InvoicePage) -> None:
        """Handle unreadable rows: ours are read by their ids; the others remain unknown."""
        readable = {one.invoice_id for one in page.invoices}
        with self.auditor.repository.reading() as tx:
            ours = tx.ledger.by_strike_ids(one for one in page.ids if one not in readable)
        for invoice in ours.values():
            if invoice.paid_at is None:
                self._compare_unpaid(invoice)
        self._odd_rows += page.unreadable - len(ours)
        if self._odd_rows:
            self.result.unfinished = (
                f"{self._odd_rows:,} rows of Strike's list are unreadable, so their owner is unknown: look "
                "through Strike's dashboard for payments that LNPay does not know"
            )

    def _compare_page(self, page: list[StrikeInvoice]) -> None:
        with self.auditor.repository.reading() as tx:
            ours = tx.ledger.by_strike_ids(one.invoice_id for one in page)
        for one in page:
            invoice = ours.get(one.invoice_id)
            if invoice is not None:
                self._compare_listed(invoice, one)
        strangers = [one for one in page if one.invoice_id not in ours and one.created_at >= self.start]
        auditor = self.auditor
        report_strangers(auditor.repository, strangers, self.result, _paid_words, is_shared=auditor.is_shared)

    def _compare_listed(self, invoice: LedgerInvoice, seen: StrikeInvoice) -> None:
        self._listed.add(invoice.id)
        if invoice.paid_at is None:
            self._compare_unpaid(invoice)
        elif self.start <= invoice.paid_at < self.end:
            self._compare_amount(invoice, seen.amount_sats)

    def _compare_amount(self, invoice: LedgerInvoice, sats: int | None) -> None:
        if sats != invoice.received_sats:
            there = "not in bitcoin" if sats is None else f"{sats:,} sats"
            self.result.add(K.AMOUNT_DIFFERS, invoice.strike_invoice_id, _state(invoice), there)

    def _compare_unpaid(self, invoice: LedgerInvoice) -> None:
        """Paid there and not here: a discrepancy if the payment was made in this period."""
        if invoice.id in self._read_as_unpaid:
            return
        self._read_as_unpaid.add(invoice.id)
        seen = self._read(invoice)
        if seen is None or seen.status is not InvoiceStatus.PAID:
            return
        if seen.paid_at is not None and not self.start <= seen.paid_at < self.end:
            return
        kind = K.LAPSED_AND_PAID if invoice.state in UNWATCHED else K.NOT_COUNTED
        self.result.add(
            kind, invoice.strike_invoice_id, f"{invoice.state}, {invoice.amount_sats:,} sats", _paid_words(seen)
        )

    # Single invoices.

    def _read_unpaid(self) -> None:
        """Without a list: read each invoice of the period that is not paid here."""
        first, end = self.start - LIFE_OF_AN_INVOICE, self.end
        opened = read_all(
            self.auditor.repository,
            lambda ledger, after: ledger.opened(first, end, after),
            lambda invoice: (invoice.opened_at, invoice.id),
        )
        for number, invoice in enumerate(invoice for invoice in opened if _is_unpaid(invoice)):
            self.auditor.progress("unpaid invoices, one by one", number)
            self._compare_unpaid(invoice)

    def _read_unlisted(self) -> None:
        """An invoice paid here but not listed may have been skipped: read it before calling it missing."""
        for number, invoice in enumerate(self._paid()):
            is_listed = invoice.id in self._listed
            if is_request(invoice) or (is_listed and not self.auditor.is_thorough):
                continue
            self.auditor.progress("payments, one by one", number, self.result.payments)
            self._compare_read(invoice, is_amount_known=is_listed)

    def _compare_read(self, invoice: LedgerInvoice, *, is_amount_known: bool) -> None:
        seen = self._read(invoice)
        if seen is None:
            self.result.add(K.MISSING_AT_STRIKE, invoice.strike_invoice_id, _state(invoice), "not there")
        elif seen.status is not InvoiceStatus.PAID:
            self.result.add(K.NOT_PAID_AT_STRIKE, invoice.strike_invoice_id, _state(invoice), seen.status)
        else:
            if not is_amount_known:
                self._compare_amount(invoice, seen.received_sats or seen.amount_sats)
            if seen.paid_at != invoice.paid_at:
                self._check_time(invoice, seen.paid_at)

    def _read(self, invoice: LedgerInvoice) -> StrikeInvoice | None:
        return ask_for(self.auditor, partial(self.auditor.strike.get_invoice, invoice.strike_invoice_id))

    # Refunds.

    def _compare_refunds(self) -> None:
        repository, start, end = self.auditor.repository, self.start, self.end
        sent = read_all(repository, lambda ledger, after: ledger.refunds_sent(start, end, after), refund_page_end)
        waiting = read_all(repository, lambda ledger, after: ledger.refunds_waiting(start, end, after), refund_page_end)
        for refund in sent:
            self._check_refund(refund)
            self._compare_sent(refund, self._payments_of(refund))
        for refund in waiting:
            self._check_refund(refund)
            self._compare_waiting(refund, self._payments_of(refund))

    def _check_refund(self, refund: LedgerRefund) -> None:
        invoice = refund.invoice
        if refund.kind is not RefundKind.LATE:
            # The database guards their sum.
            if invoice.received_sats is None:
                self.result.add(K.REFUND_OF_NOTHING, invoice.strike_invoice_id, str(invoice.state), _refund(refund))
        elif invoice.state is InvoiceState.SETTLED:
            self.result.add(K.REFUND_OF_A_SALE, invoice.strike_invoice_id, _state(invoice), _refund(refund))
        elif invoice.received_sats is None:
            self.result.add(K.REFUND_OF_NOTHING, invoice.strike_invoice_id, str(invoice.state), _refund(refund))
        elif refund.amount_sats != invoice.received_sats and not is_refunded_with_others(self.auditor, refund):
            self.result.add(K.REFUND_NOT_ALL, invoice.strike_invoice_id, _state(invoice), _refund(refund))

    def _payments_of(self, refund: LedgerRefund) -> dict[str, Payment | None]:
        """Every payment made for a refund, by its id, as Strike has it; None if Strike does not."""
        self.result.refunds += 1
        self.auditor.progress("refunds", self.result.refunds)
        with self.auditor.repository.reading() as tx:
            ids = tx.ledger.payments_tried(refund.id)
        if refund.payment_id is not None:
            ids.add(refund.payment_id)
        return {payment_id: self._read_payment(payment_id) for payment_id in sorted(ids)}

    def _read_payment(self, payment_id: str) -> Payment | None:
        return ask_for(self.auditor, partial(self.auditor.strike.get_payment, payment_id))

    def _compare_sent(self, refund: LedgerRefund, payments: dict[str, Payment | None]) -> None:
        self._check_twice(refund, payments)
        if refund.closed_by is Closer.OPERATOR:
            self.result.by_hand += 1  # it was paid in another way
        elif refund.payment_id is None:
            self.result.unnamed += 1
        else:
            self._compare_payment(refund, payments[refund.payment_id])

    def _compare_payment(self, refund: LedgerRefund, payment: Payment | None) -> None:
        invoice_id, here = refund.invoice.strike_invoice_id, _refund(refund)
        if payment is None:
            self.result.add(K.REFUND_MISSING, invoice_id, here, "not there")
        elif payment.status is PaymentStatus.FAILED:
            self.result.add(K.REFUND_FAILED, invoice_id, here, payment.status)
        elif payment.status is PaymentStatus.PENDING:
            self.result.add(K.REFUND_PENDING, invoice_id, here, payment.status)
        elif payment.amount_sats != refund.amount_sats:
            self.result.add(K.REFUND_AMOUNT_DIFFERS, invoice_id, here, _sent_words(payment))
        elif payment.fee_sats != refund.fee_sats:
            self.result.add(K.REFUND_FEE_DIFFERS, invoice_id, here, _sent_words(payment))

    def _compare_waiting(self, refund: LedgerRefund, payments: dict[str, Payment | None]) -> None:
        self._check_twice(refund, payments)
        arrived = _arrived(payments)
        if arrived:
            there = _sent_words(arrived[0])
            self.result.add(K.REFUND_NOT_RECORDED, refund.invoice.strike_invoice_id, _refund(refund), there)

    def _check_twice(self, refund: LedgerRefund, payments: dict[str, Payment | None]) -> None:
        arrived = _arrived(payments)
        if len(arrived) > 1:
            there = " and ".join(one.payment_id for one in arrived)
            self.result.add(K.REFUNDED_TWICE, refund.invoice.strike_invoice_id, _refund(refund), there)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, IDS_AT_ONCE)):
        yield batch


def _is_unpaid(invoice: LedgerInvoice) -> bool:
    return invoice.paid_at is None and not is_request(invoice)


def _arrived(payments: dict[str, Payment | None]) -> list[Payment]:
    return [one for one in payments.values() if one is not None and one.status is PaymentStatus.COMPLETED]


def _state(invoice: LedgerInvoice) -> str:
    return f"{invoice.state}, {invoice.received_sats or 0:,} sats"


def _refund(refund: LedgerRefund) -> str:
    fee = "" if refund.fee_sats is None else f", fee {refund.fee_sats:,}"
    return f"refund {refund.state}, {refund.amount_sats:,} sats{fee}"


def _paid_words(seen: StrikeInvoice) -> str:
    amount = "not in bitcoin" if seen.amount_sats is None else f"{seen.amount_sats:,} sats"
    return f"{seen.status}, {amount}, made {utc_second(seen.created_at)}"


def _sent_words(payment: Payment) -> str:
    sats, fee = ("?" if one is None else f"{one:,}" for one in (payment.amount_sats, payment.fee_sats))
    return f"{payment.status}, {sats} sats, fee {fee}"
