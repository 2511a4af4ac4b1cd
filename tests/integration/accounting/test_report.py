"""What a report counts, and how it is written for people, spreadsheets and programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from bench.million import fill
from lnpay.accounting.discrepancies import DiscrepancyKind, Reconciliation
from lnpay.accounting.report import (
    Period,
    ReportLine,
    ReportLineKind,
    Totals,
    counted,
    make_period,
    report_lines,
)
from lnpay.commands.report_output import (
    COLUMNS,
    print_lines,
    print_reconciliation,
    write_csv,
    write_json,
)
from lnpay.domain.errors import InvalidRequest
from lnpay.repository import Repository
from lnpay.repository.tables import invoices, refunds

COUNT = 3_000
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 23, 5, 30, tzinfo=UTC)
START = NOW - timedelta(days=30)
PERIOD = Period(date(2026, 10, 1), date(2026, 10, 31), UTC)

PAYMENT = ReportLine(
    at=datetime(2026, 10, 3, 22, 30, tzinfo=UTC),
    kind=ReportLineKind.PAYMENT,
    state="settled",
    invoice_id="66baa947-fa65-445b-b825-f074056d352c",
    correlation_id="order-1",
    currency="usd",
    amount_fiat=Decimal("12.30"),
    amount_sats=12_300,
    fee_fiat=None,
    fee_sats=None,
    price=Decimal("100000.00000000000000000001"),
    price_source="coingecko",
    price_at=datetime(2026, 10, 3, 22, 29, tzinfo=UTC),
    payment_id=None,
    note=None,
)
REFUND = replace(
    PAYMENT, kind=ReportLineKind.REFUND, state="sent", fee_fiat=Decimal("0.02"), fee_sats=21, payment_id="payment-1"
)
OWED = replace(REFUND, state="held", fee_fiat=None, fee_sats=None, payment_id=None, note="a person approves it")


class TestPeriod:
    def test_without_days_it_is_the_last_month(self) -> None:
        assert make_period(None, None, UTC, NOW) == PERIOD

    def test_the_last_month_of_january_is_december(self) -> None:
        period = make_period(None, None, UTC, datetime(2027, 1, 1, tzinfo=UTC))

        assert (period.first, period.last) == (date(2026, 12, 1), date(2026, 12, 31))

    def test_the_last_month_depends_on_the_time_zone(self) -> None:
        just_before_november = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)

        assert make_period(None, None, BERLIN, just_before_november).last == date(2026, 10, 31)
        assert make_period(None, None, UTC, just_before_november).last == date(2026, 9, 30)

    def test_without_an_end_it_goes_up_to_today(self) -> None:
        assert make_period(date(2026, 11, 1), None, UTC, NOW).last == NOW.date()

    def test_its_last_day_counts_whole(self) -> None:
        assert PERIOD.end == datetime(2026, 11, 1, tzinfo=UTC)

    def test_a_day_on_which_clocks_change_has_its_25_hours(self) -> None:
        day = Period(date(2026, 10, 25), date(2026, 10, 25), BERLIN)

        assert day.end.astimezone(UTC) - day.start.astimezone(UTC) == timedelta(hours=25)

    @pytest.mark.parametrize(
        ("first", "last", "word"),
        [(None, date(2026, 10, 1), "--from"), (date(2026, 10, 2), date(2026, 10, 1), "swap")],
    )
    def test_an_impossible_period_is_refused(self, first: date | None, last: date, word: str) -> None:
        with pytest.raises(InvalidRequest, match=word):
            make_period(first, last, UTC, NOW)


class TestTotals:
    def test_a_sent_refund_and_its_fee_are_taken_off(self) -> None:
        totals = total(PAYMENT, PAYMENT, REFUND)

        usd = totals.by_currency["usd"]
        assert (usd.payments, usd.refunds) == (2, 1)
        assert (usd.received, usd.refunded, usd.fees) == (Decimal("24.60"), Decimal("12.30"), Decimal("0.02"))
        assert (usd.net, usd.net_sats) == (Decimal("12.28"), 12_279)

    def test_an_unsent_refund_is_not_totalled(self) -> None:
        totals = total(PAYMENT, OWED)

        assert (totals.all_sats.net_sats, totals.all_sats.refunds) == (12_300, 0)
        assert (totals.owed, totals.owed_sats) == (1, 12_300)

    def test_currencies_are_never_added_to_each_other(self) -> None:
        totals = total(PAYMENT, replace(PAYMENT, currency="jpy", amount_fiat=Decimal("1900")))

        assert {name: one.received for name, one in totals.by_currency.items()} == {
            "usd": Decimal("12.30"),
            "jpy": Decimal("1900"),
        }
        assert str(totals.by_currency["jpy"].refunded) == "0"
        assert (totals.all_sats.received_sats, totals.all_sats.payments) == (24_600, 2)

    @pytest.mark.parametrize("line", [PAYMENT, REFUND, OWED])
    def test_the_net_columns_add_up_to_the_totals(self, line: ReportLine) -> None:
        totals = total(PAYMENT, line)

        usd = totals.by_currency["usd"]
        assert (usd.net, usd.net_sats) == (PAYMENT.net_fiat + line.net_fiat, PAYMENT.net_sats + line.net_sats)


class TestCsv:
    def test_a_row_has_everything_exactly(self) -> None:
        [payment, refund] = csv_rows(PAYMENT, REFUND)

        assert payment["amount_fiat"] == payment["net_fiat"] == "12.30"
        assert payment["price"] == "100000.00000000000000000001"
        assert (payment["fee_sats"], payment["payment_id"]) == ("", "")
        assert (refund["kind"], refund["net_sats"], refund["net_fiat"]) == ("refund", "-12321", "-12.32")

    def test_its_columns_never_change(self) -> None:
        file = io.StringIO()
        write_csv(iter([]), UTC, file)

        assert file.getvalue() == (
            "time,kind,state,invoice_id,correlation_id,currency,amount_fiat,amount_sats,fee_fiat,fee_sats,"
            "net_fiat,net_sats,price,price_source,price_time,payment_id,note,refund_kind,"
            "credited_amount,credited_currency\r\n"
        )

    def test_times_are_given_with_their_offset(self) -> None:
        [row] = csv_rows(PAYMENT, zone=BERLIN)

        assert row["time"] == "2026-10-04T00:30:00+02:00"

    @pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "＝", "＠"])
    def test_an_order_id_is_never_a_formula(self, sign: str) -> None:
        order = f'{sign}HYPERLINK("https://evil.example")'

        [row] = csv_rows(replace(PAYMENT, correlation_id=order, note=order))

        assert row["correlation_id"] == row["note"] == f"'{order}"

    def test_commas_quotes_and_lines_stay_in_their_cell(self) -> None:
        order = 'a,"b"\nc'

        [row] = csv_rows(replace(PAYMENT, correlation_id=order))

        assert row["correlation_id"] == order


class TestJson:
    def test_it_is_one_object_with_lines_totals_and_verdict(self) -> None:
        found = Reconciliation(START, NOW)
        found.add(DiscrepancyKind.REFUND_FAILED, PAYMENT.invoice_id, "refund sent", "FAILED")

        said = as_json(found, PAYMENT, REFUND)

        assert [line["kind"] for line in said["lines"]] == ["payment", "refund"]
        assert tuple(said["lines"][0]) == COLUMNS
        assert said["totals"]["sats"] == {"received": 12_300, "refunded": 12_300, "fees": 21, "net": -21}
        assert said["totals"]["currencies"]["usd"]["net"] == "-0.02"
        assert said["reconciliation"]["balanced"] is False
        assert said["reconciliation"]["breaks"][0]["kind"] == "refund_failed"

    def test_without_lines_and_without_comparison_it_is_whole_too(self) -> None:
        said = as_json(None)

        assert (said["from"], said["to"], said["timezone"]) == ("2026-10-01", "2026-10-31", "UTC")
        assert (said["lines"], said["totals"]["currencies"], said["reconciliation"]) == ([], {}, None)


class TestWords:
    def test_a_discrepancy_says_where_and_what_to_do(self) -> None:
        found = Reconciliation(START, NOW, payments=2, refunds=1)
        found.add(DiscrepancyKind.REFUND_FAILED, "invoice-1", "refund sent, 5 sats", "FAILED")

        text = words(found)

        assert "2 payments and 1 refund" in text
        assert "failed at Strike" in text
        assert "invoice-1" in text
        assert "refund the customer" in text
        assert "Books do not balance: 1 discrepancy." in text

    def test_only_a_complete_comparison_without_discrepancies_balances(self) -> None:
        assert "Books balance." in words(Reconciliation(START, NOW, payments=1))
        assert "balance" not in words(Reconciliation(START, NOW, payments=1, unfinished="Strike could not be reached"))

    @pytest.mark.parametrize(
        ("found", "said"),
        [
            (Reconciliation(START, NOW), "Nothing to compare"),
            (Reconciliation(START, NOW, new_payments=8), "8 payments and 0 refunds too new to compare"),
            (Reconciliation(START, NOW, new_refunds=1), "Run this again in 10 minutes."),
            (Reconciliation(NOW, NOW), "Nothing was compared. Run this again in 10 minutes."),
            (Reconciliation(START, NOW, refunds=2, by_hand=1, unnamed=1), "Nothing was compared."),
        ],
        ids=["empty", "new payments", "a new refund", "began just now", "by hand and unnamed"],
    )
    def test_where_nothing_was_compared_nothing_balances(self, found: Reconciliation, said: str) -> None:
        text = words(found)

        assert said in text
        assert "balance" not in text

    def test_books_balance_only_up_to_what_is_too_new(self) -> None:
        text = words(Reconciliation(START, NOW, payments=5, new_payments=1_003))

        assert "5 payments and 0 refunds" in text
        assert "1,003 payments and 0 refunds too new to compare" in text
        assert text.rstrip().endswith(f"Books balance up to {NOW:%Y-%m-%d %H:%M} UTC.")

    def test_what_was_not_compared_is_reported(self) -> None:
        text = words(Reconciliation(START, NOW, foreign=1, by_hand=2, unnamed=3))

        assert "1 paid invoice from another program" in text
        assert "2 refunds closed by the operator" in text
        assert "3 refunds for which Strike gave no payment id" in text

    def test_brackets_in_an_order_id_are_shown_as_they_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_lines([replace(PAYMENT, correlation_id="[bold]1[/bold]")], UTC, 7)

        text = capsys.readouterr().out
        assert "[bold]1[/bold]" in text
        assert "6 more: add --csv FILE" in text


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A year's invoices, several pages of them."""
    url = f"sqlite:///{tmp_path_factory.mktemp('year') / 'invoices.sqlite'}"
    fill(url, COUNT, until=NOW)
    made = Repository(url)
    yield made
    made.close()


