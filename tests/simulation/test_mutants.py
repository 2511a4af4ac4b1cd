"""Does the simulation detect faults? It must notice each safeguard that is switched off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lnpay.refunds import send
from tests.simulation.host import Disks
from tests.simulation.mutants import MUTANTS, BrokenMutant, Change, Mutant, is_noticed


@pytest.fixture(scope="module")
def disks() -> Iterator[Disks]:
    with Disks() as made:
        yield made


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_safeguard_that_is_switched_off_is_noticed(mutant: Mutant, disks: Disks) -> None:
    assert is_noticed(mutant, disks)


def test_planted_code_that_fails_by_itself_is_not_taken_for_noticed(disks: Disks) -> None:
    broken = Mutant("broken", (Change(send._execute, "was_in_doubt, lost = True, error", "no_such()"),), known=(5,))

    with pytest.raises(BrokenMutant, match="no_such"):
        is_noticed(broken, disks)
