"""A database of the first release, with data in it, becomes one of today; nothing is lost on the way."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from lnpay.domain.errors import SchemaTooNew
from lnpay.domain.model import (
    Draft,
    Hold,
    Invoice,
    Order,
    Refund,
    RefundKey,
)
from lnpay.domain.states import (
    AmountBasis,
    CancelCause,
    Closer,
    DeliveryState,
    HoldCause,
    InvoiceState,
    RefundAsker,
    RefundKind,
    RefundState,
)
from lnpay.repository import Repository
from lnpay.repository.maintenance.migrate import alembic_config
from lnpay.repository.repository import SCHEMA_VERSION
from lnpay.repository.restores import Restore
from tests.databases import fresh_postgres
from tests.test_commands import start

FIRST = "0001"
DATA = Path(__file__).parent / "data" / "0001.sql"
TABLES = ("invoices", "refunds", "refund_attempts", "deliveries", "milestones", "provider_blocks", "provider_calls")
S, R, D = InvoiceState, RefundState, DeliveryState


def migrate_to(url: str, version: str) -> None:
    """Make the tables of an older version, as that version did."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, version)


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the first release, of each engine, in which every kind of row is."""
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/invoices.sqlite"
        if request.param == "postgresql":
            url = stack.enter_context(fresh_postgres(request.getfixturevalue("postgres_server")))
        migrate_to(url, FIRST)
        fill(url)
        yield url


def fill(url: str, *files: Path) -> None:
    """Insert the rows of the files (of 0001.sql without any) with plain SQL, as they were written then."""
    content = ";\n".join(file.read_text("utf-8") for file in files or (DATA,))
    engine = create_engine(url, poolclass=NullPool)
    is_postgres = engine.dialect.name == "postgresql"
    with engine.begin() as connection:
        if is_postgres:
            connection.execute(text("SET TIME ZONE 'UTC'"))
        for statement in filter(str.strip, content.split(";\n")):
            connection.exec_driver_sql(statement.replace("%", "%%") if is_postgres else statement)
        for table in ("invoices", "refunds", "refund_attempts", "deliveries") if is_postgres else ():
            connection.execute(text(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))"))  # noqa: S608


def rows_of(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table of the first release, in its columns."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        found = {}
        for table in TABLES:
            columns = ", ".join(FIRST_COLUMNS[table])
            rows = connection.execute(text(f"SELECT {columns} FROM {table}"))  # noqa: S608
            found[table] = sorted((tuple(row) for row in rows), key=repr)
    return found


def version_of(url: str) -> str:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def first_columns() -> dict[str, list[str]]:
    """The columns of the first release, asked of its own migration."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, FIRST)
        inspector = inspect(connection)
        return {table: [column["name"] for column in inspector.get_columns(table)] for table in TABLES}


FIRST_COLUMNS = first_columns()


@pytest.fixture
def upgraded(old_url: str) -> Iterator[Repository]:
    """The same, upgraded by today's program."""
    repository = Repository(old_url)
    repository.upgrade()
    yield repository
    repository.close()


