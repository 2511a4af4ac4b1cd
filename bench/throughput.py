"""How many invoices a second LNPay creates if the provider answers at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from bench.create import make_invoice
from bench.figures import Figure, take_turns
from bench.processes import lnpay, provider

CLIENTS = 8
REQUESTS = 160
ROUNDS = 3


def check_health(session: requests.Session, url: str) -> None:
    """The cheapest request to the server."""
    session.get(f"{url}/healthz", timeout=10).raise_for_status()


def per_second(call: Callable[[requests.Session, str], None], url: str) -> float:
    """How many calls a second the server answers to several clients."""

    def be_client(_: int) -> None:
        with requests.Session() as session:
            for _ in range(REQUESTS // CLIENTS):
                call(session, url)

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(be_client, range(CLIENTS)))
    return REQUESTS / (time.perf_counter() - start)


def measure() -> Iterator[Figure]:
    """Invoices a second, 8 clients at once. Clients, provider and server share the machine."""
    with (
        tempfile.TemporaryDirectory() as folder,
        provider() as provider_url,
        lnpay(provider_url, Path(folder)) as (url, _),
    ):
        value, most = take_turns(ROUNDS, lambda: per_second(make_invoice, url), lambda: per_second(check_health, url))
    yield Figure("invoices a second, 8 clients", value, "/s", most, "GET /healthz, same server and clients")
