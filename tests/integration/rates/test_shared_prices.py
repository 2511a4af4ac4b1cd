"""The price that servers share through the database: N servers ask as often as one, and quote the same price."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from lnpay.domain.errors import RateUnavailable
from lnpay.domain.model import Rate
from lnpay.rates import shared
from lnpay.repository import Repository
from lnpay.runtime.backend import Backend
from tests.databases import fresh_postgres
from tests.world import World

HOUR = 3_600.0


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as databases:
        changes: dict[str, Any] = {}
        if request.param == "postgresql":
            server: str = request.getfixturevalue("postgres_server")
            changes["database_url"] = databases.enter_context(fresh_postgres(server))
        made = World.make(tmp_path, **changes)
        yield made
        made.close()


def price(backend: Backend) -> Decimal:
    return backend.issuer.rates.current("usd").price


def asked(world: World) -> int:
    return len(world.calls("GET /coingecko"))


def set_market(world: World, factor: str, *sources: str) -> None:
    rates = world.simulator.rates
    for name in sources or tuple(rates.factors):
        rates.factors[name] = Decimal(factor)


def execute(world: World, statement: str) -> None:
    with world.backend.repository.engine.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("skew_seconds", [0.0, 5 * HOUR, -5 * HOUR])
def test_servers_ask_as_often_as_one_and_quote_the_same_price(world: World, skew_seconds: float) -> None:
    servers = [world.backend, *(world.neighbour(skew_seconds=skew_seconds) for _ in range(3))]
    for minute in range(5):
        set_market(world, str(1 + Decimal(minute) / 100))
        before = asked(world)
        # A server whose clock is ahead refuses CoinGecko's price as too old when it asks itself.
        first = 0 if skew_seconds > 0 else minute % 4
        price(servers[first])
        assert len({price(server) for server in servers}) == 1
        assert asked(world) == before + 1
        world.wait(61)


def test_a_fresh_price_costs_no_query(world: World) -> None:
    price(world.backend)
    execute(world, "DELETE FROM shared_prices")
    world.wait(30)
    price(world.backend)
    assert asked(world) == 1


def test_a_price_does_not_become_younger_by_being_shared(world: World) -> None:
    """One that is taken at 50 seconds is asked for again at 60, as where it was fetched."""
    other = world.neighbour(skew_seconds=0)
    price(world.backend)
    world.wait(50)
    price(other)
    world.wait(11)
    price(other)
    assert asked(world) == 2


def test_a_claimer_that_was_killed_delays_the_others_by_two_seconds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        world.wait(seconds)

    monkeypatch.setattr(shared.take_turn, "__defaults__", (sleep,))
    with world.backend.repository.transaction() as tx:
        assert tx.shared_prices.claim("usd") is not None
        assert tx.shared_prices.claim("usd") is None

    assert price(world.backend) > 0
    assert 1.5 < sum(slept) < 2.5
    assert price(world.neighbour(skew_seconds=0)) == price(world.backend)
    assert asked(world) == 1


def test_a_disagreement_stops_every_server(world: World) -> None:
    other = world.neighbour(skew_seconds=-HOUR)
    price(world.backend)
    price(other)
    world.wait(61)
    set_market(world, "2", "coingecko")
    world.backend.issuer.rates.current("usd")
    with pytest.raises(RateUnavailable):
        price(other)
    assert asked(world) == 2  # the other server has not asked itself

    set_market(world, "1")
    world.wait(6)
    assert price(other) == price(world.backend)


def test_a_lone_jump_is_not_believed_by_a_server_that_has_just_started(world: World) -> None:
    """What another server believed counts as believed, also when nothing was sold at it."""
    price(world.backend)
    world.wait(61)
    set_market(world, "10", "coingecko")
    world.fault("GET", "/coinbase/*", "error", times=9)
    world.fault("GET", "/v1/rates/ticker", "error", times=9)
    started = world.neighbour(skew_seconds=0)
    with pytest.raises(RateUnavailable):
        price(started)


def test_a_lone_jump_of_another_server_is_not_taken(world: World) -> None:
    believed = world.backend.issuer.rates.current("usd")
    world.wait(61)
    with world.backend.repository.transaction() as tx:
        jump = Rate(believed.price * 10, "usd", "coingecko", world.clock())
        tx.shared_prices.store(jump, timedelta(), None, tx.limits.now())
    assert price(world.backend) != jump.price
    assert asked(world) == 2


def test_late_acceptance_asks_where_the_shared_price_is_that_of_the_sale(world: World) -> None:
    sold_at = world.backend.issuer.rates.current("usd")
    world.wait(40)
    worker = world.neighbour(skew_seconds=0).issuer.rates
    newer = worker.current_within("usd", 1.0, sold_at.as_of)
    assert newer.as_of > sold_at.as_of
    assert asked(world) == 2


@pytest.mark.parametrize("change", ["price = 'teleported'", "as_of = NULL", "price = '-1'", "source = NULL"])
def test_an_unreadable_row_is_passed_over_and_replaced(world: World, change: str) -> None:
    price(world.backend)
    execute(world, f"UPDATE shared_prices SET {change}")  # noqa: S608
    other = world.neighbour(skew_seconds=0)
    assert price(other) == price(world.backend)
    assert asked(world) == 2
    with other.repository.reading() as tx:
        assert tx.shared_prices.find("usd") is not None


def test_without_the_table_each_server_asks_for_itself(world: World, caplog: pytest.LogCaptureFixture) -> None:
    execute(world, "DROP TABLE shared_prices")
    with caplog.at_level(logging.WARNING):
        assert price(world.backend) == price(world.neighbour(skew_seconds=0))
    assert asked(world) == 2
    assert "price not shared currency=usd" in caplog.text


def test_a_later_reading_is_kept(world: World) -> None:
    rate = Rate(Decimal(100), "eur", "coinbase", world.clock())
    with world.backend.repository.transaction() as tx:
        first = tx.limits.now()
        tx.shared_prices.refuse("eur", first)
        tx.shared_prices.store(rate, timedelta(), None, first - timedelta(seconds=1))
        found = tx.shared_prices.find("eur")
    assert found is not None
    assert not found.is_usable


def test_a_price_of_before_a_restart_of_the_machine_is_of_no_known_age(tmp_path: Path) -> None:
    """On SQLite the database's time begins again: an old price may look as if it had just been read."""
    repository = Repository(f"sqlite:///{tmp_path}/one.sqlite")
    repository.upgrade()
    with repository.transaction() as tx:
        now = tx.limits.now()
        tx.shared_prices.store(Rate(Decimal(100), "usd", "coinbase", now), timedelta(), None, now)
        assert tx.shared_prices.find("usd") is not None
    with repository.engine.begin() as connection:
        connection.execute(text("UPDATE shared_prices SET machine_read_at = '2026-01-01 00:00:00.000000'"))
    with repository.reading() as tx:
        assert tx.shared_prices.find("usd") is None
    repository.close()
