"""How long the operator waits for whole pages over HTTP, with a million invoices in the database."""

from __future__ import annotations

import random
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from html import unescape
from pathlib import Path

import requests

from bench.figures import Figure, seconds_of, take_turns
from bench.million import MILLION, fill
from bench.processes import lnpay, provider

ROUNDS = 25
AIM_MS = 100
PASSWORD = "a-password-of-the-bench"  # noqa: S105 - of a server that lives for a minute

TITLES = ("list", "next page", "next page, in the middle", "search an order", "search an address",
           "held refunds", "messages given up", "one invoice", "overview")  # fmt: skip


class Desk:
    """The operator's browser, logged in."""

    def __init__(self, url: str) -> None:
        self._session = requests.Session()
        self._url = url
        self._session.post(f"{url}/admin/login", data={"password": PASSWORD}).raise_for_status()
        self._older = ""

    def open(self, path: str) -> str:
        """Load a page."""
        answer = self._session.get(f"{self._url}{path}", allow_redirects=False)
        assert answer.status_code == 200, answer.status_code
        return answer.text

    def turn_page(self) -> None:
        """Follow the last page's link to older invoices."""
        page = self.open(f"/admin/invoices{self._older}")
        found = re.search(r'admin/invoices(\?[^"]*)" rel="next"', page)
        assert found is not None
        self._older = unescape(found[1])

    def jump(self, day: str) -> None:
        """Make the next turn_page start at the end of `day`, far back in the list."""
        self._older = f"?to={day}"


def names_in(database: Path, column: str, count: int) -> list[str]:
    """Some values of a column, spread over the whole table."""
    with closing(sqlite3.connect(database)) as connection:
        (most,) = connection.execute("SELECT max(id) FROM invoices").fetchone()
        numbers = random.Random(1).sample(range(1, most), count * 2)
        found = connection.execute(
            f"SELECT {column} FROM invoices WHERE {column} IS NOT NULL"  # noqa: S608
            f" AND id IN ({', '.join(map(str, numbers))}) LIMIT {count}"
        )
        return [name for (name,) in found]


def middle_day(database: Path) -> str:
    """The day of the invoice in the middle of the list."""
    with closing(sqlite3.connect(database)) as connection:
        (day,) = connection.execute(
            "SELECT substr(opened_at, 1, 10) FROM invoices WHERE id = (SELECT max(id) / 2 FROM invoices)"
        ).fetchone()
        return str(day)


def measure(invoices: int = MILLION) -> Iterator[Figure]:
    """The list, its next pages at the start and in the middle, searches, filters, one invoice and the overview."""
    with tempfile.TemporaryDirectory() as name, provider() as provider_url:
        database = Path(name) / "invoices.sqlite"
        fill(f"sqlite:///{database.as_posix()}", invoices)
        with lnpay(provider_url, Path(name), ADMIN_PASSWORD=PASSWORD) as (url, _):
            desk, deep = Desk(url), Desk(url)
            deep.jump(middle_day(database))
            values = take_turns(
                ROUNDS,
                *(partial(seconds_of, task) for task in _tasks(desk, deep, database)),
                lambda: seconds_of(lambda: desk.open("/healthz")),
            )
    *pages, floor = values
    for title, value in zip(TITLES, pages, strict=True):
        # The overview runs about a hundred queries; it is opened once, not paged through.
        is_met = None if title == "overview" else value * 1000 < AIM_MS
        yield Figure(
            f"/admin: {title}", value * 1000, "ms", floor * 1000, "GET /healthz",
            "" if is_met is None else f"< {AIM_MS} ms", is_met,
        )  # fmt: skip


def _tasks(desk: Desk, deep: Desk, database: Path) -> tuple[Callable[[], object], ...]:
    orders, addresses, ids = (
        iter(names_in(database, column, ROUNDS)) for column in ("correlation_id", "ln_address", "strike_invoice_id")
    )
    return (
        lambda: desk.open("/admin/invoices"),
        desk.turn_page,
        deep.turn_page,
        lambda: desk.open(f"/admin/invoices?q={next(orders)}"),
        lambda: desk.open(f"/admin/invoices?q={next(addresses)}"),
        lambda: desk.open("/admin/invoices?refund=held"),
        lambda: desk.open("/admin/invoices?delivery=abandoned"),
        lambda: desk.open(f"/admin/invoices/{next(ids)}"),
        lambda: desk.open("/admin"),
    )
