"""Merchants' refunds in a World: sell, ask for refunds, and look at what became of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lnpay.domain.model import Invoice, Refund
from lnpay.domain.states import AmountBasis, RefundAsker
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.refunds.merchant import RefundRequest, create_refund
from tests.owing import ADDRESS
from tests.world import World


def sell_paid(world: World, **fields: Any) -> Invoice:
    """An invoice that was paid in time."""
    invoice = world.sell(**fields)
    world.pay(invoice)
    assert reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id) is Outcome.SETTLED
    return world.invoice(invoice.strike_invoice_id)


def wanted(key: str = "key-1", **fields: Any) -> RefundRequest:
    """A request for everything that is left, to an address; `fields` are changed or added."""
    whole = RefundRequest(request_key=key, asked_by=RefundAsker.API_KEY, address=ADDRESS)
    if "amount_sats" in fields:
        fields.setdefault("basis", AmountBasis.SATS)
    return replace(whole, **fields)


def refund(world: World, invoice: Invoice, key: str = "key-1", **fields: Any) -> Refund:
    """What a merchant's request creates."""
    return create_refund(world.backend.refund_issuer, invoice.strike_invoice_id, wanted(key, **fields))


def refunds_of(world: World, invoice: Invoice) -> list[Refund]:
    """Every refund of an invoice as it is now."""
    with world.backend.repository.reading() as tx:
        return tx.refund_requests.of_invoice(invoice.id)


def one_refund(world: World, made: Refund) -> Refund:
    """A refund as it is now."""
    with world.backend.repository.reading() as tx:
        found = tx.refunds.find(made.id)
    assert found is not None
    return found


def left_sats(world: World, invoice: Invoice) -> int:
    """What can still be refunded."""
    with world.backend.repository.reading() as tx:
        return tx.refund_requests.left_sats(invoice.id)