class TestUpgrade:
    def test_every_row_is_as_it_was(self, old_url: str) -> None:
        before = rows_of(old_url)
        assert {table: len(rows) > 0 for table, rows in before.items()} == dict.fromkeys(TABLES, True)

        repository = Repository(old_url)
        repository.upgrade()
        repository.ping()
        repository.close()

        assert rows_of(old_url) == before
        assert version_of(old_url) == SCHEMA_VERSION

    def test_every_state_of_the_first_release_is_in_the_data(self, upgraded: Repository) -> None:
        with upgraded.engine.connect() as connection:
            states = {
                table: set(connection.execute(text(f"SELECT state FROM {table}")).scalars())  # noqa: S608
                for table in ("invoices", "refunds", "deliveries")
            }

        assert states == {
            "invoices": {*S} - {S.CANCELLED},
            "refunds": {*R} - {R.CANCELED},
            "deliveries": {*D} - {D.WITHDRAWN},
        }

    def test_every_row_can_be_read(self, upgraded: Repository) -> None:
        with upgraded.reading() as tx:
            draft = tx.invoices.find_by_correlation_id("order-draft")
            settled = tx.invoices.find_by_strike_id("strike-settled")
            refunds = tx.refunds.in_states([*R], 100)
            histories = {refund.state: tx.refunds.history(refund) for refund in refunds}
            assert settled is not None
            deliveries = tx.deliveries.of_invoice(settled.id)

        assert type(draft) is Draft
        assert draft.order == Order(Decimal("0.01"), "usd", None, None)
        assert_settled(settled)
        assert sorted(refund.state for refund in refunds) == sorted({*R} - {R.CANCELED})
        assert [line.outcome for line in histories[R.FAILED]] == ["the balance at Strike is too low", "sent 50% — no"]
        assert [delivery.body for delivery in deliveries] == ['{"status":"success","metadata":"☕"}']

    def test_what_was_begun_goes_on(self, upgraded: Repository) -> None:
        later = datetime(2026, 6, 1, tzinfo=UTC)
        with upgraded.transaction() as tx:
            due = tx.refunds.due([*R], later, limit=100)
            assert {R.REQUESTED, R.QUOTED, R.IN_FLIGHT, R.FAILED} <= {refund.state for refund in due}
            (waiting,) = tx.refunds.in_states([R.REQUESTED], 10)
            held = tx.refunds.hold(waiting, Hold(HoldCause.MAX_SATS, "after the upgrade"))
            unpaid = tx.invoices.find_by_strike_id("strike-unpaid")
            assert unpaid is not None
            assert tx.invoices.mark_paid(unpaid.id, S.SETTLED, paid_at=later, received_sats=7, at=later)

        assert isinstance(held, Refund)
        assert held.state is R.HELD

    def test_new_rows_get_new_numbers(self, upgraded: Repository) -> None:
        with upgraded.transaction() as tx:
            old = tx.invoices.find_by_strike_id("strike-settled")
            assert old is not None
            new = tx.invoices.add_draft("order-new", "order-new", "token-new", old.order, 7, old.rate, old.created_at)
        assert new is not None

        with upgraded.engine.connect() as connection:
            ids = connection.execute(text("SELECT id FROM invoices ORDER BY id DESC")).scalars().all()
        assert (ids[0], len(ids), len(set(ids))) == (new.id, len(ids), len(ids))

    def test_a_crash_in_the_middle_leaves_the_old_version_whole(
        self, old_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The process ends at the last statement of the last migration, when its tables are made already."""
        before = rows_of(old_url)
        repository = Repository(old_url)
        statements: list[str] = []

        def end(*arguments: object) -> None:
            statements.append(str(arguments[2]))
            if str(arguments[2]).startswith("UPDATE alembic_version") and SCHEMA_VERSION in str(arguments[2]):
                raise KeyboardInterrupt

        event.listen(repository.engine, "before_cursor_execute", end)
        with pytest.raises(KeyboardInterrupt):
            repository.upgrade()
        event.remove(repository.engine, "before_cursor_execute", end)
        repository.close()

        assert any("CREATE TABLE heartbeats" in one for one in statements)
        assert (version_of(old_url), rows_of(old_url)) == (FIRST, before)
        engine = create_engine(old_url, poolclass=NullPool)
        assert not inspect(engine).has_table("heartbeats")
        again = Repository(old_url)
        again.upgrade()
        again.close()
        assert (version_of(old_url), rows_of(old_url)) == (SCHEMA_VERSION, before)

    def test_each_migration_can_be_the_last_one_that_was_made(self, old_url: str) -> None:
        before = rows_of(old_url)
        versions = [one.revision for one in ScriptDirectory.from_config(alembic_config()).walk_revisions()]

        for version in reversed(versions):
            migrate_to(old_url, version)
            assert (version_of(old_url), rows_of(old_url)) == (version, before)


STUCK = (
    "Strike was told to send it and cannot say any more whether it did. Look for the payment in Strike's dashboard, "
    "then say so with: python main.py refunds settle, or refunds retry"
)
"""The sentence as versions before 0006 wrote it."""


class TestSentencesBecomeColumns:
    """What older versions knew of a refund by a sentence alone."""

    @pytest.fixture
    def refund_after(self, old_url: str) -> Iterator[Callable[..., Refund]]:
        """Change the refund in a state with the SQL of an older version, upgrade, and read it."""
        repository = Repository(old_url)

        def upgrade(state: RefundState, change: str, **values: str | None) -> Refund:
            where = "WHERE id = (SELECT id FROM refunds WHERE state = :state)"
            with repository.engine.begin() as connection:
                connection.execute(text(f"{change} {where}"), {**values, "state": str(state)})
            repository.upgrade()
            with repository.reading() as tx:
                return next(one for one in tx.refunds.in_states([state], 10))

        migrate_to(old_url, "0005")
        yield upgrade
        repository.close()

    def test_stuck(self, refund_after: Callable[..., Refund]) -> None:
        refund = refund_after(R.IN_FLIGHT, "UPDATE refunds SET reason = :stuck", stuck=STUCK)

        assert refund.stuck_at == refund.started_at

    def test_stuck_and_overwritten_by_a_pass_with_strike_away(
        self, old_url: str, refund_after: Callable[..., Refund]
    ) -> None:
        add_attempt(old_url, R.IN_FLIGHT, STUCK)

        away = "Strike could not be reached"
        refund = refund_after(R.IN_FLIGHT, "UPDATE refunds SET payment_id = NULL, reason = :away", away=away)

        assert refund.stuck_at == datetime(2026, 5, 18, 13, tzinfo=UTC)

    def test_in_flight_and_not_stuck(self, refund_after: Callable[..., Refund]) -> None:
        assert refund_after(R.IN_FLIGHT, "UPDATE refunds SET reason = 'on its way'").stuck_at is None

    @pytest.mark.parametrize(
        ("reason", "cause"),
        [
            ("REFUNDS_ENABLED is off: a person approves each refund", HoldCause.REFUNDS_OFF),
            ("26 sats are above REFUND_MAX_SATS: a person approves it", HoldCause.MAX_SATS),
            ("REFUND_DAILY_MAX_SATS is reached: a person approves it", HoldCause.DAILY_MAX_SATS),
            ("the database was restored from a backup, so it may have been sent already.", HoldCause.RESTORED),
            ("another sentence", None),
        ],
    )
    def test_held(self, refund_after: Callable[..., Refund], reason: str, cause: HoldCause | None) -> None:
        assert refund_after(R.HELD, "UPDATE refunds SET reason = :reason", reason=reason).held_because is cause

    @pytest.mark.parametrize(("reason", "closer"), [(None, Closer.STRIKE), ("by hand: in cash", Closer.OPERATOR)])
    def test_closed(self, refund_after: Callable[..., Refund], reason: str | None, closer: Closer) -> None:
        assert refund_after(R.SENT, "UPDATE refunds SET reason = :reason", reason=reason).closed_by is closer

    def test_the_line_that_says_sent(self, upgraded: Repository) -> None:
        with upgraded.reading() as tx:
            lines = {one.state: tx.refunds.history(one) for one in tx.refunds.in_states([*R], 100)}

        assert [line.state for line in lines[R.SENT]] == [R.SENT]
        assert [line.state for line in lines[R.FAILED]] == [None, None]


class TestKeys:
    """Refunds of before keep the keys they have, and are not taken for those of another copy."""

    def test_what_is_not_sent_may_have_been_asked_about(self, upgraded: Repository) -> None:
        with upgraded.reading() as tx:
            asked = {one.state for one in tx.refunds.in_states([*R], 100) if one.asked_at is not None}
            unanswered = {one.state for one in tx.refunds.in_states([*R], 100) if one.unanswered_quotes == 1}
            numbers = {one.key_number for one in tx.refunds.in_states([*R], 100)}

        assert asked == unanswered == {R.REQUESTED, R.FAILED, R.NEEDS_ADDRESS, R.HELD}
        assert numbers == {0}

    def test_a_restore_that_was_noticed_before_covers_the_orders_before_it(self, old_url: str) -> None:
        migrate_to(old_url, "0008")
        engine = create_engine(old_url, poolclass=NullPool)
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SET TIME ZONE 'UTC'"))
            connection.execute(text("DELETE FROM milestones WHERE name IN ('copied', 'restored')"))
            connection.execute(
                text(
                    "INSERT INTO milestones (name, reached_at) VALUES ('copied', '2026-05-18 12:00:00.000000'), "
                    "('restored', '2030-01-01 00:00:00.000000')"
                )
            )
            newest = connection.execute(text("SELECT MAX(id) FROM invoices")).scalar_one()
        repository = Repository(old_url)
        repository.upgrade()
        with repository.reading() as tx:
            restore = tx.restores.covering(1)
            assert tx.restores.covering(newest + 1) is None
        repository.close()

        assert restore == Restore(
            datetime(2030, 1, 1, tzinfo=UTC), HoldCause.RESTORED, datetime(2026, 5, 18, 12, tzinfo=UTC), newest
        )


class TestSeveralRefunds:
    """Refunds of late payments, of every state, become the first of their invoices, and fill what is reserved."""

    def test_each_is_carried_over_and_reserves_its_amount(self, upgraded: Repository) -> None:
        with upgraded.reading() as tx:
            refunds = tx.refunds.in_states([*R], 100)
            left = {one.state: tx.refund_requests.left_sats(one.invoice_id) for one in refunds}
            found = {one.state: tx.refunds.find_late(one.invoice_id) for one in refunds}

        assert sorted(left) == sorted({*R} - {R.CANCELED})
        # In the data of the first release, each is of one sat less than was received.
        assert set(left.values()) == {1}
        for one in refunds:
            assert found[one.state] == one
            assert (one.kind, one.sequence, one.asked_by) == (RefundKind.LATE, 1, RefundAsker.RULE)
            assert (one.basis, one.request_key, one.claim_expires_at) == (AmountBasis.WHOLE, None, None)

    def test_the_history_is_still_that_of_its_refund_and_new_rows_get_new_numbers(self, upgraded: Repository) -> None:
        with upgraded.transaction() as tx:
            (failed,) = tx.refunds.in_states([R.FAILED], 10)
            lines = [line.outcome for line in tx.refunds.history(failed)]
            paid = tx.invoices.find_by_strike_id("strike-settled")
            assert paid is not None
            assert tx.refunds.add(
                paid.id, received_sats=1, address=None, token="t", key=KEY, created_at=paid.created_at
            )
            new = tx.refunds.find_late(paid.id)
        assert lines == ["the balance at Strike is too low", "sent 50% — no"]
        assert new is not None
        assert new.id > failed.id
        with upgraded.engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                assert connection.execute(text("PRAGMA integrity_check")).scalars().all() == ["ok"]
                assert connection.execute(text("PRAGMA foreign_key_check")).all() == []

    def test_what_is_reserved_is_guarded_by_the_database(self, upgraded: Repository) -> None:
        for wrong in (
            "UPDATE invoices SET refund_reserved_sats = 1 WHERE state = 'unpaid'",
            "UPDATE invoices SET refund_reserved_sats = received_sats + 1 WHERE state = 'settled'",
            "UPDATE invoices SET refund_reserved_sats = -1 WHERE state = 'settled'",
            "UPDATE invoices SET received_sats = refund_reserved_sats - 1 WHERE state = 'paid_late'",
            "UPDATE refunds SET kind = 'other'",
            "UPDATE refunds SET canceled_at = created_at",
        ):
            with pytest.raises(IntegrityError), upgraded.engine.begin() as connection:
                connection.execute(text(wrong))

    def test_one_whose_payment_was_accepted_reserves_nothing(self, old_url: str) -> None:
        migrate_to(old_url, "0020")
        engine = create_engine(old_url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text("UPDATE refunds SET state = 'canceled' WHERE state = 'held'"))
        repository = Repository(old_url)
        repository.upgrade()
        with repository.reading() as tx:
            (canceled,) = tx.refunds.in_states([R.CANCELED], 10)
            invoice = tx.invoices.find(canceled.invoice_id)
            left_sats = tx.refund_requests.left_sats(canceled.invoice_id)
        repository.close()

        assert (canceled.cancel_cause, canceled.canceled_at) == (CancelCause.ACCEPTED, canceled.next_attempt_at)
        assert invoice is not None
        assert left_sats == invoice.received_sats

    def test_a_row_that_came_past_the_old_guards_does_not_stop_the_upgrade(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/invoices.sqlite"
        migrate_to(url, FIRST)
        fill(url)
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text("PRAGMA ignore_check_constraints = ON"))
            connection.execute(text("UPDATE refunds SET amount_sats = received_sats + 5 WHERE state = 'failed'"))
        repository = Repository(url)
        repository.upgrade()
        with repository.reading() as tx:
            assert len(tx.refunds.in_states([*R], 100)) == len({*R} - {R.CANCELED}) - 1
        assert repository.unreadable.count() == 1
        repository.close()


KEY = RefundKey("a-key-of-the-tests", 1)


def add_attempt(url: str, state: RefundState, outcome: str) -> None:
    """A line in the history of the refund in a state, with its present quote."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET TIME ZONE 'UTC'"))
        connection.execute(
            text(
                "INSERT INTO refund_attempts (refund_id, at, step, outcome, idempotency_key, payment_quote_id) "
                "SELECT id, '2026-05-18 13:00:00.000000', 'execute', :outcome, idempotency_key, payment_quote_id "
                "FROM refunds WHERE state = :state"
            ),
            {"outcome": outcome, "state": str(state)},
        )


