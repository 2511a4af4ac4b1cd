"""What ARCHIVE_AFTER saves: database bytes per invoice before and after, and how long a batch takes.

On SQLite, and on the PostgreSQL server that BENCH_POSTGRES_URL names: an empty database there gets the same rows. The
payment requests are random, as real ones are, so that they cannot be compressed.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

from sqlalchemy import create_engine, text

from bench.figures import Figure
from bench.lists import SERVER
from bench.million import fill
from lnpay.domain.encoding.bech32 import CHARSET
from lnpay.domain.model import utc_now
from lnpay.invoices.archive import BATCH
from lnpay.repository import Repository
from lnpay.repository.maintenance.copy import copy_database

INVOICES = 100_000
AIM_LOCKED_MS = 50
REQUEST_CHARACTERS = 260


def measure(count: int = INVOICES) -> Iterator[Figure]:
    """On both engines, archive everything that is old enough, in batches."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "invoices.sqlite"
        url = f"sqlite:///{file.as_posix()}"
        fill(url, count)
        make_requests_random(file)
        if SERVER in os.environ:
            copy_database(url, os.environ[SERVER], utc_now(), lambda *_: None)
            yield from measure_engine("PostgreSQL", os.environ[SERVER], count)
        yield from measure_engine("SQLite", url, count)


def make_requests_random(file: Path) -> None:
    """Give each invoice a different payment request, in the column and in the quote."""
    chance = random.Random(1)

    def request(number: int) -> str:
        return f"lnbc{number}0n1p" + "".join(chance.choices(CHARSET, k=REQUEST_CHARACTERS))

    with closing(sqlite3.connect(file)) as connection, connection:
        connection.create_function("request", 1, request)
        connection.execute("UPDATE invoices SET bolt11 = request(amount_sats) WHERE bolt11 IS NOT NULL")
        connection.execute("UPDATE invoices SET strike_quote = json_set(strike_quote, '$.lnInvoice', bolt11)")


def measure_engine(engine: str, url: str, count: int) -> Iterator[Figure]:
    """The sizes of one database, and the durations of its batches."""
    compact(url)
    before = size_of(url)
    milliseconds, moved, source, kept = archive_everything(url, utc_now())
    grown = size_of(url)
    compact(url)
    after = size_of(url)
    floor = "the same database before"
    yield Figure(f"{engine}: bytes an invoice, before", before / count, "B", before / count, floor)
    yield Figure(f"{engine}: {moved:,} archived, not compacted", grown / count, "B", before / count, floor)
    yield Figure(f"{engine}: {moved:,} archived, compacted", after / count, "B", before / count, floor)
    yield Figure(f"{engine}: bulk of an invoice, kept", kept / moved, "B", source / moved, "the bulk as it was")
    middle, longest = median(milliseconds), max(milliseconds)
    is_met = None if engine != "SQLite" else middle <= AIM_LOCKED_MS
    aim = f"{AIM_LOCKED_MS} ms (SQLite)"
    yield Figure(f"{engine}: {BATCH} archived, median", middle, "ms", middle, "the median batch", aim, is_met)
    yield Figure(f"{engine}: {BATCH} archived, longest", longest, "ms", middle, "the median batch")


def archive_everything(url: str, now: datetime) -> tuple[list[float], int, int, int]:
    """Archive what is older than 30 days. Returns each transaction's milliseconds, and the totals."""
    repository = Repository(url)
    milliseconds: list[float] = []
    done = BATCH
    while done:
        start = time.perf_counter()
        with repository.transaction() as tx:
            done = tx.archive.move(now - timedelta(days=30), now, BATCH)
        milliseconds.append(1_000 * (time.perf_counter() - start))
    with repository.reading() as tx:
        totals = tx.archive.totals()
    repository.close()
    return milliseconds[:-1], totals.invoices, totals.source_bytes, totals.kept_bytes


def compact(url: str) -> None:
    """Return the freed space to the disk."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            connection.exec_driver_sql("VACUUM FULL ANALYZE")
    engine.dispose()


def size_of(url: str) -> int:
    """The bytes of all tables and indexes."""
    engine = create_engine(url)
    query = "SELECT sum(pgsize) FROM dbstat"
    if engine.dialect.name != "sqlite":
        query = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200"
    with engine.connect() as connection:
        size = int(connection.execute(text(query)).scalar_one())
    engine.dispose()
    return size
