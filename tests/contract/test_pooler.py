"""PostgreSQL behind a pooler in transaction mode, where each transaction gets any session, and PostgreSQL read-only."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from lnpay.domain.errors import StorageUnavailable
from lnpay.repository import Repository
from lnpay.repository.maintenance.dump import dump
from lnpay.repository.maintenance.inspect import Condition, look
from lnpay.repository.repository import MIGRATION_LOCK, SCHEMA_VERSION
from lnpay.sandbox import SandboxServer, Simulator
from tests.databases import find_postgres_tools, fresh_postgres, synced
from tests.pooler import SESSIONS, Pooler, pooling
from tests.scenarios.live import ask, main_process

TRANSACTIONS = 2 * SESSIONS
SETTINGS = "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name NOT IN ('TimeZone', 'DateStyle')"


@pytest.fixture
def direct_url(postgres_server: str) -> Iterator[str]:
    with fresh_postgres(postgres_server) as url:
        yield url


@pytest.fixture
def pooler(direct_url: str) -> Iterator[Pooler]:
    with pooling(direct_url) as pooler:
        yield pooler


def set_for_database(url: str, setting: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{make_url(url).database}" SET {setting}')


def test_every_transaction_commits_durably_and_no_session_keeps_a_setting(direct_url: str) -> None:
    set_for_database(direct_url, "synchronous_commit = off")
    with pooling(direct_url) as pooler:
        repository = Repository(pooler.client_url)
        repository.upgrade()

        for _ in range(TRANSACTIONS):
            with repository.engine.begin() as connection:
                assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
            with repository.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                assert connection.execute(text(SETTINGS)).all() == []
        repository.close()


def test_no_statement_takes_longer_than_its_time_and_no_session_keeps_that(pooler: Pooler) -> None:
    repository = Repository(pooler.client_url, statement_timeout_seconds=1)
    repository.upgrade()
    endless = text("SELECT pg_sleep(60)")

    for begin in (repository.transaction, repository.reading):
        with pytest.raises(StorageUnavailable, match="longer than DB_STATEMENT_TIMEOUT"), begin() as tx:
            tx.heartbeats._connection.execute(endless)
        with begin() as tx:
            assert tx.heartbeats.every() == []

    unbounded = Repository(pooler.client_url)
    for _ in range(TRANSACTIONS):
        with unbounded.transaction() as tx:
            assert tx.heartbeats._connection.execute(text("SHOW statement_timeout")).scalar_one() == "0"
    unbounded.close()
    repository.close()


def test_the_changes_to_tables_take_the_time_they_take(direct_url: str) -> None:
    repository = Repository(direct_url, statement_timeout_seconds=1)
    with Repository(direct_url).engine.begin() as slow:
        slow.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        with ThreadPoolExecutor(1) as threads:
            upgrading = threads.submit(repository.upgrade)
            with pytest.raises(TimeoutError):
                upgrading.result(timeout=2)
            slow.rollback()
            upgrading.result(timeout=60)

    repository.ping()
    repository.close()


def test_a_process_opens_no_more_connections_than_it_may(direct_url: str) -> None:
    repository = Repository(direct_url, max_connections=2)
    repository.upgrade()
    count = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")

    def use(_: int) -> int:
        with repository.engine.connect() as connection:
            connection.execute(text("SELECT pg_sleep(0.05)"))
            return int(connection.execute(count).scalar_one())

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(use, range(24))) == 2
    repository.close()


def test_a_look_does_not_make_it_read_only_for_others(pooler: Pooler, postgres_server: str) -> None:
    repository = Repository(pooler.client_url)
    repository.upgrade()

    with synced(postgres_server):
        for _ in range(TRANSACTIONS):
            assert look(pooler.client_url) == Condition(None, None, SCHEMA_VERSION)
    only_reading = Repository(pooler.client_url, can_write=False)
    for _ in range(TRANSACTIONS):
        with only_reading.reading() as tx:
            tx.installation.name()
    with pytest.raises(DBAPIError), only_reading.engine.begin() as connection:
        connection.execute(text("DELETE FROM heartbeats"))
    only_reading.close()

    for _ in range(TRANSACTIONS):
        with repository.engine.begin() as connection:
            connection.execute(text("DELETE FROM heartbeats"))
    repository.close()


def test_a_backup_asks_for_the_server_itself(
    pooler: Pooler, direct_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_postgres_tools(monkeypatch)
    repository = Repository(pooler.client_url)
    repository.upgrade()
    repository.close()

    with pytest.raises(StorageUnavailable, match="needs the PostgreSQL server itself"):
        dump(pooler.client_url, tmp_path / "pooled.dump")

    assert list(tmp_path.iterdir()) == []
    assert dump(direct_url, tmp_path / "direct.dump").contents.schema == SCHEMA_VERSION


def test_a_server_and_its_workers_sell_as_they_do_without_one(pooler: Pooler, tmp_path: Path) -> None:
    with (
        SandboxServer(Simulator(seed=1)) as provider,
        main_process(provider.url, pooler.client_url, tmp_path / "log") as url,
        ThreadPoolExecutor(8) as clients,
    ):
        answers = list(clients.map(lambda number: ask(url, correlation_id=f"order-{number}"), range(80)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["data"]["invoice"]["invoiceId"] for answer in answers}) == 80
    assert pooler.transactions > 160
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_database_that_became_read_only_is_not_ready_and_its_connections_are_given_up(direct_url: str) -> None:
    repository = Repository(direct_url)
    repository.upgrade()
    repository.ping()
    with repository.engine.begin() as connection:
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))

    with pytest.raises(StorageUnavailable, match="read-only"):
        repository.ping()
    with pytest.raises(StorageUnavailable), repository.transaction() as tx:
        tx.logins.forget("stranger")
    repository.ping()

    with repository.engine.begin() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != before
    repository.close()
