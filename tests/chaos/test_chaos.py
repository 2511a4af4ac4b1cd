"""The short form of `make chaos`: a server and the primary killed, without PgBouncer and without another version."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.chaos import Chaos
from tests.chaos.postgres import Cluster, Programs


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own, which PostgreSQL's user cannot enter."""
    with tempfile.TemporaryDirectory(prefix="lnpay-chaos-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def test_a_failover_loses_no_payment_and_pays_nothing_back_twice(folder: Path) -> None:
    pytest.importorskip("pgserver")
    cluster = Cluster(Programs.of_wheel(), folder)

    result = Chaos(folder, cluster).run(orders=40, is_rolled=False)

    print(*result.report(), sep="\n")
    assert result.violations == []
    assert [step.name for step in result.steps] == ["a server killed", "primary killed (1)"]
    assert result.books.late()
    assert result.books.refunded
    assert result.books.in_time()
