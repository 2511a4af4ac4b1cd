"""Calls are counted by a time that no clock of a machine moves: neither starved nor locked out by one that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from lnpay.domain.errors import StrikeUnavailable
from lnpay.domain.model import utc_now
from lnpay.domain.strike_time import injected_seconds, steady_seconds
from lnpay.repository import Repository, limits
from lnpay.strike.buckets import Bucket
from lnpay.strike.budget import LIMITS, Budget
from tests.databases import migrated_postgres
from tests.world import World, empty_database

HOUR = 3_600.0
MOST = 950


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> Iterator[World]:
    """A world over each engine, in which no answer of Strike tells the time."""
    if request.param == "sqlite":
        made = make_world()
        hide_strikes_time(made)
        yield made
        return
    with migrated_postgres(request.getfixturevalue("postgres_server")) as url:
        made = make_world(database_url=url)
        hide_strikes_time(made)
        yield made
        made.close()


def hide_strikes_time(world: World) -> None:
    world.fault("*", "/v1/*", "date", value="", times=None)


def take(repository: Repository, calls: int) -> int:
    """How many of so many calls are given."""
    budget = Budget(repository)
    return sum(may_call(budget) for _ in range(calls))


def may_call(budget: Budget, bucket: Bucket = Bucket.OTHER) -> bool:
    try:
        budget.take(bucket)
    except StrikeUnavailable:
        return False
    return True


@pytest.mark.parametrize("skew", [2 * HOUR, -2 * HOUR, 45 * 60, -45 * 60, 72 * HOUR])
class TestAWorkerWithAWrongClock:
    def test_it_shares_the_calls_and_gives_them_back_after_ten_minutes(self, world: World, skew: float) -> None:
        server, worker = world.backend.repository, world.neighbour(skew_seconds=skew).repository
        assert take(server, 40) == 40
        assert take(worker, 30) == 30

        assert Budget(server).remaining() == Budget(worker).remaining() == MOST - 70
        world.wait(11 * 60)
        assert Budget(server).remaining() == Budget(worker).remaining() == MOST

    def test_it_forgets_no_calls_of_others(self, world: World, skew: float) -> None:
        assert take(world.backend.repository, 20) == 20
        worker = world.neighbour(skew_seconds=skew).repository
        world.wait(61)
        assert take(worker, 1) == 1

        assert Budget(world.backend.repository).remaining() == MOST - 21

    def test_all_honour_a_lock_out_and_none_for_longer(self, world: World, skew: float) -> None:
        worker = world.neighbour(skew_seconds=skew).repository
        Budget(worker).block(Bucket.OTHER, None)

        world.wait(3_599)
        assert not may_call(Budget(world.backend.repository))
        assert not may_call(Budget(worker))
        world.wait(1)
        assert may_call(Budget(world.backend.repository))
        assert may_call(Budget(worker))


def test_a_clock_that_jumps_to_and_fro_starves_nothing(world: World) -> None:
    given = 0
    for skew in (0, 2 * HOUR, 0, -3 * HOUR, 0):
        world.skew_seconds = skew
        given += take(world.backend.repository, 30)
        world.wait(30)

    assert given == 150
    assert Budget(world.backend.repository).remaining() == MOST - 150


class TestWhichTimeCounts:
    def test_on_postgresql_it_is_the_servers(self, postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "steady_seconds", lambda: 0.0)
        with migrated_postgres(postgres_server) as url:
            repository = Repository(url)
            with repository.reading() as tx:
                first, second = tx.limits.now(), tx.limits.now()
            assert take(repository, 3) == 3
            assert Budget(repository).remaining() == MOST - 3
            repository.close()

        assert first < second
        assert first.tzinfo is UTC
        assert abs(utc_now() - first) < timedelta(minutes=1)

    def test_inside_a_transaction_it_goes_on(self, postgres_server: str) -> None:
        """A transaction that has waited for another's row must not count in a slot of before."""
        with migrated_postgres(postgres_server) as url:
            repository = Repository(url)
            with repository.transaction() as tx:
                assert tx.limits.now() < tx.limits.now()
            repository.close()

    def test_on_sqlite_it_is_that_of_the_machine_since_its_start(self, made: Callable[..., Repository]) -> None:
        with made().reading() as tx:
            at = tx.limits.now()

        assert abs(at - datetime.fromtimestamp(steady_seconds(), UTC)) < timedelta(minutes=1)

    def test_only_a_test_replaces_it(self) -> None:
        assert injected_seconds(utc_now) is None
        assert injected_seconds(utc_now, steady_seconds) is steady_seconds
        moved = injected_seconds(lambda: datetime.fromtimestamp(5, UTC))
        assert moved is not None
        assert moved() == 5


class Uptime:
    """Seconds since the machine has started."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Repository]]:
    """Makes repositories over one SQLite file."""
    path = tmp_path_factory.mktemp("uptime") / "invoices.sqlite"
    path.write_bytes(empty_database())
    every: list[Repository] = []

    def make(steady: Callable[[], float] | None = None) -> Repository:
        every.append(Repository(f"sqlite:///{path}", steady=steady))
        return every[-1]

    yield make
    for one in every:
        one.close()


class TestARestartOfTheMachine:
    @pytest.mark.parametrize("before", [120.0, 900.0, 5_000.0, 400_000.0])
    def test_calls_of_just_before_it_count_for_ten_minutes(
        self, made: Callable[..., Repository], before: float
    ) -> None:
        assert take(made(Uptime(before)), 600) == 600
        uptime = Uptime(5.0)
        repository = made(uptime)

        assert take(repository, 400) == 350

        uptime.seconds = 11 * 60 + 1 if before > 1_400 else 40 * 60
        assert Budget(repository).remaining() >= MOST - 350
        uptime.seconds += 11 * 60
        assert Budget(repository).remaining() == MOST

    def test_they_are_forgotten_before_the_machine_has_run_for_as_long_again(
        self, made: Callable[..., Repository]
    ) -> None:
        assert take(made(Uptime(400_000.0)), 600) == 600
        uptime = Uptime(2 * HOUR)
        repository = made(uptime)
        assert take(repository, 1) == 1

        uptime.seconds = 400_030.0
        assert Budget(repository).remaining() == MOST

    @pytest.mark.parametrize("bucket", Bucket)
    def test_a_lock_out_of_before_it_lasts_an_hour_at_most(
        self, made: Callable[..., Repository], bucket: Bucket
    ) -> None:
        Budget(made(Uptime(400_000.0))).block(bucket, 3_600)
        repository = made(Uptime(30.0))
        assert may_call(Budget(repository), bucket)

        Budget(repository).block(bucket, 60)
        with pytest.raises(StrikeUnavailable) as refusal:
            Budget(repository).take(bucket)
        assert refusal.value.retry_after_seconds == 60


def test_a_retry_after_of_a_day_is_asked_about_again_after_an_hour(made: Callable[..., Repository]) -> None:
    uptime = Uptime(50_000.0)
    budget = Budget(made(uptime))
    budget.block(Bucket.OTHER, 86_400)

    uptime.seconds += 3_599
    assert not may_call(budget)
    uptime.seconds += 1
    assert may_call(budget)


def test_every_window_is_shorter_than_what_is_kept() -> None:
    assert all(limit.window < limits.KEPT for limit in LIMITS.values())
