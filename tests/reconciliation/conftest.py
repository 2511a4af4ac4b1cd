"""A month over each engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.databases import migrated_postgres
from tests.reconciliation.month import Month
from tests.world import World


@pytest.fixture
def month(make_world: Callable[..., World]) -> Month:
    """A month over SQLite with nothing in it yet."""
    return Month(make_world())


@pytest.fixture(params=["sqlite", "postgresql"])
def month_of_each_engine(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> Iterator[Month]:
    """A month over SQLite, and one over PostgreSQL. Refunds above 20,000 sats are held."""
    with ExitStack() as databases:
        changes: dict[str, Any] = {"refund_max_sats": 20_000}
        if request.param == "postgresql":
            server: str = request.getfixturevalue("postgres_server")
            changes["database_url"] = databases.enter_context(migrated_postgres(server))
        month = Month(make_world(**changes))
        yield month
        month.world.backend.close()
