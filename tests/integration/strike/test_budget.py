"""The calls that may be made: counted together, honoured by everyone, with a clock that moves."""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from lnpay.domain.errors import StrikeUnavailable
from lnpay.repository import Repository
from lnpay.repository.tables import provider_calls
from lnpay.runtime.bootstrap import SWEEPS_SHARE
from lnpay.strike.buckets import Bucket
from lnpay.strike.budget import LIMITS, Budget, Limit
from tests.databases import migrated_postgres
from tests.world import empty_database

NOW = datetime(2026, 5, 18, 12, 0, 17, tzinfo=UTC)
COUNTED = sorted(LIMITS)
UNCOUNTED = sorted(set(Bucket) - set(LIMITS))
SMALL = Limit(8, timedelta(minutes=10), 60)
"""A limit that a random schedule reaches soon: 7 calls may be made in ten minutes."""


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def seconds(self) -> float:
        return self.now.timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    path = tmp_path / "invoices.sqlite"
    path.write_bytes(empty_database())
    return f"sqlite:///{path}"


@pytest.fixture
def repository(database_url: str, clock: Clock) -> Iterator[Repository]:
    made = Repository(database_url, steady=clock.seconds)
    yield made
    made.close()


@pytest.fixture
def budget(repository: Repository) -> Budget:
    return Budget(repository)


class TestLimits:
    def test_they_are_those_of_the_provider(self) -> None:
        assert LIMITS[Bucket.OTHER] == Limit(1_000, timedelta(minutes=10), 60)
        assert LIMITS[Bucket.PAYMENT_QUOTE].calls == LIMITS[Bucket.PAYMENT_EXECUTE].calls == 250

    @pytest.mark.parametrize("bucket", COUNTED)
    def test_the_last_call_is_refused_before_the_provider_would_refuse_it(
        self, repository: Repository, clock: Clock, bucket: Bucket
    ) -> None:
        limit = LIMITS[bucket]
        use_up(repository, bucket, clock(), int(limit.calls * 0.95) - 1)
        budget = Budget(repository)
        budget.take(bucket)

        with pytest.raises(StrikeUnavailable) as refusal:
            budget.take(bucket)

        assert refusal.value.retry_after_seconds == limit.slot_seconds
        assert refusal.value.status is None

    def test_a_refused_call_is_not_counted(self, repository: Repository, budget: Budget, clock: Clock) -> None:
        use_up(repository, Bucket.OTHER, clock(), 950)
        for _ in range(3):
            assert not may_call(budget)

        assert calls_counted(repository, clock()) == 950

    @pytest.mark.parametrize("bucket", COUNTED)
    def test_calls_are_free_again_after_the_window_and_its_slot(
        self, repository: Repository, budget: Budget, clock: Clock, bucket: Bucket
    ) -> None:
        limit = LIMITS[bucket]
        use_up(repository, bucket, clock(), limit.calls)

        clock.advance(limit.window.total_seconds() - 1)
        assert not may_call(budget, bucket)

        clock.advance(1 + limit.slot_seconds)
        assert may_call(budget, bucket)

    def test_one_bucket_does_not_use_up_another(self, repository: Repository, budget: Budget, clock: Clock) -> None:
        use_up(repository, Bucket.OTHER, clock(), 1_000)

        assert not may_call(budget, Bucket.OTHER)
        assert may_call(budget, Bucket.PAYMENT_EXECUTE)
        assert may_call(budget, Bucket.PAYMENT_QUOTE)

    @pytest.mark.parametrize("bucket", UNCOUNTED)
    def test_a_waiting_customer_is_never_slowed_down_by_us(
        self, repository: Repository, budget: Budget, clock: Clock, bucket: Bucket
    ) -> None:
        use_up(repository, bucket, clock(), 10_000)
        before = budget.remaining()

        budget.take(bucket)

        assert budget.remaining() == before

    def test_counts_of_more_than_an_hour_ago_are_forgotten(
        self, repository: Repository, budget: Budget, clock: Clock
    ) -> None:
        budget.take(Bucket.OTHER)
        long_ago = clock()
        clock.advance(3_700)
        budget.take(Bucket.OTHER)

        assert calls_counted(repository, long_ago) == 1


