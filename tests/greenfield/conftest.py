"""What tests of the Greenfield API share."""

from __future__ import annotations

import pytest

from tests.greenfield.shop import Plugin
from tests.world import World


@pytest.fixture
def plugin(world: World) -> Plugin:
    """WooCommerce's plugin, connected."""
    return Plugin.connect(world)
