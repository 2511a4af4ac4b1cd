"""Tasks that are suspended around every commit and outside call, so that the seed decides which one runs next."""

from __future__ import annotations

import random
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import CodeType, FunctionType

import greenlet  # type: ignore[import-untyped]

from lnpay.sandbox.clock import VirtualClock

TRACE_LINES = 5_000

MORE_WHERE_MONEY_MOVES = 4
"""How many times more likely crashes are around an execution."""

STALLS = ("-> PATCH", "-> POST /v1/payment-quotes", "-> POST /shop")
"""The points before which a task may stall: an execution, a payment quote, a message to the shop."""

STALLS_AT_BEGIN = 0.4
"""How much rarer stalls are before a transaction, where earlier reads may become outdated."""


HALT_SECONDS = 20.0


class Crash(BaseException):
    """The process is gone: none of its code runs any more, not even cleanup."""


class Violation(BaseException):
    """A promise was broken; the message says how. The product must not catch this."""


@dataclass(eq=False)
class Process:
    """What a crash destroys: everything in a process that is not in the database."""

    name: str
    is_alive: bool = True


class Task:
    """One activity of a process."""

    def __init__(self, name: str, process: Process, function: Callable[[], object]) -> None:
        self.name = name
        self.process = process
        self.wake_at: datetime | None = None
        self.result: object = None
        self.error: Exception | None = None
        self.violation: Violation | None = None
        self.is_over = False
        self.has_halted = False
        self._halts_in: CodeType | None = None
        self._function = function
        self.greenlet = greenlet.greenlet(self._run)

    def halt_in(self, function: Callable[..., object]) -> None:
        """Stall before the first transaction that `function` begins, so that earlier reads become outdated."""
        assert isinstance(function, FunctionType)
        self._halts_in = function.__code__

    def is_halted_by(self, what: str) -> bool:
        """Whether the task has reached the point at which it is to stall. True only once."""
        frame = sys._getframe() if self._halts_in is not None and what == "begin" else None
        while frame is not None and frame.f_code is not self._halts_in:
            frame = frame.f_back
        if frame is None:
            return False
        self._halts_in, self.has_halted = None, True
        return True

    def _run(self) -> None:
        try:
            self.result = self._function()
        except Crash:
            pass
        except Violation as violation:
            self.violation = violation
        except Exception as error:  # noqa: BLE001 - judged by the task's starter
            self.error = error


@dataclass
class Chances:
    """The probabilities of what happens at a point where a task may be suspended.

    stall: just before money moves or the shop is notified, for long enough that another process takes over the work.
    """

    crash: float = 0.0
    pause: float = 0.0
    locked: float = 0.0
    stall: float = 0.0
    longest_pause_seconds: float = 300.0
    stall_seconds: tuple[float, float] = (15.0, 120.0)


class Scheduler:
    """Runs tasks one point at a time. Outside of tasks, and while `quiet`, its points do nothing."""

    def __init__(self, clock: VirtualClock, chance: random.Random) -> None:
        self.clock = clock
        self.random = chance
        self.chances = Chances()
        self.tasks: list[Task] = []
        self.current: Task | None = None
        self.steps = 0
        self.counts: Counter[str] = Counter()
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self._start = clock.now()
        self._quiet = 0
        self._hub = greenlet.getcurrent()

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        seconds = (self.clock.now() - self._start).total_seconds()
        who = self.current.name if self.current else "world"
        self.trace.append(f"{seconds:10.3f}  {who:<18} {what}")

    def spawn(self, name: str, process: Process, function: Callable[[], object]) -> Task:
        """Start a task; the seed decides when it runs."""
        task = Task(name, process, function)
        self.tasks.append(task)
        return task

    def runnable(self) -> list[Task]:
        """The tasks that are not sleeping."""
        now = self.clock.now()
        return [task for task in self.tasks if task.wake_at is None or task.wake_at <= now]

    def next_wake_at(self) -> datetime | None:
        """When the first sleeping task wakes."""
        return min((task.wake_at for task in self.tasks if task.wake_at is not None), default=None)

    def step(self, task: Task) -> None:
        """Run a task to its next point, or to its end. If its process crashes, end all tasks of that process."""
        self.steps += 1
        task.wake_at = None
        self._switch(task, task.greenlet.switch)
        if not task.process.is_alive:
            self.kill_process(task.process)

    def _kill(self, task: Task) -> None:
        if task.greenlet:
            self._switch(task, lambda: task.greenlet.throw(Crash()))
        else:  # not yet begun
            task.is_over = True
            self.tasks.remove(task)

    def _switch(self, task: Task, go: Callable[[], object]) -> None:
        self.current = task
        try:
            go()
        finally:
            self.current = None
        if task.greenlet.dead:
            task.is_over = True
            self.tasks.remove(task)

    def point(self, what: str) -> None:
        """A point at which a task may be suspended, and its process may crash."""
        task = self.current
        if task is None:
            return
        if not task.process.is_alive:
            raise Crash
        if self._quiet:
            return
        self.note(what)
        if task.is_halted_by(what):
            task.wake_at = self.clock.now() + timedelta(seconds=HALT_SECONDS)
            self._suspend(task)
            return
        if self.random.random() < self.chances.crash * (MORE_WHERE_MONEY_MOVES if "/execute" in what else 1):
            self.crash()
        if self.random.random() < self.chances.pause:
            self.counts["pauses"] += 1
            seconds = self.random.uniform(0.5, self.chances.longest_pause_seconds)
            self.note(f"  is stopped for {seconds:.0f} s")
            task.wake_at = self.clock.now() + timedelta(seconds=seconds)
        elif self.chances.stall and self.random.random() < self._chance_of_stall(what):
            self.counts["stalls"] += 1
            seconds = self.random.uniform(*self.chances.stall_seconds)
            self.note(f"  stalls for {seconds:.0f} s")
            task.wake_at = self.clock.now() + timedelta(seconds=seconds)
        self._suspend(task)

    def _chance_of_stall(self, what: str) -> float:
        if what == "begin":
            return self.chances.stall * STALLS_AT_BEGIN
        return self.chances.stall if what.startswith(STALLS) else 0.0

    def kill_process(self, process: Process) -> None:
        """End a process and all its tasks."""
        process.is_alive = False
        for task in [one for one in self.tasks if one.process is process]:
            self._kill(task)

    def crash(self) -> None:
        """End the current task's process."""
        if self.current is not None:
            self.counts["crashes"] += 1
            self.note(f"  CRASH of {self.current.process.name}")
            self.current.process.is_alive = False
            raise Crash

    def is_unlucky(self, chance: float) -> bool:
        """Whether an event with this probability happens now; never outside of tasks."""
        return self.current is not None and not self._quiet and self.random.random() < chance

    def sleep(self, seconds: float) -> None:
        """Wait while others run. Outside of tasks, time simply passes."""
        if self.current is None or self._quiet:
            self.clock.advance(seconds)
            return
        self.current.wake_at = self.clock.now() + timedelta(seconds=seconds)
        self._suspend(self.current)

    def _suspend(self, task: Task) -> None:
        self._hub.switch()
        if not task.process.is_alive:
            raise Crash

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Suspend no task inside: for code that holds a lock which another task of the process may wait for."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1
