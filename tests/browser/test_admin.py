"""The operator's day in a real browser: log in, see what needs a person, do it, look something up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from lnpay.domain.errors import ShopGone
from lnpay.domain.model import Event, Invoice
from lnpay.domain.states import InvoiceState, RefundState
from tests.browser.conftest import PHONE, Stand, assert_accessible, assert_fits, picture

PASSWORD = "a-password-of-the-tests"


@pytest.fixture
def admin(make_stand: Callable[..., Stand]) -> Stand:
    """A stand whose operator approves every refund that is worth it."""
    return make_stand(admin_password=PASSWORD, refund_max_sats=20_000)


def has_refund(stand: Stand, invoice: Invoice, state: RefundState) -> Callable[[], bool]:
    def look() -> bool:
        refund = stand.refund(invoice)
        return refund is not None and refund.state is state

    return look


def late(stand: Stand, state: RefundState, **fields: str) -> Invoice:
    """An invoice that was paid too late, whose refund has come to `state`."""
    invoice = stand.sell(**fields)
    stand.pay(invoice, late_seconds=180)
    stand.work_until(has_refund(stand, invoice, state))
    return invoice


def log_in(stand: Stand, path: str = "", **options: object) -> Page:
    """A browser of the operator's own, at a page behind the login."""
    page = stand.new_context(**options).new_page()
    page.goto(f"{stand.url}/admin{path}")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    return page


def case(page: Page, invoice: Invoice) -> object:
    return page.get_by_role("listitem").filter(has_text=invoice.correlation_id)


def test_log_in_and_out_with_the_keyboard_alone(admin: Stand) -> None:
    page = admin.new_context().new_page()
    page.goto(f"{admin.url}/admin")
    expect(page.get_by_label("Password")).to_be_focused()
    picture(page, "admin-login")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Wrong password.")
    assert_accessible(page)

    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Nothing needs your attention")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for _ in range(6):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Password")).to_be_visible()


@pytest.mark.parametrize("has_script", [True, False])
def test_approve_a_held_refund(admin: Stand, has_script: bool) -> None:
    invoice = late(admin, RefundState.HELD, amount_fiat="50", correlation_id="order-50")
    page = log_in(admin, java_script_enabled=has_script)
    expect(page.get_by_role("heading", name="1 item needs your attention")).to_be_visible()

    page.get_by_role("button", name="Approve: send").click()

    expect(page.locator(".said")).to_contain_text("Approved")
    expect(page.get_by_role("heading", name="Nothing needs your attention")).to_be_visible()
    admin.work_until(has_refund(admin, invoice, RefundState.SENT))
    assert [receipt.sats for receipt in admin.simulator.wallet.receipts] == [invoice.amount_sats]


@pytest.mark.parametrize("has_script", [True, False])
def test_refund_a_paid_order_by_a_link(admin: Stand, has_script: bool) -> None:
    invoice = admin.sell()
    admin.pay(invoice)
    admin.work_until(lambda: admin.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED)
    page = log_in(admin, f"/invoices/{invoice.strike_invoice_id}", java_script_enabled=has_script)
    page.get_by_text("Refund this order").click()
    if has_script:
        assert_accessible(page)

    page.get_by_label("Amount", exact=True).fill("5000")
    page.get_by_label("Unit of the amount").select_option("sats")
    page.get_by_role("button", name="Refund", exact=True).dblclick()

    expect(page.locator(".said")).to_contain_text("A refund of 5,000 sats waits for the customer")
    link = page.get_by_label("Or let the customer do it").input_value()
    page.goto(link)
    page.get_by_label("Lightning address").fill("ann@wallet.test")
    page.get_by_role("button", name="Send my money").click()
    admin.work_until(lambda: bool(admin.simulator.wallet.receipts))
    assert [receipt.sats for receipt in admin.simulator.wallet.receipts] == [5_000]


@pytest.mark.parametrize("has_script", [True, False])
def test_give_an_address_after_a_wrong_one(admin: Stand, has_script: bool) -> None:
    invoice = late(admin, RefundState.NEEDS_ADDRESS, ln_address="")
    page = log_in(admin, viewport=PHONE, java_script_enabled=has_script)
    expect(page.get_by_label("Or let the customer do it")).to_have_value(f"{admin.url}/refund/{_token(admin, invoice)}")

    page.get_by_label("Lightning address or LNURL").fill("nonsense")
    page.get_by_role("button", name="Send it there").click()
    expect(page.get_by_role("alert")).to_contain_text("neither a Lightning address")
    page.get_by_label("Lightning address or LNURL").fill("ann@wallet.test")
    page.get_by_role("button", name="Send it there").click()

    expect(page.get_by_role("status")).to_contain_text("ann@wallet.test")
    admin.work_until(has_refund(admin, invoice, RefundState.SENT))


