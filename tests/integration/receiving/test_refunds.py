"""Refunds of payments that receive requests got."""

from __future__ import annotations

from sqlalchemy import text

from lnpay.domain.model import Invoice, Refund
from lnpay.domain.states import RefundAsker, RefundKind, RefundState
from lnpay.invoices.receives import reconcile_request
from lnpay.refunds.merchant import RefundRequest, create_refund
from tests.owing import ADDRESS, drain, payouts, send
from tests.world import World


def refunds_of(world: World, invoice: Invoice) -> list[Refund]:
    with world.backend.repository.reading() as tx:
        return tx.refund_requests.of_invoice(invoice.id)


def sell_and_pay(world: World, *, times: int = 1, late_seconds: float = 0) -> Invoice:
    invoice = world.sell(ln_address=ADDRESS)
    for _ in range(times):
        world.simulator.pay_invoice(invoice.issue.bolt11, late_seconds=late_seconds)
    reconcile_request(world.backend.settlement, invoice.strike_invoice_id)
    return invoice


def test_a_second_payment_is_sent_back(shop: World) -> None:
    invoice = sell_and_pay(shop, times=2)

    assert send(shop) == {RefundState.SENT: 1}

    assert [one.kind for one in refunds_of(shop, invoice)] == [RefundKind.OVERPAID]
    assert [one.sats for one in payouts(shop)] == [invoice.amount_sats]


def test_a_late_payment_is_sent_back(shop: World) -> None:
    shop.simulator.config.receive_grace_seconds = 300
    invoice = sell_and_pay(shop, late_seconds=180)

    drain(shop)

    assert [one.sats for one in payouts(shop)] == [invoice.amount_sats]


def test_a_paid_order_is_refunded(shop: World) -> None:
    invoice = sell_and_pay(shop)
    request = RefundRequest(request_key="r1", asked_by=RefundAsker.OPERATOR, address=ADDRESS)
    create_refund(shop.backend.refund_issuer, invoice.strike_invoice_id, request)

    assert send(shop) == {RefundState.SENT: 1}
    assert [one.sats for one in payouts(shop)] == [invoice.amount_sats]


def test_what_strike_no_longer_shows_is_not_sent(shop: World) -> None:
    invoice = sell_and_pay(shop, times=2)
    receives = shop.simulator.receive_requests.receives
    hidden = list(receives.items())
    receives.clear()

    assert send(shop) == {RefundState.REQUESTED: 1}
    assert payouts(shop) == []
    [refund] = refunds_of(shop, invoice)
    assert "PENDING" in str(refund.reason)

    receives.update(hidden)
    drain(shop)
    assert [one.sats for one in payouts(shop)] == [invoice.amount_sats]


def test_what_strike_no_longer_shows_is_not_sent_although_its_row_cannot_be_read(shop: World) -> None:
    invoice = sell_and_pay(shop)
    request = RefundRequest(request_key="r1", asked_by=RefundAsker.OPERATOR, address=ADDRESS)
    create_refund(shop.backend.refund_issuer, invoice.strike_invoice_id, request)
    shop.simulator.receive_requests.receives.clear()
    with shop.backend.repository.engine.begin() as connection:
        connection.execute(text("UPDATE receives SET received_amount = 'much'"))

    assert send(shop) == {RefundState.REQUESTED: 1}
    assert payouts(shop) == []
