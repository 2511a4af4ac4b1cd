"""Receive requests and receives as Strike writes them."""

from __future__ import annotations

from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.strike.models import Bolt11Part, Money, OnchainPart, Receive, ReceiveRequest
from lnpay.sandbox.strike.views import Json, money_json, time_text

BLOCK_HEIGHT = 900_000


def receive_request_json(request: ReceiveRequest, config: SimulatorConfig) -> Json:
    """A receive request, with the parts it was made of."""
    view: Json = {
        "receiveRequestId": request.request_id,
        "created": time_text(request.created_at, config),
        "targetCurrency": request.target_currency,
    }
    if request.bolt11:
        view["bolt11"] = _bolt11_json(request.bolt11, config)
    if request.onchain:
        view["onchain"] = _onchain_json(request.onchain, config)
    return _with_oddities(view, request.oddities)


def _bolt11_json(part: Bolt11Part, config: SimulatorConfig) -> Json:
    view: Json = {
        "invoice": part.payment_request,
        **_asked(part.requested, part.sats),
        "description": part.description,
        "descriptionHash": part.description_hash,
        "paymentHash": part.payment_hash,
        "expires": time_text(part.expires_at, config),
    }
    return _emptied(view, config)


def _onchain_json(part: OnchainPart, config: SimulatorConfig) -> Json:
    bitcoin = None if part.sats is None else Money(part.sats, "BTC").text()
    view: Json = {
        "address": part.address,
        "addressUri": f"bitcoin:{part.address}" + (f"?amount={bitcoin}" if bitcoin else ""),
        **_asked(part.requested, part.sats),
    }
    return _emptied(view, config)


def _asked(requested: Money | None, sats: int | None) -> Json:
    """Both amounts. The one in bitcoin is a plain string, no money object."""
    return {
        "requestedAmount": None if requested is None else money_json(requested),
        "btcAmount": None if sats is None else Money(sats, "BTC").text(),
    }


def _emptied(view: Json, config: SimulatorConfig) -> Json:
    if config.empty_receive_fields == "null":
        return view
    return {name: value for name, value in view.items() if value is not None}


def receive_json(receive: Receive, config: SimulatorConfig, *, is_completed: bool) -> Json:
    """One payment of a request, as reading shows it now."""
    view: Json = {
        "receiveId": receive.receive_id,
        "receiveRequestId": receive.request.request_id,
        "type": receive.way,
        "state": "COMPLETED" if is_completed else "PENDING",
        "amountReceived": money_json(receive.amount),
        "created": time_text(receive.created_at, config),
    }
    if is_completed and receive.credited and receive.completed_at:
        view["amountCredited"] = money_json(receive.credited)
        if receive.credited.currency != receive.amount.currency or config.has_conversion_rate_of_one:
            view["conversionRate"] = {
                "amount": str(receive.rate),
                "sourceCurrency": receive.amount.currency,
                "targetCurrency": receive.credited.currency,
            }
        view["completed"] = time_text(receive.completed_at, config)
    block = {"LIGHTNING": _lightning, "ONCHAIN": _onchain, "P2P": _p2p}[receive.way]
    view[receive.way.lower()] = _emptied(block(receive, is_completed), config)
    for name in config.receive_fields_missing:
        view.pop(name, None)
    return _with_oddities(view, receive.oddities)


def _lightning(receive: Receive, is_completed: bool) -> Json:
    part = receive.request.bolt11
    assert part is not None  # noqa: S101 - it was paid by it
    return {
        "invoice": part.payment_request,
        "preimage": part.preimage,
        "description": part.description,
        "descriptionHash": part.description_hash,
        "paymentHash": part.payment_hash,
    }


def _onchain(receive: Receive, is_completed: bool) -> Json:
    part = receive.request.onchain
    assert part is not None  # noqa: S101 - it was paid by it
    confirmed = {"blockHeight": BLOCK_HEIGHT, "numberOfConfirmations": 1} if is_completed else {}
    return {"address": part.address, "transactionId": receive.onchain_transaction_id, **confirmed}


def _p2p(receive: Receive, is_completed: bool) -> Json:
    return {"payerAccountId": receive.payer_account_id}


def _with_oddities(view: Json, oddities: dict[str, object]) -> Json:
    changed = {**view, **oddities}
    return {name: value for name, value in changed.items() if name not in oddities or value is not None}
