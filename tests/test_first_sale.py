"""The README's beginning, followed by a newcomer whose folder has an odd name."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.sandbox_process import ROOT


@pytest.mark.skipif(sys.platform == "win32", reason="the two commands are for a machine with make")
def test_two_commands_lead_to_a_paid_order_also_in_an_odd_folder(tmp_path: Path) -> None:
    from tests.first_sale import NoPackages, first_sale

    if not (shutil.which("make") and shutil.which("git") and (ROOT / ".git").exists()):
        pytest.skip("make, git and a clone are needed")
    assert "\n    make sandbox " in (ROOT / "README.md").read_text("utf-8")
    try:
        sale = first_sale(tmp_path / "José #1" / "100% shop")
    except NoPackages:
        pytest.skip("pip reaches neither a registry nor its cache")

    (database,) = sale.databases
    assert database.startswith("sandbox-")
