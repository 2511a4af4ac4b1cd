"""Fixtures for the tests of the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.installation import Installation, installed


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Installation]:
    """A healthy installation."""
    with installed(tmp_path) as made:
        yield made
