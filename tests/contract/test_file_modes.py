"""SQLite files, their companions and their copies are readable by their owner only, regardless of the umask."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lnpay.repository import Repository
from lnpay.repository.maintenance.backup import back_up, restore
from lnpay.repository.maintenance.sqlite_url import sqlite_url
from tests.world import World

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True, params=[0o022, 0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_a_new_database_and_its_companions_are_private(tmp_path: Path) -> None:
    repository = Repository(sqlite_url(tmp_path / "José #1.sqlite"))
    repository.upgrade()
    with repository.transaction() as tx:
        tx.limits.reach_milestone("a test", NOW)

        found = modes(tmp_path)

    repository.close()
    assert set(found) == {"José #1.sqlite", "José #1.sqlite-wal", "José #1.sqlite-shm"}
    assert set(found.values()) == {0o600}


def test_a_whole_process_leaves_only_private_files(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "invoices.sqlite")
    world = World.make(tmp_path, database_url=url)
    world.sell()

    assert set(modes(tmp_path).values()) == {0o600}
    world.backend.close()


def test_backups_and_restored_databases_are_private(tmp_path: Path) -> None:
    database, backup = tmp_path / "invoices.sqlite", tmp_path / "backup.sqlite"
    repository = Repository(sqlite_url(database))
    repository.upgrade()
    back_up(database, backup, NOW)
    repository.close()
    restore(backup, database, NOW)
    restore(backup, tmp_path / "new.sqlite", NOW)
    back_up(database, backup, NOW)

    assert len(modes(tmp_path)) >= 4
    assert set(modes(tmp_path).values()) == {0o600}


def test_a_mode_that_the_operator_chose_is_kept(tmp_path: Path) -> None:
    database = tmp_path / "invoices.sqlite"
    sqlite3.connect(database).close()
    database.touch()
    database.chmod(0o660)

    Repository(sqlite_url(database)).upgrade()

    assert stat.S_IMODE(database.stat().st_mode) == 0o660


def test_a_folder_that_is_not_there_is_still_named_by_sqlite(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="not available"):
        Repository(sqlite_url(tmp_path / "nowhere" / "invoices.sqlite")).upgrade()
