"""Everything that people read is plain English: words that have given trouble to readers are not used anywhere."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.docs.pages import ROOT

AVOIDED = re.compile(
    r"\b(mend(s|ed|ing)?|anew|for ever|whoever|whatever|somebody|nobody|learnt of|(is|are) told|was never told|"
    r"goes back|makes no sense|a clear word|shut in)\b",
    re.IGNORECASE,
)

EXEMPT = {
    "tests/docs/test_english.py",  # the list itself
    "tests/contract/data/delivery-0.1.0.py",  # shipped with 0.1.0; its digest is known to upgrades
}


def committed_texts() -> dict[str, str]:
    """Every text file of the repository: code, tests, documents, pages, catalogues and deployment files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)  # noqa: S607
    texts = {}
    for name in filter(None, listed.stdout.split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if name not in EXEMPT and b"\0" not in content:
            texts[name] = content.decode("utf-8", "replace")
    return texts


def plain(text: str) -> str:
    """The words of a text alone: sentences may run over lines of comments, and names of tests are sentences."""
    return re.sub(r"[\s#_\"]+", " ", text)


def hits(text: str) -> list[str]:
    words = plain(text)
    return [words[max(0, found.start() - 40) : found.end() + 40] for found in AVOIDED.finditer(words)]


TEXTS = committed_texts()


@pytest.mark.parametrize("folder", sorted({name.split("/")[0] for name in TEXTS}))
def test_no_file_uses_a_word_to_avoid(folder: str) -> None:
    found = {name: hits(text) for name, text in TEXTS.items() if name.split("/")[0] == folder}

    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "text",
    [
        "Whoever asks first wins.",
        "    # The shop is\n    # told at least once.",
        "def test_nobody_is_charged_twice() -> None: ...",
        'log.error("the money goes "\n          "back")',
    ],
)
def test_a_word_is_found_in_every_kind_of_text(text: str) -> None:
    assert hits(text)