class TestManyRows:
    @pytest.fixture
    def lines(self, repository: Repository) -> list[ReportLine]:
        year = Period(NOW.date() - timedelta(days=366), NOW.date(), UTC)
        return list(report_lines(repository, year))

    def test_each_is_there_once_in_the_order_of_time(self, lines: list[ReportLine]) -> None:
        assert [line.at for line in lines] == sorted(line.at for line in lines)
        assert len({(line.kind, line.invoice_id) for line in lines}) == len(lines)

    def test_the_totals_match_the_database(self, repository: Repository, lines: list[ReportLine]) -> None:
        totals = total(*lines)

        with repository.engine.connect() as connection:
            received = connection.execute(select(func.sum(invoices.c.received_sats))).scalar_one()
            sent = refunds.c.state == "sent"
            sums = select(func.sum(refunds.c.amount_sats), func.sum(refunds.c.fee_sats), func.count())
            refunded, fees, count = connection.execute(sums.where(sent)).one()
            owed = connection.execute(select(func.sum(refunds.c.amount_sats)).where(~sent)).scalar_one()
        whole = totals.all_sats
        assert (whole.received_sats, whole.refunded_sats, whole.fees_sats) == (received, refunded, fees)
        assert (whole.payments, whole.refunds) == (COUNT * 95 // 100, count)
        assert totals.owed_sats == owed


def total(*lines: ReportLine) -> Totals:
    totals = Totals()
    for line in lines:
        totals.add(line)
    return totals


def csv_rows(*lines: ReportLine, zone: Any = UTC) -> list[dict[str, str]]:
    file = io.StringIO(newline="")
    write_csv(iter(lines), zone, file)
    return list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))


def as_json(found: Reconciliation | None, *lines: ReportLine) -> Any:
    totals, file = Totals(), io.StringIO()
    write_json(counted(iter(lines), totals), totals, PERIOD, lambda: found, file)
    return json.loads(file.getvalue(), parse_float=lambda text: pytest.fail(f"{text} is no exact number"))


def words(found: Reconciliation) -> str:
    file = io.StringIO()
    print_reconciliation(found, file)
    return file.getvalue()
