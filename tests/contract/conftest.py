"""What the tests of every engine may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lnpay.repository import Repository
from tests.databases import migrated_postgres
from tests.world import empty_database


@pytest.fixture(params=["sqlite", "postgresql"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    """An empty database of each engine, with its tables."""
    if request.param == "sqlite":
        (tmp_path / "invoices.sqlite").write_bytes(empty_database())
        repository = Repository(f"sqlite:///{tmp_path}/invoices.sqlite")
        yield repository
        repository.close()
        return
    with migrated_postgres(request.getfixturevalue("postgres_server")) as url:
        repository = Repository(url)
        yield repository
        repository.close()
