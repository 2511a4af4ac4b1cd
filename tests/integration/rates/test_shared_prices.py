"""The price that servers share through the database: N servers ask as often as one, and quote the same price."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
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
from lnpay.repository import repository as repository_module
from lnpay.repository.queries import shared_prices
from lnpay.runtime.backend import Backend
from tests.databases import migrated_postgres
from tests.world import World

HOUR = 3_600.0


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as databases:
        changes: dict[str, Any] = {}
        if request.param == "postgresql":
            server: str = request.getfixturevalue("postgres_server")
            changes["database_url"] = databases.enter_context(migrated_postgres(server))
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
        # A server whose clock is wrong refuses CoinGecko's price, until Strike's answer corrects it.
        first = 0 if skew_seconds else minute % 4
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
    assert price(world.backend) == price(other)


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


DAMAGES = [
    "price = 'teleported'",
    "price = '-64250.50'",
    "price = '0'",
    "price = 'NaN'",
    "price = 'Infinity'",
    "price = '1000000000000000000000'",
    "price = NULL",
    "source = NULL",
    "spread = '-1'",
    "spread = 'NaN'",
    "as_of = NULL",
    "true_at = '2999-01-01 00:00:00.000000'",
    "true_at = NULL",
    "read_at = '2999-01-01 00:00:00.000000'",
    "read_at = '9999-01-01 00:00:00.000000'",
    "read_at = '1970-01-01 00:00:00.000000'",
    "read_at = NULL",
    "claimed_until = '2999-01-01 00:00:00.000000', read_at = NULL",
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_row_is_passed_over_and_replaced(world: World, damage: str) -> None:
    believed = price(world.backend)
    execute(world, "UPDATE shared_prices SET price = '1'")
    execute(world, f"UPDATE shared_prices SET {damage}")  # noqa: S608
    other = world.neighbour(skew_seconds=0)

    assert price(other) == believed
    assert asked(world) == 2
    assert price(world.neighbour(skew_seconds=0)) == believed
    assert asked(world) == 2


SQLITE_DAMAGES = [
    "price = x'ff'",
    "spread = x'00'",
    "as_of = 'yesterday'",
    "true_at = 'yesterday'",
    "true_at = 12",
    "read_at = 'yesterday'",
    "read_at = x'00ff'",
    "claimed_until = 'tomorrow', read_at = NULL",
]


@pytest.mark.parametrize("damage", SQLITE_DAMAGES)
def test_values_of_another_type_are_passed_over_and_replaced(tmp_path: Path, damage: str) -> None:
    """SQLite stores any value in any column."""
    world = World.make(tmp_path)
    believed = price(world.backend)
    execute(world, f"UPDATE shared_prices SET {damage}")  # noqa: S608

    assert price(world.neighbour(skew_seconds=0)) == believed
    assert asked(world) == 2
    assert price(world.neighbour(skew_seconds=0)) == believed
    assert asked(world) == 2
    world.close()


@pytest.mark.parametrize("as_of", ["1970-01-01 00:00:00.000000", "2999-01-01 00:00:00.000000"])
def test_a_damaged_time_of_the_price_does_not_matter(world: World, as_of: str) -> None:
    """It is dated by its age: otherwise a lone price would be compared with one of long ago, and any would do."""
    price(world.backend)
    execute(world, f"UPDATE shared_prices SET as_of = '{as_of}'")  # noqa: S608
    other = world.neighbour(skew_seconds=0).issuer.rates

    rate = other.current("usd")

    assert timedelta() <= world.clock() - rate.as_of < timedelta(minutes=1) or rate.as_of.year == 1970
    world.wait(61)
    set_market(world, "1.2", "coingecko")
    world.fault("GET", "/coinbase/*", "error", times=9)
    world.fault("GET", "/v1/rates/ticker", "error", times=9)
    assert other.current("usd").price == rate.price


def test_a_row_far_from_the_last_prices_is_not_sold_at(world: World) -> None:
    """A digit more: a price like any other, of two sources that agreed."""
    other = world.neighbour(skew_seconds=0)
    believed = price(other)
    world.wait(61)
    price(world.backend)
    execute(world, "UPDATE shared_prices SET price = '642505'")

    assert price(other) == believed
    assert asked(world) == 3


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


def test_while_another_server_asks_for_long_the_last_price_is_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.take_turn, "__defaults__", (world.wait,))
    believed = price(world.backend)
    world.wait(61)
    with world.backend.repository.transaction() as tx:
        assert tx.shared_prices.claim("usd") is not None

    assert price(world.backend) == believed
    world.wait(15)
    assert price(world.backend) == believed
    assert asked(world) == 1
    world.wait(5)
    assert price(world.backend) == believed
    assert asked(world) == 2


def test_an_old_price_does_not_look_new_to_others_by_a_clock_that_is_behind(world: World) -> None:
    world.simulator.rates.ages["coingecko"] = 4 * HOUR
    set_market(world, "1.03", "coingecko")
    behind = world.neighbour(skew_seconds=-5 * HOUR)
    behind.issuer.rates.warm_up()

    rate = world.backend.issuer.rates.current("usd")

    assert (rate.source, rate.price) == ("coinbase", world.simulator.rates.bitcoin_usd)


def test_an_old_row_is_not_believed_after_a_restore(world: World) -> None:
    """The market has moved since the backup, and one source alone says so: that is what the row is good for."""
    price(world.backend)
    world.wait(3 * HOUR)
    set_market(world, "1.5")
    other = world.neighbour(skew_seconds=0)

    assert price(other) == world.simulator.rates.bitcoin_usd * Decimal("1.5")
    assert asked(world) == 2


def test_a_source_that_fails_for_one_server_does_not_stop_it(world: World) -> None:
    """The others read the price for it."""
    price(world.backend)
    other = world.neighbour(skew_seconds=0)
    price(other)
    world.wait(61)
    for path in ("/coingecko/*", "/coinbase/*", "/v1/rates/ticker"):
        world.fault("GET", path, "error", times=1)
    price(other)
    assert asked(world) == 2

    set_market(world, "1.01")
    price(world.backend)
    assert price(world.backend) == world.simulator.rates.bitcoin_usd * Decimal("1.01")
    world.wait(6)
    assert price(other) == price(world.backend)
    assert asked(world) == 3


def test_while_the_database_takes_no_write_a_server_asks_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_module, "BUSY_TIMEOUT_MS", 50)
    world = World.make(tmp_path)
    with closing(sqlite3.connect(tmp_path / "invoices.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert price(world.backend) == world.simulator.rates.bitcoin_usd
        assert asked(world) == 1
    assert price(world.neighbour(skew_seconds=0)) == price(world.backend)
    assert asked(world) == 2
    world.close()


def test_a_process_that_was_stopped_with_the_row_locked_does_not_stop_the_others(
    tmp_path: Path, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_prices, "LOCK_TIMEOUT_MS", 100)
    with migrated_postgres(postgres_server) as url:
        world = World.make(tmp_path, database_url=url)
        price(world.backend)
        world.wait(301)
        with world.backend.repository.engine.begin() as stopped:
            stopped.execute(text("SELECT * FROM shared_prices FOR UPDATE"))
            assert price(world.backend) == world.simulator.rates.bitcoin_usd
        assert asked(world) == 2
        world.close()


def test_a_read_only_database_does_not_keep_the_price_from_being_read(tmp_path: Path, postgres_server: str) -> None:
    with migrated_postgres(postgres_server) as url:
        world = World.make(tmp_path, database_url=url)
        name = url.partition("?")[0].rpartition("/")[2]
        execute(world, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        world.backend.repository.engine.dispose()
        assert price(world.backend) == world.simulator.rates.bitcoin_usd
        world.close()


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
