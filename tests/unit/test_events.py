"""The messages to the shop, word for word."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from lnpay.domain.events import EventType, event_body, new_webhook_id
from lnpay.domain.model import (
    Invoice,
    Issue,
    Order,
    Rate,
)
from lnpay.domain.states import InvoiceState

NOW = datetime(2026, 5, 18, 12, 0, 30, 250_000, tzinfo=UTC)
INVOICE = Invoice(
    id=7,
    correlation_id="order-7",
    strike_correlation_id="order-7-again",
    token="the-token-of-the-checkout-page",
    order=Order(Decimal("12.30"), "usd", "Two coffees", "alice@example.com", metadata={"cart": "17"}),
    amount_sats=12_300,
    rate=Rate(Decimal("100000.00"), "usd", "coingecko", NOW),
    created_at=NOW,
    issue=Issue(
        strike_invoice_id="c9454470-76d3-4e75-928d-dc07480e01ba",
        bolt11="lnbc123u1abc",
        payment_hash="00" * 32,
        strike_invoice={},
        strike_quote={},
        opened_at=NOW,
        expires_at=NOW + timedelta(seconds=120),
        payable_until=NOW + timedelta(seconds=3_600),
    ),
    state=InvoiceState.SETTLED,
    paid_at=NOW,
    received_sats=12_300,
    settled_at=NOW,
)


def test_a_settled_invoice_reads_as_the_first_version_of_shops_expects_it() -> None:
    body = told(EventType.INVOICE_SETTLED)

    assert (body["status"], body["message"]) == ("success", "Payment processed successfully!")
    assert body["invoice"] == "lnbc123u1abc"


def test_a_settled_invoice_carries_type_time_and_data_of_standard_webhooks() -> None:
    body = told(EventType.INVOICE_SETTLED)

    assert (body["type"], body["timestamp"]) == ("invoice.settled", "2026-05-18T12:00:30.250000+00:00")
    assert body["data"] == {
        "invoice_id": "c9454470-76d3-4e75-928d-dc07480e01ba",
        "correlation_id": "order-7",
        "order_id": "order-7",
        "amount_fiat": "12.30",
        "currency": "usd",
        "amount_sats": 12_300,
        "settled_at": "2026-05-18T12:00:30.250000+00:00",
        "metadata": {"cart": "17"},
    }


@pytest.mark.parametrize("event_type", [one for one in EventType if one is not EventType.INVOICE_SETTLED])
def test_nothing_but_a_settlement_says_success(event_type: EventType) -> None:
    body = told(event_type)

    assert body["status"] != "success"
    assert body["data"]["settled_at"] is None


@pytest.mark.parametrize("event_type", EventType)
def test_every_type_has_words_of_its_own_and_the_same_keys(event_type: EventType) -> None:
    body = told(event_type)

    assert body["type"] == event_type
    assert body["message"].endswith((".", "!"))
    assert list(body) == ["status", "message", "invoice", "type", "timestamp", "data"]


def test_no_two_types_have_the_same_status() -> None:
    assert len({told(event_type)["status"] for event_type in EventType}) == len(EventType)


def test_letters_of_every_language_are_written_as_they_are() -> None:
    text = event_body(EventType.INVOICE_SETTLED, replace(INVOICE, correlation_id="Zoë-注文-🍕"), NOW)

    assert '"correlation_id":"Zoë-注文-🍕"' in text
    assert json.loads(text.encode())["data"]["correlation_id"] == "Zoë-注文-🍕"


def test_a_large_amount_is_written_in_digits_and_not_as_a_power() -> None:
    order = replace(INVOICE.order, amount_fiat=Decimal("1E+7"), currency="jpy")

    body = json.loads(event_body(EventType.INVOICE_SETTLED, replace(INVOICE, order=order), NOW))

    assert body["data"]["amount_fiat"] == "10000000"


def test_the_shop_is_not_told_secrets_of_the_customer_or_the_page() -> None:
    text = event_body(EventType.INVOICE_SETTLED, INVOICE, NOW)

    assert INVOICE.token not in text
    assert "alice@example.com" not in text


def test_a_webhook_id_is_new_every_time_and_hard_to_guess() -> None:
    ids = {new_webhook_id() for _ in range(100)}

    assert len(ids) == 100
    assert all(len(one) == len("msg_") + 32 and one.startswith("msg_") for one in ids)


def told(event_type: EventType, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(event_body(event_type, INVOICE, NOW, **more))
    return body
