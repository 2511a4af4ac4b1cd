"""Whether the payment to refund is still in the account: money that Strike has taken back must not be sent as well."""

from __future__ import annotations

from lnpay.domain.model import Invoice, Refund
from lnpay.domain.receives import ReceiveWith
from lnpay.refunds.outcomes import RefundSender
from lnpay.strike.client import WEBHOOK_TIMEOUT
from lnpay.strike.invoices import InvoiceStatus
from lnpay.strike.receives import ReceiveStatus


def status_at_strike(sender: RefundSender, refund: Refund) -> InvoiceStatus:
    """The current state at Strike of the invoice that `refund` belongs to. Raises StrikeError if Strike cannot say.

    A receive request counts as PAID if Strike shows every stored payment as completed, otherwise as PENDING.
    """
    with sender.repository.reading() as tx:
        invoice = tx.invoices.find(refund.invoice_id)
        assert invoice is not None  # noqa: S101 - refunds.invoice_id is a foreign key to an issued invoice
        stored = tx.receives.ids_of(invoice.id)
    if invoice.issue.receive_with is ReceiveWith.RECEIVE_REQUEST:
        return InvoiceStatus.PAID if stored <= _completed(sender, invoice) else InvoiceStatus.PENDING
    return sender.strike.get_invoice(invoice.strike_invoice_id, timeout=WEBHOOK_TIMEOUT).status


def _completed(sender: RefundSender, invoice: Invoice) -> set[str]:
    page = sender.strike.receive_requests.receives_of(invoice.strike_invoice_id, timeout=WEBHOOK_TIMEOUT)
    return {one.receive_id for one in page.receives if one.status is ReceiveStatus.COMPLETED}
