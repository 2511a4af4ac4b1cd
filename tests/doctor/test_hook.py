"""What the doctor says about the delivery hook."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import HOOK_FILES, load_settings
from lnpay.doctor import Finding, Verdict, examine
from lnpay.domain.settings import HookFiles
from tests.doctor.installation import Installation

SHIPPED = HOOK_FILES.shipped.read_text("utf-8")
OWN = "def deliver(event):\n    pass\n"
OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL


def examine_hook(shop: Installation, files: HookFiles) -> Finding:
    """The finding about the hook."""
    settings = replace(load_settings({}, shop.env_file), hook_files=files)
    return next(finding for finding in examine(settings, shop.now) if finding.name == "delivery_hook")


@pytest.mark.parametrize(
    ("own", "shipped", "verdict", "words"),
    [
        (None, SHIPPED, OK, "delivery.py is used"),
        (OWN, SHIPPED, OK, "own.py is used"),
        ("def deliver(event)\n", SHIPPED, FAIL, "line 1"),
        (None, OWN, WARN, "the next upgrade overwrites it"),
        (OWN, OWN, WARN, "it is not used, because"),
        (SHIPPED, SHIPPED, WARN, "is an unchanged default"),
    ],
)
def test_it_says_which_hook_is_used_and_whether_an_upgrade_would_lose_it(
    shop: Installation, tmp_path: Path, own: str | None, shipped: str, verdict: Verdict, words: str
) -> None:
    files = HookFiles(tmp_path / "own.py", tmp_path / "delivery.py")
    files.shipped.write_text(shipped, "utf-8")
    if own is not None:
        files.own.write_text(own, "utf-8")

    found = examine_hook(shop, files)

    assert found.verdict is verdict
    assert words in found.message
    assert bool(found.advice) is (verdict is not OK)