def _token(stand: Stand, invoice: Invoice) -> str:
    refund = stand.refund(invoice)
    assert refund is not None
    return refund.token


def test_settle_by_hand_asks_how_one_knows(admin: Stand) -> None:
    invoice = late(admin, RefundState.HELD, amount_fiat="50")
    page = log_in(admin, f"/invoices/{invoice.strike_invoice_id}")
    expect(page.get_by_role("button", name="Close it")).to_be_hidden()
    page.get_by_text("Sent or paid back").click()
    page.get_by_label("How you know").fill("paid back in cash")
    page.get_by_role("button", name="Close it").click()
    # The browser itself asks for the tick.
    assert refund_state(admin, invoice) is RefundState.HELD

    page.get_by_label("The customer has received the money.").check()
    page.get_by_role("button", name="Close it").click()

    expect(page.get_by_role("status")).to_contain_text("counts as sent")
    expect(page.get_by_text("The operator settled it: paid back in cash")).to_be_visible()
    assert admin.simulator.wallet.receipts == []


def refund_state(stand: Stand, invoice: Invoice) -> RefundState | None:
    refund = stand.refund(invoice)
    return None if refund is None else refund.state


def test_look_an_order_up_and_read_its_history(admin: Stand) -> None:
    other = admin.sell(correlation_id="order-1041")
    invoice = late(admin, RefundState.SENT, correlation_id="order-1042", description="Two cappuccinos")
    page = log_in(admin, "/invoices")
    expect(page.get_by_role("link", name=other.correlation_id)).to_be_visible()

    page.get_by_label("Find").fill(" order-1042 ")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name=other.correlation_id)).to_be_hidden()
    page.get_by_role("link", name="order-1042").click()

    titles = page.locator(".timeline h3").all_text_contents()
    assert titles[:4] == ["Ordered", "Issued", "Payment deadline", "Paid late"]
    assert titles[-1] == "Refund sent"
    expect(page.get_by_text("ann@wallet.test").first).to_be_visible()
    assert invoice.strike_invoice_id in page.url


def a_busy_day(admin: Stand) -> list[Invoice]:
    """Something of everything."""
    for number in range(14):
        sold = admin.sell(correlation_id=f"order-10{number:02}", amount_fiat=str(3 + number * 7 % 11))
        admin.pay(sold)
        admin.work()
        admin.wait(86_400 * (1 + number % 3))
    late(admin, RefundState.SENT, correlation_id="order-1030", amount_fiat="9.90")
    late(admin, RefundState.NEEDS_ADDRESS, ln_address="", correlation_id="order-1031", description="Espresso")
    late(admin, RefundState.HELD, amount_fiat="50", correlation_id="order-1032", description="Gift box, large")
    late(admin, RefundState.FAILED, ln_address="fail@wallet.test", correlation_id="order-1033")
    in_flight = late(admin, RefundState.IN_FLIGHT, ln_address="pending@wallet.test", correlation_id="order-1034")
    _abandon(admin)
    admin.wait(2 * 3_600)
    admin.work()
    return [in_flight, admin.sell(correlation_id="order-1036", metadata={"table": "7"})]


def _abandon(admin: Stand) -> None:
    outbox = admin.backend.outbox

    def gone(event: Event) -> None:
        raise ShopGone("the shop answered 410")

    deliver = outbox.deliver
    object.__setattr__(outbox, "deliver", gone)
    invoice = admin.sell(correlation_id="order-1035")
    admin.pay(invoice)
    admin.work()
    object.__setattr__(outbox, "deliver", deliver)


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (768, "dark"), (1280, "light")])
def test_every_page_is_for_everybody_in_every_window(admin: Stand, width: int, scheme: str) -> None:
    invoices = a_busy_day(admin)
    page = log_in(admin, viewport={"width": width, "height": 900}, color_scheme=scheme)
    expect(page.get_by_role("heading", name="5 items need your attention")).to_be_visible()
    paths = {
        "overview": "?chart=sats",
        "invoices": "/invoices",
        "none": "/invoices?q=nothing",
        "refunds": "/refunds",
        "no-refunds": "/refunds?q=nothing",
        "missing": "/invoices/x",
    }
    paths |= {f"invoice-{number}": f"/invoices/{one.strike_invoice_id}" for number, one in enumerate(invoices)}

    for name, path in paths.items():
        page.goto(f"{admin.url}/admin{path}")
        picture(page, f"admin-{name}-{width}-{scheme}")
        for summary in page.locator("summary").all():
            summary.click()
        assert_fits(page)
        assert_accessible(page)
