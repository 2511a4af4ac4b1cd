"""Strike's time, read from the `Date` header of its answers. It decides whether a deadline has passed.

Between two answers it is carried forward by monotonic ("steady") seconds, which do not change when the machine's clock
is set. A machine whose clock is wrong, or is set while this process runs, therefore ends no invoice too early or late.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lnpay.domain.model import Clock, utc_now

log = logging.getLogger(__name__)

DATE_RESOLUTION = timedelta(seconds=1)
"""A Date header is truncated to whole seconds."""

FRESH_SECONDS = 600.0
"""A measurement older than this ends no invoice."""

DRIFT = 1e-4
"""How much the monotonic clock may gain or lose, as a fraction of the time that has passed."""

SERVERS_DIFFER = timedelta(seconds=2)
"""Strike's answers come from many servers, whose clocks are not exactly the same."""

LONGEST_ROUND_TRIP_SECONDS = 5.0
"""A slower answer is too imprecise to use: it could end an invoice that many seconds too early."""

BETTER_FOR_SECONDS = 60.0
"""A measurement is not replaced by a less exact one while it is younger than this."""

CLOCK_WARN = timedelta(seconds=5)
"""Network delays and Strike's own clocks may account for this much."""

CLOCK_FAIL = timedelta(seconds=60)
"""If a machine's clock is off by more, the operator must act: it is half of the default time to pay."""

_PLAUSIBLE = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


def steady_seconds() -> float:
    """Monotonic seconds, which include the time that the machine sleeps if the system counts it."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


def steady_seconds_of(clock: Clock) -> Callable[[], float]:
    """The monotonic seconds that belong to `clock`: a test's clock moves its own."""
    return steady_seconds if clock is utc_now else lambda: clock().timestamp()


def injected_seconds(clock: Clock, steady: Callable[[], float] | None = None) -> Callable[[], float] | None:
    """The seconds by which calls are counted in a test that replaces time; None outside of tests."""
    return None if steady is None and clock is utc_now else steady or steady_seconds_of(clock)


@dataclass(frozen=True)
class ClockOffset:
    """How far this machine's clock is ahead of Strike's (negative: behind), and how exactly that is known."""

    ahead: timedelta
    uncertainty: timedelta
    measured_at: datetime

    @property
    def least(self) -> timedelta:
        """The clock is off by this much for certain."""
        return max(timedelta(), abs(self.ahead) - self.uncertainty)

    @property
    def in_words(self) -> str:
        """ "7,200.3 seconds ahead of Strike's, give or take 0.6"."""
        side = "ahead of" if self.ahead > timedelta() else "behind"
        off, uncertainty = abs(self.ahead).total_seconds(), self.uncertainty.total_seconds()
        return f"{off:,.1f} seconds {side} Strike's, give or take {uncertainty:.1f}"


@dataclass(frozen=True)
class _Measurement:
    """Strike's time when the monotonic seconds were zero: between `earliest` and `latest`.

    is_confirmed: the machine's clock or a second answer agrees with it.
    """

    earliest: datetime
    latest: datetime
    measured_at: float
    is_confirmed: bool = False

    def drift(self, at: float) -> timedelta:
        return timedelta(seconds=DRIFT * abs(at - self.measured_at))

    def width(self, at: float) -> timedelta:
        return self.latest - self.earliest + 2 * self.drift(at)

    def hold(self, moment: datetime, at: float) -> datetime:
        """`moment`, clamped to the times that are possible at Strike when the monotonic seconds are `at`."""
        passed, drift = timedelta(seconds=at), self.drift(at)
        return min(max(moment, self.earliest + passed - drift), self.latest + passed + drift)

    def agrees_with(self, other: _Measurement) -> bool:
        """Whether both measurements can be true, given their uncertainty at the time of the later one."""
        slack = SERVERS_DIFFER + self.drift(other.measured_at)
        return self.earliest <= other.latest + slack and other.earliest <= self.latest + slack


class StrikeTime:
    """Strike's time in this process. Safe to share between threads.

    clock: this machine's. steady: monotonic seconds; None: those that belong to `clock`.
    """

    def __init__(self, clock: Clock = utc_now, steady: Callable[[], float] | None = None) -> None:
        self.steady = steady or steady_seconds_of(clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._known: _Measurement | None = None
        self._disputed_by: _Measurement | None = None

    def observe(self, told_at: datetime | None, asked_at: float, answered_at: float) -> None:
        """Take the time from one of Strike's answers.

        told_at: its Date header, if it has one. asked_at, answered_at: monotonic seconds before and after the call.
        """
        is_plausible = told_at is not None and _PLAUSIBLE[0] <= told_at <= _PLAUSIBLE[1]
        if told_at is None or not is_plausible or answered_at - asked_at > LONGEST_ROUND_TRIP_SECONDS:
            return
        seen = _Measurement(
            told_at - timedelta(seconds=answered_at),
            told_at + DATE_RESOLUTION - timedelta(seconds=asked_at),
            answered_at,
        )
        with self._lock:
            self._learn(seen)

    def _learn(self, seen: _Measurement) -> None:
        known = self._known
        if known is None:
            self._known = dataclasses.replace(seen, is_confirmed=self._is_like_our_clock(seen))
        elif known.agrees_with(seen):
            is_better = seen.width(seen.measured_at) <= known.width(seen.measured_at)
            is_kept = not is_better and seen.measured_at - known.measured_at < BETTER_FOR_SECONDS
            self._known = dataclasses.replace(known if is_kept else seen, is_confirmed=True)
            self._disputed_by = None
        elif self._disputed_by is not None and self._disputed_by.agrees_with(seen):
            log.warning("strike's time has changed, two answers agree on a different time than earlier ones")
            self._known, self._disputed_by = dataclasses.replace(seen, is_confirmed=True), None
        else:
            # One answer may come from a server, or from a proxy's cache, whose clock is wrong.
            self._disputed_by = seen

    def _is_like_our_clock(self, seen: _Measurement) -> bool:
        ours = self._clock() - timedelta(seconds=self.steady())
        return seen.earliest - CLOCK_WARN <= ours <= seen.latest + CLOCK_WARN

    def now(self) -> datetime:
        """The best estimate of Strike's time: this machine's clock, corrected to what Strike's answers allow.

        Before Strike's first answer it is this machine's clock alone.
        """
        ours, at, known = self._clock(), self.steady(), self._known
        return ours if known is None else known.hold(ours, at)

    def certain(self, at: float | None = None) -> datetime | None:
        """Strike's time, now or when the monotonic seconds were `at`, to within a few seconds: enough to end invoices.

        None when it is not: no answer in the last ten minutes, or answers that contradict each other.
        """
        ours, now = self._clock(), self.steady()
        with self._lock:
            known, is_disputed = self._known, self._disputed_by is not None
        if known is None or not known.is_confirmed or is_disputed or now - known.measured_at > FRESH_SECONDS:
            return None
        return known.hold(ours, now) - timedelta(seconds=0.0 if at is None else now - at)

    def offset(self) -> ClockOffset | None:
        """How far this machine's clock is off; None before Strike's first answer."""
        ours, at, known = self._clock(), self.steady(), self._known
        if known is None:
            return None
        half = known.width(at) / 2
        middle = known.earliest + (known.latest - known.earliest) / 2
        measured_at = middle + timedelta(seconds=known.measured_at)
        return ClockOffset(ours - (middle + timedelta(seconds=at)), half, measured_at)
