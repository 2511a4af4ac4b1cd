"""A row that LNPay never writes, in any column of any table: it is left out and named, and everything else goes on."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Table, UniqueConstraint, text
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError

from lnpay.commands import add_commands
from lnpay.doctor.checks import work
from lnpay.doctor.runner import run_checks
from lnpay.doctor.target import Target
from lnpay.domain.errors import LnpayError
from lnpay.domain.model import Heartbeat, Invoice
from lnpay.domain.states import DeliveryState, InvoiceState, RefundState
from lnpay.repository import tables
from lnpay.repository.maintenance.inspect import look
from lnpay.runtime.worker_passes import expired_pass, main_pass, make_pass, refund_pass
from tests.databases import migrated_postgres
from tests.owing import owe, payouts, send
from tests.world import World, world_settings

SQLITE = {
    "null": "NULL",
    "text": "'teleported'",
    "no date": "'2026-99-99 99:99:99.000000'",
    "far date": "'9999-12-31 23:59:59.999999'",
    "fraction": "3.5",
    "negative": "-7",
    "huge": "1000000000000000000",
    "bytes": "x'fffe'",
    "no text": "CAST(x'ff' AS TEXT)",
}
"""In SQL. SQLite keeps each of them in any column."""

POSTGRESQL = {
    "null": "NULL",
    "text": "'teleported'",
    "infinity": "'infinity'",
    "early date": "'0044-03-15T00:00:00Z BC'",
    "huge": "1000000000000000000",
}
"""PostgreSQL refuses most of them in most columns; the rest is kept once there is no CHECK."""

TABLES = [one for one in tables.metadata.sorted_tables if one is not tables.installation]

MOST_COLUMNS = max(len(table.columns) for table in (tables.refunds, tables.deliveries)) + 1

ROW_NAMES = {"id", "invoice_id", "refund_id", "endpoint_id"}
"""By these a row is found."""

PASSWORD = "a-password-of-the-tests"

CASES = [
    pytest.param(engine, name, id=f"{engine}-{name}", marks=() if name == "text" else pytest.mark.untraced)
    for engine, names in (("sqlite", SQLITE), ("postgresql", POSTGRESQL))
    for name in names
]
"""Lines are counted for one value per engine: the others visit the same lines, in three times the time."""

SHARE = 3
"""Of the rows, every third one is asked for alone; which ones depends on the value. With "text" each of them is."""


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def shop(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A shop that has sold a little of everything, in a database without any guard."""
    with ExitStack() as databases:
        changes: dict[str, Any] = {"admin_password": PASSWORD, "delivery_secret": ""}
        if engine == "postgresql":
            server: str = request.getfixturevalue("postgres_server")
            changes["database_url"] = databases.enter_context(migrated_postgres(server))
        world = World.make(tmp_path, **changes)
        sell_everything(world)
        with world.backend.repository.engine.connect() as connection:
            remove_guards(connection)
        yield world
        world.close()


def sell_everything(world: World) -> None:
    """An order in each state, so that every table has a row."""
    world.sell(correlation_id="lapsed")
    world.wait(100_000)
    expired_pass(world.backend)
    world.pay(world.sell(correlation_id="settled"))
    owe(world, None, correlation_id="needs-address")
    owe(world)
    send(world)
    owe(world)
    world.simulator.shop.answer_with(500, times=1)
    world.pay(world.sell(correlation_id="untold"))
    for name, one_pass in (("main", main_pass), ("expired", expired_pass)):
        make_pass(world.backend, name, one_pass)
    with world.backend.repository.transaction() as tx:
        tx.heartbeats.beat(Heartbeat("main", world.clock(), None, host="web-1"))
        tx.logins.set_tries("address 203.0.113.9", 3, world.clock())
        now = tx.limits.now()
        tx.limits.block("invoice_create", now)
        tx.limits.reach_milestone("subscriptions_checked", world.clock())
    world.sell(correlation_id="open")


def remove_guards(connection: Connection) -> None:
    """Let every column hold anything, as a table may that another tool has made or changed."""
    if connection.dialect.name == "postgresql":
        for table in TABLES:
            for constraint in table.constraints:
                if str(constraint.name).startswith("ck_"):
                    connection.exec_driver_sql(f"ALTER TABLE {table.name} DROP CONSTRAINT {constraint.name}")
            for column in table.columns:
                if not (column.nullable or column.primary_key):
                    connection.exec_driver_sql(f"ALTER TABLE {table.name} ALTER {column.name} DROP NOT NULL")
        connection.commit()
        return
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'table'").all()
    for name, sql in rows:
        # Those of columns, not those inside of a CHECK.
        loose = sql.replace(" NOT NULL,", ",").replace(" NOT NULL\n", "\n").replace(" DEFAULT '0' NOT NULL", "")
        connection.exec_driver_sql("UPDATE sqlite_master SET sql = ? WHERE name = ?", (loose, name))
    connection.exec_driver_sql("COMMIT")
    # Connections keep the tables as they were when they were opened.
    connection.engine.dispose()
    connection.invalidate()


