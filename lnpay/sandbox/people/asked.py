"""What a payment request asks for, as the wallet's page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lnpay.sandbox.strike.models import InvoiceQuote, ReceiveRequest
from lnpay.sandbox.wallet import plain_request
from lnpay.sandbox.world import World


@dataclass(frozen=True, slots=True)
class Asked:
    """One payment request. sats: None leaves the amount to the payer."""

    sats: int | None
    description: str
    payable_until: datetime | None
    takes_other_amounts: bool
    paid_sats: int
    """What has already been paid to it, if it can be paid again."""
    closes_with_expiry: bool = False
    """Whether the shop's deadline is that of the payment request, as it is for a receive request."""


def look_at(sim: World, payment_request: str) -> Asked | None:
    """What a payment request or an address of this sandbox asks for; None for any other."""
    text = plain_request(payment_request)
    quote = sim.invoices.quotes_by_request.get(text)
    if quote is not None:
        return _of_invoice(quote)
    request = sim.receive_requests.find(text)
    return None if request is None else _of_receive_request(sim, request, text)


def _of_invoice(quote: InvoiceQuote) -> Asked:
    return Asked(quote.sats, quote.invoice.description or "", quote.expires_at, takes_other_amounts=False, paid_sats=0)


def _of_receive_request(sim: World, request: ReceiveRequest, text: str) -> Asked:
    is_lightning = request.bolt11 is not None and request.bolt11.payment_request == text
    part = request.bolt11 if is_lightning else request.onchain
    return Asked(
        sats=None if part is None else part.sats,
        description=(request.bolt11.description or "") if request.bolt11 else "",
        payable_until=request.bolt11.expires_at if request.bolt11 and is_lightning else None,
        takes_other_amounts=sim.config.receive_amounts != "exact",
        paid_sats=sum(one.sats for one in request.receives),
        closes_with_expiry=is_lightning,
    )


def in_words(sent: int, asked: int | None) -> str:
    """How a payment compares with what was asked for."""
    if asked is None or sent == asked:
        return "Paid."
    more_or_less = "more" if sent > asked else "less"
    return f"Paid {sent:,} sats, {abs(sent - asked):,} {more_or_less} than asked for."
