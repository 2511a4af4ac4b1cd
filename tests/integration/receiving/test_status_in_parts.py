"""The status that open payment pages poll, while a receive request is paid in parts."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import event

from lnpay.domain.model import Invoice
from lnpay.domain.receives import ReceiveWith
from lnpay.invoices.receives import reconcile_request
from lnpay.runtime.worker_passes import expired_pass
from lnpay.web.customer.status import StatusCache
from tests.integration.receiving.conftest import Open
from tests.world import World


def pay(world: World, invoice: Invoice, sats: int, **how: Any) -> None:
    """Pay a part, and let LNPay learn it."""
    world.simulator.pay_invoice(invoice.issue.bolt11, received_sats=sats, **how)
    reconcile_request(world.backend.settlement, invoice.strike_invoice_id)


def status(world: World, invoice: Invoice) -> dict[str, Any]:
    """The answer to the first poll of a page, without the time."""
    answer = StatusCache(world.backend.repository, world.backend.clock).answer(invoice.token)
    assert answer is not None
    page = world.client.get(f"/checkout/{invoice.token}")
    found: dict[str, Any] = json.loads(answer.body)
    assert f'data-stage="{found["state"]}"' in page.text
    assert f'data-received="{found["received_sats"]}"' in page.text if "received_sats" in found else True
    return {name: value for name, value in found.items() if name != "expiration_time"}


def test_parts_add_up_until_the_order_is_paid(shop: World) -> None:
    invoice, other = shop.sell(), shop.sell()
    price = invoice.amount_sats
    for sats, received in ((5_000, 5_000), (1, 5_001)):
        pay(shop, invoice, sats)

        assert status(shop, invoice) == {
            "state": "underpaid",
            "is_final": False,
            "received_sats": received,
            "missing_sats": price - received,
        }
        assert status(shop, other) == {"state": "waiting", "is_final": False}
    pay(shop, invoice, price - 5_001)

    assert status(shop, invoice) == {"state": "paid", "is_final": True}


def test_what_is_missing_settles_the_order_although_parts_have_fractions_of_a_sat(shop: World) -> None:
    invoice = shop.sell()
    for _ in range(2):
        shop.simulator.pay_invoice(invoice.issue.bolt11, received_sats=1)
        receive = list(shop.simulator.receive_requests.receives.values())[-1]
        receive.oddities = {"amountReceived": {"amount": "0.00005000400", "currency": "BTC"}}
    reconcile_request(shop.backend.settlement, invoice.strike_invoice_id)
    shown = status(shop, invoice)

    pay(shop, invoice, shown["missing_sats"])

    assert shown["received_sats"] == 10_000
    assert status(shop, invoice)["state"] == "paid"


def test_the_end_is_shown_at_once_and_then_the_refund(shop: World) -> None:
    invoice = shop.sell(ln_address="")
    pay(shop, invoice, 700)
    shop.wait(150)

    assert status(shop, invoice)["state"] == "underpaid_over"
    shop.wait(100_000)
    expired_pass(shop.backend)

    assert status(shop, invoice) == {"state": "needs_address", "is_final": False}


def test_a_late_payment_is_no_part_of_the_price(shop: World) -> None:
    shop.simulator.config.receive_grace_seconds = 600
    invoice = shop.sell()
    pay(shop, invoice, 300)
    pay(shop, invoice, invoice.amount_sats - 300, pending_seconds=900)
    pay(shop, invoice, invoice.amount_sats, late_seconds=130)

    seen = {"state": "seen", "is_final": False, "received_sats": 300, "missing_sats": invoice.amount_sats - 300}
    assert status(shop, invoice) == seen
    page = shop.client.get(f"/checkout/{invoice.token}").text
    assert f'data-received="300" data-missing="{invoice.amount_sats - 300}"' in page


def test_shops_with_invoices_pay_nothing_for_it(open_world: Open) -> None:
    shop = open_world(receive_with=ReceiveWith.INVOICE)
    invoice = shop.sell()
    statements: list[str] = []
    event.listen(shop.backend.repository.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))

    assert StatusCache(shop.backend.repository, shop.backend.clock).answer(invoice.token) is not None
    assert not [one for one in statements if "receives" in one]
