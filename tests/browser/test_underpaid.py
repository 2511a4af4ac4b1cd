"""A customer pays less than the price, in a real browser: what is missing, and what becomes of the money."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import RefundState
from lnpay.web.customer.languages import LANGUAGES
from tests.browser.conftest import PHONE, Stand, assert_accessible, assert_fits, assert_stage, picture

PART = 12_000


@pytest.fixture
def stand(make_stand: Callable[..., Stand]) -> Stand:
    """A stand whose customers may pay in part."""
    return make_stand(receive_with=ReceiveWith.RECEIVE_REQUEST)


def test_each_part_is_shown_and_the_rest_settles_the_order(stand: Stand) -> None:
    invoice = stand.sell()
    page = stand.open(invoice)
    stand.pay(invoice, received_sats=5_000)
    assert_stage(page, "underpaid")
    expect(page.get_by_text(f"We received 5,000 sats of {invoice.amount_sats:,} sats.", exact=True)).to_be_visible()

    stand.pay(invoice, received_sats=PART - 5_000)
    expect(page.get_by_role("heading", name=f"Still missing: {invoice.amount_sats - PART:,} sats")).to_be_visible()
    expect(page.get_by_text("with the same code")).to_be_visible()
    expect(page.locator("#news")).to_contain_text("We received 12,000 sats")
    expect(page.locator("#code")).to_have_value(invoice.issue.bolt11)
    stand.pay(invoice, received_sats=invoice.amount_sats - PART)

    assert_stage(page, "paid")


def test_after_the_end_the_page_says_so_and_asks_where_to_send_the_money(stand: Stand) -> None:
    invoice = stand.sell(ln_address="")
    page = stand.open(invoice)
    stand.pay(invoice, received_sats=PART)
    assert_stage(page, "underpaid")

    stand.wait(170)
    assert_stage(page, "underpaid_over")
    expect(page.locator("#page").get_by_text("so everything you paid is sent back")).to_be_visible()
    assert invoice.issue.bolt11.upper() not in page.content().upper()
    stand.work_until(lambda: stand.refund(invoice) is not None)
    assert_stage(page, "needs_address")
    expect(
        page.get_by_text("You paid less than the price. Tell us where to send 12,000 sats back.", exact=True)
    ).to_be_visible()
    picture(page, "underpaid-needs-address")
    assert_accessible(page)
    page.get_by_label("Lightning address or LNURL").fill("ann@wallet.test")
    page.get_by_role("button", name="Send my money back").click()

    assert_stage(page, "refunded")
    expect(
        page.get_by_text("You paid less than the price, so your payment was sent back to you.", exact=True)
    ).to_be_visible()
    expect(page.get_by_text("Paid in part")).to_be_visible()
    refund = stand.refund(invoice)
    assert refund is not None
    assert refund.state is RefundState.SENT
    assert [receipt.sats for receipt in stand.simulator.wallet.receipts] == [PART]


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (320, "dark"), (1280, "light"), (1280, "dark")])
def test_every_language_fits_and_is_for_everybody(stand: Stand, width: int, scheme: str) -> None:
    invoice = stand.sell()
    stand.pay(invoice, received_sats=PART)
    size = {**PHONE, "width": width}
    page = stand.open(invoice, viewport=size, color_scheme=scheme)
    for stage in ("underpaid", "underpaid_over"):
        if stage == "underpaid_over":
            stand.wait(170)
        for language in LANGUAGES:
            page.goto(f"{stand.page_url(invoice)}?lang={language}")
            assert_stage(page, stage)
            picture(page, f"{stage}-{language}-{width}-{scheme}")
            assert_fits(page)
            assert_accessible(page)


def test_the_page_in_a_plugins_frame_shows_it_too(stand: Stand) -> None:
    invoice = stand.sell()
    stand.pay(invoice, received_sats=PART)
    page = stand.new_context(viewport=PHONE).new_page()
    for path in (f"/i/{invoice.strike_invoice_id}", f"/i/{invoice.strike_invoice_id}?view=modal"):
        page.goto(f"{stand.url}{path}")

        assert_stage(page, "underpaid")
        expect(page.get_by_text("We received 12,000 sats of 19,207 sats.", exact=True)).to_be_visible()
