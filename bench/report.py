"""A report over a million invoices: how much memory it takes, and how long.

`python main.py report --csv` runs in a separate process. Its floors: for memory, the same command with nothing to
report; for time, reading and writing the same payments with only Python's sqlite3 and csv.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bench.figures import Figure
from bench.million import MILLION, fill
from bench.processes import ROOT, environment

AIM_MIB = 100

BARE_COPY = """
import csv, sqlite3, sys
from contextlib import closing
QUERY = '''SELECT paid_at, state, strike_invoice_id, correlation_id, currency, amount_fiat, received_sats, rate_price,
    rate_source, rate_as_of FROM invoices WHERE paid_at IS NOT NULL ORDER BY paid_at'''
with closing(sqlite3.connect(sys.argv[1])) as connection, open(sys.argv[2], "w", newline="") as file:
    csv.writer(file).writerows(connection.execute(QUERY))
"""


WATCH = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Prints a process's peak memory. Run in between because a new process inherits the peak of the one that started it."""


@dataclass(frozen=True)
class Run:
    """The peak memory and the time of one process."""

    seconds: float
    peak_mib: float


def run(*command: str, environ: dict[str, str] | None = None) -> Run:
    """Run python with these arguments until it ends."""
    watched = [sys.executable, "-c", WATCH, sys.executable, *command]
    start = time.perf_counter()
    ended = subprocess.run(watched, cwd=ROOT, env=environ, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    return Run(seconds, int(ended.stderr.split()[-1]) / (1024 * 1024 if sys.platform == "darwin" else 1024))


def report(folder: Path, name: str, first: date, last: date) -> Run:
    """Write the CSV report of some days from the database in that folder."""
    environ = environment("http://127.0.0.1:1", folder, 5000)
    days = ("--from", str(first), "--to", str(last))
    return run("main.py", "report", *days, "--csv", str(folder / name), "--no-reconcile", environ=environ)


def measure(invoices: int = MILLION) -> Iterator[Figure]:
    """Fill a database, then report all of it, and an empty period."""
    today = datetime.now(UTC).date()
    year_ago, long_ago = today - timedelta(days=366), date(2009, 1, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = folder / "invoices.sqlite"
        fill(f"sqlite:///{database.as_posix()}", invoices)
        whole = report(folder, "whole.csv", year_ago, today)
        nothing = report(folder, "nothing.csv", long_ago, long_ago)
        bare = run("-c", BARE_COPY, str(database), str(folder / "bare.csv"))
    yield Figure(
        f"memory of a report, {invoices:,} invoices", whole.peak_mib, "MiB", nothing.peak_mib,
        "the same command with nothing to report", f"< {AIM_MIB} MiB", whole.peak_mib < AIM_MIB,
    )  # fmt: skip
    yield Figure("the same, time", whole.seconds, "s", bare.seconds, "the payments, with sqlite3 and csv alone")
