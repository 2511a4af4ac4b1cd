"""The control API under /_control/: set faults, move the clock, pay, inspect everything. JSON in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from decimal import Decimal
from typing import Any

from lnpay.sandbox.faults import Fault
from lnpay.sandbox.rates.prices import SOURCES
from lnpay.sandbox.strike.invoices import PaymentRefused
from lnpay.sandbox.strike.models import AccountEvent, Invoice, Receive, ReceiveRequest, Transaction
from lnpay.sandbox.web import (
    Reply,
    Request,
    Router,
    json_reply,
    read_json_object,
)
from lnpay.sandbox.world import World

Json = dict[str, Any]
Action = Callable[[World, Json, Json], Any]
"""Takes the simulator, the JSON body and the path's values; returns the JSON answer."""

ROUTER: Router[Action] = Router()


class Missing(LookupError):
    """The object does not exist: 404."""


def answer(simulator: World, request: Request) -> Reply:
    """One call: 200, or {"error": why} with 400, 404 or 409."""
    match = ROUTER.find(request.method, request.segments)
    if match is None and ROUTER.methods_of(request.segments):
        return json_reply(405, {"error": "this control does not take that method"})
    if match is None:
        return json_reply(404, {"error": "no such control"})
    try:
        body = read_json_object(request.body)
        return json_reply(200, plain(match.target(simulator, body, dict(match.values))))
    except Missing as error:
        return json_reply(404, {"error": str(error)})
    except PaymentRefused as error:
        return json_reply(409, {"error": str(error), "reason": error.reason})
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        return json_reply(400, {"error": f"{type(error).__name__}: {error}"})


