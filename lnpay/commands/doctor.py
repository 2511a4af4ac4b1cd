"""`python main.py doctor`: check every part of this installation and say what to do."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from lnpay.commands.base import Subparsers, add_command
from lnpay.doctor import Finding, Verdict, examine
from lnpay.doctor.checks.machine import settings_are_wrong
from lnpay.domain.settings import Settings
from lnpay.domain.text import terminal_safe

STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


def add_doctor(commands: Subparsers) -> None:
    """Add `doctor`."""
    words = "check the whole installation and say what to do; changes nothing; exit code 1 if anything fails"
    parser = add_command(commands, "doctor", words)
    parser.add_argument("--json", action="store_true", help="answer as JSON, for programs")
    parser.set_defaults(on_settings=_look, on_wrong_settings=_refuse)


def _look(settings: Settings, options: argparse.Namespace) -> int:
    with _silence():
        return _say(examine(settings), is_json=options.json)


def _refuse(problems: Sequence[str], options: argparse.Namespace) -> int:
    return _say([settings_are_wrong(problems)], is_json=options.json)


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress the log: the findings report what goes wrong."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _say(findings: Sequence[Finding], *, is_json: bool) -> int:
    if is_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    elif sys.stdout.isatty():
        _print_table(findings)
    else:
        _print_lines(findings)
    return 1 if any(finding.verdict is Verdict.FAIL for finding in findings) else 0


def _print_lines(findings: Sequence[Finding]) -> None:
    """One line for each finding, for grep."""
    for finding in findings:
        advice = f" -> {finding.advice}" if finding.advice else ""
        message = finding.message.replace("\n", "; ")
        print(_safe(f"{finding.verdict:<5} {finding.name:<20}  {message}{advice}"))
    print(_summary(findings))


def _print_table(findings: Sequence[Finding]) -> None:
    # Imported here because the server loads the commands too and draws no tables.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(Text(finding.verdict, STYLES[finding.verdict]), Text(finding.name), Text(_safe(finding.message)))
        if finding.advice:
            table.add_row("", "", Text(f"-> {_safe(finding.advice)}", "bold"))
    console = Console(highlight=False)
    console.print(table)
    console.print(_summary(findings))


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.verdict for finding in findings)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(Verdict))


def _safe(text: str) -> str:
    # An error of the shop's hook may hold anything.
    return terminal_safe(text, keep="\n")
