"""Real server processes on one database: they ask the price sources as often as one, and quote the same price."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from lnpay.sandbox import SandboxServer, Simulator
from tests.databases import fresh_postgres
from tests.scenarios import live
from tests.scenarios.live import ROOT, ask, main_process
from tests.test_main import LIMIT_SECONDS

OTHER_CLOCK = """
import datetime
import lnpay.domain.model as model

model.utc_now = lambda: datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours={hours})
"""
"""Read by Python itself before the program: the clock of a machine that is hours off."""

TEN_MINUTES_EARLIER = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', {0}, '-10 minutes')",
    "postgresql": "{0} - interval '10 minutes'",
}

SOURCES = ("coingecko", "coinbase")


class CountingSimulator(Simulator):
    """A simulator that counts what its price sources are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.asked[environ["PATH_INFO"].split("/")[1]] += 1
        return super().wsgi_app(environ, start_response)


class Servers:
    """Server processes on one database, which can be added and stopped."""

    def __init__(self, folder: Path, provider_url: str, simulator: CountingSimulator, database_url: str) -> None:
        self.folder = folder
        self.provider_url = provider_url
        self.simulator = simulator
        self.database_url = database_url
        self.running = ExitStack()

    def start(self, *, hours_ahead: int = 0) -> str:
        """One more server. Gives its URL."""
        log = self.folder / f"{hours_ahead}.log"
        changes = {}
        if hours_ahead:
            (self.folder / "sitecustomize.py").write_text(OTHER_CLOCK.format(hours=hours_ahead), "utf-8")
            changes["PYTHONPATH"] = os.pathsep.join((str(self.folder), str(ROOT)))
        return self.running.enter_context(main_process(self.provider_url, self.database_url, log, **changes))

    def stop(self) -> None:
        """Stop all of them in order."""
        self.running.close()

    def asked(self) -> list[int]:
        """How often each source was asked."""
        return [self.simulator.asked[name] for name in SOURCES]

    def move_market(self, factor: str) -> None:
        self.simulator.rates.factors.update(dict.fromkeys(self.simulator.rates.factors, Decimal(factor)))

    def execute(self, statement: str) -> None:
        engine = create_engine(self.database_url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text(statement))


def sats(url: str) -> Decimal:
    """What 12.34 in the shop's currency costs at a server."""
    answer = ask(url)
    assert answer.status_code == 200, answer.text
    return Decimal(answer.json()["data"]["invoice"]["amount"]["amount"])


@pytest.fixture(params=["sqlite", "postgresql"])
def servers(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    # Several start at once.
    monkeypatch.setattr(live, "START_SECONDS", LIMIT_SECONDS)
    simulator = CountingSimulator()
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/invoices.sqlite"
        if request.param == "postgresql":
            url = stack.enter_context(fresh_postgres(request.getfixturevalue("postgres_server")))
        server = stack.enter_context(SandboxServer(simulator))
        made = Servers(tmp_path, server.url, simulator, url)
        stack.callback(made.stop)
        yield made


def test_servers_that_start_together_ask_once_and_quote_one_price(servers: Servers) -> None:
    with ThreadPoolExecutor(3) as threads:
        urls = list(threads.map(lambda _: servers.start(), range(3)))

    prices = {sats(url) for url in urls}
    servers.move_market("1.02")
    prices |= {sats(url) for url in (*urls, servers.start())}

    assert len(prices) == 1
    assert servers.asked() == [1, 1]


def test_an_old_row_of_a_restored_database_is_not_sold_at(servers: Servers) -> None:
    before = sats(servers.start())
    servers.stop()
    earlier = TEN_MINUTES_EARLIER[servers.database_url.partition(":")[0].partition("+")[0]]
    for one in ("true_at", "read_at", "as_of", "machine_read_at"):
        servers.execute(f"UPDATE shared_prices SET {one} = {earlier.format(one)}")  # noqa: S608
    servers.move_market("0.97")

    first, second = servers.start(), servers.start()

    assert sats(first) == sats(second) > before
    assert servers.asked() == [2, 2]


def test_a_damaged_row_stops_no_server(servers: Servers) -> None:
    before = sats(servers.start())
    servers.execute("UPDATE shared_prices SET price = 'NaN', spread = '-7', read_at = '2999-01-01 00:00:00.000000'")

    assert sats(servers.start()) == before
    assert sats(servers.start()) == before
    assert servers.asked() == [2, 2]


@pytest.mark.parametrize("servers", ["postgresql"], indirect=True)
@pytest.mark.parametrize("hours", [5, -5])
def test_a_server_whose_clock_is_hours_off_takes_the_price(servers: Servers, hours: int) -> None:
    before = sats(servers.start())
    servers.move_market("1.02")

    assert sats(servers.start(hours_ahead=hours)) == before
    assert servers.asked() == [1, 1]


@pytest.mark.parametrize("servers", ["postgresql"], indirect=True)
@pytest.mark.parametrize("hours", [5, -5])
def test_the_price_that_it_has_read_is_of_now_for_the_others(servers: Servers, hours: int) -> None:
    before = sats(servers.start(hours_ahead=hours))
    asked = servers.asked()
    servers.move_market("1.02")

    assert sats(servers.start()) == before
    assert servers.asked() == asked
