"""The customer's wallet and receive requests: forms over real HTTP, as a browser without JavaScript sends them."""

from __future__ import annotations

import re

import pytest
import requests

from tests.sandbox.strike_client import Client, error_of


@pytest.fixture
def strike(strike_over_http: Client) -> Client:
    return strike_over_http


def pay(strike: Client, text: str, **form: str) -> requests.Response:
    return strike.call("POST", "/wallet", data={"payment_request": text, "now": "1", **form})


def text_of(strike: Client, sats: int | None = 50_000, **fields: object) -> str:
    return str(strike.receive_request(sats, **fields)["bolt11"]["invoice"])


def test_what_is_asked_for_is_paid_and_can_be_paid_again(strike: Client) -> None:
    text = text_of(strike, description="Order 1")
    asked = strike.get("/wallet", payment_request=text)
    paid = pay(strike, text, sats="", app="lightning")
    again = strike.get("/wallet", payment_request=text)
    pay(strike, text)

    assert "50,000 sats" in asked.text
    assert "Order 1" in asked.text
    assert "Paid." in paid.text
    assert f'href="/wallet?payment_request={text}">Pay again</a>' in paid.text
    assert "50,000 sats were paid already." in again.text
    assert ">Pay again</button>" in again.text
    assert [entry.sats for entry in strike.simulator.ledger.entries] == [50_000, 50_000]


@pytest.mark.parametrize(
    ("sats", "notice"),
    [("60,000", "Paid 60,000 sats, 10,000 more than asked for."), ("1", "49,999 less"), ("50000", "Paid.")],
)
def test_another_amount_is_paid(strike: Client, sats: str, notice: str) -> None:
    page = pay(strike, text_of(strike), sats=sats)

    assert notice in page.text
    assert strike.simulator.ledger.received() == int(sats.replace(",", ""))


def test_a_request_without_an_amount_asks_for_one(strike: Client) -> None:
    text = text_of(strike, None)

    refused = pay(strike, text)
    paid = pay(strike, text, sats="700")

    assert (refused.status_code, "say how many sats" in refused.text) == (409, True)
    assert "Any amount" in refused.text
    assert '<details class="choices" open>' in refused.text
    assert "Paid." in paid.text


@pytest.mark.parametrize("sats", ["0", "-5", "1.5", "many", "²", "9" * 17])
def test_an_amount_is_a_whole_number_of_sats(strike: Client, sats: str) -> None:
    page = pay(strike, text_of(strike), sats=sats)

    assert (page.status_code, "whole number of sats" in page.text) == (409, True)
    assert f'value="{sats}"' in page.text
    assert strike.simulator.ledger.entries == []


def test_an_invoice_takes_no_other_amount(strike: Client) -> None:
    text = strike.quote(strike.invoice()["invoiceId"])["lnInvoice"]

    page = pay(strike, text, sats="60000")

    assert (page.status_code, "only be paid with its own amount" in page.text) == (409, True)
    assert "Paid." in pay(strike, text, sats="51,636").text


def test_a_strike_user_pays_inside_strike(strike: Client) -> None:
    page = pay(strike, text_of(strike), app="strike")

    assert "Paid." in page.text
    assert [row["type"] for row in strike.receives()] == ["P2P"]


@pytest.mark.parametrize("app", ["lightning", "strike"])
def test_after_its_expiry_it_cannot_be_paid_late(strike: Client, app: str) -> None:
    short, long = (text_of(strike, expiryInSeconds=seconds) for seconds in (120, 600))

    late = strike.call("POST", "/wallet", data={"payment_request": short, "late": "1", "app": app})
    in_time = strike.call("POST", "/wallet", data={"payment_request": long, "late": "1", "app": app})

    assert (late.status_code, "can no longer be paid" in late.text) == (409, True)
    assert "180 s later: the request had not expired yet" in in_time.text
    assert [entry.payment_request for entry in strike.simulator.ledger.entries] == [long]


def test_an_address_is_paid_on_chain(strike: Client) -> None:
    made = strike.call("POST", "/v1/receive-requests", json={"onchain": {}}).json()

    page = pay(strike, made["onchain"]["addressUri"], sats="90000")

    assert "Paid." in page.text
    assert [(row["type"], row["state"]) for row in strike.receives()] == [("ONCHAIN", "PENDING")]


def test_the_ledger_shows_what_was_credited(strike: Client) -> None:
    strike.simulator.rates.set_price("EUR", "4000000", "strike")
    body = {"bolt11": {"amount": {"amount": "0.001", "currency": "BTC"}}, "targetCurrency": "EUR"}
    made = strike.call("POST", "/v1/receive-requests", json=body).json()
    pay(strike, made["bolt11"]["invoice"])

    page = strike.get("/ledger").text

    assert f"receive request {made['receiveRequestId']}" in page
    assert "credited 4000.00 EUR" in page
    assert "4,000.00 <small>EUR</small>" in page


def test_the_wallet_asks_for_money_and_is_paid_once(strike: Client) -> None:
    page = strike.call("POST", "/wallet/request", data={"ask": "7,000"})
    found = re.search(r"lnbc70u1[a-z0-9]+", page.text)
    assert found is not None
    assert "A payment request for 7,000 sats" in page.text

    quote = strike.call("POST", "/v1/payment-quotes/lightning", json={"lnInvoice": found[0]}).json()
    strike.execute(quote["paymentQuoteId"])

    assert [receipt.sats for receipt in strike.simulator.wallet.receipts] == [7000]
    again = strike.call("POST", "/v1/payment-quotes/lightning", json={"lnInvoice": found[0]})
    assert error_of(again) == (422, "LN_INVOICE_PROCESSED")


@pytest.mark.parametrize(("sats", "status"), [("", 400), ("many", 409), ("0", 409)])
def test_the_wallet_asks_for_a_whole_number_of_sats(strike: Client, sats: str, status: int) -> None:
    assert strike.call("POST", "/wallet/request", data={"ask": sats}).status_code == status
    assert strike.simulator.wallet.requests == {}
