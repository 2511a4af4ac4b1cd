"""Idempotency-Key, currency and expires_in of POST /generate-invoice."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from werkzeug.test import TestResponse

from lnpay.access.api_keys import create_key
from lnpay.domain.permissions import KeyPurpose
from tests.web.answers import assert_error
from tests.world import World


def ask(world: World, key: str | None, *, api_key: str | None = None, **fields: Any) -> TestResponse:
    headers = {} if key is None else {"Idempotency-Key": key}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    return world.client.post("/generate-invoice", json={"amount_fiat": "12.34", **fields}, headers=headers)


def invoice_id(answer: TestResponse) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["data"]["invoice"]["invoiceId"])


class TestIdempotencyKey:
    def test_the_same_key_with_the_same_request_gives_the_same_invoice(self, world: World) -> None:
        assert invoice_id(ask(world, "k-1")) == invoice_id(ask(world, "k-1"))
        assert invoice_id(ask(world, "k-2")) != invoice_id(ask(world, "k-1"))

    def test_without_a_key_each_request_is_a_new_invoice(self, world: World) -> None:
        assert invoice_id(ask(world, None)) != invoice_id(ask(world, None))

    @pytest.mark.parametrize("change", [{"amount_fiat": "1.00"}, {"currency": "eur"}, {"order_id": "7"}])
    def test_the_same_key_with_another_request_is_refused(self, world: World, change: dict[str, str]) -> None:
        ask(world, "k-1")

        answer = ask(world, "k-1", **change)

        assert (answer.status_code, answer.get_json()["code"]) == (409, "idempotency_key_reused")

    def test_a_correlation_id_takes_precedence_over_the_key(self, world: World) -> None:
        first = invoice_id(ask(world, "k-1", correlation_id="order-1"))

        assert invoice_id(ask(world, "k-2", correlation_id="order-1")) == first
        assert invoice_id(ask(world, "k-1")) != first

    def test_a_key_and_an_equal_correlation_id_are_distinct(self, world: World) -> None:
        assert invoice_id(ask(world, "same")) != invoice_id(ask(world, None, correlation_id="same"))

    def test_shops_with_api_keys_of_their_own_may_use_the_same_key(self, world: World) -> None:
        first, second = [
            create_key(world.backend.repository, KeyPurpose.CUSTOM, label, world.clock()).secret for label in "ab"
        ]

        theirs = invoice_id(ask(world, "k-1", api_key=first, description="one"))

        assert invoice_id(ask(world, "k-1", api_key=second, description="two")) != theirs
        assert invoice_id(ask(world, "k-1", api_key=first, description="one")) == theirs

    def test_keys_of_the_setting_have_their_own_too(self, world: World) -> None:
        world.restart(api_keys=("first", "second"))

        theirs = invoice_id(ask(world, "k-1", api_key="first"))

        assert invoice_id(ask(world, "k-1", api_key="second")) != theirs
        assert invoice_id(ask(world, "k-1", api_key="first")) == theirs

    def test_a_lost_answer_is_found_again_by_the_key(self, world: World) -> None:
        world.fault("POST", "/v1/invoices", "lost_answer", times=2)
        assert ask(world, "k-1").status_code == 503

        assert invoice_id(ask(world, "k-1")) == invoice_id(ask(world, "k-1"))
        assert len(world.simulator.invoices.by_id) == 1

    @pytest.mark.parametrize("key", ["", "x" * 256, "a b", "é"])
    def test_an_invalid_key_is_a_400(self, world: World, key: str) -> None:
        assert "Idempotency-Key" in assert_error(ask(world, key), 400, "invalid_request")

    def test_the_longest_key_is_taken(self, world: World) -> None:
        assert ask(world, "x" * 255).status_code == 200


class TestCurrencyAndTime:
    @pytest.mark.parametrize(
        ("amount", "currency", "shown"),
        [("12.34", "EUR", "12.34"), ("1500", "jpy", "1500"), ("0.00012345", "BTC", "0.00012345"), (500, "sats", "500"),
         ("0.00000001", "btc", "0.00000001")],
    )  # fmt: skip
    def test_an_invoice_says_its_own_currency(self, world: World, amount: Any, currency: str, shown: str) -> None:
        found = world.client.get(f"/invoices/{invoice_id(ask(world, None, amount_fiat=amount, currency=currency))}")

        body = found.get_json()
        assert (body["amount_fiat"], body["currency"]) == (shown, currency.lower())

    @pytest.mark.parametrize(
        ("amount", "currency", "shown"),
        [("0.00012345", "btc", ["0.00012345\xa0BTC", "12,345 sats"]), ("15253", "sats", ["15,253 sats"]),
         ("1500", "jpy", ["¥1,500", "1 bitcoin ="])],
    )  # fmt: skip
    def test_the_page_shows_it(self, world: World, amount: str, currency: str, shown: list[str]) -> None:
        answer = ask(world, None, amount_fiat=amount, currency=currency).get_json()

        page = world.client.get(answer["data"]["checkout_url"]).get_data(as_text=True)

        assert [one for one in shown if one not in page] == []
        assert ("1 bitcoin =" in page) == (currency == "jpy")

    @pytest.mark.parametrize("seconds", [30, 900, 3_600, 600.0])
    def test_its_expiry_is_the_requested_one(self, world: World, seconds: float) -> None:
        data = ask(world, None, expires_in=seconds).get_json()["data"]

        length = datetime.fromisoformat(data["expiration_time"]) - datetime.fromisoformat(data["invoice"]["created"])
        assert length.total_seconds() == seconds
