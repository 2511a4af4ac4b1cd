"""Power cuts in a sale: our programs are killed before and after every commit and every outgoing call.

After each crash the work continues: the shop repeats its request, the customer pays, and then either the provider
repeats its webhook, or a worker makes one pass. Whichever it is, everything must end as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lnpay.runtime.worker_passes import main_pass
from lnpay.sandbox.server import wait_until
from tests.scenarios.crash_scenarios import CHUNKS, PAUSE_SECONDS, CrashScenario, CrashScenarios, walk
from tests.scenarios.live import START_SECONDS, is_up, serving, subscribe


def live_until_death(scenario: CrashScenario) -> None:
    """A server that dies: shop, customer and webhook get as far as it lets them."""
    subscribe(scenario.provider, scenario.url)
    with scenario.doomed("main.py") as process:
        wait_until(lambda: not process.is_alive() or is_up(scenario.url), START_SECONDS)
        if process.is_alive() and scenario.buy():
            scenario.pay()
            if not scenario.fatal:
                assert wait_until(scenario.is_done, START_SECONDS)


def work_until_death(scenario: CrashScenario) -> None:
    """A worker that dies: there is a payment that no webhook has told of."""
    with serving(scenario.open_up(), scenario.port, is_sending=False):
        scenario.buy_and_pay()
    with scenario.doomed("workers/main_worker.py"):
        pass


def test_the_walk_passes_every_step_of_a_sale(scenarios: CrashScenarios) -> None:
    steps = [
        *("POST /v1/invoices", "POST /v1/invoices/*/quote", "commit"),
        *("GET /v1/invoices/*", "commit", "POST /shop/webhook", "commit"),
    ]
    for live in (live_until_death, work_until_death):
        scenario = scenarios.build(fatal=0)
        live(scenario)

        points = iter(scenario.trace)
        assert all(f"after {step}" in points for step in steps[0 if live is live_until_death else 3 :])


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_server_killed_anywhere_ends_well_with_the_webhook_alone(scenarios: CrashScenarios, chunk: int) -> None:
    for scenario in walk(scenarios, live_until_death, chunk):
        with serving(scenario.wake_up(), scenario.port):
            scenario.buy_and_pay()
            assert let_time_pass_until(scenario, scenario.is_done), scenario.log
        scenario.check()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_server_killed_anywhere_ends_well_with_one_worker_pass_alone(scenarios: CrashScenarios, chunk: int) -> None:
    for scenario in walk(scenarios, live_until_death, chunk):
        scenario.simulator.webhooks.subscriptions.clear()
        with serving(scenario.wake_up(), scenario.port, is_sending=False):
            scenario.buy_and_pay()
        make_one_pass(scenario)
        scenario.check()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_worker_killed_anywhere_ends_well_with_another_pass(scenarios: CrashScenarios, chunk: int) -> None:
    for scenario in walk(scenarios, work_until_death, chunk):
        scenario.simulator.clock.advance(PAUSE_SECONDS)
        make_one_pass(scenario)
        scenario.check()


def let_time_pass_until(scenario: CrashScenario, is_true: Callable[[], bool]) -> bool:
    """Give the provider the seconds after which it repeats its webhooks: 3, 9, 27."""
    for _ in range(100):
        if is_true():
            return True
        scenario.simulator.clock.advance(1)
        time.sleep(0.02)
    return False


def make_one_pass(scenario: CrashScenario) -> None:
    """What cron starts next."""
    backend = scenario.open_up()
    main_pass(backend, waits_for_others=True)
    backend.close()
