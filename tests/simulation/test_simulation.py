"""A few hundred seeds of the simulation; `make simulate` runs as many as you like."""

from __future__ import annotations

import pytest

from tests.simulation.__main__ import explain, run_seeds

SEEDS, CHUNK = 200, 20


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_seed_breaks_a_promise(first: int) -> None:
    failed = [report for report in run_seeds(range(first, first + CHUNK)) if report.violation]

    assert not failed, explain(failed[0])


def test_a_seed_is_always_the_same_schedule() -> None:
    once, again = run_seeds(range(3)), run_seeds(range(3))

    assert [report.digest for report in once] == [report.digest for report in again]
    assert len({report.digest for report in once}) == 3


def test_many_worlds_have_late_payments_refunds_crashes_and_faults() -> None:
    """A simulation in which nothing happens would also pass."""
    reports = run_seeds(range(15))

    total = sum((report.counts for report in reports), reports[0].counts - reports[0].counts)
    for name in ("steps", "crashes", "payments in", "payments in, late", "refunds out", "webhooks sent"):
        assert total[name] >= 5, name
    assert sum(count for name, count in total.items() if name.startswith("fault ")) >= 15
