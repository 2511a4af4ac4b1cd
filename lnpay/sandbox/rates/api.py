"""The two public rate sources, CoinGecko and Coinbase."""

from __future__ import annotations

import json
import math
from decimal import Decimal

from lnpay.sandbox.rates.prices import PER_BITCOIN, PER_USD
from lnpay.sandbox.web import (
    JSON_TYPE,
    Reply,
    Request,
    json_reply,
)
from lnpay.sandbox.world import World

_BITCOIN_NAMES = {"ids": "bitcoin", "names": "bitcoin", "symbols": "btc"}


def answer(simulator: World, request: Request) -> Reply:
    """One call of a rate source; a fault of kind rate_limited answers before this."""
    path = "/" + "/".join(request.segments)
    if request.method != "GET":
        return json_reply(405, {"error": "method not allowed"})
    if path == "/coingecko/api/v3/simple/price":
        return _simple_price(simulator, request.arguments)
    if path == "/coingecko/api/v3/simple/supported_vs_currencies":
        return json_reply(200, [*PER_BITCOIN, *(code for code in PER_USD if code != "usdt")])
    if path == "/coinbase/v2/exchange-rates":
        return _exchange_rates(simulator, request.arguments.get("currency", "USD"))
    return json_reply(404, {"error": "not found"})


def too_many_requests(seconds: float) -> Reply:
    """CoinGecko's 429."""
    message = "You've exceeded the Rate Limit. Please visit https://www.coingecko.com/en/api/pricing"
    status = {"error_code": 429, "error_message": message}
    return json_reply(429, {"status": status}, [("Retry-After", str(math.ceil(seconds)))])


def _simple_price(simulator: World, arguments: dict[str, str]) -> Reply:
    if not arguments.get("vs_currencies"):
        return json_reply(422, {"error": "Missing parameter vs_currencies"})
    wanted = next((name for name in _BITCOIN_NAMES if arguments.get(name)), None)
    if wanted is None:
        return json_reply(422, {"error": "Missing parameter ids, names, symbols"})
    coins = {name.strip().lower() for name in arguments[wanted].split(",")}
    if _BITCOIN_NAMES[wanted] not in coins:
        return _numbers("bitcoin", None)
    numbers: dict[str, str] = {}
    for code in arguments["vs_currencies"].lower().split(","):
        price = simulator.rates.price("coingecko", code.strip())
        if price is not None and code.strip() != "usdt":
            numbers[code.strip()] = _number_text(price, arguments.get("precision", ""))
    if arguments.get("include_last_updated_at", "").lower() == "true":
        updated_at = simulator.clock.now().timestamp() - simulator.rates.ages["coingecko"]
        numbers["last_updated_at"] = str(int(updated_at))
    return _numbers("btc" if wanted == "symbols" else "bitcoin", numbers)


def _number_text(price: Decimal, precision: str) -> str:
    """Digits of a JSON number: whole for large prices unless a precision is asked for."""
    if precision.isascii() and precision.isdigit():
        return f"{price.quantize(Decimal(1).scaleb(-min(int(precision), 18))):f}"
    if precision == "full":
        return f"{price.normalize():f}"
    return f"{price.quantize(Decimal(1) if price >= 1000 else Decimal('0.01')):f}"


def _numbers(coin: str, numbers: dict[str, str] | None) -> Reply:
    """Written by hand: prices are exact decimals and appear as JSON numbers."""
    inner = None if numbers is None else ",".join(f"{json.dumps(key)}:{text}" for key, text in numbers.items())
    text = "{}" if inner is None else f'{{"{coin}":{{{inner}}}}}'
    return Reply(200, text.encode(), [("Content-Type", JSON_TYPE)])


def _exchange_rates(simulator: World, currency: str) -> Reply:
    if currency.upper() != "BTC":
        problem = {"id": "invalid_request", "message": f"Currency is invalid: {currency}"}
        return json_reply(400, {"errors": [problem]})
    known = {code: simulator.rates.price("coinbase", code) for code in ("btc", *PER_USD)}
    rates = {code.upper(): f"{price:f}" for code, price in known.items() if price is not None}
    return json_reply(200, {"data": {"currency": "BTC", "rates": rates}})
