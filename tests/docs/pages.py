"""README, CONTRIBUTING and the pages of docs/, as the tests read them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
PAGES = {file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in FILES if file.exists()}
EVERYTHING = "\n".join(PAGES.values())


def without_code(text: str) -> str:
    """The same lines, with blocks between fences emptied: a comment of Python is no heading."""
    return re.sub(r"^```.*?^```$", lambda block: "\n" * block[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """How a heading is linked to."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Every place of a page that a link may lead to."""
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)}


def section(title: str) -> str:
    """The text under a heading, up to the next one of its level or above. No two pages may have that heading."""
    found = [text for page in PAGES.values() if (text := _section(page, title)) is not None]
    assert len(found) == 1, (title, len(found))
    return found[0]


def _section(page: str, title: str) -> str | None:
    bare = without_code(page).splitlines()
    lines = page.splitlines()
    levels = {number: len(line) - len(line.lstrip("#")) for number, line in enumerate(bare) if re.match(r"#+ ", line)}
    starts = [number for number in levels if bare[number].lstrip("#").strip() == title]
    if not starts:
        return None
    [start] = starts
    end = next((number for number in levels if number > start and levels[number] <= levels[start]), len(lines))
    return "\n".join(lines[start + 1 : end]) + "\n"