def plant(world: World, value: str) -> int:
    """Spoil each column of each table in a row of its own, a copy of every row there is. Gives how many."""
    planted = 0
    with world.backend.repository.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        for number in range(MOST_COLUMNS):
            copy_invoices(connection, number)
        for table in TABLES:
            for column in table.columns:
                if column.name not in ROW_NAMES and not (column.primary_key and value == "NULL"):
                    planted += plant_in(connection, table, column, value)
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
            connection.exec_driver_sql("COMMIT")
        connection.commit()
    world.backend.repository.engine.dispose()
    return planted


def copy_invoices(connection: Connection, number: int) -> None:
    """Invoices that are not spoilt, for refunds and messages that are."""
    values = {one.name: one.name for one in tables.invoices.columns}
    for name in ("correlation_id", "token", "strike_invoice_id"):
        values[name] = f"substr({name}, 1, 9) || '+{number}'"
    values["id"] = f"id + {number * 1_000 + 500_000}"
    names, copied = ", ".join(values), ", ".join(values.values())
    connection.execute(text(f"INSERT INTO invoices ({names}) SELECT {copied} FROM invoices WHERE id < 1000"))  # noqa: S608


def is_unique(column: Column[object]) -> bool:
    """Whether no two rows may have the same value, alone or with that of another column."""
    unique = (one for one in column.table.constraints if isinstance(one, UniqueConstraint))
    return any(column.name in one.columns for one in unique)


def plant_in(connection: Connection, table: Table, column: Column[object], value: str) -> int:
    """Copies of every row of a table with another value in one column; 0 where the database does not take it."""
    number = list(table.columns).index(column) + 1
    values = {one.name: one.name for one in table.columns}
    for one in table.columns:
        is_name = is_unique(one) or (one.primary_key and one.name != "id" and len(table.primary_key) == 1)
        if is_name and one.name not in ROW_NAMES:
            values[one.name] = (
                f"CASE WHEN {one.name} IS NULL THEN NULL ELSE substr({one.name}, 1, 9) || '-{number}' END"
            )
    if "id" in values:
        values["id"] = f"id + {number * 1_000}"
    if table is tables.refunds or table is tables.deliveries:
        values["invoice_id"] = f"invoice_id + {number * 1_000 + 500_000}"
    values[column.name] = value
    names = ", ".join(values)
    key = "id" if "id" in values else next(iter(table.primary_key.columns)).name
    mine = "id < 1000" if key == "id" else f"{key} NOT LIKE '%%-%%'"
    copied = ", ".join(values.values())
    statement = f"INSERT INTO {table.name} ({names}) SELECT {copied} FROM {table.name} WHERE {mine}"  # noqa: S608
    if is_unique(column) or column.primary_key:
        statement += " LIMIT 1"
    elif table is tables.provider_calls:
        statement = f"UPDATE {table.name} SET {column.name} = {value}"  # noqa: S608
    try:
        with connection.begin_nested() if connection.dialect.name == "postgresql" else ExitStack():
            return connection.execute(text(statement.replace("%%", "%"))).rowcount
    except DBAPIError as error:
        if connection.dialect.name == "sqlite":
            raise
        assert isinstance(error, DataError | ProgrammingError)  # noqa: PT017 - it has no such value of that type
        return 0


