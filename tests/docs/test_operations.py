"""docs/operations.md has an entry for everything that warns an operator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lnpay.doctor.runner import CHECKS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
HEADINGS = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
ALERTS = re.findall(r"- alert: (\w+)", (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))
RUNBOOKS = re.findall(r"runbook_url: (\S+)", (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))


def anchor(heading: str) -> str:
    """How a heading is linked to."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


ANCHORS = {anchor(heading) for heading in HEADINGS}


@pytest.mark.parametrize("name", [name for check in CHECKS for name in check.names])
def test_every_finding_of_the_doctor_has_its_heading(name: str) -> None:
    assert name in {part for heading in HEADINGS for part in heading.split(", ")}


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_its_heading(name: str) -> None:
    assert name in HEADINGS


def test_every_alert_leads_to_its_heading() -> None:
    assert [f"docs/operations.md#{anchor(name)}" for name in ALERTS] == RUNBOOKS


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", PAGE)

    for target in targets:
        path, _, fragment = target.partition("#")
        assert path or fragment in ANCHORS, target
        assert not path or path.startswith("https://") or (ROOT / "docs" / path).exists(), target


def test_every_file_that_a_command_names_is_there() -> None:
    named = set(re.findall(r"(?:deploy|workers)[/\\][\w@*./\\-]+\w", PAGE))

    assert named
    for name in named:
        assert list(ROOT.glob(name.replace("\\", "/"))), name
