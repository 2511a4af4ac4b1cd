"""Links a shop gives for its customers to follow: what may stand behind one."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

MAX_LINK_CHARACTERS = 2_000

_CHARACTERS = re.compile(r"[!#-;=?-\[\]_a-z~]*")
"""ASCII that a URL is written in. Browsers read others (spaces, backslashes, quotes) in ways of their own."""

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9._-]*[a-z0-9])?\.?")

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def customer_link(text: str) -> str:
    """The link in `text`, fit to be followed by a customer's browser.

    https anywhere, or http on this machine, where a shop is being built. Never a scheme that runs as a script, and
    never a name or password, which make one host look like another.
    Raises ValueError with what is wrong with it.
    """
    text = text.strip()
    if len(text) > MAX_LINK_CHARACTERS:
        raise ValueError(f"is longer than {MAX_LINK_CHARACTERS} characters")
    if not _CHARACTERS.fullmatch(text):
        raise ValueError("has characters that no URL has; write them as %20 and the like")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ValueError("is not a URL") from error
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must be an https:// URL")
    _check_host(parts, parts.hostname)
    return text


def _check_host(parts: SplitResult, host: str) -> None:
    if "@" in parts.netloc:
        raise ValueError("must not have a user name or password in it")
    if parts.scheme == "http" and host not in _THIS_MACHINE:
        raise ValueError("must begin with https:// (http:// is for localhost)")
    if not parts.netloc.startswith("[") and not _HOST.fullmatch(host):
        raise ValueError("has no proper host")