class Walk:
    """Every page, command, worker and route. `wrong`: what went wrong, in words. rows: those asked for alone."""

    def __init__(self, world: World, rows: slice) -> None:
        self.world = world
        self.rows = rows
        self.wrong: list[str] = []

    def pages(self) -> None:
        """What a browser and a program can ask for."""
        client = self.world.client
        client.post("/admin/login", data={"password": PASSWORD})
        names = self.names("invoices", "strike_invoice_id")
        tokens, refund_tokens = self.names("invoices", "token"), self.names("refunds", "token")
        states = (("state", InvoiceState), ("refund", RefundState), ("delivery", DeliveryState))
        lists = [f"/admin/invoices?{field}={one}" for field, kind in states for one in kind]
        lists += ["/metrics", "/readyz", "/admin", "/admin?chart=sats", "/admin/invoices"]
        lists += ["/admin/refunds", "/admin/refunds?q=needs-address", "/admin/refunds?state=sent&kind=late"]
        lists += [f"/admin/invoices?q={name}" for name in ("settled", "alice@example.com")]
        lists += [f"/invoices?{field}=settled" for field in ("correlation_id", "order_id")]
        for path in lists:
            self.get(path, (200,))
        # What is asked for alone is either there or named as unreadable.
        for path in (f"{start}/{name}" for name in names for start in ("/invoices", "/admin/invoices")):
            self.get(path, (200, 503))
        for path in (f"/checkout/{token}{end}" for token in tokens for end in ("", "/status")):
            self.get(path, (200, 404, 503))
        for token in refund_tokens:
            self.get(f"/refund/{token}", (200, 404, 503))

    def names(self, table: str, column: str) -> list[str]:
        """What rows are called, where that can be read."""
        names = text(f"SELECT CAST({column} AS VARCHAR) FROM {table} WHERE length({column}) < 99")  # noqa: S608
        cast = text(f"SELECT hex({column}) FROM {table}")  # noqa: S608
        with self.world.backend.repository.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                found = connection.execute(names).scalars().all()
            else:
                found = [bytes.fromhex(one).decode(errors="replace") for one in connection.execute(cast).scalars()]
        return [name for name in found if name and name.isascii() and name.isprintable() and "+" not in name][self.rows]

    def get(self, path: str, allowed: tuple[int, ...]) -> None:
        """Ask, and note an answer that is not allowed."""
        answer = self.world.client.get(path)
        if answer.status_code not in allowed:
            self.wrong.append(f"GET {path}: {answer.status_code}")
        elif answer.status_code == 503 and "/checkout/" not in path and not path.startswith(("/refund", "/admin")):
            assert answer.get_json()["code"] == "unreadable_row"

    def commands(self) -> None:
        """What an operator types."""
        day = f"{self.world.clock():%Y-%m-%d}"
        for arguments in (
            ("refunds", "list"), ("refunds", "list", "--state", "sent"), ("refunds", "show", "needs-address"),
            ("deliveries", "list"), ("deliveries", "list", "--state", "delivered"), ("deliveries", "show", "settled"),
            ("redeliver", "settled"), ("report", "--from", "1990-01-01", "--no-reconcile"),
            ("report", "--from", "1990-01-01"), ("report", "--from", day, "--to", day, "--json"),
        ):  # fmt: skip
            parser = argparse.ArgumentParser(prog="main.py")
            add_commands(parser.add_subparsers())
            options = parser.parse_args(arguments)
            try:
                options.command(self.world.backend, options)
            except LnpayError as error:
                self.wrong.append(f"{' '.join(arguments)}: {error.message}")

    def workers(self) -> str:
        """Every pass. Gives the trouble that they are in."""
        troubles = []
        for name, one_pass in (("main", main_pass), ("expired", expired_pass), ("refund", refund_pass)):
            summary = make_pass(self.world.backend, name, one_pass)
            troubles.append(summary.trouble or "")
        return "; ".join(troubles)

    def doctor(self) -> None:
        """What looks at the work in hand."""
        backend = self.world.backend
        settings = world_settings(self.world.database_url, **self.world.changes)
        condition = look(self.world.database_url)
        target = Target(settings, backend.clock, condition, backend.strike, [], backend.repository)
        if target.unreadable_rows() is None:
            self.wrong.append("the doctor finds no row that cannot be read")
        for finding in run_checks(work.CHECKS, target):
            if "the check itself failed" in finding.message:
                self.wrong.append(f"doctor {finding.name}: {finding.message}")


def sell_and_refund(world: World) -> tuple[Invoice, Invoice]:
    """A payment in time and one that is late, after the rows were spoilt; nothing is done about them yet."""
    sale, late = world.sell(correlation_id="good"), world.sell(correlation_id="late", ln_address="bob@example.com")
    world.pay(sale)
    world.pay(late, late_seconds=180)
    world.wait(200)
    return sale, late


@pytest.mark.parametrize(("engine", "value"), CASES, indirect=["engine"])
def test_rows_that_cannot_be_read_take_nothing_else_down(
    shop: World, engine: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    paid_back = len(payouts(shop))
    values = SQLITE if engine == "sqlite" else POSTGRESQL
    planted = plant(shop, values[value])
    assert planted > 10
    sale, late = sell_and_refund(shop)

    walk = Walk(shop, slice(None) if value == "text" else slice(list(values).index(value) % SHARE, None, SHARE))
    trouble = walk.workers()
    walk.pages()
    walk.commands()
    walk.doctor()

    assert walk.wrong == []
    assert shop.invoice(sale.strike_invoice_id).state is InvoiceState.SETTLED
    assert "good" in [one["data"]["correlation_id"] for one in shop.told()]
    refund = shop.refund(late)
    assert refund is not None
    assert refund.state is RefundState.SENT
    assert len(payouts(shop)) >= paid_back + 1
    assert "unreadable and left out" in trouble
    assert [one for one in caplog.records if one.levelno >= logging.ERROR and one.exc_info] == []
