"""The world of one seed: what happens in it, and how it must end."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from unittest import mock

from lnpay.domain.errors import LnpayError
from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from lnpay.sandbox.clock import VirtualClock
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.simulator import Simulator
from lnpay.sandbox.strike.models import Subscription
from lnpay.sandbox.strike.webhooks import Attempt
from lnpay.strike import budget
from lnpay.strike.buckets import Bucket
from lnpay.strike.client import SUBSCRIBED_EVENTS
from tests.simulation.activities import Activities
from tests.simulation.draws import (
    BEHAVIOURS_OF_KIND,
    KINDS_OF_DOUBT,
    PLANS,
    draw_chances,
    draw_config,
    draw_doubt,
    draw_scene,
    draw_settings,
)
from tests.simulation.ending import come_to_rest, moments
from tests.simulation.host import Disks, Host
from tests.simulation.installation import Installation, LnpayProcess
from tests.simulation.policies import draw_policy
from tests.simulation.requests import draw_provider, draw_receiving
from tests.simulation.scheduler import Chances, Scheduler, Task, Violation
from tests.simulation.watch import Customer, Watch
from tests.world import WEBHOOK_SECRET, world_settings

MOST_TASKS = 6

PASSES = {"main": main_pass, "expired": expired_pass, "refund": refund_pass}

TIGHT_LIMITS = {
    Bucket.OTHER: budget.Limit(20, timedelta(minutes=10), 60),
    Bucket.PAYMENT_QUOTE: budget.Limit(12, timedelta(minutes=1), 5),
    Bucket.PAYMENT_EXECUTE: budget.Limit(12, timedelta(minutes=1), 5),
}


@dataclass
class Report:
    """The result of one seed."""

    seed: int
    counts: Counter[str]
    violation: str | None
    trace: list[str]
    """Empty if nothing is wrong."""
    digest: int
    """Of the whole trace."""


class SimulatedWorld:
    """The whole world of one seed."""

    def __init__(self, seed: int, disks: Disks) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.scene = draw_scene(self.random)
        self.simulator = Simulator(
            clock=VirtualClock(running=False), seed=seed, config=draw_config(self.random, self.scene)
        )
        self.scheduler = Scheduler(self.simulator.clock, random.Random(f"schedule {seed}"))
        self.host = Host(self.simulator, self.scheduler)
        self.watch = Watch(self.simulator)
        self.chances = draw_chances(self.random, self.scene, self.simulator.config)
        if self.scene.is_tight:
            self.chances.pause = 0.0
        settings = draw_settings(self.random, self.scene)
        self.homes: list[Installation] = []
        for name in ("shop", "neighbour")[: self.scene.installations]:
            disk = disks[name]
            chance = random.Random(f"plugin {name} {seed}")
            has_plugin = chance.random() < 0.4
            policy = {} if has_plugin else draw_policy(random.Random(f"late {name} {seed}"), self.scene)
            receiving = draw_receiving(seed, name, self.scene)
            home = Installation(
                name,
                self.host,
                disk,
                world_settings(disk.url, **settings, **policy, **(receiving or {})),
                self.watch,
                tuple(self._names()),
                plugin_chance=chance if has_plugin else None,
                has_policy=bool(policy),
                has_requests=receiving is not None,
            )
            self.homes.append(home)
            self.watch.homes[name] = home
        self.host.session = self.homes[0].session
        if self.homes[0].has_requests:
            draw_provider(seed, self.simulator.config)
        self.customers = self._draw_customers()
        self.faults: list[Fault] = []
        self.doubts: list[Fault] = []
        """The faults that outlast the time of disorder in "failing" and "aged" worlds."""
        self.waiting: list[tuple[datetime, Task, Attempt]] = []
        self.counts: Counter[str] = Counter()
        self.activities = Activities(self)

    def _names(self) -> list[str]:
        names = ["server 1", "server 2", "operator"]
        return names + [f"{kind} {number}" for kind in PASSES for number in (1, 2) if self.scene.has_workers]

    # What the seed chooses.

    def _draw_customers(self) -> list[Customer]:
        customers = [self.draw_customer(number) for number in range(self.scene.customers)]
        for home in self.homes[1:]:
            # The neighbour's orders have the same numbers, and some of them the same price.
            for one in customers[: self.scene.customers]:
                twin = self.draw_customer(len(customers))
                amount = one.amount if self.random.random() < 0.6 else twin.amount
                customers.append(twin)
                twin.home, twin.order_id, twin.amount = home.name, one.order_id, amount
        for one in customers:
            if self.watch.homes[one.home].plugin_chance is not None and self.random.random() < 0.5:
                one.via_plugin, one.address = True, None
        return customers

    def draw_customer(self, number: int, address: str | None = None) -> Customer:
        """Draw a customer of the first shop. address: "own" for an address whose payments behave as drawn."""
        chance = self.random
        if address is None:
            address = chance.choice((None, "not an address", *["own"] * 8, "dear"))
        if self.scene.kind != "any":
            address = "own"
        if address == "own":
            address = f"c{number}@wallet.test"
            self.behave(address)
        elif address == "dear":
            address = f"dear{number}@wallet.test"
        customer = Customer(
            number,
            self.homes[0].name,
            f"order-{number}",
            chance.choice(("0.02", "1.50", "12.34", "12.34", "80", "0,5")),
            address,
            chance.choice(PLANS),
            expires_in=chance.choice((None,) * 6 + (30, 300, 3_600)),
        )
        if self.scene.kind != "any" and chance.random() < 0.9:
            customer.plan = "late"
        if self.scene.kind == "limits":
            customer.amount = "12.34"
        if address is not None and "@" in address:
            self.watch.owners[address] = customer
        return customer

    def behave(self, address: str) -> None:
        """Draw how payments to an address behave."""
        self.simulator.config.payout_behaviours[address] = self.random.choice(BEHAVIOURS_OF_KIND[self.scene.kind])

    # The time of disorder.

    def run(self) -> Report:
        """Run the world, then check at the end that every promise was kept."""
        violation = None
        try:
            with self._in_charge():
                self._disorder()
                come_to_rest(self)
        except Violation as error:
            violation = str(error)
        finally:
            for home in self.homes:
                home.close()
        self._count()
        trace = list(self.scheduler.trace)
        digest = zlib.crc32("\n".join(trace).encode())
        return Report(self.seed, self.counts, violation, trace if violation else [], digest)

    @contextmanager
    def _in_charge(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(self.host.in_charge(self.seed))
            if self.scene.is_tight:
                stack.enter_context(mock.patch.object(budget, "LIMITS", TIGHT_LIMITS))
            yield

    def _disorder(self) -> None:
        for home in self.homes:
            if self.scene.has_webhooks:
                self._subscribe(home)
            if home.plugin_chance is not None or self.scene.has_merchants:
                home.create_key()
            for name in home.names:
                home.processes[name].skew_seconds = self.draw_skew()
        if self.scene.kind in KINDS_OF_DOUBT or self.random.random() < 0.5:
            self.doubts.append(draw_doubt(self.random, self.scene))
            self.activities.set_fault(self.doubts[0])
        for _ in range(self.random.choice((0, 0, 1, 2, 3, 5))):
            self.activities.add_fault()
        self.scheduler.chances = self.chances
        left = self.scene.activities
        while left > 0 or self.scheduler.tasks:
            left -= self._one_step(left > 0)
            self.check()

    def draw_skew(self) -> float:
        """Draw how many seconds a clock is off from now on."""
        if self.random.random() < 0.5:
            return 0.0
        return self.random.uniform(-self.scene.skew_seconds, self.scene.skew_seconds)

    def _subscribe(self, home: Installation) -> None:
        webhooks = self.simulator.webhooks
        subscription = Subscription(
            self.simulator.new_id(), f"https://{home.name}.test/webhook", "v1", WEBHOOK_SECRET, True,
            list(SUBSCRIBED_EVENTS), self.simulator.now(),
        )  # fmt: skip
        webhooks.subscriptions[subscription.subscription_id] = subscription

    def _one_step(self, may_start: bool) -> bool:
        """Take one step. Returns whether something new was started."""
        runnable = self.scheduler.runnable()
        if runnable and (not may_start or self.random.random() < 0.85 or len(self.scheduler.tasks) >= MOST_TASKS):
            self._step(self.random.choice(runnable))
            return False
        if may_start and (len(self.scheduler.tasks) < MOST_TASKS) and self.random.random() < 0.75:
            self.activities.start_something()
            return True
        self._let_time_pass()
        return False

    def _step(self, task: Task) -> None:
        self.scheduler.step(task)
        self._judge(task)

    def run_through(self, task: Task) -> None:
        """Run this task alone until it ends or stalls."""
        self.scheduler.chances = Chances()
        while not task.is_over and task.wake_at is None and task.process.is_alive:
            self._step(task)
            self.check()
        self.scheduler.chances = self.chances

    def run_steps(self, task: Task, steps: int) -> None:
        """Run this task alone for a number of steps."""
        for _ in range(steps):
            if task.is_over or task.wake_at is not None or not task.process.is_alive:
                return
            self._step(task)
            self.check()

    def _let_time_pass(self) -> None:
        now, chance = self.simulator.clock.now(), self.random.random()
        if chance < 0.6:
            wake_at = self.scheduler.next_wake_at()
            later = [moment for moment in (wake_at, *moments(self)) if moment is not None and moment > now]
            seconds = (min(later) - now).total_seconds() + 0.001 if later else 1.0
        elif chance < 0.8:
            seconds = self.random.uniform(0.01, 20)
        elif chance < 0.98:
            seconds = self.random.uniform(20, 300)
        else:
            seconds = self.random.uniform(1_000, 9_000)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.simulator.clock.advance(seconds)
        self.simulator.tick()

    def _judge(self, task: Task) -> None:
        """If a task has ended, check how, and restart a crashed process."""
        process = task.process
        assert isinstance(process, LnpayProcess)
        if not process.is_alive and process.home.processes[process.name] is process:
            process.home.start(process.name)
        if task.violation is not None:
            raise task.violation
        if task.is_over and task.error is not None and not isinstance(task.error, LnpayError):
            raise Violation(f"{task.name} raised {type(task.error).__name__}: {task.error}") from task.error

    def check(self) -> None:
        """Check every promise against the current state."""
        self.activities.record_webhooks()
        self.watch.check_world()
        if self.host.errors.found:
            error = self.host.errors.found[0]
            raise Violation(f"a bug was caught and logged: {type(error).__name__}: {error}") from error

    def _count(self) -> None:
        counts = self.counts + self.scheduler.counts
        counts["steps"] = self.scheduler.steps
        for fault in self.faults:
            counts[f"fault {fault.kind}"] += fault.hits
        payments = self.simulator.payments.payments.values()
        counts["invoices"] = len(self.watch.customers)
        counts["payments in"] = sum(entry.kind == "in" for entry in self.simulator.ledger.entries)
        counts["payments in, late"] = sum(
            self.watch.is_paid(one) and self.watch.is_late(one) for one in self.watch.customers.values()
        )
        counts["receive requests"] = len(self.simulator.receive_requests.by_id)
        receives = self.simulator.receive_requests.receives.values()
        counts["payments of receive requests"] = len(receives)
        counts["payments of Strike users"] = sum(one.way == "P2P" for one in receives)
        counts["refunds out"] = sum(payment.state == "COMPLETED" for payment in payments)
        counts["refunds failed on the way"] = sum(payment.state == "FAILED" for payment in payments)
        counts["executions asked for"] = len(self.simulator.ledger.executions)
        counts["payments in, late, accepted"] = len(self.watch.accepted)
        counts["messages to plugins"] = sum(map(len, self.watch.plugins_heard.values()))
        counts["deliveries tried"] = len(self.simulator.shop.deliveries)
        counts["webhooks sent"] = len(self.simulator.webhooks.sent)
        counts["assumed sent, as the provider said"] = len(self.watch.exempt)
        self.counts = counts
