"""The server: does LNPay run on this machine?"""

from __future__ import annotations

from collections.abc import Iterator

from lnpay.doctor.check import Check
from lnpay.doctor.findings import (
    Finding,
    fail,
    ok,
    warn,
)
from lnpay.doctor.http_probe import Answer, send_probe
from lnpay.doctor.target import Target
from lnpay.domain.errors import StorageUnavailable
from lnpay.monitoring.exposure import why_api_is_open
from lnpay.repository.repository import SCHEMA_VERSION
from lnpay.runtime.listening import local_url_of


def is_server_here(target: Target) -> bool:
    """Whether LNPay answers at the configured HOST and PORT."""
    return _ask(target).status == 200


def _ask(target: Target) -> Answer:
    return send_probe("GET", f"{_url(target)}/readyz")


def _url(target: Target) -> str:
    return local_url_of(target.settings.host, target.settings.port)


def _check_server(target: Target) -> Iterator[Finding]:
    name, url, answer = "server", _url(target), _ask(target)
    if answer.status == 200:
        yield ok(name, f"LNPay answers at {url}")
    elif answer.code == "not_ready":
        yield fail(name, f"LNPay runs at {url} but cannot use its database", "see database and database_schema")
    elif answer.status is not None:
        yield fail(
            name, f"what answers at {url} is not LNPay", "find out what uses that port, or choose another with PORT"
        )
    else:
        advice = "start it: python main.py. On a machine that only runs workers this is expected"
        yield warn(name, f"LNPay does not answer at {url}: {answer.trouble}", advice)


def _check_keys(target: Target) -> Iterator[Finding]:
    """Send an empty order without a key: 401 if a key is required, 400 if not."""
    name, settings = "api_keys", target.settings
    why = why_api_is_open(settings.host, settings.webhook_url, has_keys=False)
    advice = 'python main.py keys create --for custom --label "My shop" creates a key: give it to your shop'
    if settings.api_keys or _has_created_keys(target):
        yield _keys_in_use(target)
    elif why is None:
        yield ok(name, "there is no API key, and only this machine can call LNPay")
    elif settings.webhook_url and _asks_no_key(settings.webhook_url.removesuffix("/webhook")):
        public = settings.webhook_url.removesuffix("/webhook")
        yield fail(
            name, f"strangers can create invoices for your orders: {public}/generate-invoice asks for no key", advice
        )
    else:
        yield warn(name, why, advice)


def _has_created_keys(target: Target) -> bool:
    """Whether an API key was ever created. False if the database is unavailable, which other checks report."""
    if not target.condition.serves(SCHEMA_VERSION):
        return False
    try:
        with target.reading() as tx:
            return tx.api_keys.has_any()
    except StorageUnavailable:
        return False


def _keys_in_use(target: Target) -> Finding:
    """Whether the running server knows the keys: it may have been started before they were set."""
    name, settings = "api_keys", target.settings
    addresses = [_url(target), settings.webhook_url.removesuffix("/webhook")]
    # If only this machine can call, no key is needed.
    can_others_call = why_api_is_open(settings.host, settings.webhook_url, has_keys=False) is not None
    for address in addresses if can_others_call else ():
        if address and _asks_no_key(address):
            message = f"there are API keys, yet {address}/generate-invoice asks for none"
            return fail(name, message, "restart LNPay so that it reads the settings again")
    return ok(name, "creating an invoice requires an API key")


def _asks_no_key(base_url: str) -> bool:
    url = f"{base_url}/generate-invoice"
    return send_probe("POST", url, body=b"{}", headers={"Content-Type": "application/json"}).code == "invalid_request"


CHECKS = (Check(("server",), _check_server), Check(("api_keys",), _check_keys))
