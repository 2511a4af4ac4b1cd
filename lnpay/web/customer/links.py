"""The shop's links on the payment page, with the invoice's ids filled in."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from lnpay.domain.model import Invoice

PLACEHOLDER = re.compile(r"(?:\{|%7[Bb])(InvoiceId|OrderId)(?:\}|%7[Dd])")
"""Placeholders that Greenfield clients put into a link for ids they do not know yet."""


def return_link(invoice: Invoice) -> str | None:
    """Where the customer goes after paying. Placeholders are replaced only in a Greenfield client's link."""
    link = invoice.order.return_url
    if link is None or invoice.order.checkout_options is None:
        return link
    ids = {"InvoiceId": invoice.strike_invoice_id, "OrderId": _order_id(invoice)}
    return PLACEHOLDER.sub(lambda found: quote(ids[found[1]], safe=""), link)


def _order_id(invoice: Invoice) -> str:
    """The full order id from the metadata, because the database stores a long one shortened."""
    given = invoice.order.metadata.get("orderId") if isinstance(invoice.order.metadata, dict) else None
    return "" if given is None or isinstance(given, bool | list | dict) else str(given)


def origin_of(link: str) -> str:
    """The origin of a link, as a browser sends it."""
    parts = urlsplit(link)
    host, port = (parts.hostname or "").lower(), parts.port
    host = f"[{host}]" if ":" in host else host
    is_usual = port is None or (parts.scheme.lower(), port) in (("https", 443), ("http", 80))
    return f"{parts.scheme.lower()}://{host}" + ("" if is_usual else f":{port}")
