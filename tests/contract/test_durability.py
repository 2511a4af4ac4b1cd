"""PostgreSQL keeps every commit that it reports, regardless of its own settings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from lnpay.repository import Repository
from lnpay.repository.maintenance.inspect import look
from tests.databases import fresh_postgres, synced


@pytest.fixture
def url(postgres_server: str) -> Iterator[str]:
    with synced(postgres_server), fresh_postgres(postgres_server) as url:
        yield url


def set_for_database(url: str, value: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{make_url(url).database}" SET synchronous_commit = {value}')


@pytest.mark.parametrize(
    ("set_to", "used"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
)
def test_a_weaker_setting_of_the_database_is_raised_in_every_transaction(url: str, set_to: str, used: str) -> None:
    set_for_database(url, set_to)

    repository = Repository(url)
    repository.upgrade()

    with repository.engine.begin() as first, repository.engine.begin() as second:
        for connection in (first, second):
            assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == used
    repository.close()
    assert look(url).commit_weakness is None


def test_only_a_commit_that_may_be_lost_does_not_wait_for_the_disk(url: str) -> None:
    repository = Repository(url)
    repository.upgrade()
    used = []
    event.listen(
        repository.engine,
        "commit",
        lambda connection: used.append(connection.execute(text("SHOW synchronous_commit")).scalar_one()),
    )

    for is_durable in (False, True):
        with repository.transaction(is_durable=is_durable) as tx:
            tx.limits.reach_milestone("sweep", datetime(2026, 1, 1, tzinfo=UTC))

    assert used == ["off", "on"]
    repository.close()
