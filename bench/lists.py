"""The lists that shops page through, with a million invoices in the database: GET /invoices, and Greenfield's.

On SQLite, and on the PostgreSQL server that BENCH_POSTGRES_URL names: an empty database there is filled with the same
rows. Each figure is the median of ROUNDS requests that take turns.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import requests
from sqlalchemy import create_engine, insert, select, text

from bench.figures import Figure, seconds_of, take_turns
from bench.million import MILLION, fill
from bench.processes import lnpay, provider
from lnpay.access.api_keys import create_key
from lnpay.domain.model import utc_now
from lnpay.domain.permissions import KeyPurpose
from lnpay.repository import Repository
from lnpay.repository.tables import invoices

ROUNDS = 21
AIM_MS = 100
BATCH = 5_000
SERVER = "BENCH_POSTGRES_URL"


def measure(count: int = MILLION) -> Iterator[Figure]:
    """Both lists with each filter, on each database."""
    with tempfile.TemporaryDirectory() as name:
        database = Path(name) / "invoices.sqlite"
        url = f"sqlite:///{database.as_posix()}"
        fill(url, count)
        orders = orders_in(database)
        if SERVER in os.environ:
            copy_invoices(url, os.environ[SERVER])
            yield from measure_lists(Path(name), "PostgreSQL", os.environ[SERVER], orders)
        yield from measure_lists(Path(name), "SQLite", url, orders)


def measure_lists(folder: Path, engine: str, url: str, orders: list[str]) -> Iterator[Figure]:
    """The figures of one filled database."""
    repository = Repository(url)
    created = create_key(repository, KeyPurpose.CUSTOM, "Bench", utc_now())
    repository.close()
    with provider() as provider_url, lnpay(provider_url, folder, DATABASE_URL=url) as (address, _):
        session = requests.Session()
        session.headers["Authorization"] = f"token {created.secret}"
        names, tasks = zip(*requests_of(session, address, created.store_id, orders), strict=True)
        *values, floor = take_turns(
            ROUNDS,
            *(partial(seconds_of, task) for task in tasks),
            lambda: seconds_of(lambda: session.get(f"{address}/healthz").raise_for_status()),
        )
    for title, value in zip(names, values, strict=True):
        yield Figure(
            f"{engine}: {title}", value * 1000, "ms", floor * 1000, "GET /healthz", f"< {AIM_MS} ms",
            value * 1000 < AIM_MS,
        )  # fmt: skip


def requests_of(
    session: requests.Session, address: str, store: str, orders: list[str]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """A request for each list with each filter, by description."""
    draw = random.Random(2)

    def ask(path: str, query: Callable[[], dict[str, str]]) -> Callable[[], object]:
        def once() -> None:
            answer = session.get(f"{address}{path}", params=query(), timeout=60)
            answer.raise_for_status()

        return once

    native, plugins = "/invoices", f"/api/v1/stores/{store}/invoices"
    yield "GET /invoices", ask(native, dict)
    for state in ("settled", "paid_late", "unpaid", "lapsed"):
        yield f"state={state}", ask(native, partial(dict, state=state))
    yield "correlation_id", ask(native, lambda: {"correlation_id": draw.choice(orders)})
    yield "order_id", ask(native, lambda: {"order_id": draw.choice(orders)})
    yield "Greenfield", ask(plugins, dict)
    for status in ("New", "Settled", "Expired", "Invalid"):
        yield f"Greenfield status={status}", ask(plugins, partial(dict, status=status))
    yield "Greenfield orderId", ask(plugins, lambda: {"orderId": draw.choice(orders)})
    yield "Greenfield textSearch", ask(plugins, lambda: {"textSearch": draw.choice(orders)})
    yield "Greenfield skip=100000", ask(plugins, lambda: {"skip": "100000"})


def orders_in(database: Path) -> list[str]:
    """The ids of some orders, spread over the whole table."""
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT correlation_id FROM invoices WHERE id % 997 = 0")
        return [name for (name,) in found]


def copy_invoices(source: str, target: str) -> None:
    """Fill an empty PostgreSQL database with the invoices of an SQLite one."""
    repository = Repository(target)
    repository.upgrade()
    old, new = create_engine(source), create_engine(target)
    with old.connect() as reader, new.begin() as writer:
        for rows in reader.execution_options(yield_per=BATCH).execute(select(invoices)).mappings().partitions(BATCH):
            writer.execute(insert(invoices), [dict(row) for row in rows])
    with new.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE invoices"))
    old.dispose()
    new.dispose()
    repository.close()
