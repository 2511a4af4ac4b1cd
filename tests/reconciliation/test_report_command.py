"""python main.py report: what it prints and writes, its exit codes, and its pages over each engine."""

from __future__ import annotations

import argparse
import csv
import json
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from lnpay.accounting.report import ReportLineKind, report_lines
from lnpay.commands import add_commands
from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState
from lnpay.repository.queries.ledger_queries import PAGE
from lnpay.repository.tables import invoices
from tests.reconciliation.month import A_WHILE, Month

COPIES = PAGE + PAGE // 2


def run(month: Month, *arguments: str, later: float = A_WHILE) -> int:
    """As main.py does, for the days of the month; `later` seconds after what was done."""
    parser = argparse.ArgumentParser(prog="main.py")
    add_commands(parser.add_subparsers())
    days = ("--from", str(month.period.first), "--to", str(month.period.last))
    options = parser.parse_args(("report", *days, *arguments))
    month.world.wait(later)
    code: int = options.command(month.world.backend, options)
    return code


class TestForms:
    def test_people_read_sums_lines_and_the_verdict(self, month: Month, capsys: pytest.CaptureFixture[str]) -> None:
        sale, late = month.sale(correlation_id="order-1"), month.late()

        code = run(month)

        text = " ".join(capsys.readouterr().out.split())
        assert code == 0
        assert f"USD 2 1 24.68 12.34 0.01 12.33 sats 2 1 {sale.amount_sats + late.amount_sats:,}" in text
        assert "settled order-1 12.34 USD" in text
        assert f"refund sent {late.correlation_id} -12.34 USD -{late.amount_sats:,}" in text
        assert "2 payments and 1 refund" in text
        assert text.endswith("Books balance.")

    def test_what_is_owed_is_said_beside_the_sums(self, month: Month, capsys: pytest.CaptureFixture[str]) -> None:
        late = month.late(address=None)

        run(month, "--no-reconcile")

        text = capsys.readouterr().out
        assert f"1 refund of {late.amount_sats:,} sats, owed and not sent: python main.py refunds list" in text
        assert "Not compared with Strike." in text

    def test_unpaid_orders_that_were_deleted_are_said_beside_the_sums(
        self, month: Month, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sold = [month.world.sell(amount_fiat=amount) for amount in ("1.10", "2.20")]
        with month.world.backend.repository.transaction() as tx:
            for invoice in sold:
                tx.invoices.move(invoice.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)
                tx.invoices.move(invoice.id, InvoiceState.EXPIRED, InvoiceState.LAPSED)
            now = month.world.backend.clock()
            assert tx.pruned.prune(now + timedelta(days=1), now, 10) == 2
        sats = sum(invoice.amount_sats for invoice in sold)

        run(month, "--no-reconcile")
        run(month, "--no-reconcile", "--json", str(tmp_path / "report.json"))

        assert f"Not included: 2 unpaid orders of {sats:,} sats, deleted since" in capsys.readouterr().out
        (deleted,) = json.loads((tmp_path / "report.json").read_text())["totals"]["deleted"]
        assert (deleted["orders"], deleted["currency"], deleted["amount_fiat"]) == (2, "usd", "3.30")
        assert (deleted["state"], deleted["sats"]) == ("lapsed", sats)

    def test_a_break_is_exit_1(self, month: Month, capsys: pytest.CaptureFixture[str]) -> None:
        invoice = month.sale()
        month.at_strike(invoice).state = "UNPAID"

        assert run(month) == 1

        text = capsys.readouterr().out
        assert invoice.strike_invoice_id in text
        assert "paid here, not paid at Strike" in text

    def test_a_comparison_that_was_not_finished_is_exit_2(
        self, month: Month, capsys: pytest.CaptureFixture[str]
    ) -> None:
        month.world.fault("GET", "/v1/invoices", "error", times=None, status=401, code="UNAUTHORIZED")

        assert run(month) == 2

        text = capsys.readouterr().out
        assert "Not finished. Strike rejects STRIKE_API_KEY" in text
        assert "balance" not in text

    def test_payments_that_are_all_too_new_do_not_balance(
        self, month: Month, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for _ in range(8):
            month.sale()

        assert run(month, later=0) == 2

        text = capsys.readouterr().out
        assert "0 payments and 0 refunds" in text
        assert "8 payments and 0 refunds too new to compare" in text
        assert "balance" not in text

    def test_json_counts_what_is_too_new(self, month: Month, capsys: pytest.CaptureFixture[str]) -> None:
        month.sale()

        assert run(month, "--json", "--reconcile", later=0) == 2

        said = json.loads(capsys.readouterr().out)["reconciliation"]
        assert (said["balanced"], said["payments"]) == (False, 0)
        assert said["too_new"] == {"payments": 1, "refunds": 0}

    def test_csv_goes_to_the_output_alone_and_asks_strike_nothing(
        self, month: Month, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sale = month.sale()
        before = len(month.world.calls())

        assert run(month, "--csv") == 0

        [row] = csv.DictReader(capsys.readouterr().out.splitlines())
        assert (row["invoice_id"], row["amount_sats"]) == (sale.strike_invoice_id, str(sale.amount_sats))
        assert len(month.world.calls()) == before

    def test_csv_and_the_verdict_do_not_mix(self, month: Month, capsys: pytest.CaptureFixture[str]) -> None:
        month.sale()

        assert run(month, "--csv", "-", "--reconcile") == 0

        said = capsys.readouterr()
        assert len(said.out.splitlines()) == 2
        assert "Books balance." in said.err

    def test_csv_into_a_file_leaves_the_sums_for_people(
        self, month: Month, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        month.sale(correlation_id="bestellung-ü")
        path = tmp_path / "books.csv"

        assert run(month, "--csv", str(path)) == 0

        with path.open(encoding="utf-8", newline="") as file:
            assert [row["correlation_id"] for row in csv.DictReader(file)] == ["bestellung-ü"]
        assert "USD" in capsys.readouterr().out

    def test_json_has_the_verdict_when_asked(self, month: Month, capsys: pytest.CaptureFixture[str]) -> None:
        month.late()

        assert run(month, "--json", "--reconcile") == 0

        said = json.loads(capsys.readouterr().out)
        assert [line["kind"] for line in said["lines"]] == ["payment", "refund"]
        assert said["reconciliation"]["balanced"] is True

    def test_json_into_a_file_leaves_sums_and_verdict_for_people(
        self, month: Month, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        month.sale()
        path = tmp_path / "books.json"

        assert run(month, "--json", str(path), "--reconcile") == 0

        assert json.loads(path.read_text("utf-8"))["totals"]["currencies"]["usd"]["payments"] == 1
        assert "Books balance." in capsys.readouterr().out

    def test_a_file_that_cannot_be_written_is_one_line(
        self, month: Month, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(month, "--csv", str(tmp_path / "nowhere" / "books.csv")) == 1

        assert capsys.readouterr().err.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (("--from", "yesterday"), "2026-10-31"),
            (("--timezone", "Mars"), "Europe/Berlin"),
            (("--csv", "a", "--json", "b"), "not allowed"),
        ],
    )
    def test_a_wrong_command_line_says_how_it_is_right(
        self, month: Month, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], word: str
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            run(month, *arguments)

        assert ended.value.code == 2
        assert word in capsys.readouterr().err

    def test_days_in_the_wrong_order_are_exit_2(self, month: Month, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(month, "--to", "2001-01-01") == 2

        assert "swap --from and --to" in capsys.readouterr().err


def test_pages_lose_and_repeat_nothing_where_many_are_paid_in_one_moment(month_of_each_engine: Month) -> None:
    month = month_of_each_engine
    sale = month.sale()
    copy(month, sale, COPIES)
    month.late()

    lines = list(report_lines(month.world.backend.repository, month.period))

    kinds = [line.kind for line in lines]
    assert (kinds.count(ReportLineKind.PAYMENT), kinds.count(ReportLineKind.REFUND)) == (COPIES + 2, 1)
    assert len({line.correlation_id for line in lines if line.kind is ReportLineKind.PAYMENT}) == COPIES + 2
    assert [line.at for line in lines] == sorted(line.at for line in lines)


def copy(month: Month, invoice: Invoice, count: int) -> None:
    """Rows that differ from an invoice in their names alone."""
    with month.world.backend.repository.engine.begin() as connection:
        row: dict[str, Any] = dict(
            connection.execute(select(invoices).where(invoices.c.id == invoice.id)).mappings().one()
        )
        del row["id"]
        names = [str(uuid.uuid4()) for _ in range(count)]
        rows = [{**row, "token": name, "correlation_id": name, "strike_invoice_id": name} for name in names]
        connection.execute(insert(invoices), rows)
