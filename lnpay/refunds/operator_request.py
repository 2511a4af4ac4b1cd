"""Parse and validate the operator's request to refund a paid order, from the command line or the admin page."""

from __future__ import annotations

from decimal import Decimal

from lnpay.domain.addresses import AddressRefused, parse_refund_address
from lnpay.domain.errors import InvalidRequest
from lnpay.domain.model import Invoice
from lnpay.domain.money import parse_fiat
from lnpay.domain.states import AmountBasis, RefundAsker
from lnpay.refunds.merchant import RefundRequest

MAX_KEY_CHARACTERS = 200


def read_operator_request(
    invoice: Invoice,
    *,
    request_key: str,
    amount: str | None,
    sats: str | None,
    address: str | None,
    is_todays_price: bool = False,
) -> RefundRequest:
    """The refund that the operator asks for. Raises InvalidRequest, with a message for the operator.

    request_key: the same key gives the same refund. amount: in the invoice's currency; sats: in its place. With
    neither, everything that is left. address: None: the customer claims it by a link.
    """
    if not request_key or len(request_key) > MAX_KEY_CHARACTERS or not request_key.isprintable():
        raise InvalidRequest(f"the key of a refund has 1 to {MAX_KEY_CHARACTERS} printable characters")
    if amount is not None and sats is not None:
        raise InvalidRequest("give the amount in the order's currency or in sats, not both")
    if is_todays_price and amount is None:
        raise InvalidRequest("today's price goes with an amount in the order's currency only")
    basis, amount_fiat, amount_sats = AmountBasis.WHOLE, None, None
    # An empty text, as of a script's variable that is not set, must not refund everything.
    if amount is not None:
        basis = AmountBasis.TODAY_PRICE if is_todays_price else AmountBasis.SALE_PRICE
        amount_fiat = _parsed(amount, invoice.order.currency)
    elif sats is not None:
        basis, amount_sats = AmountBasis.SATS, int(_parsed(sats, "sats"))
    return RefundRequest(
        request_key=request_key,
        asked_by=RefundAsker.OPERATOR,
        basis=basis,
        amount_sats=amount_sats,
        amount_fiat=amount_fiat,
        address=None if address is None else _checked(address),
    )


def _parsed(amount: str, currency: str) -> Decimal:
    try:
        return parse_fiat(amount, currency)
    except InvalidRequest as error:
        raise InvalidRequest(f"the amount {error.message}") from error


def _checked(address: str) -> str:
    try:
        return parse_refund_address(address)
    except AddressRefused as error:
        raise InvalidRequest(f"this {error}") from error
