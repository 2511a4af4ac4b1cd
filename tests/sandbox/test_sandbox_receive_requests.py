"""Strike's receive requests as the sandbox has them, over real HTTP: made, read, paid in every way."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import pytest
import requests

from lnpay.domain.bolt11 import decode
from lnpay.sandbox import PaymentRefused
from tests.sandbox.strike_client import Client, error_of

UNKNOWN = "00000000-0000-7000-8000-000000000000"
HASH = hashlib.sha256(b"a longer story").hexdigest()


@pytest.fixture
def strike(strike_over_http: Client) -> Client:
    return strike_over_http


def post(strike: Client, body: Any) -> requests.Response:
    return strike.call("POST", "/v1/receive-requests", json=body)


def refused(strike: Client, text: str, **options: Any) -> str:
    """Why the wallet cannot pay."""
    with pytest.raises(PaymentRefused) as caught:
        strike.simulator.pay_invoice(text, **options)
    return caught.value.reason


class TestMaking:
    def test_one_call_gives_a_payment_request_with_the_expiry_that_was_asked_for(self, strike: Client) -> None:
        answer = strike.ask_receive_request(2340, description="Order 1", expiryInSeconds=600)

        request = answer.json()
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"{strike.url}/v1/receive-requests/{request['receiveRequestId']}"
        bolt11, read = request.pop("bolt11"), decode(answer.json()["bolt11"]["invoice"])
        assert request.keys() == {"receiveRequestId", "created", "targetCurrency"}
        assert bolt11.pop("requestedAmount") == {"amount": "0.00002340", "currency": "BTC"}
        assert (bolt11["btcAmount"], bolt11["description"], bolt11["descriptionHash"]) == (
            "0.00002340",
            "Order 1",
            None,
        )
        assert (read.amount_msats, read.description) == (2_340_000, "Order 1")
        assert (read.expires_at - strike.simulator.now()).total_seconds() == 600
        assert read.expires_at.isoformat()[:19] == bolt11["expires"][:19]

    def test_an_id_is_a_uuid_of_another_version_than_4(self, strike: Client) -> None:
        assert uuid.UUID(strike.receive_request()["receiveRequestId"]).version == 7

    def test_the_true_preimage_is_kept_and_shown_to_the_payee_once_paid(self, strike: Client) -> None:
        request = strike.receive_request()
        strike.simulator.pay_invoice(request["bolt11"]["invoice"])

        (receive,) = strike.receives()

        assert (
            hashlib.sha256(bytes.fromhex(receive["lightning"]["preimage"])).hexdigest()
            == (request["bolt11"]["paymentHash"])
        )

    def test_without_an_amount_the_payer_chooses(self, strike: Client) -> None:
        bolt11 = post(strike, {"bolt11": {}}).json()["bolt11"]

        assert (bolt11["btcAmount"], bolt11["requestedAmount"]) == (None, None)
        assert bolt11["invoice"].startswith("lnbc1")
        assert refused(strike, bolt11["invoice"]) == "amount_missing"
        assert strike.simulator.pay_invoice(bolt11["invoice"], received_sats=777).state == "COMPLETED"
        assert strike.receives()[0]["amountReceived"]["amount"] == "0.00000777"

    def test_an_amount_in_another_currency_is_converted_once(self, strike: Client) -> None:
        strike.simulator.rates.set_price("EUR", "50000", "strike")
        made = post(strike, {"bolt11": {"amount": {"amount": "10.00", "currency": "EUR"}}}).json()
        strike.simulator.rates.set_price("EUR", "40000", "strike")

        read = strike.get(f"/v1/receive-requests/{made['receiveRequestId']}").json()

        assert read == made
        assert made["bolt11"]["btcAmount"] == "0.00020000"
        assert made["bolt11"]["requestedAmount"] == {"amount": "10.00", "currency": "EUR"}

    @pytest.mark.parametrize(
        ("body", "parts"),
        [
            ({}, set()),
            ({"bolt11": {}, "onchain": None}, {"bolt11"}),
            ({"onchain": {}}, {"onchain"}),
            ({"bolt11": {}, "onchain": {}}, {"bolt11", "onchain"}),
        ],
    )
    def test_every_part_is_optional(self, strike: Client, body: dict[str, Any], parts: set[str]) -> None:
        answer = post(strike, body)

        assert (answer.status_code, answer.json().keys() & {"bolt11", "onchain"}) == (201, parts)
        assert answer.json()["targetCurrency"] == "BTC"

    def test_an_address_asks_for_an_amount_in_its_link(self, strike: Client) -> None:
        made = post(strike, {"onchain": {"amount": {"amount": "0.001", "currency": "BTC"}}}).json()["onchain"]

        assert made["address"].startswith("bc1q")
        assert made["addressUri"] == f"bitcoin:{made['address']}?amount=0.00100000"
        assert made["btcAmount"] == "0.00100000"

    def test_a_description_hash_takes_the_place_of_the_description(self, strike: Client) -> None:
        bolt11 = strike.receive_request(description="ignored", descriptionHash=HASH.upper())["bolt11"]

        assert (bolt11["description"], bolt11["descriptionHash"]) == (None, HASH)
        assert decode(bolt11["invoice"]).description is None

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"description": ""}, "bolt11.description"),
            ({"description": "x" * 251}, "bolt11.description"),
            ({"descriptionHash": "abc"}, "bolt11.descriptionHash"),
            ({"descriptionHash": "x" * 64}, "bolt11.descriptionHash"),
            ({"expiryInSeconds": 0}, "bolt11.expiryInSeconds"),
            ({"expiryInSeconds": "600"}, "bolt11.expiryInSeconds"),
            ({"expiryInSeconds": True}, "bolt11.expiryInSeconds"),
            ({"expiryInSeconds": 2**62}, "bolt11.expiryInSeconds"),
            ({"amount": {"amount": 1, "currency": "BTC"}}, "bolt11.amount.amount"),
            ({"amount": {"amount": "1", "currency": "XYZ"}}, "bolt11.amount.currency"),
            ({"amount": {"amount": "0.000000001", "currency": "BTC"}}, "bolt11.amount.amount"),
        ],
    )
    def test_a_wrong_field_is_named(self, strike: Client, fields: dict[str, Any], wrong: str) -> None:
        answer = strike.ask_receive_request(None, **fields)

        assert error_of(answer) == (400, "INVALID_DATA")
        assert list(answer.json()["data"]["validationErrors"]) == [wrong]
        assert strike.simulator.receive_requests.by_id == {}

    def test_a_description_of_250_characters_is_accepted(self, strike: Client) -> None:
        assert strike.ask_receive_request(description="x" * 250).status_code == 201

    def test_amounts_have_to_be_possible(self, strike: Client) -> None:
        amounts = {"0": "INVALID_AMOUNT", "-1": "INVALID_AMOUNT", "21000001": "AMOUNT_TOO_HIGH"}

        for text, code in amounts.items():
            answer = post(strike, {"bolt11": {"amount": {"amount": text, "currency": "BTC"}}})
            assert error_of(answer) == (422, code)

    @pytest.mark.parametrize("body", [{"bolt11": 1}, {"onchain": "x"}, {"targetCurrency": "XYZ"}, [], "text"])
    def test_nonsense_is_refused(self, strike: Client, body: object) -> None:
        assert error_of(post(strike, body)) == (400, "INVALID_DATA")

    def test_a_currency_the_account_does_not_have_is_refused(self, strike: Client) -> None:
        strike.control("/config", available_currencies=["BTC", "USD"])

        answer = post(strike, {"bolt11": {}, "targetCurrency": "EUR"})

        assert error_of(answer) == (422, "USER_CURRENCY_UNAVAILABLE")
        assert answer.json()["data"]["values"] == {"currency": "EUR"}

    def test_the_default_currency_stands_in_for_one_that_is_not_named(self, strike: Client) -> None:
        strike.control("/config", default_currency="USD")

        assert post(strike, {"bolt11": {}}).json()["targetCurrency"] == "USD"

    def test_an_account_that_cannot_invoice_in_bitcoin_receives_it_all_the_same(self, strike: Client) -> None:
        strike.control("/config", invoiceable_currencies=["USD"])

        assert error_of(strike.ask()) == (422, "USER_CURRENCY_UNAVAILABLE")
        assert strike.ask_receive_request().status_code == 201

    def test_the_same_call_makes_another_request(self, strike: Client) -> None:
        headers = {"idempotency-key": str(uuid.uuid4())}
        bodies = [
            strike.call("POST", "/v1/receive-requests", json={"bolt11": {}}, headers=headers).json() for _ in range(2)
        ]

        assert bodies[0]["receiveRequestId"] != bodies[1]["receiveRequestId"]
        assert bodies[0]["bolt11"]["paymentHash"] != bodies[1]["bolt11"]["paymentHash"]

    @pytest.mark.parametrize(("form", "is_there"), [("null", True), ("absent", False)])
    def test_fields_without_a_value_are_null_or_absent(self, strike: Client, form: str, is_there: bool) -> None:
        strike.control("/config", empty_receive_fields=form)

        bolt11 = post(strike, {"bolt11": {}}).json()["bolt11"]

        assert ("btcAmount" in bolt11, "descriptionHash" in bolt11) == (is_there, is_there)

    def test_the_account_does_not_pay_its_own_request(self, strike: Client) -> None:
        own = strike.receive_request()["bolt11"]["invoice"]

        answer = strike.call("POST", "/v1/payment-quotes/lightning", json={"lnInvoice": own})

        assert error_of(answer) == (422, "SELF_PAYMENT_NOT_ALLOWED")

    def test_making_and_reading_need_scopes(self, strike: Client) -> None:
        strike.simulator.config.api_keys = {"any key": ["partner.receive-request.read"]}

        assert error_of(strike.ask_receive_request()) == (403, "FORBIDDEN")
        assert strike.receives() == []
        strike.simulator.config.api_keys = {"any key": ["partner.receive-request.create"]}
        assert error_of(strike.get("/v1/receive-requests/receives")) == (403, "FORBIDDEN")


class TestReading:
    def test_requests_are_listed_the_newest_first(self, strike: Client) -> None:
        made = [strike.receive_request()["receiveRequestId"] for _ in range(3)]

        answer = strike.get("/v1/receive-requests").json()
        page = strike.call("GET", "/v1/receive-requests?$skip=1&$top=1").json()

        assert [item["receiveRequestId"] for item in answer["items"]] == made[::-1]
        assert (answer["count"], answer["isCountUnknown"]) == (3, False)
        assert ([item["receiveRequestId"] for item in page["items"]], page["count"]) == ([made[1]], 3)

    @pytest.mark.parametrize("path", ["", "/receives"])
    @pytest.mark.parametrize("query", ["$top=101", "$top=x", "$skip=-1"])
    def test_a_page_has_100_rows_at_most(self, strike: Client, path: str, query: str) -> None:
        assert strike.call("GET", f"/v1/receive-requests{path}?$top=100").status_code == 200
        answer = strike.call("GET", f"/v1/receive-requests{path}?{query}")
        assert error_of(answer) == (400, "INVALID_DATA_QUERY")

    def test_a_request_is_found_by_each_of_its_keys(self, strike: Client) -> None:
        made = [post(strike, {"bolt11": {}, "onchain": {}}).json() for _ in range(3)]
        wanted = made[1]

        for query in (
            f"$paymentHash={wanted['bolt11']['paymentHash'].upper()}",
            f"$bolt11Invoice={wanted['bolt11']['invoice']}",
            f"$onchainAddress={wanted['onchain']['address']}",
        ):
            items = strike.call("GET", f"/v1/receive-requests?{query}").json()["items"]
            assert items == [wanted], query

    def test_what_is_not_there_is_404_and_no_uuid_is_400(self, strike: Client) -> None:
        for path in (UNKNOWN, f"{UNKNOWN}/receives"):
            assert error_of(strike.get(f"/v1/receive-requests/{path}")) == (404, "NOT_FOUND")
        assert error_of(strike.get("/v1/receive-requests/nonsense")) == (400, "INVALID_DATA")
        assert strike.call("PATCH", f"/v1/receive-requests/{UNKNOWN}").status_code == 405

    def test_a_filter_in_odata_is_not_looked_at(self, strike: Client) -> None:
        strike.receive_request()

        assert strike.call("GET", "/v1/receive-requests?$filter=nonsense").json()["count"] == 1

    def test_an_unknown_count_is_said(self, strike: Client) -> None:
        strike.simulator.config.is_count_unknown = True
        strike.receive_request()

        answer = strike.get("/v1/receive-requests").json()

        assert (len(answer["items"]), answer["isCountUnknown"]) == (1, True)


class TestPaying:
    def test_a_payment_is_a_receive_that_was_credited(self, strike: Client) -> None:
        request = strike.receive_request(2340, description="Order 1")
        strike.simulator.pay_invoice(request["bolt11"]["invoice"].upper())

        (receive,) = strike.receives()

        amount = {"amount": "0.00002340", "currency": "BTC"}
        assert (receive["type"], receive["state"]) == ("LIGHTNING", "COMPLETED")
        assert receive["receiveRequestId"] == request["receiveRequestId"]
        assert receive["amountReceived"] == receive["amountCredited"] == amount
        assert receive["lightning"]["invoice"] == request["bolt11"]["invoice"]
        assert receive["lightning"]["description"] == "Order 1"
        assert receive["created"] == receive["completed"]
        assert not receive.keys() & {"conversionRate", "p2p", "onchain"}
        assert strike.call("GET", f"/v1/receive-requests/{request['receiveRequestId']}/receives").json() == {
            "items": [receive], "count": 1, "isCountUnknown": False,
        }  # fmt: skip
        (entry,) = strike.simulator.ledger.entries
        assert (entry.sats, entry.source_id) == (2340, request["receiveRequestId"])
        assert strike.simulator.ledger.received(request["receiveRequestId"]) == 2340
        assert strike.simulator.balances.available["BTC"] == 10_002_340

    def test_a_target_currency_is_credited_at_the_rate_of_the_payment(self, strike: Client) -> None:
        body = {"bolt11": {"amount": {"amount": "0.00100000", "currency": "BTC"}}, "targetCurrency": "EUR"}
        strike.simulator.rates.set_price("EUR", "50000", "strike")
        request = post(strike, body).json()
        strike.simulator.rates.set_price("EUR", "49999.99", "strike")
        strike.simulator.pay_invoice(request["bolt11"]["invoice"])

        (receive,) = strike.receives()

        assert receive["amountReceived"] == {"amount": "0.00100000", "currency": "BTC"}
        assert receive["amountCredited"] == {"amount": "49.99", "currency": "EUR"}
        rate = {"amount": "49999.9900", "sourceCurrency": "BTC", "targetCurrency": "EUR"}
        assert receive["conversionRate"] == rate
        assert (strike.simulator.balances.available["EUR"], strike.simulator.balances.available["BTC"]) == (
            4999, 10_000_000,
        )  # fmt: skip

    def test_a_pending_payment_is_not_credited_before_it_completes(self, strike: Client) -> None:
        text = strike.receive_request()["bolt11"]["invoice"]
        strike.simulator.pay_invoice(text, pending_seconds=30)
        (before,) = strike.receives()
        strike.simulator.clock.advance(30)
        (after,) = strike.receives()

        assert (before["state"], after["state"]) == ("PENDING", "COMPLETED")
        assert not before.keys() & {"amountCredited", "conversionRate", "completed"}
        assert after["receiveId"] == before["receiveId"]
        assert after["created"] != after["completed"]

    def test_a_pending_payment_can_come_to_nothing(self, strike: Client) -> None:
        text = strike.receive_request()["bolt11"]["invoice"]
        strike.simulator.pay_invoice(text, pending_seconds=30, reverts=True)
        strike.simulator.clock.advance(30)

        assert strike.receives() == []
        assert strike.simulator.ledger.entries == []

    def test_a_request_is_paid_twice(self, strike: Client) -> None:
        text = strike.receive_request(1000)["bolt11"]["invoice"]
        for _ in range(2):
            strike.simulator.pay_invoice(text)

        first, second = strike.receives()

        assert first["receiveId"] != second["receiveId"]
        assert first["lightning"] == second["lightning"]
        assert strike.simulator.ledger.received() == 2000

    def test_a_provider_that_takes_one_payment_refuses_the_second(self, strike: Client) -> None:
        strike.simulator.config.receives_per_request = "one"
        text = strike.receive_request()["bolt11"]["invoice"]
        strike.simulator.pay_invoice(text, pending_seconds=10)

        assert refused(strike, text) == "pending"
        strike.simulator.clock.advance(10)
        assert refused(strike, text) == "paid"

    @pytest.mark.parametrize(
        ("rule", "sats", "is_taken"),
        [
            ("any", 999, True), ("any", 1001, True), ("not_less", 999, False), ("not_less", 1001, True),
            ("exact", 999, False), ("exact", 1001, False), ("exact", 1000, True), ("any", 0, False),
        ],
    )  # fmt: skip
    def test_more_and_less_than_asked_arrive_as_configured(
        self, strike: Client, rule: str, sats: int, is_taken: bool
    ) -> None:
        strike.simulator.config.receive_amounts = rule
        text = strike.receive_request(1000)["bolt11"]["invoice"]

        if not is_taken:
            assert refused(strike, text, received_sats=sats) == ("amount_refused" if sats else "amount_missing")
            return
        strike.simulator.pay_invoice(text, received_sats=sats)
        assert strike.receives()[0]["amountReceived"]["amount"] == f"0.{sats:08d}"

    @pytest.mark.parametrize("currency", ["BTC", "USD"])
    def test_a_strike_users_payment_has_no_payment_hash(self, strike: Client, currency: str) -> None:
        strike.simulator.config.strike_user_currency = currency
        request = strike.receive_request(100_000)
        strike.simulator.pay_invoice(request["bolt11"]["invoice"], is_strike_user=True)

        (receive,) = strike.receives(f"$receiveRequestId={request['receiveRequestId']}")

        assert receive["type"] == "P2P"
        assert "lightning" not in receive
        assert uuid.UUID(receive["p2p"]["payerAccountId"])
        assert receive["amountReceived"]["currency"] == currency
        assert ("conversionRate" in receive) == (currency == "USD")
        assert strike.receives(f"$paymentHash={request['bolt11']['paymentHash']}") == []
        assert strike.receives(f"$bolt11Invoice={request['bolt11']['invoice']}") == []
        assert strike.simulator.ledger.received() == 100_000

    def test_the_window_closes_with_the_expiry(self, strike: Client) -> None:
        text = strike.receive_request(expiryInSeconds=120)["bolt11"]["invoice"]
        strike.simulator.clock.advance(119.999)
        strike.simulator.pay_invoice(text)
        strike.simulator.clock.advance(0.001)

        assert refused(strike, text) == "expired"
        assert refused(strike, text, is_strike_user=True) == "expired"
        assert len(strike.receives()) == 1

    def test_a_payment_can_be_let_in_after_the_expiry(self, strike: Client) -> None:
        text = strike.receive_request(expiryInSeconds=120)["bolt11"]["invoice"]
        strike.simulator.config.receive_grace_seconds = 10
        strike.simulator.clock.advance(129)
        strike.simulator.pay_invoice(text)
        strike.simulator.clock.advance(1)

        assert refused(strike, text) == "expired"
        strike.simulator.config.is_strike_user_held_to_expiry = False
        assert strike.simulator.pay_invoice(text, is_strike_user=True).state == "COMPLETED"

    def test_a_payment_in_flight_at_the_expiry_arrives_after_it(self, strike: Client) -> None:
        text = strike.receive_request(expiryInSeconds=120)["bolt11"]["invoice"]
        strike.simulator.clock.advance(110)
        strike.simulator.pay_invoice(text, pending_seconds=60)
        strike.simulator.clock.advance(60)

        assert strike.receives()[0]["state"] == "COMPLETED"

    def test_an_address_is_paid_on_chain_and_confirmed_later(self, strike: Client) -> None:
        made = post(strike, {"onchain": {"amount": {"amount": "0.001", "currency": "BTC"}}}).json()
        strike.simulator.pay_invoice(made["onchain"]["addressUri"])
        (before,) = strike.receives(f"$onchainAddress={made['onchain']['address']}")
        strike.simulator.clock.advance(600)
        (after,) = strike.receives()

        assert (before["type"], before["state"], after["state"]) == ("ONCHAIN", "PENDING", "COMPLETED")
        assert before["onchain"]["address"] == made["onchain"]["address"]
        assert len(before["onchain"]["transactionId"]) == 64
        assert "blockHeight" not in before["onchain"]
        assert after["onchain"]["numberOfConfirmations"] == 1

    def test_reads_can_lag_behind(self, strike: Client) -> None:
        strike.simulator.config.receive_read_lag_seconds = 5
        strike.simulator.pay_invoice(strike.receive_request()["bolt11"]["invoice"], pending_seconds=10)
        seen = []
        for _ in range(4):
            seen.append([row["state"] for row in strike.receives()])
            strike.simulator.clock.advance(5)

        assert seen == [[], ["PENDING"], ["PENDING"], ["COMPLETED"]]

    def test_fields_of_a_receive_can_be_missing_or_odd(self, strike: Client) -> None:
        strike.control("/config", receive_fields_missing=["amountCredited"], has_conversion_rate_of_one=True)
        receive = strike.simulator.pay_invoice(strike.receive_request()["bolt11"]["invoice"])
        strike.simulator.receive_requests.receives[receive.transaction_id].oddities = {"type": "CARD", "created": None}

        (shown,) = strike.receives()

        assert not shown.keys() & {"amountCredited", "created"}
        assert (shown["type"], shown["conversionRate"]["amount"]) == ("CARD", "1")

    def test_a_person_pays_over_the_control_api(self, strike: Client) -> None:
        request = strike.receive_request(1000)

        paid = strike.control(
            "/pay", receive_request_id=request["receiveRequestId"], received_sats=1200, is_strike_user=True
        )

        assert paid["payment_request"] == request["bolt11"]["invoice"]
        (seen,) = strike.get("/_control/state").json()["receive_requests"]
        assert [(row["type"], row["sats"]) for row in seen["receives"]] == [("P2P", 1200)]
