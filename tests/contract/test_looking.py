"""Looking at a database of either kind: what is wrong is said in words, and nothing is changed by it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from lnpay.domain.errors import StorageUnavailable
from lnpay.repository import Repository
from lnpay.repository.maintenance.inspect import find_damage, look
from lnpay.repository.repository import SCHEMA_VERSION
from tests.databases import fresh_postgres
from tests.world import empty_database

NOW = datetime(2026, 5, 18, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An up-to-date file with nothing in it."""
    file = tmp_path / "invoices.sqlite"
    file.write_bytes(empty_database())
    return file


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    with fresh_postgres(postgres_server) as url:
        repository = Repository(url)
        repository.upgrade()
        repository.close()
        yield url


def make_read_only(path: Path) -> None:
    """A file that SQLite itself refuses to write, also for root, whom rights do not stop.

    Source: sqlite.org/fileformat2.html, "File format version numbers".
    """
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x03")


class TestSqlite:
    def test_a_healthy_file(self, path: Path, url: str) -> None:
        condition = look(url)

        assert (condition.path, condition.trouble, condition.write_trouble) == (path, None, None)
        assert (condition.version, condition.journal_mode) == (SCHEMA_VERSION, "wal")
        assert find_damage(url) == []

    def test_to_look_changes_nothing(self, path: Path, url: str) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        before = hashlib.sha256(path.read_bytes()).hexdigest()

        condition = look(url)

        assert condition.journal_mode == "delete"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == before
        assert [one.name for one in path.parent.iterdir()] == [path.name]

    def test_a_missing_file_is_not_made(self, tmp_path: Path) -> None:
        condition = look(f"sqlite:///{tmp_path}/none.sqlite")

        assert condition.trouble == "there is no such file"
        assert list(tmp_path.iterdir()) == []

    def test_a_file_without_tables(self, tmp_path: Path) -> None:
        Path(tmp_path, "empty.sqlite").touch()

        condition = look(f"sqlite:///{tmp_path}/empty.sqlite")

        assert (condition.trouble, condition.version) == (None, None)

    def test_a_read_only_file_can_be_read(self, path: Path, url: str) -> None:
        make_read_only(path)

        condition = look(url)

        assert (condition.trouble, condition.version) == (None, SCHEMA_VERSION)
        assert condition.write_trouble == "it is read-only for this user"

    def test_a_locked_file_is_said_to_be(self, path: Path, url: str) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            condition = look(url)

        assert condition.trouble is None
        assert "another process has kept it locked" in (condition.write_trouble or "")

    def test_another_kind_of_file_is_said_to_be(self, tmp_path: Path) -> None:
        Path(tmp_path, "letter.sqlite").write_text("Dear Sir or Madam, " * 100)

        condition = look(f"sqlite:///{tmp_path}/letter.sqlite")

        assert condition.trouble == "the file is not an SQLite database"

    def test_damage_is_found(self, path: Path, url: str) -> None:
        page, content = 4096, bytearray(path.read_bytes())
        content[2 * page :] = b"\x55" * (len(content) - 2 * page)
        path.write_bytes(content)

        try:
            damage = find_damage(url)
        except StorageUnavailable as error:
            damage = [error.message]

        assert damage != []

    def test_a_repository_that_only_looks_refuses_to_write(self, url: str) -> None:
        repository = Repository(url, can_write=False)

        with repository.reading() as tx:
            assert tx.heartbeats.every() == []
        with pytest.raises(StorageUnavailable), repository.transaction() as tx:
            tx.limits.reach_milestone("x", NOW)
        repository.close()


class TestPostgres:
    def test_a_healthy_database(self, postgres_url: str) -> None:
        condition = look(postgres_url)

        assert (condition.path, condition.trouble, condition.write_trouble) == (None, None, None)
        assert (condition.version, condition.journal_mode) == (SCHEMA_VERSION, None)
        assert find_damage(postgres_url) == []

    def test_one_that_may_not_be_written_is_said_to_be(self, postgres_url: str) -> None:
        name = make_url(postgres_url).database
        engine = create_engine(postgres_url)
        with engine.begin() as connection:
            connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        engine.dispose()

        condition = look(postgres_url)

        assert (condition.trouble, condition.version) == (None, SCHEMA_VERSION)
        assert "read-only" in (condition.write_trouble or "")

    def test_one_that_is_not_there_is_said_to_be(self, postgres_server: str) -> None:
        url = make_url(postgres_server).set(database="never_created").render_as_string(hide_password=False)

        assert look(url).trouble == "the server has no database of that name"

    def test_a_server_that_is_not_there_is_said_to_be(self) -> None:
        trouble = look("postgresql+psycopg://user:a-password@127.0.0.1:1/lnpay").trouble

        assert trouble == "the server cannot be reached"

    def test_a_repository_that_only_looks_refuses_to_write(self, postgres_url: str) -> None:
        repository = Repository(postgres_url, can_write=False)

        with repository.reading() as tx:
            assert tx.heartbeats.every() == []
        with pytest.raises(StorageUnavailable), repository.transaction() as tx:
            tx.limits.reach_milestone("x", NOW)
        repository.close()
