"""Real money: do the settings lead to Strike, or to a simulator or a test environment?"""

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
"""A header that every answer of the simulator has."""

REAL = f"remove STRIKE_API_URL from config/.env: the default is https://{STRIKE_HOST}/v1"
REMOVE = "remove {names} from config/.env (they are for trying LNPay out) and restart"


def _check_simulator(target: Target) -> Iterator[Finding]:
    """Warn of a simulator beside real money or behind a public address, which is always a mistake."""
    name, settings = "simulator", target.settings
    strike, public = _host(settings.strike_api_url), _host(settings.webhook_url)
    if not is_this_machine(strike):
        yield _beside_strike(target, strike)
    elif public and not is_this_machine(public):
        message = f"{strike} simulates Strike, so no real money is paid, yet customers reach LNPay at {public}"
        yield fail(name, message, REMOVE.format(names="STRIKE_API_URL and what leads to the simulator beside it"))
    else:
        yield ok(name, f"{strike} simulates Strike: no real money moves")


def _beside_strike(target: Target, strike: str) -> Finding:
    name, settings = "simulator", target.settings
    sources = {"COINGECKO_API_URL": settings.coingecko_api_url, "COINBASE_API_URL": settings.coinbase_api_url}
    prices = [setting for setting, url in sources.items() if is_this_machine(_host(url))]
    is_shop_played = send_probe("OPTIONS", settings.delivery_url).headers.get(MARK) is not None
    if played := [*prices, *(["DELIVERY_URL"] if is_shop_played else [])]:
        names = ", ".join(played)
        return fail(name, f"customers pay real money, and a simulator is at {names}", REMOVE.format(names=names))
    if strike == STRIKE_TEST_HOST:
        return warn(name, f"{strike} is Strike's test environment: no real money moves", "to go live, " + REAL)
    if strike != STRIKE_HOST:
        return warn(name, f"STRIKE_API_URL points to {strike}, which is not Strike", f"unless it is your proxy, {REAL}")
    return ok(name, "Strike and the price sources are the real ones")


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


CHECKS = (Check(("simulator",), _check_simulator),)
