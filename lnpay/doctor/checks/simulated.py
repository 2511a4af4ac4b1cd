"""Real money: do the settings point to Strike, or to a simulator or a test environment?"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from lnpay.doctor.check import Check
from lnpay.doctor.findings import (
    Finding,
    fail,
    ok,
    warn,
)
from lnpay.doctor.http_probe import send_probe
from lnpay.doctor.target import Target
from lnpay.monitoring.exposure import is_this_machine

STRIKE_HOST = "api.strike.me"
STRIKE_TEST_HOST = "api.dev.strike.me"

MARK = "x-lnpay-simulator"
"""A header of every response from the simulator."""

USE_STRIKE = f"remove STRIKE_API_URL from config/.env: the default is https://{STRIKE_HOST}/v1"
REMOVE = "remove {names} from config/.env and restart: the simulator is for trials only"


def _check_simulator(target: Target) -> Iterator[Finding]:
    """A simulator mixed with real money, or behind a public address, is always a mistake."""
    name, settings = "simulator", target.settings
    strike, public = _host(settings.strike_api_url), _host(settings.webhook_url)
    if not is_this_machine(strike):
        yield _real_account(target, strike)
    elif public and not is_this_machine(public):
        message = f"{strike} simulates Strike, so customers who reach LNPay at {public} pay no real money"
        yield fail(name, message, REMOVE.format(names="STRIKE_API_URL and any other address of the simulator"))
    else:
        yield ok(name, f"{strike} simulates Strike: no real money moves")


def _real_account(target: Target, strike: str) -> Finding:
    """Whether everything else is real too, if `strike` is not the simulator."""
    name, settings = "simulator", target.settings
    sources = {"COINGECKO_API_URL": settings.coingecko_api_url, "COINBASE_API_URL": settings.coinbase_api_url}
    prices = [setting for setting, url in sources.items() if is_this_machine(_host(url))]
    is_shop_simulated = send_probe("OPTIONS", settings.delivery_url).headers.get(MARK) is not None
    if simulated := [*prices, *(["DELIVERY_URL"] if is_shop_simulated else [])]:
        names = ", ".join(simulated)
        return fail(name, f"customers pay real money, and a simulator is at {names}", REMOVE.format(names=names))
    if strike == STRIKE_TEST_HOST:
        return warn(name, f"{strike} is Strike's test environment: no real money moves", "to go live, " + USE_STRIKE)
    if strike != STRIKE_HOST:
        message = f"STRIKE_API_URL points to {strike}, which is not Strike"
        return warn(name, message, f"unless it is your proxy, {USE_STRIKE}")
    return ok(name, "Strike and the price sources are the real ones")


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


CHECKS = (Check(("simulator",), _check_simulator),)
