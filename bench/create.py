"""How much time LNPay adds to the provider's when it creates an invoice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import requests

from bench.figures import Figure, seconds_of, take_turns
from bench.processes import delayed, lnpay, provider

DELAY_SECONDS = 0.05
ROUNDS = 60
AIM_RATIO = 1.08

ORDER = {"amount_fiat": "12.34"}
AMOUNT = {"amount": {"amount": "0.00020000", "currency": "BTC"}}
KEY = {"Authorization": "Bearer a-key-of-the-bench"}


def make_invoice(session: requests.Session, url: str) -> None:
    """Create an invoice, as a shop does."""
    session.post(f"{url}/generate-invoice", json=ORDER, timeout=10).raise_for_status()


def make_two_calls(session: requests.Session, url: str) -> None:
    """The two calls that no backend can avoid."""
    invoice = session.post(f"{url}/v1/invoices", json=AMOUNT, headers=KEY, timeout=10).json()
    path = f"{url}/v1/invoices/{invoice['invoiceId']}/quote"
    session.post(path, headers=KEY, timeout=10).raise_for_status()


def measure() -> Iterator[Figure]:
    """Median time of POST /generate-invoice, with a provider that takes 50 ms for each of its two calls."""
    with (
        tempfile.TemporaryDirectory() as folder,
        provider() as provider_url,
        lnpay(provider_url, Path(folder)) as (url, _),
        requests.Session() as shop,
        requests.Session() as other,
    ):
        ours, floor = partial(make_invoice, shop, url), partial(make_two_calls, other, provider_url)
        take_turns(10, partial(seconds_of, ours), partial(seconds_of, floor))
        with delayed(provider_url, "/v1/invoices*", DELAY_SECONDS):
            value, least = take_turns(ROUNDS, partial(seconds_of, ours), partial(seconds_of, floor))
    yield Figure(
        "create an invoice (p50)", value * 1000, "ms", least * 1000, "the same two provider calls alone",
        f"<= {AIM_RATIO} floors, +8 ms", value <= least * AIM_RATIO or value <= least + 0.008,
    )  # fmt: skip
