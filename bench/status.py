"""2,000 open payment pages, each asking for its status every two seconds: python -m bench status

The server (`python main.py`) and the load run in separate processes. GET /healthz is measured on the same server in the
same seconds: the ratio of the two gives the relative cost of the status on any machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from bench.figures import Figure
from lnpay.repository import Repository, tables
from lnpay.sandbox import SandboxServer
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.simulator import Simulator
from tests.scenarios.live import ask, main_process, subscribe

PAGES = 2_000
ASK_EVERY_SECONDS = 2.0
WARM_UP_SECONDS = 8.0
"""Long enough for 2,000 pages opened within two seconds to get their first answers."""
PAYMENTS = 5
P99_LIMIT_MS = 250
SHOWN_LIMIT_SECONDS = 3.0


def measure(pages: int = PAGES, seconds: float = 28.0) -> Iterator[Figure]:
    """Open the pages, pay a few of them, and measure how long the answers take."""
    _allow_many_connections()
    found = _measure(pages, seconds)
    status, health = found["status_ms"], found["healthz_ms"]
    name = f"status, {found['rate']:.0f}/s, {found['errors']} errors"
    floor = "GET /healthz of the same server, in the same seconds"
    yield Figure(f"{name}: p50", _percentile(status, 50), "ms", _percentile(health, 50), floor)
    p99, aim = _percentile(status, 99), f"< {P99_LIMIT_MS} ms, no errors"
    is_met = p99 < P99_LIMIT_MS and not found["errors"]
    yield Figure(f"{name}: p99", p99, "ms", _percentile(health, 99), floor, aim, is_met)
    # Unlike the others, this figure hardly changes on a busy machine.
    cpu_ms = found["server_cpu_ms"] / found["asked"]
    yield Figure("status: the server's CPU time", cpu_ms, "ms", 1.0, "a whole core, at a thousand questions a second")
    shown = max(found["shown_after"])
    aim, is_met = f"< {SHOWN_LIMIT_SECONDS} s", shown < SHOWN_LIMIT_SECONDS
    yield Figure("a payment shows after, at most", shown, "s", ASK_EVERY_SECONDS, "the pause of a page", aim, is_met)


def _measure(pages: int, seconds: float) -> dict[str, Any]:
    before = _cpu_seconds(resource.RUSAGE_CHILDREN)
    simulator = Simulator(seed=1, config=SimulatorConfig(rate_limits="off"))
    with tempfile.TemporaryDirectory() as folder, SandboxServer(simulator) as provider:
        database_url = f"sqlite:///{folder}/invoices.sqlite"
        with main_process(provider.url, database_url, Path(folder) / "log", TIME_OFFSET="3600") as url:
            subscribe(provider, url)
            real = [ask(url).json()["data"] for _ in range(PAYMENTS)]
            tokens = [one["checkout_url"].rpartition("/")[2] for one in real]
            _add_copies(database_url, pages - PAYMENTS, tokens)
            task = {"url": url, "tokens": tokens, "seconds": seconds, "paying": PAYMENTS}
            load = subprocess.Popen([sys.executable, "-m", "bench.status", json.dumps(task)],
                                    stdout=subprocess.PIPE, text=True)  # fmt: skip
            paid_at = _pay_one_by_one(simulator, [one["quote"]["lnInvoice"] for one in real], seconds)
            said, _ = load.communicate(timeout=seconds + 60)
    found: dict[str, Any] = json.loads(said)
    found["server_cpu_ms"] = 1000 * (_cpu_seconds(resource.RUSAGE_CHILDREN) - before) - found["own_cpu_ms"]
    found["shown_after"] = [
        found["paid_seen_at"][token] - at if token in found["paid_seen_at"] else float("inf")
        for token, at in zip(tokens, paid_at, strict=False)
    ]
    return found


def _add_copies(database_url: str, count: int, tokens: list[str]) -> None:
    """Add copies of an open invoice that differ only in their ids, which is enough for their pages."""
    repository = Repository(database_url)
    with repository.engine.begin() as connection:
        row = dict(connection.execute(select(tables.invoices).limit(1)).mappings().one())
        del row["id"]
        copies = [
            {**row, "token": f"copy-{n}", "correlation_id": f"copy-{n}", "strike_invoice_id": f"copy-{n}"}
            for n in range(count)
        ]
        connection.execute(insert(tables.invoices), copies)
    repository.close()
    tokens.extend(copy["token"] for copy in copies)


def _pay_one_by_one(simulator: Simulator, requests_to_pay: list[str], seconds: float) -> list[float]:
    paid_at = []
    time.sleep(WARM_UP_SECONDS + 1)
    for payment_request in requests_to_pay:
        paid_at.append(time.time())
        threading.Thread(target=simulator.pay_invoice, args=(payment_request,)).start()
        time.sleep((seconds - WARM_UP_SECONDS - 4) / len(requests_to_pay))
    return paid_at


def _cpu_seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def _allow_many_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# The load, in its own process.


class _Page:
    """One open page, which polls at its own pace over one kept-alive connection, as a browser does."""

    def __init__(self, host: str, port: int, path: str, found: dict[str, Any], times: list[float]) -> None:
        self._host, self._port, self._path = host, port, path
        self._found, self._times = found, times
        self._etag = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.body = b""

    async def ask(self) -> None:
        started = time.perf_counter()
        try:
            await asyncio.wait_for(self._ask(), 10)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self._found["errors"].append(repr(error)[:80])
            self._streams = None
            return
        self._found["asked"] += 1
        if self._found["is_counting"]:
            self._times.append(1000 * (time.perf_counter() - started))

    async def _ask(self) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        known = f"If-None-Match: {self._etag}\r\n" if self._etag else ""
        writer.write(f"GET {self._path} HTTP/1.1\r\nHost: bench\r\n{known}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if status == 200:
            self.body = await reader.readexactly(int(fields["content-length"]))
            self._etag = fields.get("etag", "")
        elif status != 304:
            raise ValueError(f"status {status}")
        if fields.get("connection") == "close":
            writer.close()
            self._streams = None


async def _load(task: dict[str, Any]) -> dict[str, Any]:
    host, port = task["url"].removeprefix("http://").split(":")
    found: dict[str, Any] = {"errors": [], "is_counting": False, "asked": 0}
    status_ms: list[float] = []
    healthz_ms: list[float] = []
    paid_seen_at: dict[str, float] = {}
    ends_at = time.monotonic() + task["seconds"]

    async def stay_open(token: str, is_real: bool) -> None:
        page = _Page(host, int(port), f"/checkout/{token}/status", found, status_ms)
        await asyncio.sleep(random.random() * ASK_EVERY_SECONDS)
        while time.monotonic() < ends_at:
            due_at = time.monotonic() + ASK_EVERY_SECONDS
            await page.ask()
            if is_real and token not in paid_seen_at and b'"paid"' in page.body:
                paid_seen_at[token] = time.time()
            await asyncio.sleep(max(0, due_at - time.monotonic()))

    async def look_at_health() -> None:
        page = _Page(host, int(port), "/healthz", found, healthz_ms)
        while time.monotonic() < ends_at:
            await page.ask()
            await asyncio.sleep(0.05)

    async def count_later() -> None:
        await asyncio.sleep(WARM_UP_SECONDS)
        found["is_counting"] = True

    pages = [stay_open(token, n < task["paying"]) for n, token in enumerate(task["tokens"])]
    await asyncio.gather(look_at_health(), count_later(), *pages)
    return {
        "status_ms": status_ms,
        "healthz_ms": healthz_ms,
        "asked": found["asked"],
        "own_cpu_ms": 1000 * _cpu_seconds(resource.RUSAGE_SELF),
        "errors": len(found["errors"]),
        "first_errors": found["errors"][:3],
        "rate": len(status_ms) / (task["seconds"] - WARM_UP_SECONDS),
        "paid_seen_at": paid_seen_at,
    }


if __name__ == "__main__":
    _allow_many_connections()
    print(json.dumps(asyncio.run(_load(json.loads(sys.argv[1])))))
