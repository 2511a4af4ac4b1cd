"""Validates the links that a shop sets for its customers."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from lnpay.domain.addresses import ascii_host

MAX_LINK_CHARACTERS = 2_000

_CHARACTERS = r"[!#-;=?-\[\]_a-z~]"
"""The ASCII characters of a URL. Browsers disagree about others, such as spaces, backslashes and quotes."""

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST = rf"(?:{_NAME}(?:\.{_NAME}){{0,20}}\.?|\[(?:[0-9a-fA-F]{{0,4}}:){{2,7}}[0-9a-fA-F]{{0,4}}\])"
_PORT = r"(?::(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
_REST = rf"(?:[/?#]{_CHARACTERS}*)?"

LINK_PATTERN = (
    rf"[hH][tT][tT][pP][sS]://{_HOST}{_PORT}{_REST}"
    rf"|[hH][tT][tT][pP]://(?:localhost|127\.0\.0\.1|\[::1\]){_PORT}{_REST}"
)
"""https anywhere, or http on localhost, for development.

Never a scheme that runs a script, and never a user name or password, which disguise the host.
"""

_LINK = re.compile(LINK_PATTERN)

_SHOP_ADDRESS = re.compile(rf"[hH][tT][tT][pP][sS]?://{_HOST}{_PORT}{_REST}")
"""http is permitted too, for a shop in a local network."""


def customer_link(text: str) -> str:
    """`text` if a customer's browser may follow it. Raises ValueError saying what is wrong."""
    if not _LINK.fullmatch(text):
        raise ValueError(_reason(text))
    return text


def shop_address(text: str) -> str:
    """`text` if the operator's browser may be sent there. Raises ValueError saying what is wrong."""
    if not _SHOP_ADDRESS.fullmatch(text):
        reason = _reason(text)
        raise ValueError("must be an absolute http:// or https:// URL" if reason.startswith("must be an") else reason)
    return text


def _reason(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        return "is not a URL"
    if not (parts.hostname or "").isascii():
        return _host_in_ascii(parts.hostname or "")
    if not re.fullmatch(f"{_CHARACTERS}*", text):
        return "has characters that no URL has: percent-encode them, such as %20 for a space"
    if parts.scheme not in ("https", "http") or not parts.netloc:
        return "must be an https:// URL"
    if "@" in parts.netloc:
        return "must not have a user name or password in it"
    if parts.scheme == "http":
        return "must begin with https:// (http:// is for localhost)"
    return "has no proper host or port"


def _host_in_ascii(host: str) -> str:
    try:
        return f'must have its host in ASCII: write "{ascii_host(host)}"'
    except ValueError:
        return "has no proper host or port"
