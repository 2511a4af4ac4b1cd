"""Bech32 (BIP 173) without its limit of 90 characters, as BOLT11 and LNURL use it.

Source: https://github.com/bitcoin/bips/blob/master/bip-0173.mediawiki
"""

from __future__ import annotations

from collections.abc import Sequence

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

_WORD_OF = {character: word for word, character in enumerate(CHARSET)}
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_WORDS = 6


class Bech32Error(ValueError):
    """The text is not bech32. The message says why and never contains the text."""


def decode(text: str) -> tuple[str, list[int]]:
    """The lower-case prefix and the data words (5 bits each), without the checksum.

    Raises Bech32Error.
    """
    # Some non-ASCII letters lower to ASCII (the Kelvin sign to k) and must not be accepted as such.
    if not text.isascii():
        raise Bech32Error("there are characters that do not belong there")
    if text not in (text.lower(), text.upper()):
        raise Bech32Error("upper and lower case are mixed")
    prefix, separator, data = text.lower().rpartition("1")
    if not separator or not prefix:
        raise Bech32Error("there is no separator 1 after a prefix")
    if not set(data) <= _WORD_OF.keys():
        raise Bech32Error("there are characters that do not belong there")
    words = [_WORD_OF[character] for character in data]
    if len(words) < _CHECKSUM_WORDS or _polymod(prefix, words) != 1:
        raise Bech32Error("the checksum is wrong: characters were changed or lost")
    return prefix, words[:-_CHECKSUM_WORDS]


def encode(prefix: str, content: bytes) -> str:
    """Encode bytes in lower case, with a checksum."""
    words = _to_words(content)
    checksum = _polymod(prefix, [*words, *[0] * _CHECKSUM_WORDS]) ^ 1
    ending = [checksum >> 5 * (_CHECKSUM_WORDS - 1 - place) & 31 for place in range(_CHECKSUM_WORDS)]
    return prefix + "1" + "".join(CHARSET[word] for word in (*words, *ending))


def to_bytes(words: Sequence[int]) -> bytes:
    """The whole bytes in `words`; leftover bits are padding."""
    size, padding = divmod(5 * len(words), 8)
    return (to_int(words) >> padding).to_bytes(size)


def to_int(words: Sequence[int]) -> int:
    """Big-endian."""
    value = 0
    for word in words:
        value = value << 5 | word
    return value


def _to_words(content: bytes) -> list[int]:
    size = -(-8 * len(content) // 5)
    value = int.from_bytes(content) << (5 * size - 8 * len(content))
    return [value >> 5 * (size - 1 - place) & 31 for place in range(size)]


def _polymod(prefix: str, words: Sequence[int]) -> int:
    """The polynomial of prefix and words; with the checksum at their end it is 1."""
    spread = [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]
    remainder = 1
    for word in (*spread, *words):
        remainder = (remainder & 0x1FFFFFF) << 5 ^ word ^ _REDUCED[remainder >> 25]
    return remainder


def _reduce(top: int) -> int:
    reduced = 0
    for bit, generator in enumerate(_GENERATORS):
        reduced ^= generator if top >> bit & 1 else 0
    return reduced


# A table of all 32 outcomes takes a third of the time of computing each.
_REDUCED = tuple(_reduce(top) for top in range(32))
