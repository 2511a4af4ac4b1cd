"""How long Prometheus waits for /metrics, with a million invoices in the database."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import requests

from bench.figures import Figure, seconds_of, take_turns
from bench.million import MILLION, fill
from bench.processes import lnpay, provider

ROUNDS = 20
AIM_MS = 100


def ask(session: requests.Session, url: str) -> None:
    """Make one request."""
    session.get(url, timeout=60).raise_for_status()


def count_all(database: Path) -> None:
    """The minimum: count every row of the two large tables once."""
    with closing(sqlite3.connect(database)) as connection:
        for table in ("invoices", "deliveries"):
            connection.execute(f"SELECT state, count(*) FROM {table} GROUP BY state").fetchall()  # noqa: S608


def measure(invoices: int = MILLION) -> Iterator[Figure]:
    """GET /metrics as usual, and as once a minute, when finished rows are counted again."""
    with tempfile.TemporaryDirectory() as name, provider() as provider_url, requests.Session() as session:
        database = Path(name) / "invoices.sqlite"
        fill(f"sqlite:///{database.as_posix()}", invoices)
        with lnpay(provider_url, Path(name)) as (url, _):
            recount = seconds_of(lambda: ask(session, f"{url}/metrics"))
            usual, health = take_turns(
                ROUNDS,
                lambda: seconds_of(lambda: ask(session, f"{url}/metrics")),
                lambda: seconds_of(lambda: ask(session, f"{url}/healthz")),
            )
        bare = seconds_of(lambda: count_all(database))
    yield Figure(
        f"GET /metrics, {invoices:,} invoices", usual * 1000, "ms", health * 1000, "GET /healthz",
        f"< {AIM_MS} ms", usual * 1000 < AIM_MS,
    )  # fmt: skip
    yield Figure("the same, once a minute", recount * 1000, "ms", bare * 1000, "counting it, with sqlite3 alone")
