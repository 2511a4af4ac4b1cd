"""The formats of a report: CSV for spreadsheets, JSON for programs, text for terminals."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from textwrap import fill
from typing import TYPE_CHECKING, Any, TextIO

from lnpay.accounting.discrepancies import Discrepancy, Reconciliation
from lnpay.accounting.report import (
    CurrencyTotal,
    Period,
    ReportLine,
    ReportLineKind,
    Totals,
)
from lnpay.commands.tables import columns_of_output, new_table, print_table
from lnpay.domain.text import counted, utc_minute

if TYPE_CHECKING:
    from rich.table import Table

LONGEST_TABLE = 50
"""Lines shown on a terminal; a file gets all of them."""

WIDE = 150
"""Terminal width that also fits the price and the invoice id."""

COLUMNS = (
    "time", "kind", "state", "invoice_id", "correlation_id", "currency", "amount_fiat", "amount_sats", "fee_fiat",
    "fee_sats", "net_fiat", "net_sats", "price", "price_source", "price_time", "payment_id", "note",
    "refund_kind", "credited_amount", "credited_currency",
)  # fmt: skip
"""Column names in CSV and JSON. New ones are appended; existing ones never change."""

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Spreadsheets read text that begins with one of these as a formula."""


def values_of(line: ReportLine, zone: tzinfo) -> dict[str, str | int | None]:
    """A line keyed by COLUMNS: sats are integers, fiat amounts and prices are exact decimal strings."""
    return {
        "time": _moment(line.at, zone),
        "kind": line.kind,
        "state": line.state,
        "invoice_id": line.invoice_id,
        "correlation_id": line.correlation_id,
        "currency": line.currency,
        "amount_fiat": _exact(line.amount_fiat),
        "amount_sats": line.amount_sats,
        "fee_fiat": None if line.fee_fiat is None else _exact(line.fee_fiat),
        "fee_sats": line.fee_sats,
        "net_fiat": _exact(line.net_fiat),
        "net_sats": line.net_sats,
        "price": _exact(line.price),
        "price_source": line.price_source,
        "price_time": _moment(line.price_at, zone),
        "payment_id": line.payment_id,
        "note": line.note,
        "refund_kind": line.refund_kind,
        "credited_amount": None if line.credited is None else _exact(line.credited.amount),
        "credited_currency": None if line.credited is None else line.credited.currency,
    }


_FREE_TEXTS = ("invoice_id", "correlation_id", "price_source", "payment_id", "note", "credited_currency")
"""Columns with text from outside; the others hold numbers or words of ours."""


