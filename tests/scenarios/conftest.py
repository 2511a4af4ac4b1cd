"""What scenarios begin with: a fresh database on each engine, or a simulator for scenarios with crashes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.scenarios.crash_scenarios import CrashScenarios


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database; the test runs once for each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/invoices.sqlite"
        return
    server_url = make_url(request.getfixturevalue("postgres_server"))
    name = f"scenario_{uuid.uuid4().hex}"
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server_url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashScenarios]:
    """Builds scenarios in which programs are killed."""
    made = CrashScenarios(tmp_path_factory.mktemp("scenarios"))
    yield made
    made.close()
