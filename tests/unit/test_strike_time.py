"""Strike's time: what its answers say, and what a wrong clock of ours does to it, which is nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from lnpay.domain.model import utc_now
from lnpay.domain.strike_time import (
    FRESH_SECONDS,
    LONGEST_ROUND_TRIP_SECONDS,
    StrikeTime,
    steady_seconds,
)

START = datetime(2026, 5, 18, 12, 0, 0, tzinfo=UTC)
HOUR = 3600.0


@dataclass
class Machine:
    """A machine whose clock is `skew` seconds ahead of Strike's."""

    skew: float = 0.0
    passed: float = 0.0
    time: StrikeTime = field(init=False)

    def __post_init__(self) -> None:
        self.time = StrikeTime(self.clock, lambda: 1_000.0 + self.passed)

    def clock(self) -> datetime:
        return self.strike() + timedelta(seconds=self.skew)

    def strike(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def ask(self, *, takes: float = 0.0, date_off: float = 0.0) -> None:
        """One call, half of whose time is the way there."""
        asked_at = self.time.steady()
        told_at = (self.strike() + timedelta(seconds=takes / 2 + date_off)).replace(microsecond=0)
        self.passed += takes
        self.time.observe(told_at, asked_at, self.time.steady())

    def off(self) -> float:
        """How far our idea of Strike's time is from the truth."""
        return (self.time.now() - self.strike()).total_seconds()


class TestNow:
    def test_it_is_our_clock_until_strike_has_answered(self) -> None:
        assert Machine(skew=HOUR).off() == HOUR

    def test_a_clock_that_agrees_is_kept_exactly(self) -> None:
        machine = Machine(skew=0.3, passed=0.4)
        machine.ask(takes=0.2)

        assert machine.off() == 0.3

    @pytest.mark.parametrize("skew", [-3 * HOUR, -300, -10, 10, 300, 2 * HOUR])
    def test_a_wrong_clock_is_corrected_by_one_answer(self, skew: float) -> None:
        machine = Machine(skew=skew, passed=0.9)
        machine.ask(takes=0.2)

        assert abs(machine.off()) <= 1.2

    def test_a_step_of_our_clock_does_nothing(self) -> None:
        machine = Machine()
        machine.ask()
        for skew in (2 * HOUR, -2 * HOUR, 0.0):
            machine.skew = skew
            machine.passed += 30
            assert abs(machine.off()) <= 1.1

    def test_a_day_without_an_answer_costs_seconds(self) -> None:
        machine = Machine(skew=HOUR)
        machine.ask()
        machine.passed += 24 * HOUR

        assert abs(machine.off()) < 10


class TestCertain:
    def test_without_an_answer_nothing_is_certain(self) -> None:
        assert Machine().time.certain() is None

    def test_one_answer_is_enough_where_our_clock_agrees(self) -> None:
        machine = Machine()
        machine.ask()

        assert machine.time.certain() == machine.strike()

    def test_a_clock_that_disagrees_needs_a_second_answer(self) -> None:
        machine = Machine(skew=HOUR)
        machine.ask()
        assert machine.time.certain() is None

        machine.passed += 1
        machine.ask()

        certain = machine.time.certain()
        assert certain is not None
        assert abs(certain - machine.strike()) <= timedelta(seconds=1.1)

    def test_it_is_known_for_a_moment_before_the_answer_too(self) -> None:
        machine = Machine()
        mark = machine.time.steady()
        machine.passed += 90
        machine.ask()

        assert machine.time.certain(mark) == START

    def test_it_ends_ten_minutes_after_the_last_answer(self) -> None:
        machine = Machine()
        machine.ask()
        machine.passed += FRESH_SECONDS
        assert machine.time.certain() is not None

        machine.passed += 1
        assert machine.time.certain() is None
        machine.ask()
        assert machine.time.certain() is not None

    def test_answers_that_contradict_each_other_end_it_until_two_agree(self) -> None:
        machine = Machine()
        machine.ask()
        machine.ask(date_off=HOUR)
        assert machine.time.certain() is None
        assert machine.off() == 0

        machine.ask()
        assert machine.time.certain() == machine.strike()

    def test_two_answers_that_agree_replace_what_was_known(self) -> None:
        machine = Machine()
        machine.ask()
        for _ in range(2):
            machine.ask(date_off=HOUR)

        certain = machine.time.certain()
        assert certain is not None
        assert abs(certain - machine.strike() - timedelta(hours=1)) <= timedelta(seconds=1.1)

    def test_three_answers_that_all_differ_are_not_believed(self) -> None:
        machine = Machine()
        machine.ask()
        machine.ask(date_off=HOUR)
        machine.ask(date_off=-HOUR)

        assert machine.time.certain() is None
        assert machine.off() == 0

    @pytest.mark.parametrize("told_at", [None, datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)])
    def test_a_date_that_is_missing_or_absurd_is_ignored(self, told_at: datetime | None) -> None:
        machine = Machine()
        machine.time.observe(told_at, 1_000.0, 1_000.0)

        assert (machine.time.certain(), machine.time.offset()) == (None, None)

    def test_an_answer_that_took_too_long_is_ignored(self) -> None:
        machine = Machine()
        machine.ask(takes=LONGEST_ROUND_TRIP_SECONDS + 0.1)

        assert machine.time.certain() is None

    def test_a_slow_answer_does_not_replace_a_quick_one_at_once(self) -> None:
        machine = Machine(skew=HOUR)
        machine.ask()
        machine.ask(takes=4)
        close = machine.off()
        machine.passed += 60
        machine.ask(takes=4)

        assert abs(close) <= 1.1
        assert 1.1 < abs(machine.off()) <= 5.1


class TestOffset:
    @pytest.mark.parametrize("skew", [-300.0, 0.0, 7_200.0])
    def test_it_says_how_far_our_clock_is_off_and_how_exactly_that_is_known(self, skew: float) -> None:
        machine = Machine(skew=skew)
        machine.ask(takes=0.4)

        offset = machine.time.offset()

        assert offset is not None
        assert abs(offset.ahead.total_seconds() - skew) <= offset.uncertainty.total_seconds() <= 0.8
        assert abs(offset.measured_at - machine.strike()) <= timedelta(seconds=1)
        assert offset.least <= timedelta(seconds=abs(skew))


class TestSteadySeconds:
    def test_they_are_the_systems_for_the_real_clock(self) -> None:
        first = steady_seconds()
        time.sleep(0.01)

        assert 0.01 <= steady_seconds() - first < 60
        assert StrikeTime(utc_now).steady is steady_seconds

    def test_a_system_without_a_clock_that_counts_sleep_uses_the_monotonic_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)

        assert abs(steady_seconds() - time.monotonic()) < 60

    def test_a_clock_that_a_test_moves_has_its_own(self) -> None:
        assert StrikeTime(lambda: START).steady() == START.timestamp()
