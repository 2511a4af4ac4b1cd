"""What tests of the Greenfield API share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.databases import migrated_postgres
from tests.greenfield.shop import Plugin
from tests.world import World


@pytest.fixture
def plugin(world: World) -> Plugin:
    """WooCommerce's plugin, connected."""
    return Plugin.connect(world)


@pytest.fixture(params=["sqlite", "postgresql"])
def world_of_each_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world over each kind of database. A module whose queries matter takes it as its `world`."""
    with ExitStack() as stack:
        changes: dict[str, Any] = {}
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_server")
            changes["database_url"] = stack.enter_context(migrated_postgres(server))
        made = World.make(tmp_path, **changes)
        stack.callback(made.close)
        yield made