class TestAnySchedule:
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        pauses=st.lists(st.sampled_from([0, 0, 0.25, 1, 7, 29, 59.999, 60, 61, 299, 599.5]), min_size=20, max_size=50),
        start=st.floats(min_value=0, max_value=600),
    )
    def test_no_ten_minutes_ever_hold_more_calls_than_the_limit(
        self, repository: Repository, clock: Clock, monkeypatch: pytest.MonkeyPatch, pauses: list[float], start: float
    ) -> None:
        monkeypatch.setitem(LIMITS, Bucket.OTHER, SMALL)
        clock.now = fresh_moment(repository, start)
        budgets = [Budget(repository), Budget(repository, share=0.8)]

        made: list[datetime] = []
        for budget, pause in zip(itertools.cycle(budgets), pauses, strict=False):
            clock.advance(pause)
            if may_call(budget):
                made.append(clock())

        assert made
        assert most_in_any_window(made, timedelta(minutes=10)) <= 7

    def test_hours_of_greed_stay_under_a_thousand_in_every_ten_minutes(
        self, repository: Repository, budget: Budget, clock: Clock
    ) -> None:
        chance = random.Random(4)
        made: list[datetime] = []
        while clock() < NOW + timedelta(hours=3):
            clock.advance(chance.choice([0.4, 31, 61, 200]))
            made += take_many(repository, budget, clock(), chance.choice([1, 40, 170, 500]))

        assert len(made) > 10_000
        assert most_in_any_window(made, timedelta(minutes=10)) <= 950

    def test_a_shop_that_asks_steadily_gets_nearly_all_of_its_calls(
        self, repository: Repository, budget: Budget, clock: Clock
    ) -> None:
        made = 0
        for _ in range(40):
            clock.advance(30)
            made += len(take_many(repository, budget, clock(), 43))

        assert made == 40 * 43


class TestSharing:
    def test_two_processes_over_one_file_share_the_calls(
        self, database_url: str, repository: Repository, clock: Clock
    ) -> None:
        other = Repository(database_url, steady=clock.seconds)
        budgets = [Budget(repository), Budget(other)]
        use_up(repository, Bucket.OTHER, clock(), 945)

        made = sum(may_call(budgets[number % 2]) for number in range(20))

        other.close()
        assert made == 5

    def test_threads_of_two_processes_that_race_do_not_exceed_the_limit(
        self, database_url: str, repository: Repository, clock: Clock
    ) -> None:
        use_up(repository, Bucket.OTHER, clock(), 930)

        made = race(repository, Repository(database_url, steady=clock.seconds))

        assert made == 20

    def test_servers_over_one_postgresql_that_race_do_not_exceed_the_limit(
        self, postgres_server: str, clock: Clock
    ) -> None:
        with migrated_postgres(postgres_server) as url:
            first = Repository(url, steady=clock.seconds)
            use_up(first, Bucket.OTHER, clock(), 930)

            made = race(first, Repository(url, steady=clock.seconds))

            first.close()
        assert made == 20

    def test_sweeps_leave_the_rest_to_webhooks_and_refunds(
        self, repository: Repository, budget: Budget, clock: Clock
    ) -> None:
        sweeps = Budget(repository, share=SWEEPS_SHARE)
        use_up(repository, Bucket.OTHER, clock(), 800)

        assert not may_call(sweeps)
        assert may_call(budget)

    def test_what_others_used_is_missing_from_what_a_sweep_may_use(
        self, repository: Repository, budget: Budget, clock: Clock
    ) -> None:
        sweeps = Budget(repository, share=SWEEPS_SHARE)
        assert (sweeps.remaining(), budget.remaining()) == (800, 950)

        for _ in range(3):
            budget.take(Bucket.OTHER)
        assert (sweeps.remaining(), budget.remaining()) == (797, 947)

        use_up(repository, Bucket.OTHER, clock(), 900)
        assert (sweeps.remaining(), budget.remaining()) == (0, 47)

    def test_a_share_is_of_the_other_calls_only(self, repository: Repository, clock: Clock) -> None:
        use_up(repository, Bucket.PAYMENT_QUOTE, clock(), 236)

        assert may_call(Budget(repository, share=0.1), Bucket.PAYMENT_QUOTE)


