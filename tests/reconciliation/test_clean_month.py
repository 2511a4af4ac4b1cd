"""A month in which all is well is said to balance; one that could not be compared to the end is not."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update

from lnpay.accounting.auditor import MOST_PAUSES
from lnpay.accounting.discrepancies import DiscrepancyKind
from lnpay.accounting.report import report_lines
from lnpay.domain.model import Order, Rate
from lnpay.domain.states import LatePayments, RefundState
from lnpay.domain.strike_names import new_strike_name
from lnpay.invoices.settle import reconcile_invoice
from lnpay.invoices.sweep import expire_due, lapse_due, sweep
from lnpay.refunds.merchant import cancel_refund
from lnpay.repository.tables import invoices, refund_attempts, refunds
from lnpay.sandbox.strike.models import Money
from lnpay.strike.buckets import Bucket
from lnpay.strike.reading import PAGE_SIZE
from tests import owing
from tests.reconciliation.month import Month, repeat_list
from tests.refunding import one_refund, refund

LIST, INVOICE, PAYMENT = "/v1/invoices", "/v1/invoices/*", "/v1/payments/*"
HOUR = 3_600


def live(month: Month) -> None:
    """A month with everything that may rightly happen."""
    for _ in range(3):
        month.sale()
    month.late()
    assert month.refund(month.late(amount_fiat="100")).state is RefundState.HELD
    assert month.refund(month.late(address=None)).state is RefundState.NEEDS_ADDRESS
    month.stranger(correlation_id=None)
    month.world.sell()
    month.world.wait(2 * HOUR)
    found = sweep(month.world.backend.sweep_settlement, lambda: 100, is_deep=True)
    assert (expire_due(month.world.backend.sweep_settlement, found), found.settled) == (1, 0)
    assert lapse_due(month.world.backend.sweep_settlement, found) == 0
    month.world.sell()
    month.sale()


def test_a_clean_month_balances(month_of_each_engine: Month) -> None:
    month = month_of_each_engine
    live(month)

    found = month.reconcile()

    assert (found.discrepancies, found.unfinished, found.is_balanced) == ([], None, True)
    assert (found.payments, found.refunds, found.foreign) == (7, 3, 1)


def test_a_month_with_refunds_of_every_kind_balances(month_of_each_engine: Month) -> None:
    month = month_of_each_engine
    world = month.world
    parted, canceled = month.sale(), month.sale(correlation_id="canceled")
    for key in ("a", "b"):
        refund(world, parted, key, amount_sats=5_000)
    cancel_refund(world.backend.refund_issuer, refund(world, canceled, address=None).id)
    owing.send(world)
    month.late()
    world.restart(late_payments=LatePayments.ACCEPT)
    accepted = world.sell(correlation_id="accepted")
    world.pay(accepted, late_seconds=180)
    assert month.learn(accepted).accepted_by is not None

    found = month.reconcile(is_thorough=True)
    lines = list(report_lines(world.backend.repository, month.period))

    assert (found.discrepancies, found.unfinished) == ([], None)
    assert (found.payments, found.refunds) == (4, 3)
    assert sorted(str(one.refund_kind) for one in lines if one.refund_kind) == ["late", "merchant", "merchant"]
    assert [one.note for one in lines if one.invoice_id == accepted.strike_invoice_id] == [
        "paid late, accepted by LATE_PAYMENTS=accept"
    ]


def test_a_refund_of_a_paid_order_that_arrived_twice_is_found(month: Month) -> None:
    world = month.world
    invoice = month.sale()
    first, second = (refund(world, invoice, key, amount_sats=5_000) for key in ("a", "b"))
    owing.send(world)
    other = one_refund(world, second).payment_id
    month.spoil(update(refund_attempts).where(refund_attempts.c.refund_id == first.id).values(payment_id=other))

    found = month.reconcile()

    assert DiscrepancyKind.REFUNDED_TWICE in [one.kind for one in found.discrepancies]


def test_a_clean_month_balances_when_every_payment_is_read(month_of_each_engine: Month) -> None:
    month = month_of_each_engine
    live(month)

    found = month.reconcile(is_thorough=True)

    assert (found.discrepancies, found.is_balanced) == ([], True)


def test_a_month_of_several_pages_balances(month: Month) -> None:
    for _ in range(PAGE_SIZE + 1):
        month.sale()
    before = len(month.world.calls())

    found = month.reconcile()

    assert (found.is_balanced, found.payments) == (True, PAGE_SIZE + 1)
    assert len(month.world.calls()) - before == 2


def test_an_empty_month_balances(month: Month) -> None:
    assert month.reconcile().is_balanced


def test_what_happened_in_other_months_is_theirs(month: Month) -> None:
    month.sale()
    month.world.pay(month.world.sell())
    month.world.wait(40 * 24 * HOUR)
    month.world.pay(month.world.sell())

    found = month.reconcile()

    assert [one.kind for one in found.discrepancies] == [DiscrepancyKind.NOT_COUNTED]


@pytest.mark.parametrize("is_known", [True, False], ids=["here and at Strike", "at Strike alone"])
def test_what_was_paid_a_moment_ago_is_counted_and_not_compared_yet(month: Month, is_known: bool) -> None:
    month.world.wait(HOUR)
    for _ in range(8):
        invoice = month.world.sell()
        month.world.pay(invoice)
        if is_known:
            month.learn(invoice)

    found = month.reconcile(clock=lambda: month.world.backend.clock() - timedelta(minutes=20))

    assert (found.discrepancies, found.payments, found.new_payments) == ([], 0, 8)
    assert not found.is_balanced


def test_a_refund_of_a_moment_ago_is_counted_and_not_compared_yet(month: Month) -> None:
    month.sale()
    month.world.wait(HOUR)
    month.late()
    month.late(address=None)

    found = month.reconcile(clock=lambda: month.world.backend.clock() - timedelta(minutes=20))

    assert (found.payments, found.refunds, found.new_payments, found.new_refunds) == (1, 0, 2, 2)
    assert found.is_balanced


def test_a_period_that_began_a_moment_ago_does_not_balance(month: Month) -> None:
    assert not month.reconcile(clock=lambda: month.period.start + timedelta(minutes=5)).is_balanced


def test_what_may_be_another_program_s_is_a_discrepancy_until_the_operator_says_so(month: Month) -> None:
    month.stranger("theirs-1")

    assert [one.kind for one in month.reconcile().discrepancies] == [DiscrepancyKind.UNKNOWN_HERE]
    shared = month.reconcile(is_shared=True)
    assert (shared.is_balanced, shared.foreign) == (True, 1)


@pytest.mark.parametrize("name", ["order-1", "order-1.abcdefqqqqqqqqqqqq"])
def test_a_neighbours_payment_of_the_same_order_id_is_the_neighbours(month: Month, name: str) -> None:
    month.world.pay(month.world.sell(correlation_id="order-1"))
    sweep(month.world.backend.sweep_settlement, lambda: 100, is_deep=True)
    month.stranger(name)

    found = month.reconcile(is_shared=True)

    assert (found.is_balanced, found.foreign) == (True, 1)


def test_a_second_payment_under_an_older_name_of_ours_is_found_beside_neighbours(month: Month) -> None:
    first = month.world.sell(correlation_id="order-1")
    month.world.pay(first)
    sweep(month.world.backend.sweep_settlement, lambda: 100, is_deep=True)
    with month.world.backend.repository.reading() as tx:
        second = month.stranger(new_strike_name("order-1", tx.installation.name() or ""))

    found = month.reconcile(is_shared=True)

    assert [(one.kind, one.invoice_id) for one in found.discrepancies] == [
        (DiscrepancyKind.SECOND_PAYMENT, second.invoice_id)
    ]


def test_a_draft_of_an_older_version_names_its_payment(month: Month) -> None:
    paid = month.stranger("order-9")
    now = month.world.backend.clock()
    with month.world.backend.repository.transaction() as tx:
        rate = Rate(Decimal(65_000), "usd", "coingecko", now)
        tx.invoices.add_draft("order-9", "order-9", "a-token", Order(Decimal(1), "usd", None, None), 5_000, rate, now)

    found = month.reconcile(is_shared=True)

    assert [(one.kind, one.invoice_id) for one in found.discrepancies] == [
        (DiscrepancyKind.UNKNOWN_HERE, paid.invoice_id)
    ]


def test_an_order_that_never_got_its_paid_invoice_is_no_stranger(month: Month) -> None:
    month.world.fault("POST", "/v1/invoices/*/quote", "error", status=503, times=2)
    assert month.world.ask(correlation_id="order-9").status_code == 503
    books = month.world.simulator.invoices
    paid = next(reversed(books.by_id.values()))
    month.world.simulator.pay_invoice(books.quote(paid).payment_request)

    found = month.reconcile(is_shared=True)

    assert [(one.kind, one.invoice_id) for one in found.discrepancies] == [
        (DiscrepancyKind.UNKNOWN_HERE, paid.invoice_id)
    ]
    assert found.discrepancies[0].here == "an order without an invoice"


def test_a_refund_that_a_person_paid_back_cannot_be_compared(month: Month) -> None:
    invoice = month.late(address=None)
    with month.world.backend.repository.transaction() as tx:
        now = month.world.backend.clock()
        tx.refunds.close_by_hand(month.refund(invoice), now, "by hand: paid in cash")

    found = month.reconcile()

    assert (found.is_balanced, found.by_hand) == (True, 1)


def test_a_refund_without_a_payment_id_cannot_be_compared(month: Month) -> None:
    invoice = month.late()
    month.spoil(update(refunds).where(refunds.c.invoice_id == invoice.id).values(payment_id=None))
    month.spoil(update(refund_attempts).values(payment_id=None))

    found = month.reconcile()

    assert (found.is_balanced, found.unnamed) == (True, 1)


def test_a_payment_that_comes_while_pages_are_read_disturbs_nothing(month: Month) -> None:
    for _ in range(PAGE_SIZE + 1):
        month.sale()

    def pay_after_the_first_page(words: str, done: int, total: int | None = None) -> None:
        if (words, done) == ("paid invoices at Strike", PAGE_SIZE):
            month.stranger(correlation_id=None)

    found = month.reconcile(progress=pay_after_the_first_page)

    assert (found.is_balanced, found.payments) == (True, PAGE_SIZE + 1)
    assert month.world.calls("GET /v1/invoices/")[PAGE_SIZE + 1 :] == []


def test_a_payment_whose_time_strike_does_not_say_is_not_passed_over(month: Month) -> None:
    invoice = month.world.sell()
    month.world.pay(invoice)
    month.world.simulator.config.transactions = "missing"

    assert [one.kind for one in month.reconcile().discrepancies] == [DiscrepancyKind.NOT_COUNTED]


def test_another_currency_at_strike_is_another_amount(month: Month) -> None:
    invoice = month.sale()
    month.at_strike(invoice).amount = Money(1_234, "USD")

    [found] = month.reconcile().discrepancies

    assert (found.kind, found.there) == (DiscrepancyKind.AMOUNT_DIFFERS, "not in bitcoin")


def test_without_messages_to_the_shop_none_is_missed(month: Month) -> None:
    month.world.restart(delivery_events=frozenset())
    month.sale()

    assert month.reconcile().is_balanced


def test_another_time_of_payment_is_found_when_every_payment_is_read(month: Month) -> None:
    invoice = month.sale()
    month.at_strike(invoice).transactions[0].created_at = invoice.expires_at + timedelta(seconds=1)

    assert month.reconcile().is_balanced
    found = month.reconcile(is_thorough=True)

    assert [(one.kind, one.invoice_id) for one in found.discrepancies] == [
        (DiscrepancyKind.LATE_BUT_SETTLED, invoice.strike_invoice_id)
    ]


class TestStrikeDoesNotAnswer:
    def test_a_list_that_is_refused_is_not_a_clean_month(self, month: Month) -> None:
        month.sale()
        month.world.fault("GET", LIST, "html403", times=None)

        found = month.reconcile()

        assert found.discrepancies == []
        assert not found.is_balanced
        assert found.unfinished is not None
        assert "refuses its list" in found.unfinished

    def test_without_the_list_what_lnpay_knows_is_read_one_by_one(self, month: Month) -> None:
        unpaid_there, unnoticed, wrong = month.sale(), month.world.sell(), month.sale()
        month.at_strike(unpaid_there).state = "UNPAID"
        month.world.pay(unnoticed)
        month.spoil(update(invoices).where(invoices.c.id == wrong.id).values(received_sats=1))
        month.world.simulator.config.filter_policy = "block_all"

        found = month.reconcile()

        assert {(one.kind, one.invoice_id) for one in found.discrepancies} == {
            (DiscrepancyKind.NOT_PAID_AT_STRIKE, unpaid_there.strike_invoice_id),
            (DiscrepancyKind.NOT_COUNTED, unnoticed.strike_invoice_id),
            (DiscrepancyKind.AMOUNT_DIFFERS, wrong.strike_invoice_id),
        }

    @pytest.mark.parametrize("path", [LIST, PAYMENT])
    @pytest.mark.parametrize("kind", ["unreachable", "error", "garbage", "lost_answer"])
    def test_trouble_that_lasts_is_never_a_balance(self, month: Month, path: str, kind: str) -> None:
        month.late()
        month.world.fault("GET", path, kind, times=None)

        found = month.reconcile()

        assert (found.discrepancies, found.is_balanced) == ([], False)
        assert found.unfinished is not None
        assert "run this again later" in found.unfinished

    @pytest.mark.parametrize("path", [LIST, PAYMENT])
    def test_trouble_that_passes_is_waited_out(self, month: Month, path: str) -> None:
        month.late()
        month.world.fault("GET", path, "unreachable", times=2)

        assert month.reconcile().is_balanced
        assert month.pauses == [2, 10]

    @pytest.mark.parametrize(
        ("status", "code", "words"), [(401, "UNAUTHORIZED", "STRIKE_API_KEY"), (403, "FORBIDDEN", "scope")]
    )
    def test_a_key_that_may_not_look_is_named(self, month: Month, status: int, code: str, words: str) -> None:
        month.sale()
        month.world.fault("GET", "*", "error", times=None, status=status, code=code)

        found = month.reconcile()

        assert found.unfinished is not None
        assert words in found.unfinished


class TestTheBudget:
    def test_calls_are_left_for_sales_and_it_goes_on_when_there_are_more(self, month: Month) -> None:
        month.late()
        month.world.wait(HOUR)
        backend = month.world.backend
        with backend.repository.transaction() as tx:
            for _ in range(600):
                tx.limits.count_call(Bucket.OTHER, backend.clock() + timedelta(seconds=1_200), 60)

        found = month.reconcile()

        assert found.is_balanced
        assert set(month.pauses) == {60}
        assert 9 <= len(month.pauses) <= 12

    def test_a_lock_out_is_not_waited_for_and_not_made_longer(self, month: Month) -> None:
        month.sale()
        month.world.fault("GET", LIST, "rate_limited", seconds=HOUR)
        before = len(month.world.calls())

        found = month.reconcile()

        assert found.unfinished == "Strike's rate limit is reached: run this again in 60 minutes"
        assert (month.pauses, len(month.world.calls()) - before) == ([], 1)

    def test_calls_that_never_come_back_end_it(self, month: Month) -> None:
        month.sale()

        found = month.reconcile(calls_left=lambda: 0)

        assert not found.is_balanced
        assert "the budget of calls is used up" in (found.unfinished or "")
        assert len(month.pauses) == MOST_PAUSES

    def test_a_short_wait_is_kept(self, month: Month) -> None:
        month.sale()
        month.world.fault("GET", LIST, "rate_limited", seconds=30)

        assert month.reconcile().is_balanced
        assert month.pauses == [30]


def test_nothing_is_changed_by_looking(month: Month) -> None:
    unnoticed = month.world.sell()
    month.world.pay(unnoticed)
    month.late()

    month.reconcile()

    assert month.world.invoice(unnoticed.strike_invoice_id) == unnoticed
    assert reconcile_invoice(month.world.backend.settlement, unnoticed.strike_invoice_id) == "settled"


class TestOddRows:
    """Rows of Strike's list that cannot be read, whosever they are."""

    def with_row(self, month: Month, row: object) -> None:
        """Put `row` before those of Strike's list."""
        strike = month.world.backend.sweep_settlement.strike
        real = strike._call

        def call(method: str, path: str, *more: Any, **options: Any) -> object:
            answer = real(method, path, *more, **options)
            is_list = path == "/invoices" and isinstance(answer, dict)
            return {**answer, "items": [row, *answer["items"]]} if is_list and isinstance(answer, dict) else answer

        strike._call = call  # type: ignore[method-assign]

    @pytest.mark.parametrize(
        "row", [None, {"amount": {"currency": "BTC"}}, {"invoiceId": "x", "state": "PAID", "created": "soon"}]
    )
    def test_a_row_that_cannot_be_read_is_said_and_the_rest_is_compared(self, month: Month, row: object) -> None:
        month.sale()
        month.world.pay(lost := month.world.sell())
        self.with_row(month, row)

        found = month.reconcile()

        assert [(one.kind, one.invoice_id) for one in found.discrepancies] == [
            (DiscrepancyKind.NOT_COUNTED, lost.strike_invoice_id)
        ]
        assert "1 rows of Strike's list are unreadable" in (found.unfinished or "")
        assert not found.is_balanced

    def test_one_that_is_ours_is_read_by_its_id(self, month: Month) -> None:
        lost, sold = month.world.sell(), month.sale()
        month.world.pay(lost)
        strike = month.world.backend.sweep_settlement.strike
        real = strike._call

        def call(method: str, path: str, *more: Any, **options: Any) -> object:
            answer = real(method, path, *more, **options)
            if path == "/invoices" and isinstance(answer, dict):
                return {**answer, "items": [{**one, "state": "SHIPPED"} for one in answer["items"]]}
            return answer

        strike._call = call  # type: ignore[method-assign]

        found = month.reconcile()

        assert [(one.kind, one.invoice_id) for one in found.discrepancies] == [
            (DiscrepancyKind.NOT_COUNTED, lost.strike_invoice_id)
        ]
        assert (found.payments, found.unfinished) == (1, None), sold.strike_invoice_id

    @pytest.mark.parametrize("name", ["a\x00b", "\x1b[2J", "name\nwith lines"])
    def test_a_foreign_name_that_no_database_takes_is_foreign(self, month_of_each_engine: Month, name: str) -> None:
        month = month_of_each_engine
        month.sale()
        month.stranger(name)

        found = month.reconcile()

        assert (found.discrepancies, found.foreign, found.unfinished) == ([], 1, None)

    def test_a_row_that_is_shown_twice_is_counted_once(self, month: Month) -> None:
        month.sale()
        month.stranger("the-other-shop-1")
        month.world.pay(lost := month.world.sell())
        strike = month.world.backend.sweep_settlement.strike
        real = strike._call

        def call(method: str, path: str, *more: Any, **options: Any) -> object:
            answer = real(method, path, *more, **options)
            is_list = path == "/invoices" and isinstance(answer, dict)
            return {**answer, "items": answer["items"] * 2} if is_list and isinstance(answer, dict) else answer

        strike._call = call  # type: ignore[method-assign]

        found = month.reconcile(is_shared=True)

        assert (found.payments, found.foreign) == (1, 1)
        assert [one.invoice_id for one in found.discrepancies] == [lost.strike_invoice_id]

    def test_a_list_that_repeats_itself_is_left_and_invoices_are_read_one_by_one(self, month: Month) -> None:
        lost, late = month.world.sell(), month.late()
        month.world.pay(lost)
        calls = repeat_list(month, "/invoices")

        found = month.reconcile()

        assert [(one.kind, one.invoice_id) for one in found.discrepancies] == [
            (DiscrepancyKind.NOT_COUNTED, lost.strike_invoice_id)
        ]
        assert "repeats rows of its list of invoices" in (found.unfinished or "")
        assert (found.payments, found.refunds) == (1, 1), late.strike_invoice_id
        assert len(calls) == 2
