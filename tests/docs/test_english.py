"""The pages are plain English: words that have given trouble to readers are not used."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import PAGES

AVOIDED = re.compile(
    r"\b(mend(s|ed|ing)?|anew|for ever|whoever|whatever|somebody|nobody|learnt of|(is|are) told|was never told|"
    r"goes back|makes no sense|a clear word|shut in)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_avoids_them(page: str) -> None:
    lines = re.sub(r"\s+", " ", PAGES[page])

    assert [lines[max(0, found.start() - 40) : found.end() + 40] for found in AVOIDED.finditer(lines)] == []
