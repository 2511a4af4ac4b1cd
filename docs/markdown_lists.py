"""A hook of MkDocs: give the blocks of a list the indentation that Python-Markdown needs.

The pages are written for GitHub, where a block belongs to a list item if it starts below the item's text, and a list
may follow a paragraph without an empty line. Python-Markdown wants four columns a level, and the empty line.
"""

from __future__ import annotations

import re

ITEM = re.compile(r"(\s*)(?:[-*]|\d+\.) +(?=\S)")
COLUMNS = 4
FENCE = "```"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by MkDocs with the text of each page."""
    return indent_lists(markdown)


def indent_lists(text: str) -> str:
    """Indent every level of every list by four columns. Text outside of lists stays as it is."""
    lines: list[str] = []
    columns: list[int] = []  # Where the text of each open item begins, the outermost first.
    is_fenced = False
    for line in text.split("\n"):
        is_fenced ^= line.lstrip().startswith(FENCE)
        indent = len(line) - len(line.lstrip())
        if (is_fenced and not columns) or not line:
            lines.append(line)
            continue
        open_before = len(columns)
        while columns and indent < columns[-1]:
            columns.pop()
        item = ITEM.match(line)
        if item and indent - (columns[-1] if columns else 0) < COLUMNS:
            if open_before == len(columns) and lines and lines[-1]:
                lines.append("")
            lines.append(_moved(line, columns))
            columns.append(item.end())
        else:
            lines.append(_moved(line, columns))
    return "\n".join(lines)


def _moved(line: str, columns: list[int]) -> str:
    return " " * COLUMNS * len(columns) + line[columns[-1] if columns else 0 :]
