"""The three sources of a price, together and apart."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from lnpay.domain.money import CURRENCIES
from lnpay.sandbox import Fault
from tests.sandbox.strike_client import Client


def coingecko(strike: Client, **parameters: str) -> dict[str, dict[str, Decimal]]:
    wanted = {"ids": "bitcoin", "vs_currencies": "usd", **parameters}
    answer = strike.get("/coingecko/api/v3/simple/price", **wanted)
    assert answer.status_code == 200
    read: dict[str, dict[str, Decimal]] = json.loads(answer.text, parse_float=Decimal)
    return read


def coinbase(strike: Client) -> dict[str, str]:
    rates: dict[str, str] = strike.get("/coinbase/v2/exchange-rates", currency="BTC").json()["data"]["rates"]
    return rates


def test_every_currency_has_a_price_at_both_sources(strike: Client) -> None:
    first = coingecko(strike, vs_currencies=",".join(CURRENCIES), precision="full")["bitcoin"]
    second = coinbase(strike)

    assert set(first) == CURRENCIES
    for code, price in first.items():
        assert price == Decimal(second[code.upper()]) > 0


def test_the_time_of_a_price_is_given_when_asked_for(strike: Client) -> None:
    strike.control("/rates", age=120, source="coingecko")

    told = coingecko(strike, include_last_updated_at="true")["bitcoin"]["last_updated_at"]

    assert int(strike.simulator.clock.now().timestamp()) - told == 120


def test_prices_are_json_numbers_of_the_precision_asked_for(strike: Client) -> None:
    strike.control("/rates", currency="eur", price="61234.56789")

    assert coingecko(strike, vs_currencies="eur")["bitcoin"]["eur"] == 61235
    assert coingecko(strike, vs_currencies="eur", precision="2")["bitcoin"]["eur"] == Decimal("61234.57")
    assert coingecko(strike, vs_currencies="eur", precision="full")["bitcoin"]["eur"] == Decimal("61234.56789")


def test_what_is_unknown_is_left_out(strike: Client) -> None:
    assert coingecko(strike, vs_currencies="usd,xxx")["bitcoin"].keys() == {"usd"}
    assert coingecko(strike, ids="dogecoin") == {}


def test_sources_can_disagree_or_not_know(strike: Client) -> None:
    strike.control("/rates", factor="1.1", source="coinbase")
    strike.control("/rates", currency="zar", price=None, source="coinbase")

    dollars = coingecko(strike, precision="full")["bitcoin"]["usd"]
    assert Decimal(coinbase(strike)["USD"]) == dollars * Decimal("1.1")
    assert "ZAR" not in coinbase(strike)
    assert "zar" in coingecko(strike, vs_currencies="zar")["bitcoin"]


def test_strikes_ticker_has_both_directions_of_every_pair(strike_over_http: Client) -> None:
    strike = strike_over_http
    strike.simulator.rates.set_price("usd", "21289.77")
    strike.simulator.rates.set_price("eur", "20000")

    rows = strike.get("/v1/rates/ticker").json()

    assert {"amount": "21289.7700", "sourceCurrency": "BTC", "targetCurrency": "USD"} in rows
    assert {"amount": "0.00004697", "sourceCurrency": "USD", "targetCurrency": "BTC"} in rows
    assert {"amount": "1.0645", "sourceCurrency": "EUR", "targetCurrency": "USD"} in rows
    assert {"amount": "0.9394", "sourceCurrency": "USD", "targetCurrency": "EUR"} in rows
    currencies = ("BTC", "USD", "EUR", "USDT", "GBP", "AUD")
    pairs = [(row["sourceCurrency"], row["targetCurrency"]) for row in rows]
    assert sorted(pairs) == sorted((one, other) for one in currencies for other in currencies if one != other)


def test_strikes_ticker_leaves_out_a_currency_without_a_price(strike: Client) -> None:
    strike.simulator.rates.set_price("eur", None, "strike")

    rows = strike.get("/v1/rates/ticker").json()

    assert len(rows) == 20
    assert "EUR" not in {row["sourceCurrency"] for row in rows}


def test_coingecko_says_too_many_in_its_own_words(strike: Client) -> None:
    strike.simulator.faults.add(Fault("GET", "/coingecko/*", "rate_limited", seconds=7))

    answer = strike.get("/coingecko/api/v3/simple/price", ids="bitcoin", vs_currencies="usd")

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert answer.json()["status"]["error_code"] == 429


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/coingecko/api/v3/simple/price", 422),
        ("/coingecko/api/v3/simple/price?vs_currencies=usd", 422),
        ("/coingecko/api/v3/nothing", 404),
        ("/coinbase/v2/exchange-rates?currency=XXX", 400),
    ],
)
def test_a_wrong_question_is_refused(strike: Client, path: str, status: int) -> None:
    assert strike.get(path).status_code == status
