"""Texts that become parts of a URL at Strike."""

from __future__ import annotations

from urllib.parse import quote as url_quote

from lnpay.domain.errors import StrikeRejected


def segment(text: str) -> str:
    """An id as one path segment. Dots cannot be escaped: ".." would be another path."""
    if text in ("", ".", ".."):
        raise StrikeRejected("Strike has nothing with that id")
    return url_quote(text, safe="")


def literal(text: str) -> str:
    """An OData string literal."""
    return "'" + text.replace("'", "''") + "'"
