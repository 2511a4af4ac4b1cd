"""What all tables share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, Integer, MetaData, text

BigId = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers new rows only in a column of the type INTEGER."""

metadata = MetaData()


def one_of(column: str, words: Iterable[str]) -> str:
    """The condition that `column` holds one of `words`."""
    return f"{column} IN ({', '.join(repr(str(word)) for word in words)})"


def only_where(condition: str) -> dict[str, Any]:
    """Options of an index that holds some rows alone.

    PostgreSQL's are not named: that would load its drivers wherever SQLite is used. The migrations create the index on
    both.
    """
    return {"sqlite_where": text(condition)}
