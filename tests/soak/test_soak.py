"""An hour of the soak; `make soak` lets a whole day pass."""

from __future__ import annotations

from pathlib import Path

from tests.soak.soak import Soak


def test_real_processes_with_clocks_hours_apart_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    soak = Soak(tmp_path, hours=1.0, seed=3)

    soak.run()

    for name in ("sales of server 1", "sales of server 2", "paid in time", "paid late", "processes killed"):
        assert soak.counts[name] > 0, name
