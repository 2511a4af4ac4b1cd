"""Where settings are read from: the .env file and the environment, with any quotes around values removed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

_PAIRED = "\"'"
QUOTES = f"{_PAIRED}`“”„‘’‚«»"
_SHOWN_CHARACTERS = 40


def read_env_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """The variables in the file, and problems with the file itself."""
    try:
        # Windows editors write a byte order mark, which would become part of the first name.
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except UnicodeDecodeError:
        return {}, [f"{path.name} cannot be read: it must be a text file in UTF-8"]
    except OSError as error:
        return {}, [f"{path} cannot be read: {error.strerror}. LNPay needs permission to read this file"]
    values: dict[str, str] = {}
    problems = []
    # No interpolation: a secret may contain a $.
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            problems.append(f"{path.name}, line {binding.original.line} is not of the form NAME=value")
        elif binding.key is not None:
            # An empty line, such as one that was copied with the example, hides no other of the same name.
            values.update(without_empty({binding.key: binding.value}))
    return values, problems


def where_to_write(path: Path) -> str:
    """Where to put a missing setting, and a hint if that file does not exist."""
    path = path.absolute()
    if path.exists():
        return str(path)
    for name in (f"{path.name}.txt", path.name.removeprefix(".")):
        if path.with_name(name).is_file():
            return f"{path}. That file does not exist; {path.with_name(name)} does: rename it"
    return f"{path}. That file does not exist: copy config/.env.example to it"


def without_empty(values: Mapping[str, str | None]) -> dict[str, str]:
    """The non-empty values, stripped."""
    stripped = ((name, (text or "").strip()) for name, text in values.items())
    return {name: text for name, text in stripped if text}


def unquote(text: str) -> str:
    """A value without surrounding quotes, which Windows' `set`, `docker run --env-file` and raw files leave in place.

    Raises ValueError for an unpaired quote, and for control characters; the message continues "NAME ...".
    """
    if re.search("[\x00-\x1f\x7f]", text):
        raise ValueError(
            "has a line break, a tab or another control character. Within double quotes \\n and \\t mean such: "
            "write single quotes, or / instead of \\ in a path"
        )
    first, last = text[0], text[-1]
    if first in _PAIRED and first == last and len(text) > 1 and first not in text[1:-1]:
        return text[1:-1].strip()
    both = first in QUOTES and last in QUOTES
    if both or any(end in QUOTES and text.count(end) % 2 for end in (first, last)):
        raise ValueError("begins or ends with a quote mark that does not belong to it: write the value without quotes")
    return text


def find_misspelt(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """A problem for every name in the file that looks like a misspelt setting."""
    problems = []
    for name in names:
        near = get_close_matches(name.upper().replace("-", "_"), known, n=1, cutoff=0.75)
        if name not in known and near:
            problems.append(f"{shorten(name)} is not a setting: did you mean {near[0]}?")
    return problems


def shorten(text: str) -> str:
    """A value cut to what a message shows."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