def plain(value: Any) -> Any:  # noqa: ANN401 - any of the simulator's values
    """A value as JSON: times as ISO 8601, decimals as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def control(method: str, pattern: str) -> Callable[[Action], Action]:
    """Register an action under /_control."""

    def register(action: Action) -> Action:
        ROUTER.add(method, "/_control" + pattern, action)
        return action

    return register


@control("GET", "/faults")
def list_faults(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return [fault.as_json() for fault in sim.faults.faults]


@control("POST", "/faults")
def add_fault(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    known = {item.name for item in fields(Fault)} - {"fault_id", "hits"}
    if unknown := set(body) - known:
        raise ValueError(f"no such field of a fault: {sorted(unknown)}")
    return sim.faults.add(Fault(**{"method": "*", "path_pattern": "*", **body})).as_json()


@control("DELETE", "/faults")
def remove_faults(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    sim.faults.remove(body.get("fault_id"))
    return list_faults(sim, body, path)


@control("GET", "/clock")
def read_clock(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return {
        "now": sim.clock.now(),
        "running": sim.clock.is_running,
        "next_webhook_at": sim.webhooks.next_at(),
        "next_scheduled_at": sim.schedule.next_at(),
    }


@control("POST", "/clock/advance")
def advance_clock(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    sim.clock.advance(float(body["seconds"]))
    sim.tick()
    return read_clock(sim, body, path)


@control("GET", "/config")
def read_config(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return asdict(sim.config)


@control("POST", "/config")
def set_config(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    sim.config.update(body)
    return asdict(sim.config)


@control("POST", "/pay")
def pay(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    text = body.get("payment_request") or _latest_request(sim, body)
    transaction = sim.pay_invoice(
        text,
        late_seconds=float(body.get("late_seconds", 0)),
        pending_seconds=body.get("pending_seconds"),
        reverts=bool(body.get("reverts", False)),
        received_sats=body.get("received_sats"),
        is_strike_user=bool(body.get("is_strike_user", False)),
    )
    return {"payment_request": text, **_transaction(transaction)}


def _latest_request(sim: World, body: Json) -> str:
    request = sim.receive_requests.by_id.get(str(body.get("receive_request_id")))
    if request is not None and request.bolt11 is not None:
        return request.bolt11.payment_request
    invoice_id = str(body.get("invoice_id"))
    invoice = sim.invoices.by_id.get(invoice_id)
    if invoice is None or not invoice.quotes:
        raise Missing(f"no payment request for invoice {invoice_id}")
    return invoice.quotes[-1].payment_request


def _transaction(transaction: Transaction | Receive) -> Json:
    return {
        "transaction_id": transaction.transaction_id,
        "state": transaction.state,
        "created_at": transaction.created_at,
        "completed_at": transaction.completed_at,
    }


@control("POST", "/payments/{payment_id}/complete")
def complete_payment(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return _finish(sim, sim.complete_payment, path["payment_id"])


@control("POST", "/payments/{payment_id}/fail")
def fail_payment(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return _finish(sim, sim.fail_payment, path["payment_id"])


def _finish(sim: World, finish: Callable[[str], bool], payment_id: str) -> Json:
    if payment_id not in sim.payments.payments:
        raise Missing(f"no payment {payment_id}")
    return {"changed": finish(payment_id), "state": sim.payments.payments[payment_id].state}


@control("GET", "/rates")
def read_rates(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return asdict(sim.rates)


@control("POST", "/rates")
def set_rates(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    """Keys: bitcoin_usd; currency with price (null: unknown) and source (absent: all); factor, age with source."""
    source = body.get("source")
    if source is not None and source not in SOURCES:
        raise ValueError(f"source is one of {', '.join(SOURCES)}")
    if "bitcoin_usd" in body:
        sim.rates.bitcoin_usd = Decimal(str(body["bitcoin_usd"]))
    if "currency" in body:
        price = body.get("price")
        sim.rates.set_price(body["currency"], None if price is None else str(price), source)
    for name in SOURCES if source is None else (source,):
        if "factor" in body:
            sim.rates.factors[name] = Decimal(str(body["factor"]))
        if "age" in body:
            sim.rates.ages[name] = float(body["age"])
    return asdict(sim.rates)


@control("GET", "/ledger")
def read_ledger(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return {
        "entries": [asdict(entry) for entry in sim.ledger.entries],
        "executions": [asdict(execution) for execution in sim.ledger.executions],
        "received_sats": sim.ledger.received(),
        "sent_sats": sim.ledger.sent(),
        "fee_sats": sim.ledger.fees(),
    }


@control("GET", "/state")
def read_state(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return {
        "clock": read_clock(sim, body, path),
        "balances": {"available": dict(sim.balances.available), "outgoing": dict(sim.balances.outgoing)},
        "wallet": {"sats": sim.wallet.sats, "receipts": [asdict(row) for row in sim.wallet.receipts]},
        "invoices": [_invoice(invoice) for invoice in sim.invoices.by_id.values()],
        "receive_requests": [_receive_request(request) for request in sim.receive_requests.by_id.values()],
        "payment_quotes": [
            {
                "quote_id": quote.quote_id,
                "destination": quote.destination,
                "sats": quote.sats,
                "idempotency_key": quote.idempotency_key,
                "payment_id": quote.payment.payment_id if quote.payment else None,
                "state": quote.payment.state if quote.payment else None,
            }
            for quote in sim.payments.quotes.values()
        ],
        "subscriptions": len(sim.webhooks.subscriptions),
        "events": len(sim.webhooks.events),
        "faults": list_faults(sim, body, path),
    }


def _invoice(invoice: Invoice) -> Json:
    return {
        "invoice_id": invoice.invoice_id,
        "correlation_id": invoice.correlation_id,
        "state": invoice.state,
        "amount": invoice.amount.text(),
        "currency": invoice.amount.currency,
        "transactions": [_transaction(row) for row in invoice.transactions],
        "payment_requests": [quote.payment_request for quote in invoice.quotes],
    }


def _receive_request(request: ReceiveRequest) -> Json:
    return {
        "receive_request_id": request.request_id,
        "target_currency": request.target_currency,
        "payment_request": request.bolt11.payment_request if request.bolt11 else None,
        "address": request.onchain.address if request.onchain else None,
        "receives": [{**_transaction(row), "type": row.way, "sats": row.sats} for row in request.receives],
    }


@control("GET", "/webhooks")
def list_sent_webhooks(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return [asdict(sent) for sent in sim.webhooks.sent]


@control("POST", "/webhooks/send-event")
def send_event(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    """Send an event again: by event_id, or the latest of an entity (entity_id); times, forge."""
    event = _find_event(sim, body)
    receivers = [
        subscription
        for subscription in sim.webhooks.subscriptions.values()
        if event.event_type in subscription.event_types
    ]
    times = int(body.get("times", 1))
    for subscription in receivers * times:
        sim.webhooks.send_again(event, subscription, is_forged=bool(body.get("forge", False)))
    return {"event_id": event.event_id, "sendings": len(receivers) * times}


def _find_event(sim: World, body: Json) -> AccountEvent:
    for event in reversed(sim.webhooks.events.values()):
        if body.get("event_id") == event.event_id or body.get("entity_id") == event.data["entityId"]:
            return event
    raise Missing("no such event")


@control("GET", "/deliveries")
def list_deliveries(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return [{**asdict(delivery), "json": delivery.json()} for delivery in sim.shop.deliveries]


@control("POST", "/shop")
def set_shop(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    """How the shop answers: status, times (absent: once, null: always)."""
    sim.shop.answer_with(int(body["status"]), body.get("times", 1))
    return {"status": body["status"], "times": body.get("times", 1)}


@control("POST", "/wallet/request")
def ask_for_money(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    return asdict(sim.wallet.ask(sim, int(body["sats"]), int(body.get("expiry_seconds", 3600))))


@control("POST", "/reset")
def reset(sim: World, body: Json, path: Json) -> Any:  # noqa: ANN401
    sim.reset()
    return {"reset": True}
