"""Does the simulation bite? Each safeguard that is switched off must be noticed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.host import Disks
from tests.simulation.mutants import MUTANTS, Mutant, is_noticed


@pytest.fixture(scope="module")
def disks() -> Iterator[Disks]:
    with Disks() as made:
        yield made


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_safeguard_that_is_switched_off_is_noticed(mutant: Mutant, disks: Disks) -> None:
    assert is_noticed(mutant, disks)
