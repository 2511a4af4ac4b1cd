"""Issue a draft as a Strike receive request, presented to the shop in the shape of an invoice and its quote."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from lnpay.domain.bolt11 import Bolt11Error, PaymentRequest, decode
from lnpay.domain.errors import StrikeAmbiguous, StrikeRejected
from lnpay.domain.model import Draft, Issue
from lnpay.domain.money import BTC, sats_to_btc, sats_to_msats
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.text import fit_description
from lnpay.strike.receive_requests import ReceiveRequests, StrikeReceiveRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestIssuer:
    """How to create receive requests. requests: limited to the calls that new ones may use.

    target_currency: the currency that payments are credited in, an upper-case code.
    """

    requests: ReceiveRequests
    target_currency: str = BTC


def issue_request(issuer: RequestIssuer, draft: Draft, time_to_pay: timedelta) -> Issue:
    """Create a receive request for a draft, payable for `time_to_pay`.

    If Strike's answer is lost, a request may exist that no customer has seen. It is never shown, so it is never paid,
    and a new one is created.
    Raises StrikeError; StrikeRejected also if Strike's request is not what we asked for.
    """
    try:
        made = _create(issuer, draft, time_to_pay)
    except StrikeAmbiguous:
        made = _create(issuer, draft, time_to_pay)
    request = _checked(issuer, draft, made)
    return Issue(
        strike_invoice_id=made.request_id,
        bolt11=made.bolt11,
        payment_hash=request.payment_hash,
        strike_invoice=_shown_invoice(draft, made),
        strike_quote=_shown_quote(draft, made),
        opened_at=made.created_at,
        expires_at=min(made.created_at + time_to_pay, made.expires_at, request.expires_at),
        payable_until=max(made.expires_at, request.expires_at),
        receive_with=ReceiveWith.RECEIVE_REQUEST,
        target_currency=issuer.target_currency,
    )


def _create(issuer: RequestIssuer, draft: Draft, time_to_pay: timedelta) -> StrikeReceiveRequest:
    description = draft.order.description
    return issuer.requests.create(
        draft.amount_sats,
        None if description is None else fit_description(description),
        int(time_to_pay.total_seconds()),
        issuer.target_currency,
    )


def _checked(issuer: RequestIssuer, draft: Draft, made: StrikeReceiveRequest) -> PaymentRequest:
    """Check Strike's request: it must ask for exactly our amount, credited in our currency."""
    try:
        request = decode(made.bolt11)
    except Bolt11Error as error:
        _reject(made, f"payment request is invalid: {error}")
    if request.amount_msats != sats_to_msats(draft.amount_sats):
        asked = "any amount" if request.amount_msats is None else f"{request.amount_msats:,} msats"
        _reject(made, f"payment request asks for {asked}, not {draft.amount_sats:,} sats")
    if (made.target_currency or BTC) != issuer.target_currency:
        _reject(made, f"payments are credited in {made.target_currency}, not in {issuer.target_currency}")
    return request


def _reject(made: StrikeReceiveRequest, reason: str) -> NoReturn:
    log.error("strike receive request rejected invoice_id=%s reason=%s", made.request_id, reason)
    raise StrikeRejected("Strike's receive request does not match the invoice")


def _shown_invoice(draft: Draft, made: StrikeReceiveRequest) -> dict[str, Any]:
    """The fields of Strike's invoice object, for shops that read them."""
    return {
        "invoiceId": made.request_id,
        "amount": _money(draft),
        "state": "UNPAID",
        "created": made.created_at.isoformat(),
        "correlationId": draft.strike_correlation_id,
        "description": draft.order.description,
    }


def _shown_quote(draft: Draft, made: StrikeReceiveRequest) -> dict[str, Any]:
    return {
        "quoteId": made.request_id,
        "description": draft.order.description,
        "lnInvoice": made.bolt11,
        "expiration": made.expires_at.isoformat(),
        "expirationInSec": max(0, int((made.expires_at - made.created_at).total_seconds())),
        "sourceAmount": _money(draft),
        "targetAmount": _money(draft),
        "conversionRate": {"amount": "1", "sourceCurrency": BTC, "targetCurrency": BTC},
    }


def _money(draft: Draft) -> dict[str, str]:
    return {"amount": sats_to_btc(draft.amount_sats), "currency": BTC}
