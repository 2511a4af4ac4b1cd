"""Strike's payouts as the sandbox has them: quotes, keys, executions and the ledger's word."""

from __future__ import annotations

import hashlib
import uuid

import pytest

from lnpay.domain.bolt11 import decode
from tests.sandbox.strike_client import Client, error_of

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_a_quote_tells_the_fee_and_moves_nothing(strike: Client) -> None:
    answer = strike.ask_payment_quote(btc="0.00010000")

    quote = answer.json()
    assert answer.status_code == 200
    assert quote["amount"] == {"amount": "0.00010000", "currency": "BTC"}
    assert quote["totalFee"] == quote["lightningNetworkFee"] == {"amount": "0.00000011", "currency": "BTC"}
    assert quote["totalAmount"] == {"amount": "0.00010011", "currency": "BTC"}
    assert strike.simulator.ledger.entries == []


def test_an_executed_quote_pays_the_destination_once(strike: Client) -> None:
    quote_id = strike.payment_quote()

    answers = [strike.execute(quote_id) for _ in range(3)]

    assert (answers[0].status_code, answers[0].json()["state"]) == (200, "COMPLETED")
    assert answers[0].json()["lightning"]["preImage"]
    assert [error_of(answer) for answer in answers[1:]] == [(422, "PAYMENT_PROCESSED")] * 2
    ledger = strike.simulator.ledger
    assert ledger.payouts_per_quote() == {quote_id: 1}
    assert ledger.executions_per_quote() == {quote_id: 3}
    assert ledger.sent("customer@wallet.example") == 10_000
    assert [receipt.sats for receipt in strike.simulator.wallet.receipts] == [10_000]


def test_a_repeated_key_leads_back_to_the_first_quote(strike: Client) -> None:
    key = str(uuid.uuid4())
    first = strike.payment_quote(key=key)

    again = strike.ask_payment_quote("another@wallet.example", key=key)

    assert error_of(again) == (422, "DUPLICATE_PAYMENT_QUOTE")
    assert again.json()["data"]["values"] == {"paymentQuoteId": first}


@pytest.mark.parametrize("version", [1, 4, 7])
def test_a_key_may_be_a_uuid_of_any_version(strike: Client, version: int) -> None:
    key = f"00000000-0000-{version}000-8000-000000000000"

    assert strike.ask_payment_quote(key=key).status_code == 200


def test_a_key_that_is_no_uuid_is_refused(strike: Client) -> None:
    assert error_of(strike.ask_payment_quote(key="order-1")) == (400, "INVALID_DATA")


@pytest.mark.parametrize(
    ("variant", "code", "has_id"),
    [
        (None, "PAYMENT_PROCESSED", True),
        ("without_id", "PAYMENT_PROCESSED", False),
        ("older_code", "INVALID_STATE_FOR_INVOICE_PAID", False),
    ],
)
def test_a_second_execution_names_the_payment_unless_configured(
    strike_over_http: Client, variant: str | None, code: str, has_id: bool
) -> None:
    strike = strike_over_http
    if variant:
        strike.control("/config", execute_again_done=variant)
    quote_id = strike.payment_quote()
    payment_id = strike.execute(quote_id).json()["paymentId"]

    again = strike.execute(quote_id)

    assert error_of(again) == (422, code)
    assert again.json()["data"].get("values") == ({"paymentId": payment_id} if has_id else None)
    assert strike.simulator.ledger.payouts_per_quote() == {quote_id: 1}


ALWAYS = {"paymentId", "state", "result", "amount", "totalAmount"}
FEES = {"totalFee", "lightningNetworkFee"}
DONE = {"completed", "delivered"}


@pytest.mark.parametrize(
    ("form", "pending", "completed"),
    [
        ("full", ALWAYS | FEES | {"lightning"}, ALWAYS | FEES | DONE | {"lightning"}),
        ("recorded", ALWAYS | FEES, ALWAYS | DONE),
    ],
)
def test_a_payment_has_the_documented_fields_or_the_recorded_ones(
    strike_over_http: Client, form: str, pending: set[str], completed: set[str]
) -> None:
    strike = strike_over_http
    strike.control("/config", payment_form=form)

    started = strike.execute(strike.payment_quote("pending60@wallet.example")).json()
    failed = strike.execute(strike.payment_quote("fail@wallet.example")).json()
    strike.simulator.clock.advance(60)
    ended = strike.get(f"/v1/payments/{started['paymentId']}").json()

    assert (started["state"], started.keys()) == ("PENDING", pending)
    assert (failed["state"], failed.keys()) == ("FAILED", pending)
    assert (ended["state"], ended.keys()) == ("COMPLETED", completed)


def test_a_payment_can_have_every_field_at_all_times(strike_over_http: Client) -> None:
    strike = strike_over_http
    strike.control("/config", payment_form="everything")

    pending = strike.execute(strike.payment_quote("pending@wallet.example")).json()
    completed = strike.execute(strike.payment_quote()).json()

    assert (
        pending.keys()
        == completed.keys()
        == ALWAYS | FEES | DONE | {"lightning", "onchain", "conversionRate", "reward"}
    )
    assert (pending["completed"], pending["lightning"]["preImage"]) == (None, None)
    assert len(completed["lightning"]["preImage"]) == 64


