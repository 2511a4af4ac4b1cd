"""The books of a shop whose customers pay receive requests: a clean month balances, each break is named."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, update

from lnpay.accounting.discrepancies import DiscrepancyKind, Reconciliation
from lnpay.accounting.report import Totals, counted, report_lines
from lnpay.commands.report_output import print_summary, write_json
from lnpay.domain.model import Invoice
from lnpay.domain.receives import ReceiveWith
from lnpay.invoices.receives import reconcile_request
from lnpay.repository.tables import invoices, receives
from lnpay.runtime.worker_passes import main_pass
from tests import owing
from tests.reconciliation.month import Month, repeat_list

K = DiscrepancyKind
LIST = "/v1/receive-requests/receives"
ONE = "/v1/receive-requests/*-*/receives"


def by_request(month: Month, *amounts: int | None, late_seconds: float = 0, **fields: Any) -> Invoice:
    """An order that is paid as a receive request, with these amounts (None: the price)."""
    month.world.restart(receive_with=ReceiveWith.RECEIVE_REQUEST)
    month.world.simulator.config.receive_grace_seconds = 3_600
    invoice = month.world.sell(ln_address=owing.ADDRESS, **fields)
    for sats in amounts:
        month.world.simulator.pay_invoice(invoice.issue.bolt11, received_sats=sats, late_seconds=late_seconds)
    reconcile_request(month.world.backend.settlement, invoice.strike_invoice_id)
    return month.world.invoice(invoice.strike_invoice_id)


def named(found: Reconciliation) -> list[tuple[DiscrepancyKind, str]]:
    return [(one.kind, one.invoice_id) for one in found.discrepancies]


def live(month: Month) -> None:
    """Both ways of paying, and everything that may rightly happen with receive requests."""
    month.sale()
    month.late()
    by_request(month, None)
    by_request(month, None, None)  # twice
    by_request(month, 400, None)  # in parts, and more than the price
    by_request(month, None, late_seconds=180)
    late = by_request(month, None, late_seconds=180)
    month.world.simulator.pay_invoice(late.issue.bolt11, received_sats=1_500)
    reconcile_request(month.world.backend.settlement, late.strike_invoice_id)
    by_request(month, 300)
    month.world.wait(200)
    main_pass(month.world.backend)  # what was paid in part only is over
    owing.send(month.world)
    by_request(month)
    month.world.restart(settle_in="EUR")
    by_request(month, None)
    month.world.restart(receive_with=ReceiveWith.INVOICE, settle_in="BTC")
    month.sale()


def test_a_clean_month_of_both_ways_balances(month_of_each_engine: Month) -> None:
    live(month_of_each_engine)

    found = month_of_each_engine.reconcile()

    assert (found.discrepancies, found.unfinished, found.is_balanced) == ([], None, True)
    assert found.payments == 10


@pytest.mark.parametrize("options", [{"is_thorough": True}, {"is_shared": True}])
def test_it_balances_however_it_is_compared(month: Month, options: dict[str, Any]) -> None:
    live(month)

    assert month.reconcile(**options).is_balanced


def test_the_report_gives_what_was_credited(month: Month, capsys: pytest.CaptureFixture[str]) -> None:
    month.sale()
    plain = by_request(month, None)
    month.world.restart(settle_in="EUR")
    euros = [by_request(month, None).credited for _ in range(2)]
    totals = Totals()
    lines = list(counted(report_lines(month.world.backend.repository, month.period), totals))

    assert [one.credited for one in lines] == [None, plain.credited, *euros]
    total = sum((one.amount for one in euros if one is not None), Decimal(0))
    assert totals.credited["EUR"] == total > 0
    print_summary(month.period, totals)
    assert f"{total:,f} EUR" in capsys.readouterr().out
    written = io.StringIO()
    write_json(iter(lines), totals, month.period, lambda: None, written)
    shown = json.loads(written.getvalue())
    assert shown["totals"]["credited"]["EUR"] == str(total)
    assert [one["credited_currency"] for one in shown["lines"]] == [None, "BTC", "EUR", "EUR"]


def test_without_receive_requests_their_list_is_not_read(month: Month) -> None:
    month.sale()

    assert month.reconcile().is_balanced
    assert month.world.calls("GET /v1/receive-requests") == []


def not_counted(month: Month) -> tuple[DiscrepancyKind, str]:
    invoice = by_request(month)
    month.world.pay(invoice)
    return K.NOT_COUNTED, invoice.strike_invoice_id


def paid_again_and_not_counted(month: Month) -> tuple[DiscrepancyKind, str]:
    invoice = by_request(month, None)
    month.world.pay(invoice)
    return K.NOT_COUNTED, invoice.strike_invoice_id


def given_up(month: Month) -> tuple[DiscrepancyKind, str]:
    invoice = by_request(month)
    month.world.pay(invoice)
    month.spoil(update(invoices).where(invoices.c.id == invoice.id).values(state="lapsed"))
    return K.LAPSED_AND_PAID, invoice.strike_invoice_id


def unknown(month: Month) -> tuple[DiscrepancyKind, str]:
    by_request(month, None)
    stranger = month.world.backend.strike.receive_requests.create(1_000, None, 600, "BTC")
    month.world.simulator.pay_invoice(stranger.bolt11)
    return K.UNKNOWN_HERE, stranger.request_id


def missing(month: Month) -> tuple[DiscrepancyKind, str]:
    invoice = by_request(month, None)
    month.world.simulator.receive_requests.receives.clear()
    return K.MISSING_AT_STRIKE, invoice.strike_invoice_id


def request_missing(month: Month) -> tuple[DiscrepancyKind, str]:
    invoice = by_request(month, None)
    month.world.simulator.receive_requests.receives.clear()
    month.world.simulator.receive_requests.by_id.clear()
    return K.MISSING_AT_STRIKE, invoice.strike_invoice_id


def pending(month: Month) -> tuple[DiscrepancyKind, str]:
    invoice = by_request(month, None)
    (receive,) = month.world.simulator.receive_requests.receives.values()
    receive.completed_at = None
    return K.NOT_PAID_AT_STRIKE, invoice.strike_invoice_id


def received_differs(month: Month) -> tuple[DiscrepancyKind, str]:
    invoice = by_request(month, None)
    month.spoil(update(receives).values(received_amount=Decimal("0.5")))
    return K.AMOUNT_DIFFERS, invoice.strike_invoice_id


def credited_differs(month: Month) -> tuple[DiscrepancyKind, str]:
    invoice = by_request(month, None)
    month.spoil(update(receives).values(credited_amount=None, credited_currency=None, conversion_rate=None))
    return K.CREDITED_DIFFERS, invoice.strike_invoice_id


def late_but_settled(month: Month) -> tuple[DiscrepancyKind, str]:
    invoice = by_request(month, None)
    month.spoil(update(invoices).where(invoices.c.id == invoice.id).values(expires_at=invoice.issue.opened_at))
    month.spoil(update(receives).values(paid_at=invoice.issue.opened_at + timedelta(seconds=9)))
    return K.LATE_BUT_SETTLED, invoice.strike_invoice_id


def in_time_but_late(month: Month) -> tuple[DiscrepancyKind, str]:
    invoice = by_request(month, None, late_seconds=180)
    month.spoil(update(invoices).where(invoices.c.id == invoice.id).values(expires_at=invoice.paid_at))
    owing.send(month.world)
    return K.IN_TIME_BUT_LATE, invoice.strike_invoice_id


Plant = Callable[[Month], tuple[DiscrepancyKind, str]]
PLANTS: list[Plant] = [
    not_counted, paid_again_and_not_counted, given_up, unknown, missing, request_missing, pending, received_differs,
    credited_differs, late_but_settled, in_time_but_late,
]  # fmt: skip
WITHOUT_A_LIST = [plant for plant in PLANTS if plant is not unknown]


@pytest.mark.parametrize("plant", PLANTS)
def test_a_break_is_found_and_named(month: Month, plant: Plant) -> None:
    month.sale()
    planted = plant(month)

    found = month.reconcile()

    assert (named(found), found.is_balanced, found.unfinished) == ([planted], False, None)


@pytest.mark.parametrize("plant", WITHOUT_A_LIST)
def test_it_is_found_without_strikes_list_too(month: Month, plant: Plant) -> None:
    planted = plant(month)
    month.world.fault("GET", LIST, "error", status=400, times=None)

    found = month.reconcile()

    assert named(found) == [planted]
    assert "refuses its list of receives" in (found.unfinished or "")


def test_a_clean_month_without_the_list_has_no_break_and_says_what_was_not_compared(month: Month) -> None:
    live(month)
    month.world.fault("GET", LIST, "error", status=403, times=None)

    found = month.reconcile()

    assert (found.discrepancies, found.is_balanced) == ([], False)
    assert "payments unknown to LNPay cannot be found" in (found.unfinished or "")


@pytest.mark.parametrize("status", [401, 500])
def test_a_comparison_that_strike_ends_is_unfinished(month: Month, status: int) -> None:
    by_request(month, None)
    month.world.fault("GET", LIST, "error", status=status, times=None)

    found = month.reconcile()

    assert (found.discrepancies, found.is_balanced) == ([], False)
    assert found.unfinished


def test_payments_of_other_programs_are_counted_where_the_account_is_shared(month: Month) -> None:
    unknown(month)

    found = month.reconcile(is_shared=True)

    assert (found.is_balanced, found.foreign) == (True, 1)


def test_a_row_that_cannot_be_read_is_no_break(month: Month) -> None:
    by_request(month, None)
    for path in (LIST, ONE):
        month.world.fault("GET", path, "field_changed", field="items.0.state", value="REVERSED", times=None)

    found = month.reconcile()

    assert found.discrepancies == []
    assert "unreadable" in (found.unfinished or "")


def test_a_payment_that_strike_shows_twice_is_reported_once(month: Month) -> None:
    by_request(month, None)
    lost = by_request(month)
    month.world.pay(lost)
    requests = month.world.backend.sweep_settlement.strike.receive_requests
    real = requests._call

    def call(*asked: Any, **options: Any) -> object:
        answer = real(*asked, **options)
        assert isinstance(answer, dict)
        return {**answer, "items": answer["items"] * 2}

    requests._call = call

    assert named(month.reconcile()) == [(K.NOT_COUNTED, lost.strike_invoice_id)]


def test_a_list_that_repeats_itself_is_left_and_requests_are_read_one_by_one(month: Month) -> None:
    by_request(month, None)
    lost = by_request(month)
    month.world.pay(lost)
    calls = repeat_list(month, "/receive-requests/receives")

    found = month.reconcile()

    assert named(found) == [(K.NOT_COUNTED, lost.strike_invoice_id)]
    assert "repeats rows of its list of receives" in (found.unfinished or "")
    assert len(calls) == 2


def test_many_payments_are_read_page_by_page_back_to_the_period(month: Month) -> None:
    by_request(month, *[100] * 130)
    month.world.wait(40 * 86_400)
    recent = Month(month.world)
    for _ in range(4):
        by_request(recent, *[100] * 30)
    before = len(month.world.calls(f"GET {LIST}"))

    found = recent.reconcile()

    assert named(found) == []
    assert len(month.world.calls(f"GET {LIST}")) - before == 2


def test_a_list_in_another_order_is_read_to_its_end(month: Month) -> None:
    by_request(month, *[100] * 130)
    month.world.wait(40 * 86_400)
    recent = Month(month.world)
    invoice = by_request(recent, None)
    books = month.world.simulator.receive_requests
    newest = list(books.receives)[-1]
    books.receives = {newest: books.receives[newest], **books.receives}

    assert named(recent.reconcile()) == []
    month.spoil(delete(receives).where(receives.c.invoice_id == invoice.id))
    assert named(recent.reconcile())
