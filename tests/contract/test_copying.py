"""From SQLite to PostgreSQL: every value arrives, or nothing does and it is said where."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.pool import NullPool

from lnpay.commands import add_commands
from lnpay.domain.errors import (
    Conflict,
    InvalidRequest,
    SchemaTooNew,
    StorageUnavailable,
)
from lnpay.domain.states import RefundState
from lnpay.refunds.send import send_due_refunds
from lnpay.repository import Repository
from lnpay.repository.maintenance import copy as copying
from lnpay.repository.maintenance.copy import CopyDiffers, copy_database
from lnpay.repository.tables import metadata
from tests.contract.test_upgrade import FIRST, fill, migrate_to
from tests.databases import fresh_postgres
from tests.owing import owe
from tests.world import World, world_settings

NOW = datetime(2026, 5, 18, 13, 0, tzinfo=UTC)
TOO_LONG = "UPDATE invoices SET correlation_id = 'an order with a name of forty-one letters' WHERE id = 3"


@pytest.fixture
def source(tmp_path: Path) -> str:
    """An SQLite database of the current version with rows of every kind, extreme ones among them; not in use."""
    url = f"sqlite:///{tmp_path}/invoices.sqlite"
    migrate_to(url, FIRST)
    fill(url)
    repository = Repository(url)
    repository.upgrade()
    repository.close()
    change(
        url,
        "UPDATE invoices SET received_sats = 9223372036854775807, amount_sats = 9223372036854775807 WHERE id = 3",
        "UPDATE invoices SET description = 'Ünïcödé 支払い 👩‍🔬 \u202e%s :name \\ ''quoted'' \n\ttab' WHERE id = 3",
        'UPDATE invoices SET metadata = \'{"a": 1.10, "b":  "spaces stay"}\' WHERE id = 3',
        "UPDATE invoices SET rate_price = '0.000000000000000000000000000001' WHERE id = 3",
        "UPDATE invoices SET paid_at = '2026-05-18 12:00:31.000001' WHERE id = 3",
        "INSERT INTO heartbeats (worker, ended_at, trouble) VALUES ('main', '2026-05-18 12:00:00.999999', NULL)",
        "INSERT INTO pruned_invoices VALUES ('strike-9', 'order-9', NULL, 5, 'usd', '1.10', '2026-05-18 12:00:00', "
        "'2026-08-18 12:00:00', NULL, NULL)",
        "INSERT INTO pruned_totals VALUES (7, '2026-05-18', 'usd', 'lapsed', 2, '99999999999999999999', '3.30', "
        "'2026-08-18 12:00:00')",
        # Bytes put capitals first, people do not: both sides must be read in one order.
        "INSERT INTO milestones VALUES ('Zebra', '2026-05-18 12:00:00'), ('apple', '2026-05-18 12:00:00')",
    )
    return url


def change(url: str, *statements: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture
def target(postgres_server: str) -> Iterator[str]:
    with fresh_postgres(postgres_server) as url:
        yield url


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row as the program reads it."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return {
            name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for name, table in metadata.tables.items()
        }


def tables_of(url: str) -> set[str]:
    return set(inspect(create_engine(url, poolclass=NullPool)).get_table_names())


def copy(source: str, target: str) -> dict[str, int]:
    return copy_database(source, target, NOW, lambda *_: None)


class TestCopy:
    def test_every_value_arrives(self, source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(copying, "BATCH", 3)
        before = rows(source)

        counts = copy(source, target)

        assert rows(target) == before
        assert counts == {name: len(found) for name, found in before.items() if name not in copying.NOT_COPIED}
        assert counts["invoices"] == 12

    def test_the_shared_price_is_left_behind_however_damaged(self, source: str, target: str) -> None:
        columns = "currency, price, is_usable, true_at, read_at"
        damaged = "'usd', 'teleported', 1, 'yesterday', '2999-01-01 00:00:00.000000'"
        change(source, f"INSERT INTO shared_prices ({columns}) VALUES ({damaged})")  # noqa: S608

        copy(source, target)

        assert rows(target)["shared_prices"] == []

    def test_texts_stay_the_same_to_the_last_byte(self, source: str, target: str) -> None:
        query = text("SELECT metadata, strike_quote, rate_price, amount_fiat, description FROM invoices WHERE id = 3")

        copy(source, target)

        with (
            create_engine(source, poolclass=NullPool).connect() as old,
            create_engine(target, poolclass=NullPool).connect() as new,
        ):
            assert tuple(new.execute(query).one()) == tuple(old.execute(query).one())

    def test_the_next_row_gets_the_next_number(self, source: str, target: str) -> None:
        copy(source, target)

        repository = Repository(target)
        repository.upgrade()
        with repository.transaction() as tx:
            old = tx.invoices.find_by_strike_id("strike-settled")
            assert old is not None
            new = tx.invoices.add_draft("order-new", "order-new", "token-new", old.order, 7, old.rate, old.created_at)
        repository.close()

        assert new is not None
        assert new.id == 13

    def test_each_step_is_reported(self, source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(copying, "BATCH", 5)
        told: list[tuple[str, int, int]] = []

        copy_database(source, target, NOW, lambda *step: told.append(step))

        about_invoices = [step for step in told if step[0].endswith(" invoices")]
        assert about_invoices == [
            *(("copying invoices", done, 12) for done in (5, 10, 12)),
            *(("comparing invoices", done, 12) for done in (5, 10, 12)),
        ]

    def test_an_empty_database_can_be_copied(self, tmp_path: Path, target: str) -> None:
        url = f"sqlite:///{tmp_path}/invoices.sqlite"
        migrate_to(url, "head")

        assert set(copy(url, target).values()) == {0}

    def test_tables_that_are_there_and_empty_are_used(self, source: str, target: str) -> None:
        migrate_to(target, FIRST)

        assert copy(source, target)["invoices"] == 12

    def test_life_goes_on_over_there_and_not_on_the_old_file(self, world: World, target: str) -> None:
        """A refund is due. The copy sends it; LNPay started on the old file by mistake does not."""
        invoice = owe(world)
        world.backend.close()
        copy_database(world.database_url, target, world.backend.clock(), lambda *_: None)

        old, world.database_url = world.database_url, target
        world.restart()
        sent = send_due_refunds(world.backend.refund_sender)
        world.database_url = old
        world.restart()
        sent_by_mistake = send_due_refunds(world.backend.refund_sender)

        assert (sent, sent_by_mistake) == ({RefundState.SENT: 1}, {})
        refund = world.refund(invoice)
        assert refund is not None
        assert refund.state is RefundState.HELD


class TestNothingIsHalfDone:
    @pytest.mark.parametrize(
        ("body", "where"),
        [
            ("NEW.description := 'Zwei Kaffee'; RETURN NEW;", "row id 1, column description"),
            ("NEW.rate_price := NEW.rate_price || '0'; RETURN NEW;", "row id 1, column rate_price"),
            ("NEW.expires_at := NEW.expires_at + interval '1 microsecond'; RETURN NEW;", "row id 2, column expires_at"),
            ("IF NEW.id = 12 THEN RETURN NULL; END IF; RETURN NEW;", "row id 12: it is missing there"),
            ("IF NEW.id = 12 THEN NEW.id = 99; END IF; RETURN NEW;", "row id 12, column id"),
        ],
    )
    def test_a_database_that_keeps_something_else_is_found_out(
        self, source: str, target: str, body: str, where: str
    ) -> None:
        migrate_to(target, "head")
        meddle(target, body, "invoices")
        # What would belong to a row that is missing.
        change(source, "DELETE FROM refund_attempts", "DELETE FROM refunds WHERE invoice_id = 12")

        with pytest.raises(CopyDiffers, match=f"the copy differs in invoices, {where}"):
            copy(source, target)

        assert all(found == [] for found in rows(target).values())

    def test_a_row_too_many_is_found_out(self, source: str, target: str) -> None:
        migrate_to(target, "head")
        meddle(target, "INSERT INTO milestones VALUES ('one more', now()); RETURN NEW;", "heartbeats")

        with pytest.raises(CopyDiffers, match="milestones, row name one more"):
            copy(source, target)

    def test_a_row_that_postgresql_does_not_take_is_said(self, source: str, target: str) -> None:
        change(source, TOO_LONG)

        with pytest.raises(CopyDiffers, match=r"rejects a row: value too long .*\(40\)"):
            copy(source, target)

        assert tables_of(target) == set()

    def test_a_failed_copy_leaves_the_old_database_as_it_was(self, source: str, target: str) -> None:
        change(source, TOO_LONG)
        before = rows(source)

        with pytest.raises(CopyDiffers):
            copy(source, target)

        assert rows(source) == before

    def test_a_database_with_rows_is_refused(self, source: str, target: str) -> None:
        migrate_to(target, "head")
        change(target, "INSERT INTO milestones VALUES ('here', now())")

        with pytest.raises(Conflict, match=r"not empty \(it has rows in milestones\): create an empty one"):
            copy(source, target)

    def test_a_database_in_use_is_not_copied(self, world: World, target: str) -> None:
        with pytest.raises(Conflict, match="LNPay is running"):
            copy(world.database_url, target)

    def test_a_database_of_another_version_is_not_copied(self, tmp_path: Path, target: str) -> None:
        url = f"sqlite:///{tmp_path}/invoices.sqlite"
        migrate_to(url, FIRST)

        with pytest.raises(Conflict, match=r"older version \(0001\): start this LNPay on it once"):
            copy(url, target)
        change(url, "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(SchemaTooNew, match="start the newer LNPay that made it"):
            copy(url, target)

    @pytest.mark.parametrize("url", ["", "nonsense", "sqlite:///other.sqlite", "postgresql://host/name", "postgresql+psycopg://host"])  # fmt: skip  # noqa: E501
    def test_a_target_that_cannot_be_is_said(self, source: str, url: str) -> None:
        with pytest.raises(InvalidRequest, match=r"must be postgresql\+psycopg://"):
            copy(source, url)

    def test_a_source_that_is_postgresql_is_said(self, target: str) -> None:
        with pytest.raises(InvalidRequest, match="is PostgreSQL already"):
            copy(target, target)

    def test_a_target_that_does_not_answer_is_said_without_its_password(self, source: str) -> None:
        with pytest.raises(StorageUnavailable, match="cannot be used") as failed:
            copy(source, "postgresql+psycopg://lnpay:hidden-word@127.0.0.1:1/lnpay")

        assert "hidden-word" not in str(failed.value)


def meddle(url: str, body: str, table: str) -> None:
    """Have the database do something of its own with each row that is inserted."""
    change(
        url,
        f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        f"CREATE TRIGGER meddle BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION meddle()",
    )


def test_the_command_says_what_was_copied_and_what_to_do_next(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    options = parser.parse_args(["copy-database", target])

    assert options.on_settings(world_settings(source), options) == 0

    text = capsys.readouterr().out
    assert "invoices: 12 copied\n" in text
    assert "Every value was compared" in text
    assert "Now put the new address into DATABASE_URL" in text
    assert "Do not start LNPay on the old file again" in text