def assert_settled(invoice: Invoice) -> None:
    assert invoice.order == Order(
        Decimal("1234567890.12"), "eur", "Zwei Kaffee ☕", "alice@example.com",
        "https://shop.example/paid", "https://shop.example/again", {"table": "7"},
    )  # fmt: skip
    assert invoice.rate.price == Decimal("103456.78901234567890123")
    assert invoice.amount_sats == 2_100_000_000_000_000
    assert invoice.paid_at == datetime(2026, 5, 18, 12, 0, 31, 123_456, tzinfo=UTC)
    assert invoice.issue.strike_quote["conversionRate"]["amount"] == Decimal("1.0000000000000001")
    assert invoice.expires_at - invoice.created_at == timedelta(seconds=120)


class TestTooNew:
    """A database that a newer LNPay has made: each door says it in one line, and changes nothing."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        migrate_to(f"sqlite:///{tmp_path}/invoices.sqlite", "head")
        with contextlib.closing(sqlite3.connect(tmp_path / "invoices.sqlite")) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        return tmp_path

    @pytest.mark.parametrize("arguments", [(), ("--with-workers",), ("refunds", "list"), ("restore", "--mark")])
    def test_main_refuses(self, folder: Path, arguments: tuple[str, ...]) -> None:
        process = start(*arguments, folder=folder)

        out, err = process.communicate(timeout=60)

        assert (process.returncode, out) == (1, "")
        assert err == (
            "the database is at version 9999, which this LNPay does not know: "
            "start the newer LNPay that made it, or restore a backup from before\n"
        )

    @pytest.mark.parametrize("worker", ["main_worker", "expired_worker", "refund_failure_worker"])
    def test_a_worker_refuses(self, folder: Path, worker: str) -> None:
        process = start(folder=folder, script=f"workers/{worker}.py")

        out, err = process.communicate(timeout=60)

        assert (process.returncode, out, err.count("\n")) == (1, "", 1)
        assert "start the newer LNPay that made it" in err

    def test_the_program_that_finds_it_so_while_it_runs_says_so(self, folder: Path) -> None:
        repository = Repository(f"sqlite:///{folder}/invoices.sqlite")

        with pytest.raises(SchemaTooNew, match="the database is at version 9999"):
            repository.ping()

        repository.close()


def test_a_message_can_be_withdrawn_after_the_upgrade_and_no_other_word_stands(old_url: str) -> None:
    """The words that a state may be were changed in place; every row and every other guard is still there."""
    before = rows_of(old_url)
    repository = Repository(old_url)
    repository.upgrade()
    repository.close()
    engine = create_engine(old_url, poolclass=NullPool)

    with engine.begin() as connection:
        connection.execute(text("UPDATE deliveries SET state = 'withdrawn', delivered_at = NULL"))
    for wrong in ("UPDATE deliveries SET state = 'lost'", "UPDATE deliveries SET state = 'delivered'"):
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(text(wrong))

    assert before.keys() == rows_of(old_url).keys()
    if engine.dialect.name == "sqlite":
        with engine.begin() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalars().all() == ["ok"]
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []


def test_an_invoice_can_be_cancelled_after_the_upgrade_and_no_other_word_stands(old_url: str) -> None:
    repository = Repository(old_url)
    repository.upgrade()
    repository.close()
    engine = create_engine(old_url, poolclass=NullPool)

    with engine.begin() as connection:
        changed = connection.execute(text("UPDATE invoices SET state = 'cancelled' WHERE state = 'expired'"))
        assert changed.rowcount > 0
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(text("UPDATE invoices SET state = 'lost' WHERE state = 'cancelled'"))
    if engine.dialect.name == "sqlite":
        with engine.begin() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalars().all() == ["ok"]


def test_a_process_that_was_there_before_the_upgrade_knows_the_new_words(tmp_path: Path) -> None:
    """SQLite keeps what it knows of the tables in each connection."""
    url = f"sqlite:///{tmp_path}/invoices.sqlite"
    migrate_to(url, FIRST)
    fill(url)
    older = create_engine(url)
    with older.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM deliveries")).scalar_one() > 0
        repository = Repository(url)
        repository.upgrade()
        repository.close()

        connection.execute(text("UPDATE deliveries SET state = 'withdrawn', delivered_at = NULL"))
        connection.commit()
    older.dispose()


def test_a_message_of_before_is_no_redelivery_and_can_be_repeated(old_url: str) -> None:
    migrate_to(old_url, "0026")
    engine = create_engine(old_url, poolclass=NullPool)
    now = datetime(2026, 1, 2, tzinfo=UTC)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO webhook_endpoints (id, public_id, url, secret, form, events, wants_everything, "
                "is_enabled, automatic_redelivery, set_by, created_at) "
                "VALUES (1, 'hook', 'https://shop.test/', 's', 'btcpay', '', true, true, true, 'key', "
                "'2026-01-01 00:00:00+00:00')"
            )
        )
        connection.execute(text("UPDATE deliveries SET endpoint_id = 1"))
    repository = Repository(old_url)
    repository.upgrade()

    with repository.transaction() as tx:
        (first, *_) = tx.deliveries.newest_of_endpoint(1, 10)
        event = (first.invoice_id, first.event_type)
        assert (first.last_status, first.original_id, first.place) == (None, None, None)
        assert not tx.deliveries.add(*event, "msg_same", "{}", now, endpoint_id=1, refund_id=first.refund_id)
        for name in ("msg_again", "msg_and_again"):
            assert tx.deliveries.add(
                *event, name, "{}", now, endpoint_id=1, refund_id=first.refund_id, original_id=first.id
            )
        names = [one.webhook_id for one in tx.deliveries.same_as(first)]
    repository.close()

    assert names == [first.webhook_id, "msg_again", "msg_and_again"]