def write_csv(lines: Iterator[ReportLine], zone: tzinfo, file: TextIO) -> None:
    """Stream a header and a row for each line (RFC 4180, UTF-8)."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for line in lines:
        values = values_of(line, zone)
        values.update({name: _harmless(values[name]) for name in _FREE_TEXTS})
        writer.writerow(values.values())


def _harmless(text: str | int | None) -> str | int | None:
    """Prevent formula injection: an apostrophe makes a spreadsheet read the cell as text."""
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULAS) else text


def write_json(
    lines: Iterator[ReportLine],
    totals: Totals,
    period: Period,
    reconcile: Callable[[], Reconciliation | None],
    file: TextIO,
) -> None:
    """Write one object: the streamed "lines", then the totals and the reconciliation.

    totals: filled while the lines are written. reconcile: called after the last line.
    """
    head = {"from": str(period.first), "to": str(period.last), "timezone": str(period.zone)}
    file.write(f'{json.dumps(head)[:-1]}, "lines": [')
    for number, line in enumerate(lines):
        file.write((",\n" if number else "\n") + json.dumps(values_of(line, period.zone), ensure_ascii=False))
    found = reconcile()
    rest = {"totals": _totals(totals), "reconciliation": None if found is None else _reconciliation(found)}
    file.write(f"\n], {json.dumps(rest, ensure_ascii=False)[1:]}\n")


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        "sats": _sats(totals.all_sats),
        "currencies": {
            currency: {
                "payments": one.payments,
                "refunds": one.refunds,
                "received": _exact(one.received),
                "refunded": _exact(one.refunded),
                "fees": _exact(one.fees),
                "net": _exact(one.net),
                "sats": _sats(one),
            }
            for currency, one in sorted(totals.by_currency.items())
        },
        "credited": {currency: _exact(amount) for currency, amount in sorted(totals.credited.items())},
        "owed": {"refunds": totals.owed, "sats": totals.owed_sats},
        "deleted": [
            {
                "day": str(one.day),
                "currency": one.currency,
                "state": one.state,
                "orders": one.invoices,
                "amount_fiat": _exact(one.amount_fiat),
                "sats": one.amount_sats,
            }
            for one in totals.deleted
        ],
    }


def _sats(one: CurrencyTotal) -> dict[str, int]:
    return {
        "received": one.received_sats, "refunded": one.refunded_sats, "fees": one.fees_sats, "net": one.net_sats,
    }  # fmt: skip


def _reconciliation(found: Reconciliation) -> dict[str, Any]:
    return {
        "balanced": found.is_balanced,
        "unfinished": found.unfinished,
        "until": _moment(found.until, UTC),
        "payments": found.payments,
        "refunds": found.refunds,
        "too_new": {"payments": found.new_payments, "refunds": found.new_refunds},
        "foreign_invoices": found.foreign,
        "refunds_by_hand": found.by_hand,
        "refunds_without_payment_id": found.unnamed,
        "breaks": [_break(one) for one in found.discrepancies],
    }


def _break(one: Discrepancy) -> dict[str, str]:
    return {
        "kind": one.kind,
        "invoice_id": one.invoice_id,
        "what": one.what,
        "here": one.here,
        "at_strike": one.there,
        "do": one.advice,
    }


def print_summary(period: Period, totals: Totals) -> None:
    """Print the totals: a line for each currency, and one for sats."""
    print(f"Report {period}\n")
    table = new_table("", "payments", "refunds", "received", "refunded", "fees", "net")
    _align_right(table, first=1)
    for currency, one in sorted(totals.by_currency.items()):
        amounts = (one.received, one.refunded, one.fees, one.net)
        counts = (f"{one.payments:,}", f"{one.refunds:,}")
        table.add_row(currency.upper(), *counts, *(f"{amount:,f}" for amount in amounts))
    whole = totals.all_sats
    sats = (whole.received_sats, whole.refunded_sats, whole.fees_sats, whole.net_sats)
    table.add_row("sats", f"{whole.payments:,}", f"{whole.refunds:,}", *(f"{amount:,}" for amount in sats))
    print_table(table)
    if totals.credited:
        amounts_credited = ", ".join(f"{amount:,f} {currency}" for currency, amount in sorted(totals.credited.items()))
        print(f"\nStrike credited for receive requests: {amounts_credited}")
    if totals.owed:
        what = counted(totals.owed, "refund")
        print(f"\nNot included: {what} of {totals.owed_sats:,} sats, owed and not sent: python main.py refunds list")
    if totals.deleted:
        what = counted(sum(one.invoices for one in totals.deleted), "unpaid order")
        worth = sum(one.amount_sats for one in totals.deleted)
        print(f"\nNot included: {what} of {worth:,} sats, deleted since (PRUNE_AFTER_DAYS)")


def print_lines(lines: Sequence[ReportLine], zone: tzinfo, total: int) -> None:
    """Print the first lines, and how to get the rest of the `total`."""
    is_wide = columns_of_output() >= WIDE
    table = new_table(
        "time", "what", "order", "amount", "sats", "fee", *(("price", "of", "invoice") if is_wide else ())
    )
    _align_right(table, first=3, last=6)
    for column in table.columns:
        # On a narrow terminal the order id is cut, never an amount.
        column.no_wrap = column.header != "order"
    for line in lines:
        cells = _texts(line, zone) + (_more_texts(line, zone) if is_wide else ())
        table.add_row(*(_cell(text) for text in cells))
    if lines:
        print()
        print_table(table)
    if total > len(lines):
        print(f"... and {total - len(lines):,} more: add --csv FILE for all of them")


def _texts(line: ReportLine, zone: tzinfo) -> tuple[str, ...]:
    is_payment = line.kind is ReportLineKind.PAYMENT
    word = line.state.replace("_", " ")
    sign = "" if is_payment else "-"
    return (
        f"{line.at.astimezone(zone):%Y-%m-%d %H:%M}",
        word if is_payment else f"refund {word}",
        line.correlation_id,
        f"{sign}{line.amount_fiat:,f} {line.currency.upper()}",
        f"{sign}{line.amount_sats:,}",
        "" if line.fee_sats is None else f"{-line.fee_sats:,}",
    )


def _more_texts(line: ReportLine, zone: tzinfo) -> tuple[str, ...]:
    return (
        f"{line.price:,f}",
        f"{line.price_source}, {line.price_at.astimezone(zone):%H:%M}",
        line.invoice_id,
    )


def _cell(text: str) -> Any:  # noqa: ANN401 - rich is loaded on demand
    # Text, because rich reads [brackets] in a plain string as markup.
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def _align_right(table: Table, first: int, last: int | None = None) -> None:
    for column in table.columns[first : None if last is None else last + 1]:
        column.justify = "right"


def print_reconciliation(found: Reconciliation, file: TextIO) -> None:
    """Print the verdict, and each discrepancy with what to do about it."""
    whole = f": {counted(found.payments, 'payment')} and {counted(found.refunds, 'refund')}"
    compared = whole if found.unfinished is None else ", incomplete"
    print(f"\nCompared with Strike, up to {utc_minute(found.until)}{compared}", file=file)
    for remark in _remarks(found):
        print(f"  {remark}", file=file)
    for number, one in enumerate(found.discrepancies, 1):
        print(f"\n{number}. {one.what}", file=file)
        print(f"   invoice    {one.invoice_id}", file=file)
        print(f"   here       {one.here}", file=file)
        print(f"   at Strike  {one.there}", file=file)
        print(
            fill(one.advice, columns_of_output() - 1, initial_indent="   do         ", subsequent_indent=" " * 14),
            file=file,
        )
    if found.discrepancies:
        number = len(found.discrepancies)
        words = "discrepancy" if number == 1 else "discrepancies"
        print(f"\nBooks do not balance: {number:,} {words}.", file=file)
    if found.unfinished is not None:
        print(f"\nNot finished. {found.unfinished}.", file=file)
    if not found.discrepancies and found.unfinished is None:
        print(f"\n{_verdict(found)}", file=file)


def _verdict(found: Reconciliation) -> str:
    """The verdict on a comparison that found no discrepancy."""
    if found.is_empty:
        return "Nothing to compare: there are no payments or refunds, here or at Strike."
    if not found.is_balanced:
        soon = " Run this again in 10 minutes." if found.too_new or found.until <= found.since else ""
        return f"Nothing was compared.{soon}"
    return f"Books balance up to {utc_minute(found.until)}." if found.too_new else "Books balance."


def _remarks(found: Reconciliation) -> Iterator[str]:
    """What was left out of the comparison, and why."""
    if found.too_new:
        yield f"{counted(found.new_payments, 'payment')} and {counted(found.new_refunds, 'refund')} too new to compare"
    if found.foreign:
        yield f"{counted(found.foreign, 'paid invoice')} from another program on the same account: not compared"
    if found.by_hand:
        yield f"{counted(found.by_hand, 'refund')} closed by the operator: not compared"
    if found.unnamed:
        yield f"{counted(found.unnamed, 'refund')} for which Strike gave no payment id: not compared"


def _exact(amount: Decimal) -> str:
    return format(amount, "f")


def _moment(at: datetime, zone: tzinfo) -> str:
    return at.astimezone(zone).isoformat(timespec="seconds")
