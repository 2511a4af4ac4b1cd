"""GET /admin/refunds: the operator's list of refunds of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnpay.invoices.settle import reconcile_invoice
from lnpay.sandbox.config import SimulatorConfig
from lnpay.web.admin import pages
from tests.owing import owe
from tests.world import World

PASSWORD = "a-password-of-the-tests"


@pytest.fixture
def admin(tmp_path: Path) -> World:
    """A shop with three late payments, whose operator is logged in."""
    world = World.make(tmp_path, admin_password=PASSWORD, delivery_secret="")
    for number in range(3):
        owe(world, None, correlation_id=f"order-{number}")
    world.client.post("/admin/login", data={"password": PASSWORD})
    return world


def orders(admin: World, query: str = "") -> list[str]:
    """The orders of a page of the list, from the top."""
    page = admin.client.get(f"/admin/refunds{query}")
    assert page.status_code == 200
    return [part.split("<")[0] for part in page.text.split('class="order"><b>')[1:]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["order-2", "order-1", "order-0"]),
        ("?state=needs_address&kind=late", ["order-2", "order-1", "order-0"]),
        ("?state=sent", []),
        ("?kind=merchant", []),
        ("?q=order-1", ["order-1"]),
        ("?q=%20order-1%20&state=sent", []),
        ("?q=%00", []),
        ("?before=x&state=nonsense", ["order-2", "order-1", "order-0"]),
    ],
)
def test_it_is_filtered_and_searched(admin: World, query: str, found: list[str]) -> None:
    assert orders(admin, query) == found


def test_it_is_paginated(admin: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE", 2)
    first = admin.client.get("/admin/refunds")
    older = first.text.split("before=")[1].split('"')[0].split("&")[0]

    assert orders(admin) == ["order-2", "order-1"]
    assert orders(admin, f"?before={older}") == ["order-0"]
    assert 'rel="next"' not in admin.client.get(f"/admin/refunds?before={older}").text


def test_a_cancelled_attempt_keeps_the_name_of_its_order(tmp_path: Path) -> None:
    config = SimulatorConfig(is_payable_after_cancel=True)
    world = World.make(tmp_path, admin_password=PASSWORD, config=config)
    world.client.post("/admin/login", data={"password": PASSWORD})
    cancelled = world.sell(correlation_id="order-7")
    world.client.post(f"/invoices/{cancelled.strike_invoice_id}/cancel")
    world.sell(correlation_id="order-7")
    world.pay(cancelled, late_seconds=600)
    reconcile_invoice(world.backend.settlement, cancelled.strike_invoice_id)

    assert orders(world) == orders(world, "?q=order-7") == ["order-7"]


def test_no_claim_token_is_shown(admin: World) -> None:
    with admin.backend.repository.reading() as tx:
        invoice = tx.invoices.find_invoice_by_correlation_id("order-0")
        assert invoice is not None
        refund = tx.refunds.find_late(invoice.id)
    assert refund is not None
    page = admin.client.get("/admin/refunds").text

    assert refund.token not in page
    assert f"/invoices/{invoice.strike_invoice_id}" in page


def test_only_the_operator_sees_it(admin: World) -> None:
    admin.client.delete_cookie("lnpay_admin")
    with admin.client.session_transaction() as session:
        session.clear()

    assert "order-0" not in admin.client.get("/admin/refunds").text
