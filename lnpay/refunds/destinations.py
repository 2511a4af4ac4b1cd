"""Where a customer's refund can go: a Lightning address, an LNURL, or a payment request (BOLT11) of exactly its amount.

A payment request is for one payment and expires. If it expires unpaid, the refund is not lost: the customer is asked
again (`why_lapsed`).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from lnpay.domain import bolt11
from lnpay.domain.addresses import AddressRefused, is_payment_request, parse_refund_address
from lnpay.domain.errors import InvalidRequest
from lnpay.domain.model import Refund
from lnpay.domain.money import sats_to_msats

MAX_CHARACTERS = 1_500
"""The longest payment request accepted: those of wallets have a few hundred, and a database index about 2,700 bytes."""

LEAST_TIME = timedelta(minutes=2)
"""How long a payment request must still be valid when it is entered, because quoting and paying it takes a moment."""

MAINNET = "bc"

_SCHEME = re.compile(r"\Alightning:(?://)?")

LAPSED = "the customer's invoice expired before it was paid: the customer is asked for another one, or an address"


def parse_destination(text: str, refund: Refund, now: datetime) -> str:
    """The destination in `text`, ready for Strike: a payment request in lower case, or an address.

    Raises InvalidRequest; its code says why a payment request cannot be taken: bolt11_invalid, bolt11_network,
    bolt11_amount, bolt11_expired.
    """
    if not is_payment_request(text.strip()):
        return _address(text)
    bare = _SCHEME.sub("", text.strip().lower())
    if len(bare) > MAX_CHARACTERS:
        raise _refused("bolt11_invalid", f"is longer than {MAX_CHARACTERS:,} characters: create a simpler one")
    try:
        asked = bolt11.decode(bare)
    except bolt11.Bolt11Error:
        raise _refused("bolt11_invalid", "is damaged: copy all of it again from your wallet") from None
    if asked.network != MAINNET:
        raise _refused("bolt11_network", "is for a test network: create one for the main bitcoin network")
    if asked.amount_msats != sats_to_msats(refund.amount_sats):
        raise _refused("bolt11_amount", f"must ask for exactly {refund.amount_sats:,} sats: create another one")
    if asked.expires_at < now + LEAST_TIME:
        raise _refused("bolt11_expired", "has expired, or is about to: create another one")
    return bare


def _address(text: str) -> str:
    try:
        return parse_refund_address(text)
    except AddressRefused as error:
        raise InvalidRequest(
            f"this {error}",
            errors={"ln_address": "must be a Lightning address such as name@host, or an LNURL"},
        ) from error


def _refused(code: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"this invoice {why}", errors={"ln_address": why}, code=code)


def why_lapsed(refund: Refund, now: datetime) -> str | None:
    """Why a refund cannot go to its payment request any more; None if it can, or goes to an address."""
    if refund.address is None or not is_payment_request(refund.address):
        return None
    return LAPSED if bolt11.decode(refund.address).expires_at <= now else None
