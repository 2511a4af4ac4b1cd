"""Worlds whose customers pay receive requests, over each kind of database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lnpay.domain.receives import ReceiveWith
from tests.databases import migrated_postgres
from tests.world import ALL_EVENTS, World

Open = Callable[..., World]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Make a world with other settings, over each kind of database."""
    with ExitStack() as stack:

        def make(**changes: Any) -> World:
            if request.param == "postgresql":
                server = request.getfixturevalue("postgres_server")
                changes["database_url"] = stack.enter_context(migrated_postgres(server))
            settings = {"receive_with": ReceiveWith.RECEIVE_REQUEST, "delivery_events": ALL_EVENTS, **changes}
            world = World.make(tmp_path, **settings)
            stack.callback(world.close)
            return world

        yield make


@pytest.fixture
def shop(open_world: Open) -> World:
    """A world with the defaults."""
    return open_world()