class TestBlocks:
    @pytest.mark.parametrize("bucket", Bucket)
    def test_a_block_is_honoured_to_its_end_by_every_process(
        self, database_url: str, repository: Repository, clock: Clock, bucket: Bucket
    ) -> None:
        Budget(repository).block(bucket, 90)
        other = Repository(database_url, steady=clock.seconds)
        budget = Budget(other)

        clock.advance(89.5)
        with pytest.raises(StrikeUnavailable) as refusal:
            budget.take(bucket)
        clock.advance(0.5)
        budget.take(bucket)

        other.close()
        assert (refusal.value.status, refusal.value.retry_after_seconds) == (429, 1)

    @pytest.mark.parametrize("bucket", Bucket)
    def test_a_block_of_one_bucket_is_no_block_of_the_rest(self, budget: Budget, bucket: Bucket) -> None:
        budget.block(bucket, 90)

        assert [one for one in Bucket if not may_call(budget, one)] == [bucket]

    @pytest.mark.parametrize(("first", "second"), [(3_600, 60), (60, 3_600)])
    def test_a_block_is_never_shortened(self, budget: Budget, clock: Clock, first: int, second: int) -> None:
        budget.block(Bucket.OTHER, first)
        budget.block(Bucket.OTHER, second)

        clock.advance(3_599)
        assert not may_call(budget)
        clock.advance(1)
        assert may_call(budget)

    def test_a_429_without_retry_after_blocks_the_others_for_an_hour(self, budget: Budget, clock: Clock) -> None:
        budget.block(Bucket.OTHER, None)

        clock.advance(3_599)
        assert not may_call(budget)
        clock.advance(1)
        assert may_call(budget)

    @pytest.mark.parametrize("bucket", sorted(set(Bucket) - {Bucket.OTHER}))
    def test_a_429_without_retry_after_blocks_the_rest_for_a_minute(
        self, budget: Budget, clock: Clock, bucket: Bucket
    ) -> None:
        budget.block(bucket, None)

        clock.advance(59)
        assert not may_call(budget, bucket)
        clock.advance(1)
        assert may_call(budget, bucket)

    def test_a_block_of_zero_seconds_is_ignored(self, budget: Budget) -> None:
        budget.block(Bucket.OTHER, 0)

        assert may_call(budget)

    def test_a_call_that_a_block_forbids_is_not_counted(
        self, repository: Repository, budget: Budget, clock: Clock
    ) -> None:
        budget.block(Bucket.OTHER, 90)
        assert not may_call(budget)

        assert calls_counted(repository, clock()) == 0

    def test_a_block_is_logged_for_the_operator(self, budget: Budget, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            budget.block(Bucket.OTHER, None)

        assert "strike rate limit bucket=other wait_seconds=3600" in caplog.text


def may_call(budget: Budget, bucket: Bucket = Bucket.OTHER) -> bool:
    try:
        budget.take(bucket)
    except StrikeUnavailable:
        return False
    return True


def use_up(repository: Repository, bucket: Bucket, at: datetime, calls: int) -> None:
    """Count many calls without making them one by one."""
    if calls == 0:
        return
    slot_seconds = LIMITS[bucket].slot_seconds if bucket in LIMITS else 60
    with repository.transaction() as tx:
        tx.limits.count_call(bucket, at, slot_seconds)
    is_slot = (provider_calls.c.bucket == bucket) & (provider_calls.c.slot_at > at - timedelta(seconds=slot_seconds))
    with repository.engine.begin() as connection:
        connection.execute(update(provider_calls).where(is_slot).values(calls=provider_calls.c.calls + calls - 1))


def take_many(repository: Repository, budget: Budget, at: datetime, wanted: int) -> list[datetime]:
    """Take `wanted` calls at once, the first and the last through the budget itself, or as many as it lets."""
    made = min(wanted, budget.remaining())
    use_up(repository, Bucket.OTHER, at, max(0, made - 1))
    assert may_call(budget) is (made > 0)
    if made < wanted:
        assert not may_call(budget)
    return [at] * made


def calls_counted(repository: Repository, since: datetime) -> int:
    with repository.reading() as tx:
        return tx.limits.calls_since(Bucket.OTHER, since, 60)


def fresh_moment(repository: Repository, start: float) -> datetime:
    """A time so far after everything counted before that none of it matters."""
    with repository.reading() as tx:
        epoch = tx.limits.milestone("test") or NOW
    with repository.transaction() as tx:
        tx.limits.reach_milestone("test", epoch + timedelta(days=2))
    return epoch + timedelta(days=2, seconds=start)


def most_in_any_window(made: list[datetime], window: timedelta) -> int:
    """The most calls that any window holds; the worst windows begin at a call."""
    most = end = 0
    for begin, at in enumerate(made):
        while end < len(made) and made[end] < at + window:
            end += 1
        most = max(most, end - begin)
    return most


def race(first: Repository, second: Repository) -> int:
    """Eight threads of two processes ask ten times each at the same moment. How many calls they were given."""
    given: list[bool] = []
    start = threading.Barrier(8)

    def ask(budget: Budget) -> None:
        start.wait()
        given.extend(may_call(budget) for _ in range(10))

    threads = [
        threading.Thread(target=ask, args=(Budget(repository),)) for repository in [first, second] for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    assert len(given) == 80
    return sum(given)
