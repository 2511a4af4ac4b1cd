"""Compare payments of receive requests with Strike's list of receives.

The list is read from the newest back past the beginning of the period. Every payment that is final there must be stored
here, with the same amounts; one that is stored here and not on the list is read with its request before it is reported.
A request carries no name of ours, so whose an unknown one is cannot be told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial

from lnpay.accounting.auditor import Auditor, ListRepeats, ask_for, read_pages, refuses_or_repeats
from lnpay.accounting.discrepancies import DiscrepancyKind, Reconciliation
from lnpay.accounting.report import paid_page_end, read_all
from lnpay.domain.errors import StrikeRejected
from lnpay.domain.money import CurrencyAmount
from lnpay.domain.receives import DUST_SATS, Receive, ReceiveWith
from lnpay.domain.states import UNWATCHED, InvoiceState, RefundKind
from lnpay.domain.text import utc_second
from lnpay.repository.queries.ledger_queries import LedgerInvoice, LedgerRefund
from lnpay.strike.receives import ReceivePage, ReceiveStatus, StrikeReceive

log = logging.getLogger(__name__)

K = DiscrepancyKind


def is_request(invoice: LedgerInvoice) -> bool:
    """Whether an invoice is a receive request at Strike."""
    return invoice.receive_with is ReceiveWith.RECEIVE_REQUEST


def is_refunded_with_others(auditor: Auditor, refund: LedgerRefund) -> bool:
    """Whether a late payment of a receive request and those that followed it are all owed back, each for itself."""
    invoice = refund.invoice
    if not is_request(invoice):
        return False
    with auditor.repository.reading() as tx:
        refunds = tx.refund_requests.of_invoice(invoice.id)
    by_rule = sum(one.amount_sats for one in refunds if one.kind is not RefundKind.MERCHANT)
    return 0 <= (invoice.received_sats or 0) - by_rule <= DUST_SATS


class ReceiveAudit:
    """The comparison of receive requests, from `start` to `end`. oldest: when the oldest of them was made."""

    def __init__(
        self, auditor: Auditor, result: Reconciliation, start: datetime, end: datetime, oldest: datetime
    ) -> None:
        self.auditor, self.result = auditor, result
        self.start, self.end, self.oldest = start, end, oldest
        self._seen: set[str] = set()
        self._read: set[int] = set()
        self._odd = 0

    def run(self) -> None:
        """Compare, if there are receive requests at all. Raises StrikeError."""
        with self.auditor.repository.reading() as tx:
            if not tx.ledger.has_requests(self.end):
                return
        is_listed = self._compare_list()
        if not is_listed:
            for invoice in filter(is_request, self._opened()):
                self._compare_read(invoice)
        for invoice in filter(is_request, self._paid()):
            receives = self._stored(invoice)
            self._check_state(invoice, receives)
            if not is_listed or self._unseen(receives):
                self._compare_read(invoice)
        if self._odd:
            self.result.unfinished = (
                f"{self._odd:,} receives at Strike are unreadable: look through Strike's dashboard for payments that "
                "LNPay does not know"
            )

    def _paid(self) -> Iterator[LedgerInvoice]:
        start, end = self.start, self.end
        return read_all(self.auditor.repository, lambda ledger, after: ledger.paid(start, end, after), paid_page_end)

    def _opened(self) -> Iterator[LedgerInvoice]:
        return read_all(
            self.auditor.repository,
            lambda ledger, after: ledger.opened(self.oldest, self.end, after),
            lambda invoice: (invoice.opened_at, invoice.id),
        )

    def _stored(self, invoice: LedgerInvoice) -> list[Receive]:
        with self.auditor.repository.reading() as tx:
            return tx.receives.of(invoice.id)

    def _unseen(self, receives: list[Receive]) -> list[Receive]:
        """Those of the period that Strike has not shown so far."""
        return [one for one in receives if self.start <= one.paid_at < self.end and one.receive_id not in self._seen]

    def _check_state(self, invoice: LedgerInvoice, receives: list[Receive]) -> None:
        """Check that the state agrees with what was paid in time."""
        if invoice.accepted_by is not None:
            return
        in_time = sum(one.amount_sats for one in receives if one.paid_at <= invoice.expires_at)
        is_whole = in_time >= invoice.amount_sats
        if is_whole == (invoice.state is InvoiceState.SETTLED):
            return
        there = f"{in_time:,} of {invoice.amount_sats:,} sats paid by {utc_second(invoice.expires_at)}"
        kind = K.IN_TIME_BUT_LATE if is_whole else K.LATE_BUT_SETTLED
        self.result.add(kind, invoice.strike_invoice_id, _state(invoice), there)

    # Strike's list.

    def _compare_list(self) -> bool:
        """Compare with Strike's list. False if Strike refuses it; the result says what that leaves unchecked."""
        try:
            for page in self._pages():
                self._compare_rows(page.receives)
                self._odd += page.unreadable
        except (StrikeRejected, ListRepeats) as error:
            if error.status == 401:
                raise
            log.warning("strike's receives are unavailable, reading requests one by one error=%s", error.message)
            self.result.unfinished = (
                f"Strike {refuses_or_repeats(error)} its list of receives, so payments unknown to LNPay cannot be "
                "found; every receive request that LNPay knows was read one by one. Run this again later, or "
                "check the dashboard"
            )
            return False
        return True

    def _pages(self) -> Iterator[ReceivePage]:
        """Receives until they are too old. Strike does not document their order: another one is read to its end."""
        before = None
        is_newest_first = True
        read = self.auditor.strike.receive_requests.list_all
        for page in read_pages(self.auditor, "receives at Strike", read, _receive_ids):
            yield page
            times = [*([before] if before else []), *(one.paid_at for one in page.receives)]
            is_newest_first = is_newest_first and times == sorted(times, reverse=True)
            before = times[-1] if times else before
            if is_newest_first and before is not None and before < self.oldest:
                return

    def _compare_rows(self, rows: Iterable[StrikeReceive]) -> None:
        final = {one.receive_id: one for one in rows if one.status is ReceiveStatus.COMPLETED}
        new = [one for name, one in final.items() if name not in self._seen]
        wanted = [one for one in new if self.start <= one.paid_at < self.end]
        self._seen.update(one.receive_id for one in wanted)
        with self.auditor.repository.reading() as tx:
            ours = tx.ledger.by_strike_ids({one.request_id for one in wanted})
            stored = {one.receive_id: one for invoice in ours.values() for one in tx.receives.of(invoice.id)}
        for one in wanted:
            invoice = ours.get(one.request_id)
            if invoice is not None:
                self._compare(invoice, one, stored.get(one.receive_id))
            elif self.auditor.is_shared:
                self.result.foreign += 1
            else:
                self.result.add(K.UNKNOWN_HERE, one.request_id, "no such receive request", _words(one))

    def _compare(self, invoice: LedgerInvoice, there: StrikeReceive, here: Receive | None) -> None:
        if here is None:
            kind = K.LAPSED_AND_PAID if invoice.state in UNWATCHED else K.NOT_COUNTED
            self.result.add(kind, invoice.strike_invoice_id, _state(invoice), _words(there))
        elif here.received != there.received:
            self.result.add(K.AMOUNT_DIFFERS, invoice.strike_invoice_id, _amount(here.received), _words(there))
        elif here.credited != there.credited:
            self.result.add(K.CREDITED_DIFFERS, invoice.strike_invoice_id, _amount(here.credited), _words(there))

    # Single requests.

    def _compare_read(self, invoice: LedgerInvoice) -> None:
        """Read one request: its payments that were not seen yet are compared, and those that are missing reported."""
        if invoice.id in self._read:
            return
        self._read.add(invoice.id)
        self.auditor.progress("receive requests, one by one", len(self._read))
        call = partial(self.auditor.strike.receive_requests.receives_of, invoice.strike_invoice_id)
        page = ask_for(self.auditor, call)
        rows = [] if page is None else page.receives
        self._odd += 0 if page is None else page.unreadable
        self._compare_rows(rows)
        if page is not None and page.unreadable:
            return  # one of these rows may be the missing payment
        pending = {one.receive_id for one in rows if one.status is ReceiveStatus.PENDING}
        for one in self._unseen(self._stored(invoice)):
            kind = K.NOT_PAID_AT_STRIKE if one.receive_id in pending else K.MISSING_AT_STRIKE
            there = "PENDING" if one.receive_id in pending else f"no payment {one.receive_id}"
            self.result.add(kind, invoice.strike_invoice_id, _state(invoice), there)


def _receive_ids(page: ReceivePage) -> list[str]:
    return [one.receive_id for one in page.receives]


def _state(invoice: LedgerInvoice) -> str:
    return f"{invoice.state}, {invoice.received_sats or 0:,} sats"


def _words(one: StrikeReceive) -> str:
    credited = "" if one.credited is None else f", {_amount(one.credited)} credited"
    return f"{one.status}, {_amount(one.received)}{credited}, paid {utc_second(one.paid_at)}"


def _amount(amount: CurrencyAmount | None) -> str:
    if amount is None:
        return "-"
    return f"{amount.amount:,f} {amount.currency}" if amount.sats is None else f"{amount.sats:,} sats"
