"""The simulator's records as Strike writes them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.strike.models import (
    AccountEvent,
    Invoice,
    InvoiceQuote,
    Money,
    Payment,
    PaymentQuote,
    Subscription,
    Transaction,
)

Json = dict[str, Any]

_RESULTS = {"PENDING": "PENDING", "COMPLETED": "SUCCESS", "FAILED": "FAILURE"}


def time_text(moment: datetime, config: SimulatorConfig) -> str:
    """ISO 8601 with a fraction of varying length; the same moment is always written alike."""
    choices = config.timestamp_digits
    digits = choices[(moment.second + moment.microsecond // 1000) % len(choices)]
    fraction = f"{moment.microsecond:06d}0"[:digits]
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}+00:00"


def money_json(money: Money) -> Json:
    """Strike's money object."""
    return {"amount": money.text(), "currency": money.currency}


def rate_json(rate: Decimal, currency: str) -> Json:
    """How many units of `currency` one bitcoin is."""
    return {"amount": str(rate), "sourceCurrency": "BTC", "targetCurrency": currency}


def invoice_json(invoice: Invoice, config: SimulatorConfig, with_transactions: bool = False) -> Json:
    """An invoice; description and correlationId are left out when it has none."""
    view: Json = {
        "invoiceId": invoice.invoice_id,
        "amount": money_json(invoice.amount),
        "state": invoice.state,
        "created": time_text(invoice.created_at, config),
    }
    if invoice.correlation_id is not None:
        view["correlationId"] = invoice.correlation_id
    if invoice.description is not None:
        view["description"] = invoice.description
    view["issuerId"] = invoice.issuer_id
    view["receiverId"] = invoice.receiver_id
    if with_transactions and config.transactions != "missing":
        rows = invoice.transactions if config.transactions == "present" else []
        view["transactions"] = [transaction_json(row, config) for row in rows]
    for name, value in invoice.oddities.items():
        view[name] = value
        if value is None:
            del view[name]
    return view


def transaction_json(transaction: Transaction, config: SimulatorConfig) -> Json:
    """One payment of an invoice, without the fields that are configured to be missing."""
    view: Json = {
        "transactionId": transaction.transaction_id,
        "state": transaction.state,
        "amountReceived": money_json(transaction.amount),
        "created": time_text(transaction.created_at, config),
    }
    if transaction.completed_at is not None:
        view["completed"] = time_text(transaction.completed_at, config)
    for name in config.transaction_fields_missing:
        view.pop(name, None)
    return view


def invoice_quote_json(quote: InvoiceQuote, config: SimulatorConfig) -> Json:
    """A price for an invoice."""
    view: Json = {"quoteId": quote.quote_id}
    if quote.invoice.description is not None:
        view["description"] = quote.invoice.description
    return {
        **view,
        "lnInvoice": quote.payment_request,
        "expiration": time_text(quote.expires_at, config),
        "expirationInSec": quote.seconds,
        "targetAmount": money_json(quote.invoice.amount),
        "sourceAmount": money_json(Money(quote.sats, "BTC")),
        "conversionRate": rate_json(quote.rate, quote.invoice.amount.currency),
    }


def payment_quote_json(quote: PaymentQuote, config: SimulatorConfig) -> Json:
    """A price for sending."""
    view: Json = {"paymentQuoteId": quote.quote_id}
    if quote.description is not None:
        view["description"] = quote.description
    if config.has_valid_until:
        view["validUntil"] = time_text(quote.expires_at, config)
    return {
        **view,
        **_sending_rate(quote),
        "amount": money_json(quote.amount),
        "lightningNetworkFee": money_json(quote.fee),
        "totalFee": money_json(quote.fee),
        "totalAmount": money_json(quote.total),
    }


def _sending_rate(quote: PaymentQuote) -> Json:
    """What one unit of another currency than bitcoin is in bitcoin; {} when bitcoin is sent."""
    currency = quote.amount.currency
    if currency == "BTC":
        return {}
    amount = f"{(1 / quote.rate).quantize(Decimal('0.00000001')):f}"
    return {"conversionRate": {"amount": amount, "sourceCurrency": currency, "targetCurrency": "BTC"}}


def payment_json(payment: Payment, config: SimulatorConfig) -> Json:
    """A payment and its state, in the configured form."""
    view = _full_payment(payment, config)
    if config.payment_form == "recorded":
        names = _RECORDED_FIELDS["COMPLETED" if payment.state == "COMPLETED" else "PENDING"]
        return {name: view[name] for name in names}
    if config.payment_form == "everything":
        nothing = dict.fromkeys(("conversionRate", "completed", "delivered", "onchain"))
        fee = money_json(payment.quote.fee)
        reward = money_json(Money(0, payment.quote.amount.currency))
        return {
            **nothing,
            "reward": reward,
            **view,
            "lightning": {"networkFee": fee, "preImage": None, **view["lightning"]},
        }
    return view


_RECORDED_FIELDS = {
    "PENDING": ("paymentId", "state", "result", "amount", "totalFee", "lightningNetworkFee", "totalAmount"),
    "COMPLETED": ("paymentId", "state", "result", "completed", "delivered", "amount", "totalAmount"),
}
"""What answers of 2024 had, all of them: the others were absent, not null."""


def _full_payment(payment: Payment, config: SimulatorConfig) -> Json:
    quote = payment.quote
    view: Json = {
        "paymentId": payment.payment_id,
        "state": payment.state,
        "result": _RESULTS[payment.state],
        **_sending_rate(quote),
        "amount": money_json(quote.amount),
        "totalFee": money_json(quote.fee),
        "lightningNetworkFee": money_json(quote.fee),
        "totalAmount": money_json(quote.total),
        "lightning": {"networkFee": money_json(quote.fee)},
    }
    if payment.state == "COMPLETED" and payment.finished_at is not None:
        view["completed"] = view["delivered"] = time_text(payment.finished_at, config)
        view["lightning"]["preImage"] = payment.preimage
    return view


def subscription_json(subscription: Subscription, config: SimulatorConfig) -> Json:
    """A subscription, without its secret."""
    return {
        "id": subscription.subscription_id,
        "webhookUrl": subscription.url,
        "webhookVersion": subscription.version,
        "enabled": subscription.is_enabled,
        "created": time_text(subscription.created_at, config),
        "eventTypes": subscription.event_types,
    }


def event_json(event: AccountEvent, config: SimulatorConfig) -> Json:
    """An event, as the events API shows it."""
    return {
        "id": event.event_id,
        "eventType": event.event_type,
        "webhookVersion": "v1",
        "data": event.data,
        "created": time_text(event.created_at, config),
        "deliverySuccess": event.delivery_success,
    }
