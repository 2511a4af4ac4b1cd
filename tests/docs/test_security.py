"""docs/security.md: what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_operations import anchor

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
SETTINGS = sorted(set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=\w+)?`", PAGE)))
LINKS = sorted(set(re.findall(r"\]\(([^)]+)\)", PAGE)))


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_that_it_names_exists(name: str) -> None:
    assert f"\n{name}=" in (text := (ROOT / "config" / ".env.example").read_text("utf-8")) or f"\n# {name}=" in text


@pytest.mark.parametrize("link", LINKS)
def test_every_link_leads_to_a_heading(link: str) -> None:
    path, _, heading = link.partition("#")
    text = ((ROOT / "docs" / path) if path else (ROOT / "docs" / "security.md")).read_text("utf-8")

    assert not heading or heading in {anchor(one) for one in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"deploy/\w+", PAGE))))
def test_every_folder_that_it_names_exists(path: str) -> None:
    assert (ROOT / path).is_dir()


def test_the_readme_leads_to_it() -> None:
    assert "(docs/security.md)" in (ROOT / "README.md").read_text("utf-8")
