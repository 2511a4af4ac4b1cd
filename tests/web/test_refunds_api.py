"""Refunds of paid orders over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from lnpay.access.api_keys import create_key
from lnpay.domain.permissions import GRANTABLE, KeyPurpose, Permission
from lnpay.invoices.settle import reconcile_invoice
from tests.owing import ADDRESS, owe, payouts, send
from tests.web.answers import assert_error
from tests.world import World

KEY = "a-shop-key-for-the-tests"


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(api_keys=(KEY,))


def ask(world: World, method: str, path: str, key: str = KEY, **options: Any) -> TestResponse:
    headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
    return world.client.open(path, method=method, headers=headers, **options)


def sell_paid(world: World, **fields: Any) -> str:
    """The id of an invoice that was paid in time."""
    answer = ask(world, "POST", "/generate-invoice", json={"amount_fiat": "12.34", **fields})
    invoice = world.invoice(answer.get_json()["data"]["invoice"]["invoiceId"])
    world.pay(invoice)
    reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)
    return invoice.strike_invoice_id


def refund(world: World, invoice_id: str, body: object = None, key: str | None = None, **options: Any) -> TestResponse:
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    body = {"ln_address": ADDRESS} if body is None else body
    return ask(world, "POST", f"/invoices/{invoice_id}/refunds", json=body, headers=headers, **options)


def test_a_refund_is_created_read_listed_and_sent(world: World) -> None:
    invoice_id = sell_paid(world)

    made = refund(world, invoice_id, {"amount_fiat": "2.00", "ln_address": ADDRESS}).get_json()

    assert (made["kind"], made["state"], made["asked_by"]) == ("merchant", "requested", "api_key")
    assert (made["basis"], made["amount_fiat"], made["currency"]) == ("sale_price", "2.00", "usd")
    assert (made["invoice_id"], made["ln_address"], made["claim_expires_at"]) == (invoice_id, ADDRESS, None)
    assert ask(world, "GET", f"/refunds/{made['id']}").get_json() == made
    assert ask(world, "GET", f"/invoices/{invoice_id}/refunds").get_json() == {"refunds": [made]}
    send(world)
    sent = ask(world, "GET", f"/refunds/{made['id']}").get_json()
    assert (sent["state"], sent["sent_at"] is not None, sent["fee_sats"] is not None) == ("sent", True, True)
    assert [entry.sats for entry in payouts(world)] == [made["amount_sats"]]
    assert ask(world, "GET", f"/invoices/{invoice_id}").get_json()["refund"] == {"state": "sent"}


def test_without_an_address_the_customer_claims_it_on_the_page_of_the_link(world: World) -> None:
    made = refund(world, sell_paid(world), {}).get_json()
    path = made["claim_url"].removeprefix("http://localhost")

    assert (made["state"], made["basis"]) == ("needs_address", "whole")
    assert made["claim_expires_at"] is not None
    assert world.client.get(path).status_code == 200
    assert world.client.post(path, data={"ln_address": ADDRESS}).status_code == 303
    assert ask(world, "GET", f"/refunds/{made['id']}").get_json()["state"] == "requested"


def test_the_same_key_with_the_same_body_gives_the_same_refund(world: World) -> None:
    invoice_id = sell_paid(world)

    first, again = (refund(world, invoice_id, {"amount_sats": 1_000}, "key-1").get_json() for _ in range(2))

    assert first == again


def test_an_amount_written_differently_is_the_same_request(world: World) -> None:
    invoice_id = sell_paid(world)

    first = refund(world, invoice_id, {"amount_fiat": "2.00", "price": "sale"}, "key-1").get_json()
    again = refund(world, invoice_id, {"amount_fiat": "2,00"}, "key-1").get_json()

    assert first == again


def test_the_same_key_with_another_body_is_a_conflict(world: World) -> None:
    invoice_id = sell_paid(world)
    refund(world, invoice_id, {"amount_sats": 1_000}, "key-1")

    assert_error(refund(world, invoice_id, {"amount_sats": 1_001}, "key-1"), 409, "idempotency_key_reused")


def test_a_key_is_required(world: World) -> None:
    answer = ask(world, "POST", f"/invoices/{sell_paid(world)}/refunds", json={})

    assert "Idempotency-Key" in assert_error(answer, 400, "idempotency_key_missing")
    assert "when you repeat a request" in answer.get_json()["message"]


@pytest.mark.parametrize("key", [" ", "ä", "k" * 256, "a b"])
def test_a_key_that_cannot_be_one_is_refused(world: World, key: str) -> None:
    assert "Idempotency-Key" in assert_error(refund(world, sell_paid(world), {}, key), 400, "invalid_request")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"amount_sats": 0}, "amount_sats"),
        ({"amount_sats": -5}, "amount_sats"),
        ({"amount_sats": 1.5}, "amount_sats"),
        ({"amount_sats": "5"}, "amount_sats"),
        ({"amount_sats": True}, "amount_sats"),
        ({"amount_sats": None}, "amount_sats"),
        ({"amount_sats": 10**30}, "amount_sats"),
        ({"amount_fiat": None}, "amount_fiat"),
        ({"amount_fiat": "0"}, "amount_fiat"),
        ({"amount_fiat": "-1"}, "amount_fiat"),
        ({"amount_fiat": "1.234"}, "amount_fiat"),
        ({"amount_fiat": True}, "amount_fiat"),
        ({"amount_fiat": ["1"]}, "amount_fiat"),
        ({"amount_fiat": "1.00", "amount_sats": 5}, "amount_fiat"),
        ({"price": "sale"}, "price"),
        ({"amount_sats": 5, "price": "today"}, "price"),
        ({"amount_fiat": "1.00", "price": "tomorrow"}, "price"),
        ({"amount_fiat": "1.00", "price": None}, "price"),
        ({"ln_address": "not an address"}, "ln_address"),
        ({"ln_address": None}, "ln_address"),
        ({"ln_address": ""}, "ln_address"),
        ({"amount": "5"}, "amount"),
    ],
)
def test_an_invalid_request_is_refused_and_names_the_field(world: World, body: object, field: str) -> None:
    invoice_id = sell_paid(world)

    wrong = assert_error(refund(world, invoice_id, body), 400, "invalid_request")
    assert wrong[field] != "is not valid"
    assert ask(world, "GET", f"/invoices/{invoice_id}/refunds").get_json() == {"refunds": []}


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("amount_sats", "5", "must be a whole number, without quotes or a point"),
        ("amount_sats", 5.0, "must be a whole number, without quotes or a point"),
        ("amount_sats", 0, "must be at least 1"),
        ("amount_sats", 10**30, "must be at most 2,100,000,000,000,000"),
        ("price", "Today", "must be 'sale' or 'today'"),
    ],
)
def test_a_refusal_says_what_would_be_accepted(world: World, field: str, value: object, why: str) -> None:
    answer = refund(world, sell_paid(world), {"amount_fiat": "1.00", field: value})

    assert assert_error(answer, 400, "invalid_request") == {field: why}


def test_more_than_was_received_is_refused_and_says_how_much_is_left(world: World) -> None:
    invoice_id = sell_paid(world)
    received = world.invoice(invoice_id).received_sats or 0

    answer = refund(world, invoice_id, {"amount_sats": received + 1})

    assert_error(answer, 409, "refund_exceeds_received")
    assert f"{received:,} sats" in answer.get_json()["message"]


def test_an_amount_below_one_sat_is_refused(world: World) -> None:
    world.simulator.rates.set_price("vnd", "250000000000000")
    invoice_id = sell_paid(world, currency="vnd", amount_fiat="25000000")

    assert "amount_fiat" in assert_error(refund(world, invoice_id, {"amount_fiat": "1"}), 400, "invalid_request")


@pytest.mark.parametrize(("state", "words"), [("open", "not paid"), ("late", "paid late")])
def test_an_invoice_not_paid_in_time_is_not_refundable(world: World, state: str, words: str) -> None:
    if state == "late":
        world.restart(api_keys=())
        invoice_id = owe(world).strike_invoice_id
        world.restart(api_keys=(KEY,))
    else:
        answer = ask(world, "POST", "/generate-invoice", json={"amount_fiat": "12.34"})
        invoice_id = answer.get_json()["data"]["invoice"]["invoiceId"]

    answer = refund(world, invoice_id)

    assert_error(answer, 409, "invoice_not_refundable")
    assert words in answer.get_json()["message"]


def test_a_refund_is_canceled_and_its_amount_is_free_again(world: World) -> None:
    invoice_id = sell_paid(world)
    made = refund(world, invoice_id).get_json()

    first, again = (ask(world, "POST", f"/refunds/{made['id']}/cancel").get_json() for _ in range(2))

    assert first == again
    assert (first["state"], first["cancel_cause"]) == ("canceled", "requested")
    assert first["canceled_at"] is not None
    assert refund(world, invoice_id).get_json()["amount_sats"] == made["amount_sats"]


def test_a_sent_refund_cannot_be_canceled(world: World) -> None:
    made = refund(world, sell_paid(world)).get_json()
    send(world)

    assert_error(ask(world, "POST", f"/refunds/{made['id']}/cancel"), 409, "refund_state")


@pytest.mark.parametrize("unknown", ["0", "99", "-1", "x", "9" * 19, "9" * 40, "%00", "١"])
def test_an_unknown_refund(world: World, unknown: str) -> None:
    assert_error(ask(world, "GET", f"/refunds/{unknown}"), 404, "refund_not_found")
    assert_error(ask(world, "POST", f"/refunds/{unknown}/cancel"), 404, "refund_not_found")


def test_an_unknown_invoice(world: World) -> None:
    assert_error(refund(world, "no-such-invoice"), 404, "not_found")
    assert_error(ask(world, "GET", "/invoices/no-such-invoice/refunds"), 404, "not_found")


ROUTES = [
    ("POST", "/invoices/x/refunds"),
    ("GET", "/invoices/x/refunds"),
    ("GET", "/refunds/1"),
    ("POST", "/refunds/1/cancel"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_each_route_needs_a_key_even_if_none_was_ever_created(
    make_world: Callable[..., World], method: str, path: str
) -> None:
    world = make_world(api_keys=())

    assert_error(world.client.open(path, method=method, json={}), 401, "unauthorized")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_each_route_needs_the_permission_to_refund(world: World, method: str, path: str) -> None:
    others = tuple(one for one in GRANTABLE if one is not Permission.REFUND_INVOICES)
    key = create_key(
        world.backend.repository, KeyPurpose.CUSTOM, "shop", world.backend.clock(), permissions=others
    ).secret

    answer = ask(world, method, path, key, json={})

    assert answer.status_code == 403
    assert answer.get_json()["permission"] == "lnpay.store.canrefundinvoices"


def test_no_key_has_the_permission_by_default(world: World) -> None:
    for purpose in KeyPurpose:
        key = create_key(world.backend.repository, purpose, "shop", world.backend.clock()).secret
        assert refund(world, "x", key=None, **{}).status_code == 404
        answer = ask(world, "GET", "/refunds/1", key)
        assert answer.status_code == 403


def test_the_refund_names_the_key_that_requested_it(world: World) -> None:
    created = create_key(
        world.backend.repository,
        KeyPurpose.CUSTOM,
        "shop",
        world.backend.clock(),
        permissions=(Permission.REFUND_INVOICES,),
    )
    invoice_id = sell_paid(world)
    headers = {"Idempotency-Key": "k"}
    made = ask(world, "POST", f"/invoices/{invoice_id}/refunds", created.secret, json={}, headers=headers).get_json()

    with world.backend.repository.reading() as tx:
        found = tx.refunds.find(made["id"])
    assert found is not None
    assert found.api_key_id == created.key.id
