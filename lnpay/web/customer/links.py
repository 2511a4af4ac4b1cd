"""Where the payment page leads: the shop's link with the ids of the invoice in it."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from lnpay.domain.model import Invoice

PLACEHOLDER = re.compile(r"(?:\{|%7[Bb])(InvoiceId|OrderId)(?:\}|%7[Dd])")
"""What Greenfield clients write in a link for an id that they do not know yet."""


def return_link(invoice: Invoice) -> str | None:
    """Where the customer goes once the invoice is paid. Only in a Greenfield client's link is anything replaced."""
    link = invoice.order.return_url
    if link is None or invoice.order.checkout_options is None:
        return link
    ids = {"InvoiceId": invoice.strike_invoice_id, "OrderId": _order_id(invoice)}
    return PLACEHOLDER.sub(lambda found: quote(ids[found[1]], safe=""), link)


def _order_id(invoice: Invoice) -> str:
    """The order as the metadata names it: the database keeps a long name shortened."""
    given = invoice.order.metadata.get("orderId") if isinstance(invoice.order.metadata, dict) else None
    return "" if given is None or isinstance(given, bool | list | dict) else str(given)


def origin_of(link: str) -> str:
    """The origin of a link, as a browser names it."""
    parts = urlsplit(link)
    host, port = (parts.hostname or "").lower(), parts.port
    host = f"[{host}]" if ":" in host else host
    is_usual = port is None or (parts.scheme.lower(), port) in (("https", 443), ("http", 80))
    return f"{parts.scheme.lower()}://{host}" + ("" if is_usual else f":{port}")
