"""The count at the end of a run must detect anything that is lost or done twice."""

from __future__ import annotations

from dataclasses import replace

from lnpay.domain.model import Invoice
from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from tests.chaos.balance import Books, Sale
from tests.world import World

ADDRESS = "ann@wallet.example"


def books_of(world: World, invoice: Invoice) -> Books:
    sale = Sale(ADDRESS, invoice.strike_invoice_id, invoice.issue.bolt11, invoice.expires_at)
    return Books(world.simulator, [sale])


def test_a_payment_of_which_the_shop_is_not_notified_is_found(world: World) -> None:
    invoice = world.sell()
    world.pay(invoice)
    books = books_of(world, invoice)

    assert books.violations() == [f"invoice {invoice.strike_invoice_id}: messages under 0 ids"]
    main_pass(world.backend)
    assert books.violations() == []


def test_a_late_payment_that_is_not_refunded_or_refunded_twice_is_found(world: World) -> None:
    invoice = world.sell(ln_address=ADDRESS)
    world.pay(invoice, late_seconds=300)
    books = books_of(world, invoice)

    assert f"{ADDRESS}: 0 payments" in books.violations()
    expired_pass(world.backend)
    refund_pass(world.backend)
    assert books.violations() == []
    [sent] = [one for one in world.simulator.ledger.entries if one.kind == "out"]
    world.simulator.ledger.add(replace(sent))
    assert f"{ADDRESS}: 2 payments" in books.violations()