def test_sending_from_another_currency_tells_the_rate(strike_over_http: Client) -> None:
    strike = strike_over_http
    strike.simulator.rates.set_price("usd", "50000", "strike")
    strike.simulator.balances.available["USD"] = 100_000
    quote = strike.ask_payment_quote(sourceCurrency="USD").json()
    payment = strike.execute(quote["paymentQuoteId"]).json()
    in_bitcoin = strike.ask_payment_quote().json()

    rate = {"amount": "0.00002000", "sourceCurrency": "USD", "targetCurrency": "BTC"}
    assert quote["conversionRate"] == payment["conversionRate"] == rate
    assert quote["amount"] == {"amount": "5.00", "currency": "USD"}
    assert "conversionRate" not in in_bitcoin


def test_the_preimage_of_a_paid_request_is_the_receivers(strike_over_http: Client) -> None:
    strike = strike_over_http
    request = strike.control("/wallet/request", sats=777)["payment_request"]
    quote = strike.call("POST", "/v1/payment-quotes/lightning", json={"lnInvoice": request}).json()

    preimage = strike.execute(quote["paymentQuoteId"]).json()["lightning"]["preImage"]

    assert hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == decode(request).payment_hash


def test_a_pending_payment_is_charged_and_completes_later(strike: Client) -> None:
    quote_id = strike.payment_quote("pending60@wallet.example")

    started = strike.execute(quote_id)
    payment_id = started.json()["paymentId"]
    before = strike.get(f"/v1/payments/{payment_id}").json()
    available = strike.simulator.balances.available["BTC"]
    strike.simulator.clock.advance(60)
    after = strike.get(f"/v1/payments/{payment_id}").json()

    assert (started.status_code, started.json()["state"], started.json()["result"]) == (202, "PENDING", "PENDING")
    assert (before["state"], after["state"]) == ("PENDING", "COMPLETED")
    assert available == strike.simulator.balances.available["BTC"] == 10_000_000 - 10_011


@pytest.mark.parametrize(
    ("variant", "expected"),
    [("PROCESSING_PAYMENT", (422, "PROCESSING_PAYMENT")), ("PROCESSING_CONFLICT", (409, "PROCESSING_CONFLICT"))],
)
def test_executing_again_while_pending_is_refused(strike: Client, variant: str, expected: tuple[int, str]) -> None:
    strike.simulator.config.execute_again_pending = variant
    quote_id = strike.payment_quote("pending@wallet.example")
    strike.execute(quote_id)

    assert error_of(strike.execute(quote_id)) == expected


def test_a_payment_can_fail_after_it_was_pending(strike: Client) -> None:
    quote_id = strike.payment_quote("pendingfail60@wallet.example")
    payment_id = strike.execute(quote_id).json()["paymentId"]
    strike.simulator.clock.advance(61)

    payment = strike.get(f"/v1/payments/{payment_id}").json()

    assert (payment["state"], payment["result"]) == ("FAILED", "FAILURE")
    assert strike.simulator.balances.available["BTC"] == 10_000_000
    assert strike.simulator.ledger.sent() == 0


@pytest.mark.parametrize("status", ["200", "202"])
def test_a_failed_payment_arrives_with_a_good_status(strike: Client, status: str) -> None:
    strike.simulator.config.execute_status = status

    answer = strike.execute(strike.payment_quote("fail@wallet.example"))

    assert (answer.status_code, answer.json()["state"]) == (int(status), "FAILED")


@pytest.mark.parametrize("variant", ["PAYMENT_PROCESSED", "PAYMENT_QUOTE_EXPIRED"])
def test_executing_a_failed_quote_again_is_answered_as_configured(strike: Client, variant: str) -> None:
    quote_id = strike.payment_quote("fail@wallet.example")
    strike.execute(quote_id)

    assert strike.execute(quote_id).json()["state"] == "FAILED"
    strike.simulator.config.execute_again_failed = variant
    assert error_of(strike.execute(quote_id)) == (422, variant)


@pytest.mark.parametrize("variant", ["with_id", "without_id"])
def test_payment_processed_names_a_failed_payment_where_it_names_any(strike: Client, variant: str) -> None:
    strike.simulator.config.execute_again_failed = "PAYMENT_PROCESSED"
    strike.simulator.config.execute_again_done = variant
    quote_id = strike.payment_quote("fail@wallet.example")
    payment_id = strike.execute(quote_id).json()["paymentId"]

    values = strike.execute(quote_id).json()["data"].get("values")

    assert values == ({"paymentId": payment_id} if variant == "with_id" else None)


