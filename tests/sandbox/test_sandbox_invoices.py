"""Strike's invoices as the sandbox has them: requests, refusals, payment, lists."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest

from lnpay.sandbox import PaymentRefused
from tests.sandbox.strike_client import Client, error_of

UNKNOWN = "00000000-0000-4000-8000-000000000000"
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.([0-9]{3}|[0-9]{6,7})\+00:00"


def test_a_new_invoice_has_exactly_the_documented_fields(strike: Client) -> None:
    answer = strike.ask(51636, correlationId="order-1", description="Coffee")

    invoice = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"http://strike.test/v1/invoices/{invoice['invoiceId']}"
    assert set(invoice) == {
        "invoiceId", "amount", "state", "created", "correlationId", "description", "issuerId", "receiverId",
    }  # fmt: skip
    assert invoice["amount"] == {"amount": "0.00051636", "currency": "BTC"}
    assert invoice["state"] == "UNPAID"
    assert re.fullmatch(TIME, invoice["created"])


def test_what_an_invoice_does_not_have_is_left_out(strike: Client) -> None:
    assert not {"correlationId", "description", "payerId"} & set(strike.invoice())


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "amount", "INVALID_DATA_REQUIRED"),
        ({"amount": "0.1"}, "amount", "INVALID_DATA"),
        ({"amount": {"amount": 0.1, "currency": "BTC"}}, "amount.amount", "INVALID_DATA"),
        ({"amount": {"amount": "1e-5", "currency": "BTC"}}, "amount.amount", "INVALID_DATA_VALUE"),
        ({"amount": {"amount": "0.000000001", "currency": "BTC"}}, "amount.amount", "INVALID_DATA_VALUE"),
        ({"amount": {"amount": "1", "currency": "DOGE"}}, "amount.currency", "INVALID_DATA_CURRENCY"),
        ({"amount": {"amount": "1", "currency": "BTC"}, "description": "\ud800"}, "description", "INVALID_DATA"),
        (
            {"amount": {"amount": "1", "currency": "BTC"}, "correlationId": "x" * 41},
            "correlationId",
            "INVALID_DATA_MAXLENGTH",
        ),
        (
            {"amount": {"amount": "1", "currency": "BTC"}, "description": "x" * 201},
            "description",
            "INVALID_DATA_MAXLENGTH",
        ),
    ],
)
def test_a_wrong_field_is_named(strike: Client, body: dict[str, Any], field: str, code: str) -> None:
    answer = strike.call("POST", "/v1/invoices", json=body)

    assert error_of(answer) == (400, "INVALID_DATA")
    assert answer.json()["data"]["validationErrors"][field][0]["code"] == code


@pytest.mark.parametrize("amount", ["0", "0.00000000", "-1"])
def test_an_amount_must_be_more_than_nothing(strike: Client, amount: str) -> None:
    answer = strike.call("POST", "/v1/invoices", json={"amount": {"amount": amount, "currency": "BTC"}})

    assert error_of(answer) == (422, "INVALID_AMOUNT")


def test_a_currency_the_account_cannot_invoice_is_refused(strike: Client) -> None:
    strike.simulator.config.invoiceable_currencies = ["USD"]

    answer = strike.ask()

    assert error_of(answer) == (422, "USER_CURRENCY_UNAVAILABLE")
    assert answer.json()["data"]["values"] == {"currency": "BTC"}


def test_a_correlation_id_is_used_once(strike: Client) -> None:
    strike.invoice(correlationId="order-1")

    assert error_of(strike.ask(correlationId="order-1")) == (409, "DUPLICATE_INVOICE")


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"{", "application/json", (400, "INVALID_DATA")),
        (b"[]", "application/json", (400, "INVALID_DATA")),
        (b"\xff", "application/json", (400, "INVALID_DATA")),
        (b"{}", "text/plain", (415, "UNSUPPORTED_MEDIA_TYPE")),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(
    strike: Client, body: bytes, kind: str, expected: tuple[int, str]
) -> None:
    answer = strike.call("POST", "/v1/invoices", data=body, headers={"Content-Type": kind})

    assert error_of(answer) == expected


def test_a_key_is_needed_and_a_401_has_no_trace_id(strike: Client) -> None:
    strike.key = ""

    answer = strike.ask()

    assert error_of(answer) == (401, "UNAUTHORIZED")
    assert "traceId" not in answer.json()


def test_a_key_does_only_what_its_scopes_say(strike: Client) -> None:
    strike.simulator.config.api_keys = {"reader": ["partner.invoice.read"]}
    strike.key = "reader"

    assert strike.get("/v1/invoices").status_code == 200
    assert error_of(strike.ask()) == (403, "FORBIDDEN")
    strike.key = "a stranger's"
    assert error_of(strike.get("/v1/invoices")) == (401, "UNAUTHORIZED")


def test_an_unknown_id_is_404_and_a_malformed_one_400(strike: Client) -> None:
    malformed = strike.get("/v1/invoices/not-a-uuid")

    assert error_of(strike.get(f"/v1/invoices/{UNKNOWN}")) == (404, "NOT_FOUND")
    assert error_of(malformed) == (400, "INVALID_DATA")
    assert malformed.json()["data"]["validationErrors"]["invoiceId"][0]["message"].endswith("is not valid.")


def test_a_bitcoin_quote_lasts_an_hour_at_a_rate_of_one(strike: Client) -> None:
    quote = strike.quote(strike.invoice(51636, description="Coffee")["invoiceId"])

    assert quote["lnInvoice"].startswith("lnbc516360n1")
    assert quote["sourceAmount"] == {"amount": "0.00051636", "currency": "BTC"}
    assert quote["conversionRate"] == {"amount": "1", "sourceCurrency": "BTC", "targetCurrency": "BTC"}
    assert quote["expirationInSec"] == 3600
    expires_in = datetime.fromisoformat(quote["expiration"]) - strike.simulator.now()
    assert expires_in.total_seconds() == 3600


def test_a_dollar_quote_lasts_half_a_minute_and_rounds_sats_up(strike: Client) -> None:
    strike.simulator.rates.set_price("usd", "21283.6006")
    body = {"amount": {"amount": "10.99", "currency": "USD"}}
    invoice = strike.call("POST", "/v1/invoices", json=body).json()

    quote = strike.quote(invoice["invoiceId"])

    assert quote["sourceAmount"] == {"amount": "0.00051636", "currency": "BTC"}
    assert quote["conversionRate"]["amount"] == "21283.6006"
    assert quote["expirationInSec"] == 30


def test_every_quote_has_a_payment_request_of_its_own(strike: Client) -> None:
    invoice_id = strike.invoice()["invoiceId"]

    requests = {strike.quote(invoice_id)["lnInvoice"] for _ in range(3)}

    assert len(requests) == 3


def test_a_payment_is_seen_with_its_own_time(strike: Client) -> None:
    invoice_id = strike.invoice()["invoiceId"]
    quote = strike.quote(invoice_id)
    strike.simulator.clock.advance(42)
    strike.simulator.pay_invoice("lightning:" + quote["lnInvoice"].upper())
    strike.simulator.clock.advance(1000)

    seen = strike.get(f"/v1/invoices/{invoice_id}", includeTransactions="true").json()

    assert seen["state"] == "PAID"
    (transaction,) = seen["transactions"]
    assert transaction["state"] == "COMPLETED"
    assert transaction["amountReceived"] == {"amount": "0.00051636", "currency": "BTC"}
    assert (datetime.fromisoformat(transaction["completed"]) - strike.simulator.now()).total_seconds() == -1000
    assert "transactions" not in strike.get(f"/v1/invoices/{invoice_id}").json()


@pytest.mark.parametrize(("choice", "expected"), [("empty", []), ("missing", None)])
def test_transactions_can_be_kept_back(strike: Client, choice: str, expected: object) -> None:
    strike.simulator.config.transactions = choice
    invoice_id = strike.paid_invoice()

    seen = strike.get(f"/v1/invoices/{invoice_id}", includeTransactions="true").json()

    assert seen.get("transactions") == expected


def test_fields_of_a_transaction_can_be_kept_back(strike: Client) -> None:
    strike.simulator.config.transaction_fields_missing = ["completed"]
    invoice_id = strike.paid_invoice()

    seen = strike.get(f"/v1/invoices/{invoice_id}", includeTransactions="true").json()

    assert set(seen["transactions"][0]) == {"transactionId", "state", "amountReceived", "created"}


def test_an_invoice_is_paid_once_through_any_of_its_quotes(strike: Client) -> None:
    invoice_id = strike.invoice()["invoiceId"]
    first, second = strike.quote(invoice_id), strike.quote(invoice_id)
    strike.simulator.pay_invoice(first["lnInvoice"])

    for quote in (first, second):
        with pytest.raises(PaymentRefused, match="paid"):
            strike.simulator.pay_invoice(quote["lnInvoice"])
    assert strike.simulator.ledger.received(invoice_id) == 51636


def test_a_payment_request_is_payable_until_it_expires(strike: Client) -> None:
    invoice_id = strike.invoice()["invoiceId"]
    old = strike.quote(invoice_id)["lnInvoice"]
    strike.simulator.clock.advance(3600)

    with pytest.raises(PaymentRefused, match="expired"):
        strike.simulator.pay_invoice(old)
    strike.simulator.pay_invoice(strike.quote(invoice_id)["lnInvoice"], late_seconds=3599.9)
    with pytest.raises(PaymentRefused, match="unknown"):
        strike.simulator.pay_invoice("lnbc1nonsense")


def test_a_slow_payment_is_pending_before_it_is_paid(strike: Client) -> None:
    invoice_id = strike.invoice()["invoiceId"]
    strike.simulator.pay_invoice(strike.quote(invoice_id)["lnInvoice"], pending_seconds=60)

    before = strike.get(f"/v1/invoices/{invoice_id}", includeTransactions="true").json()
    quoting = strike.call("POST", f"/v1/invoices/{invoice_id}/quote")
    strike.simulator.clock.advance(600)
    after = strike.get(f"/v1/invoices/{invoice_id}", includeTransactions="true").json()

    assert (before["state"], before["transactions"][0]["state"]) == ("PENDING", "PENDING")
    assert error_of(quoting) == (422, "PROCESSING_PAYMENT")
    assert after["state"] == "PAID"
    times = [datetime.fromisoformat(after["transactions"][0][name]) for name in ("created", "completed")]
    assert (times[1] - times[0]).total_seconds() == 60


def test_a_slow_payment_may_come_to_nothing(strike: Client) -> None:
    invoice_id = strike.invoice()["invoiceId"]
    request = strike.quote(invoice_id)["lnInvoice"]
    strike.simulator.pay_invoice(request, pending_seconds=60, reverts=True)
    strike.simulator.clock.advance(60)

    assert strike.get(f"/v1/invoices/{invoice_id}").json()["state"] == "UNPAID"
    assert strike.simulator.ledger.received() == 0
    strike.simulator.pay_invoice(request)


def test_a_cancelled_invoice_is_neither_payable_nor_quotable(strike: Client) -> None:
    invoice_id = strike.invoice()["invoiceId"]
    request = strike.quote(invoice_id)["lnInvoice"]

    cancelled = strike.call("PATCH", f"/v1/invoices/{invoice_id}/cancel")

    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "CANCELLED")
    for method, what in (("PATCH", "cancel"), ("POST", "quote")):
        answer = strike.call(method, f"/v1/invoices/{invoice_id}/{what}")
        assert error_of(answer) == (422, "INVALID_STATE_FOR_INVOICE_CANCELLED")
    with pytest.raises(PaymentRefused, match="cancelled"):
        strike.simulator.pay_invoice(request)
    strike.simulator.config.is_payable_after_cancel = True
    strike.simulator.pay_invoice(request)


def test_a_paid_invoice_cannot_be_cancelled(strike: Client) -> None:
    answer = strike.call("PATCH", f"/v1/invoices/{strike.paid_invoice()}/cancel")

    assert error_of(answer) == (422, "INVALID_STATE_FOR_INVOICE_PAID")


def test_a_list_is_newest_first_and_comes_in_pages(strike: Client) -> None:
    ids = []
    for _ in range(5):
        ids.append(strike.invoice()["invoiceId"])
        strike.simulator.clock.advance(1)

    page = strike.get("/v1/invoices", **{"$skip": "1", "$top": "2"}).json()
    ascending = strike.get("/v1/invoices", **{"$orderby": "created asc"}).json()

    assert [item["invoiceId"] for item in page["items"]] == [ids[3], ids[2]]
    assert (page["count"], page["isCountUnknown"]) == (5, False)
    assert [item["invoiceId"] for item in ascending["items"]] == ids


def test_a_page_has_fifty_items_unless_asked_and_never_more_than_a_hundred(strike: Client) -> None:
    strike.simulator.config.rate_limits = "off"
    for _ in range(55):
        strike.invoice()

    assert len(strike.get("/v1/invoices").json()["items"]) == 50
    assert len(strike.get("/v1/invoices", **{"$top": "100"}).json()["items"]) == 55
    assert error_of(strike.get("/v1/invoices", **{"$top": "101"})) == (400, "INVALID_DATA_QUERY")


def test_a_filter_finds_by_state_and_by_correlation_id(strike: Client) -> None:
    paid, unpaid = strike.paid_invoice(correlationId="a"), strike.invoice(correlationId="b")["invoiceId"]

    def found(text: str) -> list[str]:
        return [item["invoiceId"] for item in strike.get("/v1/invoices", **{"$filter": text}).json()["items"]]

    assert found("state eq 'PAID'") == [paid]
    assert found("correlationId eq 'b'") == [unpaid]
    assert found(f"invoiceId in ('{paid}', '{unpaid}')") == [unpaid, paid]


@pytest.mark.parametrize(
    ("policy", "blocked", "let_through"),
    [
        ("allow", [], ["state eq 'PAID'", "state eq 'PAID' and currency eq 'BTC'", "state eq 'A' or state eq 'B'"]),
        ("block_or", ["state eq 'A' or state eq 'B'"], ["state eq 'PAID' and currency eq 'BTC'"]),
        ("block_compound", ["state eq 'A' and state eq 'B'", "created gt 2026-01-01T00:00:00Z"], ["state eq 'A'"]),
        ("block_all", ["state eq 'A'", "nonsense"], []),
    ],
)
def test_a_firewall_answers_html_to_filters_it_dislikes(
    strike: Client, policy: str, blocked: list[str], let_through: list[str]
) -> None:
    strike.simulator.config.filter_policy = policy

    for text in blocked:
        answer = strike.get("/v1/invoices", **{"$filter": text})
        assert (answer.status_code, answer.text[:6]) == (403, "<html>")
    for text in let_through:
        assert strike.get("/v1/invoices", **{"$filter": text}).status_code == 200


def test_several_values_in_a_filter_can_be_refused(strike: Client) -> None:
    strike.simulator.config.multi_value_in = "refuse"

    several = strike.get("/v1/invoices", **{"$filter": "state in ('PAID', 'UNPAID')"})

    assert error_of(several) == (400, "INVALID_DATA_QUERY")
    assert strike.get("/v1/invoices", **{"$filter": "state in ('PAID')"}).status_code == 200


def test_a_payment_may_bring_another_amount_than_was_asked(strike: Client) -> None:
    invoice = strike.invoice(1_000)
    request = strike.quote(invoice["invoiceId"])["lnInvoice"]

    strike.control("/pay", payment_request=request, received_sats=1_250)

    read = strike.call("GET", f"/v1/invoices/{invoice['invoiceId']}?includeTransactions=true").json()
    assert (read["state"], read["amount"]["amount"]) == ("PAID", "0.00001000")
    assert read["transactions"][0]["amountReceived"] == {"amount": "0.00001250", "currency": "BTC"}
    assert strike.simulator.ledger.received(invoice["invoiceId"]) == 1_250


def test_reading_an_invoice_by_id_may_lag_behind(strike: Client) -> None:
    strike.simulator.config.invoice_read_lag_seconds = 5
    invoice = strike.invoice()
    strike.control("/pay", payment_request=strike.quote(invoice["invoiceId"])["lnInvoice"])

    assert strike.call("GET", f"/v1/invoices/{invoice['invoiceId']}").json()["state"] == "UNPAID"
    strike.simulator.clock.advance(5)
    assert strike.call("GET", f"/v1/invoices/{invoice['invoiceId']}").json()["state"] == "PAID"


def test_an_invoice_may_be_shown_with_odd_fields_and_without_others(strike: Client) -> None:
    made = strike.invoice()
    strike.simulator.invoices.by_id[made["invoiceId"]].oddities = {"amount": {"currency": "BTC"}, "created": None}

    (row,) = strike.call("GET", "/v1/invoices").json()["items"]

    assert row["amount"] == {"currency": "BTC"}
    assert "created" not in row
