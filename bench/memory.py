"""How much memory the server uses."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import requests

from bench.create import make_invoice
from bench.figures import Figure
from bench.processes import BARE_SERVER, free_port, lnpay, provider, resident_mib, running

AIM_MIB = 80
INVOICES = 300


def measure() -> Iterator[Figure]:
    """The server's resident memory before the first request, and after some hundreds of invoices."""
    port = free_port()
    with running("-c", BARE_SERVER, str(port), port=port) as bare_pid:
        bare = resident_mib(bare_pid)
    with tempfile.TemporaryDirectory() as folder, provider() as provider_url:
        # The first start makes the tables; the later ones are the usual case.
        with lnpay(provider_url, Path(folder)):
            pass
        with lnpay(provider_url, Path(folder)) as (url, pid), requests.Session() as shop:
            idle = resident_mib(pid)
            for _ in range(INVOICES):
                make_invoice(shop, url)
            busy = resident_mib(pid)
    floor_name = "a bare Flask and waitress"
    yield Figure("memory, idle", idle, "MiB", bare, floor_name, f"< {AIM_MIB} MiB", idle < AIM_MIB)
    yield Figure(f"memory, after {INVOICES} invoices", busy, "MiB", bare, floor_name)
