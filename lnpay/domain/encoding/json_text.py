"""JSON that round-trips exactly: numbers keep their form, so that 1.10 does not become 1.1 or "1.10"."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NoReturn

from lnpay.domain.errors import InvalidRequest

Json = Any
"""A value of JSON: None, a bool, a text, a number (int or JsonNumber), a list or a dict of those."""

MAX_METADATA_BYTES = 16_384
"""The most metadata that an invoice can hold, as compact JSON in UTF-8."""

MAX_METADATA_DEPTH = 32
"""Maximum nesting: deeper JSON could exceed Python's recursion limit when it is read again."""


MAX_NUMBER_CHARACTERS = 1_000
"""The longest number in metadata. Python, and much of what shops run on, reads no more than 4,300 digits."""


class JsonNumber(Decimal):
    """A JSON number that keeps the form in which it was written."""

    text: str

    def __new__(cls, text: str) -> JsonNumber:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type[JsonNumber], tuple[str]]:
        return JsonNumber, (self.text,)

    def __deepcopy__(self, memo: object) -> JsonNumber:
        return self


def read_json_text(text: str | bytes) -> Json:
    """The value of a JSON text. Numbers that Python would write in another form become JsonNumber.

    Raises ValueError, or RecursionError, for what is not JSON or nested too deeply.
    """
    try:
        return json.loads(text, parse_float=JsonNumber, parse_int=_read_int, parse_constant=_refuse_constant)
    except ArithmeticError as error:  # an exponent of twenty digits is JSON, and more than Decimal holds
        raise ValueError("a number is out of range") from error


def _read_int(text: str) -> int | JsonNumber:
    # Python reads no more than 4,300 digits into an int, and forgets the sign of -0.
    return JsonNumber(text) if text == "-0" or len(text) > 40 else int(text)


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def write_json_text(
    value: object,
    *,
    default: Callable[[Any], object] | None = None,
    separators: tuple[str, str] | None = None,
    ensure_ascii: bool = True,
    sort_keys: bool = False,
    indent: int | None = None,
) -> str:
    """The JSON text of a value. The options are those of json.dumps.

    A JsonNumber is written as it was read, a Decimal as a number unless `default` takes it.
    Raises TypeError for what is not JSON.
    """
    mark = ""
    numbers: list[str] = []

    def keep(one: object) -> object:
        nonlocal mark
        if default is not None and not isinstance(one, JsonNumber):
            return default(one)
        if not isinstance(one, Decimal):
            raise TypeError(f"{type(one).__name__} is not JSON")
        mark = mark or secrets.token_hex(16)
        numbers.append(one.text if isinstance(one, JsonNumber) else str(one))
        return f"{mark}:{len(numbers) - 1}:"

    text = json.dumps(
        value, default=keep, separators=separators, ensure_ascii=ensure_ascii, sort_keys=sort_keys, indent=indent
    )
    # The mark is random and chosen after the shop sent its text, so the text cannot contain it.
    return re.sub(f'"{mark}:([0-9]+):"', lambda found: numbers[int(found[1])], text) if mark else text


def json_text(value: object) -> str:
    """Compact JSON text, as it is stored and sent."""
    return write_json_text(value, ensure_ascii=False, separators=(",", ":"))


def check_metadata(metadata: Json) -> Json:
    """Return `metadata`, any JSON value from `read_json_text`, if it is within the limits of an invoice.

    Raises InvalidRequest, which says what is wrong.
    """
    if _depth(metadata) > MAX_METADATA_DEPTH:
        raise InvalidRequest(f"is nested more than {MAX_METADATA_DEPTH} levels deep")
    try:
        size = len(json_text(metadata).encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest("has characters that are not text") from error
    if size > MAX_METADATA_BYTES:
        raise InvalidRequest(f"is larger than {MAX_METADATA_BYTES:,} bytes")
    if any(len(number.text) > MAX_NUMBER_CHARACTERS for number in _numbers(metadata)):
        raise InvalidRequest(f"has a number of more than {MAX_NUMBER_CHARACTERS:,} characters")
    return metadata


def _numbers(value: Json) -> Iterator[JsonNumber]:
    if isinstance(value, JsonNumber):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)


def _depth(value: Json) -> int:
    depth = 0
    level = [value]
    while level and depth <= MAX_METADATA_DEPTH:
        inner = [one for one in level if isinstance(one, dict | list)]
        if not inner:
            break
        depth += 1
        level = [child for one in inner for child in (one.values() if isinstance(one, dict) else one)]
    return depth
