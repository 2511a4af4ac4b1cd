"""Owe back what was paid beyond an invoice's price, in the transaction that stores the payment."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from datetime import datetime

from lnpay.deliveries.owe import owe_delivery
from lnpay.domain.addresses import refund_address
from lnpay.domain.events import EventType
from lnpay.domain.model import Invoice
from lnpay.domain.receives import DUST_SATS, Receive, beyond_price
from lnpay.domain.states import CancelCause, InvoiceState, RefundKind, RefundStep
from lnpay.refunds.keys import overpaid_key
from lnpay.repository import Transaction
from lnpay.repository.queries.refund_requests import NewRefund

log = logging.getLogger(__name__)


def owe_beyond_price(
    tx: Transaction, events: frozenset[str], invoice: Invoice, receives: Sequence[Receive], now: datetime
) -> None:
    """Store how much of each payment does not pay for the order, and owe back what is not yet owed."""
    is_sold = invoice.state is InvoiceState.SETTLED
    # An accepted late payment counts like one in time.
    deadline = None if invoice.accepted_by is not None else invoice.expires_at
    owed = beyond_price(invoice.amount_sats if is_sold else 0, deadline, receives)
    tx.receives.owe(owed)
    received_sats = sum(one.amount_sats for one in receives)
    owe_overpaid(tx, events, invoice, received_sats, sum(owed.values()), now)


def owe_overpaid(
    tx: Transaction, events: frozenset[str], invoice: Invoice, received_sats: int, owed_sats: int, now: datetime
) -> int:
    """Owe back what is not owed already. Returns how much, in sats; up to DUST_SATS is kept.

    received_sats: the total for the invoice. owed_sats: the part of it that does not pay for the order. Call it while
    the invoice is locked, after received_sats was stored. A refund that the rules have added counts even if it was
    canceled since, because the same money is not owed twice; but not if it was canceled because the operator accepted
    the payment.
    """
    tx.refund_requests.lock(invoice.id)
    refunds = tx.refund_requests.every_of(invoice.id)
    owed_before = [one for one in refunds if one.kind is not RefundKind.MERCHANT]
    by_rule = sum(one.amount_sats for one in owed_before if one.cancel_cause is not CancelCause.ACCEPTED)
    sats = min(owed_sats - by_rule, tx.refund_requests.left_sats(invoice.id))
    if sats <= DUST_SATS:
        return 0
    address, sequence = refund_address(invoice.order.ln_address), tx.refund_requests.next_sequence(invoice.id)
    ordinal = 1 + sum(one.kind is RefundKind.OVERPAID for one in refunds)
    new = NewRefund(
        invoice_id=invoice.id,
        kind=RefundKind.OVERPAID,
        sequence=sequence,
        amount_sats=sats,
        received_sats=received_sats,
        address=address,
        token=secrets.token_urlsafe(24),
        key=overpaid_key(invoice.strike_invoice_id, ordinal),
        created_at=now,
    )
    tx.refund_requests.add(new)
    refund = tx.refunds.find_by_token(new.token)
    assert refund is not None  # noqa: S101 - added above, under the invoice's lock
    tx.refunds.note(refund, now, RefundStep.REQUEST, "more was paid than the invoice asked for")
    if address is None:
        owe_delivery(tx, events, EventType.REFUND_NEEDS_ADDRESS, invoice, now, refund=refund)
    log.info("overpayment owed back invoice_id=%s amount_sats=%d", invoice.strike_invoice_id, sats)
    return sats
