"""The subset of OData that Strike's lists support: `$filter`, `$orderby`, `$skip`, `$top`.

expression = and-chains joined by `or`; comparisons joined by `and`; parentheses
comparison = field (eq | gt | ge | lt | le) literal, or field in (literal, ...)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MAX_TOP = 100
DEFAULT_TOP = 50

Value = str | bool | datetime | None
Row = Mapping[str, Value]
Predicate = Callable[[Row], bool]

_TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|([()])|(,)|([A-Za-z0-9_:.+\-]+))")

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda left, right: left == right,
    "gt": lambda left, right: left > right,
    "ge": lambda left, right: left >= right,
    "lt": lambda left, right: left < right,
    "le": lambda left, right: left <= right,
}


class BadQuery(ValueError):
    """The query is invalid or unsupported; the message says why."""


@dataclass(slots=True)
class Filter:
    """A parsed `$filter`, and what a firewall sees of it."""

    matches: Predicate
    comparisons: int = 0
    has_or: bool = False
    has_date: bool = False
    most_values: int = 1


@dataclass(slots=True)
class Page:
    """Which rows of a list are wanted."""

    filter: Filter | None
    is_ascending: bool
    skip: int
    top: int


def read_page(arguments: Mapping[str, str], kinds: Mapping[str, str]) -> Page:
    """Read the four parameters. kinds: field to "text", "date" or "bool". Raises BadQuery."""
    unknown = [name for name in arguments if name.startswith("$") and name not in _PARAMETERS]
    if unknown:
        raise BadQuery(f"The query parameter '{unknown[0]}' is not supported.")
    text = arguments.get("$filter")
    return Page(
        filter=parse_filter(text, kinds) if text is not None else None,
        is_ascending=_read_order(arguments.get("$orderby", "created desc")),
        skip=read_count("$skip", arguments.get("$skip", "0"), 2**31),
        top=read_count("$top", arguments.get("$top", str(DEFAULT_TOP)), MAX_TOP),
    )


_PARAMETERS = ("$filter", "$orderby", "$skip", "$top")


def _read_order(text: str) -> bool:
    match = re.fullmatch(r"\s*created(?:\s+(asc|desc))?\s*", text)
    if not match:
        raise BadQuery(f"The order '{text}' is not supported.")
    return match[1] != "desc"


def read_count(name: str, text: str, most: int) -> int:
    """A whole number from 0 to `most`. Raises BadQuery."""
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise BadQuery(f"The value '{text}' of {name} is not valid.")
    if int(text) > most:
        raise BadQuery(f"The limit of '{most}' for {name} has been exceeded.")
    return int(text)


def parse_filter(text: str, kinds: Mapping[str, str]) -> Filter:
    """Parse one `$filter`. Raises BadQuery."""
    parser = _Parser(_tokens(text), kinds)
    parser.result.matches = parser.read_or()
    parser.expect_end()
    return parser.result


def _tokens(text: str) -> list[str]:
    tokens, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if not match:
            raise BadQuery(f"Syntax error at position {position} in '{text}'.")
        tokens.append(match[0].strip())
        position = match.end()
    return tokens


@dataclass(slots=True)
class _Parser:
    tokens: list[str]
    kinds: Mapping[str, str]
    position: int = 0
    depth: int = 0
    result: Filter = field(default_factory=lambda: Filter(lambda row: True))

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        if not token:
            raise BadQuery("The expression ends too early.")
        self.position += 1
        return token

    def expect(self, wanted: str) -> None:
        token = self.take()
        if token != wanted:
            raise BadQuery(f"'{wanted}' expected, '{token}' found.")

    def expect_end(self) -> None:
        if self.peek():
            raise BadQuery(f"'{self.peek()}' was not expected.")

    def read_or(self) -> Predicate:
        terms = [self.read_and()]
        while self.peek() == "or":
            self.take()
            self.result.has_or = True
            terms.append(self.read_and())
        return terms[0] if len(terms) == 1 else lambda row: any(term(row) for term in terms)

    def read_and(self) -> Predicate:
        terms = [self.read_term()]
        while self.peek() == "and":
            self.take()
            terms.append(self.read_term())
        return terms[0] if len(terms) == 1 else lambda row: all(term(row) for term in terms)

    def read_term(self) -> Predicate:
        if self.peek() != "(":
            return self.read_comparison()
        self.depth += 1
        if self.depth > 20:
            raise BadQuery("The expression is nested too deeply.")
        self.take()
        inner = self.read_or()
        self.expect(")")
        self.depth -= 1
        return inner

    def read_comparison(self) -> Predicate:
        name = self.take()
        if name not in self.kinds:
            raise BadQuery(f"Could not find a property named '{name}'.")
        self.result.comparisons += 1
        operator = self.take()
        if operator == "in":
            return self.read_in(name)
        if operator not in _OPERATORS:
            raise BadQuery(f"The operator '{operator}' is not supported.")
        compare, wanted = _OPERATORS[operator], self.read_literal(self.kinds[name])
        return lambda row: _holds(compare, row[name], wanted)

    def read_in(self, name: str) -> Predicate:
        self.expect("(")
        values = [self.read_literal(self.kinds[name])]
        while self.peek() == ",":
            self.take()
            values.append(self.read_literal(self.kinds[name]))
        self.expect(")")
        self.result.most_values = max(self.result.most_values, len(values))
        return lambda row: row[name] in values

    def read_literal(self, kind: str) -> Value:
        token = self.take()
        text = token[1:-1].replace("''", "'") if token[0] == "'" else token
        if token in ("(", ")", ","):
            raise BadQuery(f"A value expected, '{token}' found.")
        if kind == "date":
            self.result.has_date = True
            return _read_date(text)
        if kind == "bool":
            if text not in ("true", "false") or token != text:
                raise BadQuery(f"'{token}' is not a boolean.")
            return text == "true"
        return None if text == "null" and token == text else text


def _holds(compare: Callable[[Any, Any], bool], left: Value, right: Value) -> bool:
    if left is None or right is None:
        return left is right and compare in (_OPERATORS["eq"], _OPERATORS["ge"], _OPERATORS["le"])
    return compare(left, right)


def _read_date(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadQuery(f"'{text}' is not a date.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
