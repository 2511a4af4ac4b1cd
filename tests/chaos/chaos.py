"""A run: what fails and in which order, what a shop notices of it, and the final count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from lnpay.sandbox import SandboxServer, Simulator, SimulatorConfig
from lnpay.sandbox.server import wait_until
from lnpay.strike.client import SUBSCRIBED_EVENTS
from tests.chaos.balance import Books, forget_calls
from tests.chaos.fleet import TIME_TO_PAY_SECONDS, Fleet
from tests.chaos.pgbouncer import PgBouncer
from tests.chaos.postgres import Cluster
from tests.chaos.shop import Shop
from tests.scenarios.live import subscribe
from tests.scenarios.newer import EXPANDING, newer_lnpay

DETECTION_SECONDS = 2.0
"""How long the failover tool of these runs takes to notice. Patroni takes longer, by its `ttl`."""

FORGET_EVERY_SECONDS = 10.0


@dataclass
class Step:
    """Something that fails, or is replaced. without_database: seconds without a primary behind the pooler."""

    name: str
    began: float
    without_database: float = 0.0


@dataclass
class Result:
    """The result of a run. violations: a sentence for everything that is wrong."""

    books: Books
    shop: Shop
    steps: list[Step]
    violations: list[str] = field(default_factory=list)
    exits: dict[str, dict[int, int]] = field(default_factory=dict)

    def table(self) -> list[str]:
        """Each step with what a shop noticed until the next one."""
        rows = [f"{'step':<24} {'calls delayed':>14} {'failed tries':>12} {'longest outage':>14} {'no database':>11}"]
        ends = [step.began for step in self.steps[1:]] + [float("inf")]
        for step, end in zip(self.steps, ends, strict=True):
            waits = [one for one in self.shop.waits if step.began <= one.failed_at < end]
            longest = max((one.seconds for one in waits), default=0.0)
            failures = sum(one.failures for one in waits)
            away = f"{step.without_database:.1f} s" if step.without_database else "-"
            rows.append(f"{step.name:<24} {len(waits):>14} {failures:>12} {longest:>12.1f} s {away:>11}")
        return rows

    def report(self) -> list[str]:
        """The table, the counts and the verdict."""
        books = self.books
        return [
            *self.table(),
            f"answers to the shop: {dict(self.shop.answers)}",
            f"ended and started again, by exit code: {self.exits}",
            f"{self.shop.orders:,} orders, {len(books.in_time()):,} paid in time, {len(books.late()):,} late, "
            f"{len(books.refunded):,} refunded by the merchant",
            *[f"WRONG: {one}" for one in self.violations],
            *([] if self.violations else ["nothing lost or duplicated, no answer 500"]),
        ]


class Chaos:
    """One run in a folder of its own. Without a pooler LNPay finds the primary itself."""

    def __init__(self, folder: Path, cluster: Cluster, pooler: PgBouncer | None = None, seed: int = 1) -> None:
        self._folder = folder
        self._seed = seed
        self._steps: list[Step] = []
        self._cluster = cluster
        self._pooler = pooler

    def run(self, orders: int, failovers: int = 1, *, is_rolled: bool = True) -> Result:
        """Sell at least this many orders while things fail, then drain and count. is_rolled: also upgrade LNPay."""
        config = SimulatorConfig(rate_limits="off", payment_quote_seconds=3600, start_balance_sats=1_000_000_000)
        simulator = Simulator(seed=self._seed, config=config)
        with ExitStack() as stack:
            provider = stack.enter_context(SandboxServer(simulator))
            stack.callback(self._cluster.stop)
            self._cluster.start()
            database_url = self._cluster.url
            if self._pooler is not None:
                stack.callback(self._pooler.stop)
                self._pooler.point_at(self._cluster.primary.port)
                self._pooler.start()
                database_url = self._pooler.url
            fleet = Fleet(provider.url, database_url, self._folder)
            stack.callback(fleet.stop)
            fleet.start()
            subscribe(provider, fleet.proxy.url, SUBSCRIBED_EVENTS)
            stack.enter_context(_strike_counts_faster(database_url))
            shop = Shop(fleet.proxy.url, Books(simulator), self._seed)
            shop.open()
            steps = self._plan(fleet, failovers, is_rolled=is_rolled)
            self._break_things(shop, orders, steps)
            unanswered = shop.close()
            fleet.stop()
            shop.books.drain(provider, database_url, TIME_TO_PAY_SECONDS)
        result = Result(shop.books, shop, self._steps, shop.books.violations() + unanswered)
        result.violations += _faults_of(shop, fleet)
        result.exits = {one.name: dict(one.ended) for one in (*fleet.servers, *fleet.workers) if one.ended}
        return result

    def _plan(self, fleet: Fleet, failovers: int, *, is_rolled: bool) -> list[tuple[str, Callable[[Step], None]]]:
        steps: list[tuple[str, Callable[[Step], None]]] = [("a server killed", lambda _step: fleet.kill_server())]
        if self._pooler is not None:
            steps.append(("PgBouncer restarted", self._restart_pooler))
        steps += [(f"primary killed ({number})", self._fail_over) for number in range(1, failovers + 1)]
        if is_rolled:
            newer = newer_lnpay(self._folder / "newer", EXPANDING)
            steps.append(("version rolled", lambda _step: fleet.roll(newer)))
        return steps

    def _break_things(self, shop: Shop, orders: int, steps: list[tuple[str, Callable[[Step], None]]]) -> None:
        """One step after the other, spread over the orders."""
        for number, (name, do) in enumerate(steps, 1):
            _wait_for_orders(shop, orders * number // (len(steps) + 1))
            step = Step(name, time.monotonic())
            self._steps.append(step)
            do(step)
            print(f"{shop.orders:>6,} orders: {name}, {time.monotonic() - step.began:.1f} s", flush=True)
        _wait_for_orders(shop, orders)

    def _restart_pooler(self, _step: Step) -> None:
        assert self._pooler is not None
        self._pooler.restart()

    def _fail_over(self, step: Step) -> None:
        step.without_database = self._cluster.fail_over(DETECTION_SECONDS)
        if self._pooler is not None:
            self._pooler.point_at(self._cluster.primary.port)
            # The new one serves alone meanwhile.
            time.sleep(3)
            self._cluster.add_standby()


@contextmanager
def _strike_counts_faster(database_url: str) -> Iterator[None]:
    """Reset the count of calls to Strike every few seconds, as if the shop were less busy."""
    engine = create_engine(database_url, connect_args={"prepare_threshold": None}, poolclass=NullPool)
    over = threading.Event()

    def forget() -> None:
        while not over.wait(FORGET_EVERY_SECONDS):
            with suppress(DBAPIError):
                forget_calls(engine)

    thread = threading.Thread(target=forget, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


def _wait_for_orders(shop: Shop, orders: int) -> None:
    assert wait_until(lambda: shop.orders >= orders, 120 + orders), "orders are no longer answered"


def _faults_of(shop: Shop, fleet: Fleet) -> list[str]:
    """Answers that indicate a bug, and programs that ended neither by our signal nor with an expected exit code."""
    found = [f"{number} answers {status}" for status, number in shop.answers.items() if status == "500"]
    for program in (*fleet.servers, *fleet.workers):
        found += [f"{program.name} ended with exit code {code}" for code in program.ended if code not in (-9, 1)]
    return found
