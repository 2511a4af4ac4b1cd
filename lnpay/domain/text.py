"""Text from outside made safe to store and print, and how times and counts are written for people."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

DESCRIPTION_CHARACTERS = 200
"""Strike's limit for an invoice's description, counted the stricter way: in UTF-16 units, where an emoji is two."""

DESCRIPTION_BYTES = 639
"""Capacity of the description field of a BOLT11 payment request: 1,023 groups of five bits."""

_ELLIPSIS = "…"

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line breaks of every kind, and lone surrogates, which UTF-8 cannot encode."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_JOINER = "\u200d"
_EMOJI_SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")
_REGIONAL_INDICATORS = ("\U0001f1e6", "\U0001f1ff")


def is_printable_ascii(text: str) -> bool:
    """Whether `text` is printable ASCII only, as every id and token of ours is."""
    return text.isascii() and text.isprintable()


def is_storable(text: str) -> bool:
    """Whether every database accepts `text` as a value: PostgreSQL rejects NUL characters and lone surrogates."""
    return "\0" not in text and not has_lone_surrogate(text)


def has_lone_surrogate(text: str) -> bool:
    """Whether `text` holds half of a surrogate pair, which JSON can carry but UTF-8 cannot encode."""
    return _LONE_SURROGATE.search(text) is not None


def blank_lone_surrogates(text: str) -> str:
    """`text` with a space for each lone surrogate."""
    return _LONE_SURROGATE.sub(" ", text)


def blank_unprintable(text: str) -> str:
    """`text` with a space for each control character, line break and lone surrogate. Its length is unchanged."""
    return _UNPRINTABLE.sub(" ", text)


def printable(text: str, instead: str = " ") -> str:
    """`text` with `instead` for each character that is not printable, joiners and direction marks included."""
    return "".join(one if one.isprintable() else instead for one in text)


def terminal_safe(text: str, keep: str = "") -> str:
    """`text` with "?" for everything but printable ASCII and `keep`: any terminal shows it, and no cursor moves."""
    return "".join(one if one in keep or is_printable_ascii(one) else "?" for one in text)


def on_one_line(text: str) -> str:
    """`text` stripped, with runs of spaces collapsed."""
    return re.sub(" {2,}", " ", text.strip())


def utc_minute(at: datetime) -> str:
    """A time to the minute: "2026-11-23 05:12 UTC"."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def utc_second(at: datetime) -> str:
    """A time to the second: "2026-11-23 05:12:40 UTC"."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def counted(number: int, noun: str) -> str:
    """A number and its noun: "1 refund", "1,234 refunds"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def fit_description(text: str) -> str:
    """`text` cut to what Strike and a payment request accept: between characters, with an ellipsis."""
    if _fits(text, DESCRIPTION_CHARACTERS, DESCRIPTION_BYTES):
        return text
    characters, size = DESCRIPTION_CHARACTERS - 1, DESCRIPTION_BYTES - len(_ELLIPSIS.encode())
    end = min(len(text), characters)
    while not _fits(text[:end], characters, size):
        end -= 1
    return text[: _last_edge(text, end) or end].rstrip() + _ELLIPSIS


def _fits(text: str, characters: int, size: int) -> bool:
    return len(text.encode("utf-16-le")) // 2 <= characters and len(text.encode()) <= size


def _last_edge(text: str, end: int) -> int:
    """The last position up to `end` at which `text` may be cut; 0 if there is none."""
    while end and not _is_edge(text, end):
        end -= 1
    return end


def _is_edge(text: str, position: int) -> bool:
    """Whether a visible character begins at `position`: an approximation of Unicode's grapheme rules."""
    before, after = text[position - 1], text[position]
    if after == _JOINER or before == _JOINER or unicodedata.category(after).startswith("M"):
        return False
    if _EMOJI_SKIN_TONES[0] <= after <= _EMOJI_SKIN_TONES[1]:
        return False
    return not (_is_regional_indicator(after) and _indicators_before(text, position) % 2 == 1)


def _is_regional_indicator(character: str) -> bool:
    return _REGIONAL_INDICATORS[0] <= character <= _REGIONAL_INDICATORS[1]


def _indicators_before(text: str, position: int) -> int:
    """How many consecutive regional indicators precede `position`: two of them make one flag."""
    start = position
    while start and _is_regional_indicator(text[start - 1]):
        start -= 1
    return position - start
