"""Every kind of break is planted in an otherwise clean month, found, and named by its invoice."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pytest
from sqlalchemy import ColumnElement, Update, delete, insert, update

from lnpay.accounting.discrepancies import WORDS, DiscrepancyKind
from lnpay.domain.model import Invoice
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import RefundState
from lnpay.invoices.receives import reconcile_request
from lnpay.repository.tables import (
    deliveries,
    invoices,
    receives,
    refund_attempts,
    refunds,
)
from lnpay.sandbox.strike.models import Money
from tests.reconciliation.month import Month, Plant

K = DiscrepancyKind


def an_order_that_this_database_has_lost(month: Month) -> str:
    invoice = month.sale()
    month.spoil(delete(deliveries).where(deliveries.c.invoice_id == invoice.id), delete(invoices).where(_is(invoice)))
    return invoice.strike_invoice_id


def a_payment_that_was_missed(month: Month) -> str:
    invoice = month.world.sell()
    month.world.pay(invoice)
    return invoice.strike_invoice_id


def a_payment_of_what_was_given_up(month: Month) -> str:
    invoice = month.world.sell()
    month.world.pay(invoice)
    month.spoil(update(invoices).where(_is(invoice)).values(state="lapsed"))
    return invoice.strike_invoice_id


def two_paid_invoices_of_one_order(month: Month) -> str:
    invoice = month.sale()
    month.spoil(update(invoices).where(_is(invoice)).values(correlation_id="order-7"))
    return month.stranger("order-7").invoice_id


def a_sale_that_is_unpaid_at_strike(month: Month) -> str:
    invoice = month.sale()
    month.at_strike(invoice).state = "UNPAID"
    return invoice.strike_invoice_id


def a_sale_that_strike_does_not_know(month: Month) -> str:
    invoice = month.sale()
    del month.world.simulator.invoices.by_id[invoice.strike_invoice_id]
    return invoice.strike_invoice_id


def a_sale_of_another_amount(month: Month) -> str:
    invoice = month.sale()
    month.spoil(update(invoices).where(_is(invoice)).values(received_sats=invoice.amount_sats + 1))
    return invoice.strike_invoice_id


def a_payment_credited_with_another_amount(month: Month) -> str:
    month.world.restart(receive_with=ReceiveWith.RECEIVE_REQUEST, settle_in="EUR")
    invoice = month.world.sell()
    month.world.pay(invoice)
    reconcile_request(month.world.backend.settlement, invoice.strike_invoice_id)
    month.spoil(update(receives).where(receives.c.invoice_id == invoice.id).values(credited_amount=Decimal("1.23")))
    month.world.restart(receive_with=ReceiveWith.INVOICE, settle_in="BTC")
    return invoice.strike_invoice_id


def a_late_payment_counted_as_in_time(month: Month) -> str:
    invoice = month.sale()
    month.spoil(update(invoices).where(_is(invoice)).values(expires_at=invoice.issue.opened_at))
    month.spoil(update(invoices).where(_is(invoice)).values(paid_at=invoice.expires_at))
    return invoice.strike_invoice_id


def a_payment_in_time_counted_as_late(month: Month) -> str:
    invoice = month.late()
    month.spoil(update(invoices).where(_is(invoice)).values(expires_at=invoice.paid_at))
    return invoice.strike_invoice_id


def a_sale_that_no_message_tells_of(month: Month) -> str:
    invoice = month.sale()
    month.spoil(delete(deliveries).where(deliveries.c.invoice_id == invoice.id))
    return invoice.strike_invoice_id


def a_late_payment_without_a_refund(month: Month) -> str:
    invoice = month.late(address=None)
    month.spoil(delete(refunds).where(refunds.c.invoice_id == invoice.id))
    return invoice.strike_invoice_id


def a_refund_of_a_sale(month: Month) -> str:
    invoice = month.sale()
    _owe(month, invoice)
    return invoice.strike_invoice_id


def a_refund_of_an_unpaid_invoice(month: Month) -> str:
    invoice = month.world.sell()
    _owe(month, invoice)
    return invoice.strike_invoice_id


def a_refund_that_is_too_small(month: Month) -> str:
    invoice = month.late(address=None)
    month.spoil(_refund_of(invoice).values(amount_sats=invoice.amount_sats - 1))
    return invoice.strike_invoice_id


def a_refund_that_failed_at_strike(month: Month) -> str:
    invoice = month.late()
    month.payment(invoice).state = "FAILED"
    return invoice.strike_invoice_id


def a_refund_that_is_still_on_its_way(month: Month) -> str:
    invoice = month.late()
    month.payment(invoice).state = "PENDING"
    return invoice.strike_invoice_id


def a_refund_that_strike_does_not_know(month: Month) -> str:
    invoice = month.late()
    del month.world.simulator.payments.payments[month.payment(invoice).payment_id]
    return invoice.strike_invoice_id


def a_refund_of_another_amount_at_strike(month: Month) -> str:
    invoice = month.late()
    month.payment(invoice).quote.amount = Money(invoice.amount_sats - 1, "BTC")
    return invoice.strike_invoice_id


def a_refund_with_another_fee(month: Month) -> str:
    invoice = month.late()
    month.spoil(_refund_of(invoice).values(fee_sats=0))
    return invoice.strike_invoice_id


def a_refund_that_arrived_and_is_to_be_tried_again(month: Month) -> str:
    invoice = month.late()
    month.spoil(_refund_of(invoice).values(state="failed", sent_at=None))
    return invoice.strike_invoice_id


def a_refund_that_arrived_twice(month: Month) -> str:
    invoice, other = month.late(), month.late()
    attempt = {
        "refund_id": month.refund(invoice).id,
        "at": month.world.backend.clock(),
        "step": "execute",
        "outcome": "sent",
        "idempotency_key": str(uuid.uuid4()),
        "payment_id": month.payment(other).payment_id,
    }
    month.spoil(insert(refund_attempts).values(attempt))
    return invoice.strike_invoice_id


PLANTS: dict[DiscrepancyKind, Plant] = {
    K.UNKNOWN_HERE: an_order_that_this_database_has_lost,
    K.SECOND_PAYMENT: two_paid_invoices_of_one_order,
    K.NOT_COUNTED: a_payment_that_was_missed,
    K.LAPSED_AND_PAID: a_payment_of_what_was_given_up,
    K.NOT_PAID_AT_STRIKE: a_sale_that_is_unpaid_at_strike,
    K.MISSING_AT_STRIKE: a_sale_that_strike_does_not_know,
    K.AMOUNT_DIFFERS: a_sale_of_another_amount,
    K.CREDITED_DIFFERS: a_payment_credited_with_another_amount,
    K.LATE_BUT_SETTLED: a_late_payment_counted_as_in_time,
    K.IN_TIME_BUT_LATE: a_payment_in_time_counted_as_late,
    K.SHOP_NOT_TOLD: a_sale_that_no_message_tells_of,
    K.NO_REFUND: a_late_payment_without_a_refund,
    K.REFUND_OF_A_SALE: a_refund_of_a_sale,
    K.REFUND_OF_NOTHING: a_refund_of_an_unpaid_invoice,
    K.REFUND_NOT_ALL: a_refund_that_is_too_small,
    K.REFUND_FAILED: a_refund_that_failed_at_strike,
    K.REFUND_PENDING: a_refund_that_is_still_on_its_way,
    K.REFUND_MISSING: a_refund_that_strike_does_not_know,
    K.REFUND_AMOUNT_DIFFERS: a_refund_of_another_amount_at_strike,
    K.REFUND_FEE_DIFFERS: a_refund_with_another_fee,
    K.REFUNDED_TWICE: a_refund_that_arrived_twice,
    # The last one: LNPay would really send it again, with the next late payment.
    K.REFUND_NOT_RECORDED: a_refund_that_arrived_and_is_to_be_tried_again,
}


def test_every_kind_is_planted_and_has_words() -> None:
    assert set(PLANTS) == set(WORDS) == set(DiscrepancyKind)


@pytest.mark.parametrize("kind", PLANTS)
def test_a_break_is_found_and_named(month: Month, kind: DiscrepancyKind) -> None:
    month.sale()
    month.late()
    invoice_id = PLANTS[kind](month)

    found = month.reconcile()

    assert [(one.kind, one.invoice_id) for one in found.discrepancies] == [(kind, invoice_id)]
    assert (found.is_balanced, found.unfinished) == (False, None)


def test_all_of_them_at_once_are_distinguished(month_of_each_engine: Month) -> None:
    month = month_of_each_engine
    planted = {(kind, plant(month)) for kind, plant in PLANTS.items()}

    found = month.reconcile()

    assert {(one.kind, one.invoice_id) for one in found.discrepancies} == planted
    assert len(found.discrepancies) == len(planted)


def _is(invoice: Invoice) -> ColumnElement[bool]:
    return invoices.c.id == invoice.id


def _refund_of(invoice: Invoice) -> Update:
    return update(refunds).where(refunds.c.invoice_id == invoice.id)


def _owe(month: Month, invoice: Invoice) -> None:
    """Owe a refund past the guards, as a mistake of LNPay's would."""
    now = month.world.backend.clock()
    month.spoil(
        insert(refunds).values(
            invoice_id=invoice.id,
            token=str(uuid.uuid4()),
            state=RefundState.NEEDS_ADDRESS,
            amount_sats=invoice.amount_sats,
            received_sats=invoice.amount_sats,
            idempotency_key=str(uuid.uuid4()),
            created_at=now,
            next_attempt_at=now,
        )
    )
