"""Text that shops send: made fit to be stored and shown, and cut to what a payment request has room for."""

from __future__ import annotations

import re
import unicodedata

DESCRIPTION_CHARACTERS = 200
"""Strike's limit for an invoice's description, counted the stricter way: in UTF-16, where an emoji is two."""

DESCRIPTION_BYTES = 639
"""What the description field of a BOLT11 payment request holds: 1,023 groups of five bits."""

_ELLIPSIS = "…"

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Controls, line breaks of every kind, and halves of characters, which cannot be written as UTF-8."""

_JOINER = "\u200d"
_EMOJI_SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")
_REGIONAL_INDICATORS = ("\U0001f1e6", "\U0001f1ff")


def blank_unprintable(text: str) -> str:
    """`text` with a space for each control, line break and half of a character. Its length stays."""
    return _UNPRINTABLE.sub(" ", text)


def on_one_line(text: str) -> str:
    """`text` without space around it, and with single spaces within."""
    return re.sub(" {2,}", " ", text.strip())


def fit_description(text: str) -> str:
    """`text` as Strike and a payment request can take it: if too long, cut between characters, with an ellipsis."""
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
    """The last place up to `end` where `text` may be cut; 0 if there is none."""
    while end and not _is_edge(text, end):
        end -= 1
    return end


def _is_edge(text: str, place: int) -> bool:
    """Whether what stands at `place` begins a character as people see it, near enough to Unicode's rules."""
    before, after = text[place - 1], text[place]
    if after == _JOINER or before == _JOINER or unicodedata.category(after).startswith("M"):
        return False
    if _EMOJI_SKIN_TONES[0] <= after <= _EMOJI_SKIN_TONES[1]:
        return False
    return not (_is_flag_half(after) and _flag_halves_before(text, place) % 2 == 1)


def _is_flag_half(character: str) -> bool:
    return _REGIONAL_INDICATORS[0] <= character <= _REGIONAL_INDICATORS[1]


def _flag_halves_before(text: str, place: int) -> int:
    """How many halves of flags stand in a row before `place`: two of them are one flag."""
    start = place
    while start and _is_flag_half(text[start - 1]):
        start -= 1
    return place - start