def test_a_person_can_end_a_pending_payment(strike: Client) -> None:
    first, second = (
        strike.execute(strike.payment_quote("pending@wallet.example")).json()["paymentId"] for _ in range(2)
    )

    assert strike.control(f"/payments/{first}/complete") == {"changed": True, "state": "COMPLETED"}
    assert strike.control(f"/payments/{first}/fail") == {"changed": False, "state": "COMPLETED"}
    assert strike.control(f"/payments/{second}/fail") == {"changed": True, "state": "FAILED"}


def test_an_old_quote_cannot_be_executed(strike: Client) -> None:
    quote_id = strike.payment_quote()
    strike.simulator.clock.advance(60)

    assert error_of(strike.execute(quote_id)) == (422, "PAYMENT_QUOTE_EXPIRED")
    assert strike.simulator.ledger.entries == []


@pytest.mark.parametrize(("first", "code"), [(False, "PAYMENT_PROCESSED"), (True, "PAYMENT_QUOTE_EXPIRED")])
def test_a_paid_quote_that_grew_old_is_answered_as_configured(strike: Client, first: bool, code: str) -> None:
    strike.simulator.config.is_quote_expiry_checked_first = first
    quote_id = strike.payment_quote()
    strike.execute(quote_id)
    strike.simulator.clock.advance(60)

    assert error_of(strike.execute(quote_id)) == (422, code)


def test_more_than_the_balance_cannot_be_sent(strike: Client) -> None:
    quote_id = strike.payment_quote(btc="0.10000000")

    assert error_of(strike.execute(quote_id)) == (422, "BALANCE_TOO_LOW")
    assert strike.simulator.ledger.executions[0].outcome == "BALANCE_TOO_LOW"


def test_a_destination_bounds_what_it_takes(strike: Client) -> None:
    assert error_of(strike.ask_payment_quote("min500@w.example", btc="0.00000499")) == (422, "AMOUNT_TOO_LOW")
    assert error_of(strike.ask_payment_quote("max500@w.example", btc="0.00000501")) == (422, "AMOUNT_TOO_HIGH")
    assert error_of(strike.ask_payment_quote("comment0@w.example", description="Sorry")) == (400, "INVALID_DATA")
    assert error_of(strike.ask_payment_quote("unknown@w.example")) == (422, "UNPROCESSABLE_ENTITY")
    assert error_of(strike.ask_payment_quote("no address")) == (400, "INVALID_DATA")
    assert strike.ask_payment_quote("comment5@w.example", description="Sorry").status_code == 200


def test_an_address_is_looked_up_as_one_path_segment(strike: Client) -> None:
    address = strike.get("/v1/payment-quotes/lightning/lnurl/min500%40w.example").json()
    url = strike.get("/v1/payment-quotes/lightning/lnurl/https%3A%2F%2Fw.example%2Fpay")

    assert (address["minSendable"], address["maxSendable"]) == (500_000, 100_000_000_000)
    assert (address["tag"], address["commentAllowed"]) == ("payRequest", 120)
    assert url.status_code == 200


def test_no_route_means_no_payment(strike: Client) -> None:
    answer = strike.execute(strike.payment_quote("noroute@wallet.example"))

    assert error_of(answer) == (422, "LN_ROUTE_NOT_FOUND")
    assert strike.simulator.payments.payments == {}


def test_a_behaviour_is_set_for_any_destination(strike: Client) -> None:
    strike.control("/config", payout_behaviours={"*@slow.example": "pending:30"})

    answer = strike.execute(strike.payment_quote("anyone@slow.example"))

    assert answer.json()["state"] == "PENDING"


def test_the_wallets_payment_request_is_paid_once(strike: Client) -> None:
    request = strike.control("/wallet/request", sats=777)["payment_request"]

    def ask() -> str:
        answer = strike.call("POST", "/v1/payment-quotes/lightning", json={"lnInvoice": request})
        return str(answer.json().get("paymentQuoteId") or answer.json()["data"]["code"])

    first, second = ask(), ask()
    assert strike.execute(first).json()["state"] == "COMPLETED"
    assert error_of(strike.execute(second)) == (422, "LN_INVOICE_PROCESSED")
    assert ask() == "LN_INVOICE_PROCESSED"
    assert strike.simulator.ledger.sent(request) == 777


def test_the_account_does_not_pay_itself(strike: Client) -> None:
    own = strike.quote(strike.invoice()["invoiceId"])["lnInvoice"]

    for text, code in ((own, "SELF_PAYMENT_NOT_ALLOWED"), ("lnbc1nonsense", "INVALID_LN_INVOICE")):
        answer = strike.call("POST", "/v1/payment-quotes/lightning", json={"lnInvoice": text})
        assert error_of(answer) == (422, code)


def test_reading_a_quote_is_undocumented_and_off(strike: Client) -> None:
    quote_id = strike.payment_quote()

    assert error_of(strike.get(f"/v1/payment-quotes/{quote_id}")) == (404, "NOT_FOUND")
    strike.simulator.config.has_payment_quote_read = True
    assert strike.get(f"/v1/payment-quotes/{quote_id}").json()["paymentQuoteId"] == quote_id
    assert error_of(strike.get(f"/v1/payments/{UNKNOWN}")) == (404, "NOT_FOUND")
