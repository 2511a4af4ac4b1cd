"""`python main.py report ...`: a month's payments and refunds, reconciled with Strike."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from datetime import date
from itertools import islice
from typing import TextIO
from zoneinfo import ZoneInfo

from lnpay.accounting.auditor import CALLS_SHARE, Auditor, Progress, silent
from lnpay.accounting.discrepancies import Reconciliation
from lnpay.accounting.reconcile import reconcile_books
from lnpay.accounting.report import (
    Period,
    ReportLine,
    Totals,
    counted,
    deleted_orders,
    make_period,
    report_lines,
)
from lnpay.commands.base import Subparsers, add_command
from lnpay.commands.report_output import (
    LONGEST_TABLE,
    print_lines,
    print_reconciliation,
    print_summary,
    write_csv,
    write_json,
)
from lnpay.domain.errors import InvalidRequest
from lnpay.runtime.backend import Backend
from lnpay.strike.budget import Budget

STANDARD_OUTPUT = "-"

BALANCED, BROKEN, UNFINISHED = 0, 1, 2
"""Exit codes. 2 also means that nothing could be compared, or that the command line is wrong."""

PROGRESS_EVERY = 1_000
"""Lines between two progress updates."""


def add_report(commands: Subparsers) -> None:
    """Add `report`."""
    parser = add_command(commands, "report", "report all payments and refunds of a month, reconciled with Strike")
    parser.add_argument(
        "--from", dest="first", type=_day, metavar="DATE", help="first day (default: all of last month)"
    )
    parser.add_argument(
        "--to", dest="last", type=_day, metavar="DATE", help="last day, inclusive; needs --from (default: today)"
    )
    parser.add_argument(
        "--timezone",
        type=_zone,
        default="UTC",
        metavar="NAME",
        help="time zone of the days, such as Europe/Berlin (default: UTC)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", nargs="?", const=STANDARD_OUTPUT, metavar="FILE", help="all lines for a spreadsheet")
    form.add_argument("--json", nargs="?", const=STANDARD_OUTPUT, metavar="FILE", help="everything, for programs")
    parser.add_argument(
        "--reconcile",
        action=argparse.BooleanOptionalAction,
        help="compare with Strike; the default without --csv and --json",
    )
    parser.add_argument(
        "--shared-account", action="store_true", help="other programs also create invoices in this Strike account"
    )
    parser.add_argument(
        "--thorough", action="store_true", help="also compare the time of each payment, with one call to Strike each"
    )
    parser.set_defaults(command=_report)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date: write it as 2026-10-31") from error


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (LookupError, ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time zone: write it as Europe/Berlin") from error


def _report(backend: Backend, options: argparse.Namespace) -> int:
    try:
        period = make_period(options.first, options.last, options.timezone, backend.clock())
    except InvalidRequest as error:
        print(error.message, file=sys.stderr)
        return UNFINISHED
    is_for_people = options.csv is None and options.json is None
    is_wanted = is_for_people if options.reconcile is None else options.reconcile
    try:
        found = _Report(backend, options, period, is_compared=is_wanted).write()
    except BrokenPipeError:
        # The reader has closed the pipe; buffered output has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNFINISHED if is_wanted else BALANCED
    except OSError as error:
        print(f"cannot write {options.csv or options.json or 'the report'}: {error.strerror}", file=sys.stderr)
        return BROKEN
    except KeyboardInterrupt:
        print("stopped: nothing was changed, run it again", file=sys.stderr)
        return UNFINISHED
    return _exit_code(found)


def _exit_code(found: Reconciliation | None) -> int:
    if found is None or found.is_balanced:
        return BALANCED
    return BROKEN if found.discrepancies else UNFINISHED


class _Report:
    """One report, in the requested format."""

    def __init__(self, backend: Backend, options: argparse.Namespace, period: Period, *, is_compared: bool) -> None:
        self._backend, self._options, self._period, self._is_compared = backend, options, period, is_compared
        self._totals = Totals(deleted=deleted_orders(backend.repository, period))

    def write(self) -> Reconciliation | None:
        """Write the report. Returns the reconciliation; None if none was requested."""
        if self._options.csv is not None:
            return self._csv(self._options.csv)
        if self._options.json is not None:
            return self._json(self._options.json)
        return self._text()

    def _csv(self, path: str) -> Reconciliation | None:
        with _progress(path) as tell:
            with _opened(path) as file:
                write_csv(self._lines(tell), self._period.zone, file)
            found = self._compare(tell)
        if path != STANDARD_OUTPUT:
            self._tell_people(found)
        elif found is not None:
            print_reconciliation(found, sys.stderr)
        return found

    def _json(self, path: str) -> Reconciliation | None:
        kept: list[Reconciliation | None] = []
        with _progress(path) as tell, _opened(path) as file:

            def compare() -> Reconciliation | None:
                kept.append(self._compare(tell))
                return kept[-1]

            write_json(self._lines(tell), self._totals, self._period, compare, file)
        if path != STANDARD_OUTPUT:
            self._tell_people(kept[-1])
        return kept[-1]

    def _text(self) -> Reconciliation | None:
        with _progress() as tell:
            lines = self._lines(tell)
            first = list(islice(lines, LONGEST_TABLE))
            total = len(first) + sum(1 for _ in lines)
            found = self._compare(tell)
        self._tell_people(found, lambda: print_lines(first, self._period.zone, total))
        return found

    def _tell_people(self, found: Reconciliation | None, show_lines: Callable[[], None] = lambda: None) -> None:
        """Print the totals first and the verdict last, where a terminal leaves it visible."""
        print_summary(self._period, self._totals)
        show_lines()
        if found is None:
            print("\nNot compared with Strike.")
        else:
            print_reconciliation(found, sys.stdout)

    def _lines(self, tell: Progress) -> Iterator[ReportLine]:
        """Yield every line, adding each to the totals."""
        for number, line in enumerate(counted(report_lines(self._backend.repository, self._period), self._totals)):
            if number % PROGRESS_EVERY == 0:
                tell("reading the database", number)
            yield line

    def _compare(self, tell: Progress) -> Reconciliation | None:
        if not self._is_compared:
            return None
        found = reconcile_books(self._auditor(tell), self._period)
        # A report with rows left out is incomplete, even if everything else balances.
        found.unfinished = found.unfinished or self._backend.repository.unreadable.in_words()
        return found

    def _auditor(self, tell: Progress) -> Auditor:
        backend = self._backend
        return Auditor(
            repository=backend.repository,
            strike=backend.sweep_settlement.strike,
            clock=backend.clock,
            events=backend.settlement.events,
            calls_left=Budget(backend.repository, share=CALLS_SHARE).remaining,
            pause=backend.stop.wait,
            progress=tell,
            is_shared=self._options.shared_account,
            is_thorough=self._options.thorough,
        )


@contextlib.contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    if path == STANDARD_OUTPUT:
        if isinstance(sys.stdout, io.TextIOWrapper):  # Windows would use a legacy encoding and CRLF
            sys.stdout.reconfigure(encoding="utf-8", newline="")
        yield sys.stdout
        sys.stdout.flush()
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        yield file


@contextlib.contextmanager
def _progress(path: str = "") -> Iterator[Progress]:
    """A progress line on the terminal, erased at the end; silent without a terminal.

    path: where the report is written; if that is the terminal itself, show no progress.
    """
    if not sys.stderr.isatty() or (path == STANDARD_OUTPUT and sys.stdout.isatty()):
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task, phase = bar.add_task("", total=None), ""

        def tell(words: str, done: int, total: int | None = None) -> None:
            nonlocal task, phase
            if words != phase:
                bar.remove_task(task)
                task, phase = bar.add_task(words, total=total), words
            bar.update(task, completed=done)

        yield tell
