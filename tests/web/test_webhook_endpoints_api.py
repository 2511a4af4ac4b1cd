"""Webhook endpoints that a shop creates with its key, and redelivery of messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from werkzeug.test import TestResponse

from lnpay.deliveries.send import send_due
from lnpay.domain.webhook_signature import sign_delivery
from lnpay.invoices.settle import reconcile_invoice
from tests.web.answers import assert_error
from tests.world import World

KEY = "a-shop-key-for-the-tests"
SHOP = "https://93.184.216.34/lnpay"
"""A public address: names are resolved when an endpoint is set."""


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(api_keys=(KEY,))


def ask(world: World, method: str, path: str, key: str = KEY, **options: Any) -> TestResponse:
    return world.client.open(path, method=method, headers={"Authorization": f"Bearer {key}"}, **options)


def create(world: World, **fields: Any) -> dict[str, Any]:
    answer = ask(world, "POST", "/webhook-endpoints", json={"url": SHOP, **fields})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


def settle_one(world: World) -> str:
    """The id of an invoice that was paid in time, before its messages are sent."""
    answer = ask(world, "POST", "/generate-invoice", json={"amount_fiat": "12.34"})
    invoice = world.invoice(answer.get_json()["data"]["invoice"]["invoiceId"])
    world.pay(invoice)
    reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)
    return invoice.strike_invoice_id


def test_an_endpoint_is_created_listed_and_deleted_and_its_secret_shown_once(world: World) -> None:
    made = create(world, events=["invoice.settled"])

    listed = ask(world, "GET", "/webhook-endpoints").get_json()["webhook_endpoints"]
    assert made.pop("secret").startswith("whsec_")
    assert listed == [made]
    assert (made["url"], made["events"], made["form"], made["enabled"]) == (SHOP, ["invoice.settled"], "standard", True)

    gone = ask(world, "DELETE", f"/webhook-endpoints/{made['id']}")
    assert gone.get_json() == {"id": made["id"], "deleted": True}
    assert ask(world, "GET", "/webhook-endpoints").get_json() == {"webhook_endpoints": []}
    again = ask(world, "DELETE", f"/webhook-endpoints/{made['id']}")
    assert_error(again, 404, "webhook_endpoint_not_found")


def test_it_is_sent_a_signed_message_about_a_payment(world: World) -> None:
    got: list[tuple[str, bytes, Mapping[str, str]]] = []

    def shop(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        got.append((url, body, headers))
        return 200

    world.endpoint = shop
    made = create(world)
    invoice_id = settle_one(world)
    send_due(world.backend.outbox)

    ((url, body, headers),) = got
    assert url == SHOP
    assert invoice_id.encode() in body
    when = world.clock()
    assert headers["webhook-signature"] == sign_delivery(made["secret"], headers["webhook-id"], when, body)


def test_a_message_is_sent_again_with_its_id(world: World) -> None:
    invoice_id = settle_one(world)
    send_due(world.backend.outbox)

    answer = ask(world, "POST", f"/invoices/{invoice_id}/redeliver")
    send_due(world.backend.outbox)

    first, second = (one.headers["webhook-id"] for one in world.simulator.shop.accepted())
    assert first == second
    assert answer.get_json() == {"messages": [{"id": first, "type": "invoice.settled"}]}
    assert_error(ask(world, "POST", "/invoices/no-such-invoice/redeliver"), 404, "not_found")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x", "http://169.254.169.254/", "https://10.1.2.3/", "http://[::1]/", "http://2130706433/"]
)
def test_it_does_not_lead_into_a_private_network(world: World, url: str) -> None:
    answer = ask(world, "POST", "/webhook-endpoints", json={"url": url})

    assert_error(answer, 400, "invalid_request")
    assert "private network" in answer.get_json()["errors"]["url"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"events": ["invoice.paid"]}, "events"), ({"secret": "whsec_short"}, "secret"), ({"url": "shop"}, "url"),
     ({"url": 5}, "url"), ({"address": SHOP}, "address"), ({"events": []}, "events"), ({"events": "x"}, "events")],
)  # fmt: skip
def test_what_is_wrong_is_named(world: World, fields: dict[str, Any], field: str) -> None:
    answer = ask(world, "POST", "/webhook-endpoints", json={"url": SHOP, **fields})

    assert_error(answer, 400, "invalid_request")
    assert field in answer.get_json()["errors"]
    assert "is not valid" not in answer.get_json()["message"]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), ("DELETE", "/some-id")])
def test_a_key_is_needed_even_where_none_was_set_up(make_world: Callable[..., World], method: str, path: str) -> None:
    """A stranger must not have a shop's orders sent to their own server."""
    world = make_world()

    answer = world.client.open(f"/webhook-endpoints{path}", method=method, json={"url": SHOP})

    assert_error(answer, 401, "unauthorized")
