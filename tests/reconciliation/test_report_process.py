"""python main.py report as a process: on a terminal, and into a pipe whose reader has seen enough."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from datetime import UTC, datetime

import pytest

from bench.million import fill
from tests.scenarios.live import ROOT, environment

pty = pytest.importorskip("pty", reason="there are no such terminals on Windows")

COUNT = 3_000
UNTIL = datetime(2026, 11, 23, tzinfo=UTC)
REPORT = (sys.executable, str(ROOT / "main.py"), "report", "--from", "2025-11-01", "--to", "2026-11-30")
LIMIT_SECONDS = 60


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of a shop after a year; Strike is away."""
    url = f"sqlite:///{tmp_path_factory.mktemp('shop') / 'invoices.sqlite'}"
    fill(url, COUNT, until=UNTIL)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE invoices SET correlation_id = correlation_id || '-of-a-shop-of-many-words'")
    return environment("http://127.0.0.1:1", url, 1)


def test_a_reader_who_goes_away_is_no_error(environ: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*REPORT, "--csv"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("time,kind")

    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()

    assert (process.wait(LIMIT_SECONDS), err) == (0, "")


def test_a_terminal_of_80_columns_shows_every_amount_whole(environ: dict[str, str]) -> None:
    text, code = on_terminal([*REPORT, "--no-reconcile"], environ)

    assert code == 0
    assert "reading our books" in text
    shown = [line.split("\r")[-1] for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()]
    lines = [line for line in shown if line.startswith(" 2025-")]
    assert len(lines) == 50
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert all(re.search(r"order-.*… +-?[0-9]+\.[0-9]{2} (USD|EUR) +-?[0-9,]+ ", line) for line in lines)


def on_terminal(command: list[str], environ: dict[str, str]) -> tuple[str, int]:
    """What a command shows on a terminal of 80 columns, and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, env={**environ, "COLUMNS": "80", "TERM": "xterm"}, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    shown = b""
    # An OSError is how Linux says that the other side of a terminal is gone.
    with os.fdopen(ours, "rb", buffering=0) as screen, suppress(OSError):
        while piece := screen.read(4096):
            shown += piece
    return shown.decode(), process.wait(LIMIT_SECONDS)
