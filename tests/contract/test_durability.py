"""PostgreSQL keeps every commit that it reports, whatever its own settings say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from lnpay.domain.errors import StorageUnavailable
from lnpay.repository import Repository
from lnpay.repository.maintenance.durability import weakness_of
from lnpay.repository.maintenance.inspect import look
from tests.databases import fresh_postgres


@pytest.fixture
def url(postgres_server: str) -> Iterator[str]:
    with fresh_postgres(postgres_server) as url:
        yield url


def set_for_database(url: str, value: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{make_url(url).database}" SET synchronous_commit = {value}')


@pytest.mark.parametrize(
    ("set_to", "used"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
)
def test_a_weaker_setting_of_the_database_is_raised_on_every_connection(url: str, set_to: str, used: str) -> None:
    set_for_database(url, set_to)

    repository = Repository(url)
    repository.upgrade()

    with repository.engine.connect() as first, repository.engine.connect() as second:
        for connection in (first, second):
            connection.rollback()
            assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == used
    repository.close()
    assert look(url).commit_weakness is None


def test_a_start_is_refused_where_the_setting_is_not_kept(url: str) -> None:
    """As behind a pooler that gives each transaction another session."""
    repository = Repository(url)

    def forget(connection: Any, *_: object) -> None:
        connection.execute("SET synchronous_commit = off")
        connection.commit()

    event.listen(repository.engine, "checkout", forget)

    with pytest.raises(StorageUnavailable, match="synchronous_commit of PostgreSQL is not on"):
        repository.upgrade()

    with repository.engine.connect() as connection:
        assert "synchronous_commit" in str(weakness_of(connection))
    repository.close()
