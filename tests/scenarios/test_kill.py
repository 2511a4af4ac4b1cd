"""Power cuts in a sale: our programs are killed before and after every commit and every outgoing call.

After each crash the work continues: the shop repeats its request, the customer pays, and then either the provider
repeats its webhook, or a worker makes one pass. Either way, the result must be as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lnpay.runtime.worker_passes import main_pass
from lnpay.sandbox.server import wait_until
from tests.scenarios.crash_scenarios import CHUNKS, PAUSE_SECONDS, CrashScenario, CrashScenarios, crash_everywhere
from tests.scenarios.live import START_SECONDS, is_up, serving, subscribe


def serve_until_crash(scenario: CrashScenario) -> None:
    """A server is killed: shop, customer and webhook get as far as they can."""
    subscribe(scenario.provider, scenario.url)
    with scenario.run_until_crash("main.py") as process:
        wait_until(lambda: not process.is_alive() or is_up(scenario.url), START_SECONDS)
        if process.is_alive() and scenario.buy():
            scenario.pay()
            if not scenario.crash_at:
                assert wait_until(scenario.is_done, START_SECONDS)


def work_until_crash(scenario: CrashScenario) -> None:
    """A worker is killed: there is a payment that no webhook has reported."""
    with serving(scenario.open_backend(), scenario.port, is_sending=False):
        scenario.buy_and_pay()
    with scenario.run_until_crash("workers/main_worker.py"):
        pass


def test_the_crash_points_cover_every_step_of_a_sale(scenarios: CrashScenarios) -> None:
    steps = [
        *("POST /v1/invoices", "POST /v1/invoices/*/quote", "commit"),
        *("GET /v1/invoices/*", "commit", "POST /shop/webhook", "commit"),
    ]
    for live in (serve_until_crash, work_until_crash):
        scenario = scenarios.build(crash_at=0)
        live(scenario)

        points = iter(scenario.trace)
        assert all(f"after {step}" in points for step in steps[0 if live is serve_until_crash else 3 :])


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_server_killed_anywhere_ends_well_with_the_webhook_alone(scenarios: CrashScenarios, chunk: int) -> None:
    for scenario in crash_everywhere(scenarios, serve_until_crash, chunk):
        with serving(scenario.restart(), scenario.port):
            scenario.buy_and_pay()
            assert let_time_pass_until(scenario, scenario.is_done), scenario.log
        scenario.check()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_server_killed_anywhere_ends_well_with_one_worker_pass_alone(scenarios: CrashScenarios, chunk: int) -> None:
    for scenario in crash_everywhere(scenarios, serve_until_crash, chunk):
        scenario.simulator.webhooks.subscriptions.clear()
        with serving(scenario.restart(), scenario.port, is_sending=False):
            scenario.buy_and_pay()
        make_one_pass(scenario)
        scenario.check()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_worker_killed_anywhere_ends_well_with_another_pass(scenarios: CrashScenarios, chunk: int) -> None:
    for scenario in crash_everywhere(scenarios, work_until_crash, chunk):
        scenario.simulator.clock.advance(PAUSE_SECONDS)
        make_one_pass(scenario)
        scenario.check()


def let_time_pass_until(scenario: CrashScenario, is_true: Callable[[], bool]) -> bool:
    """Advance the clock far enough for the provider to repeat its webhooks after 3, 9 and 27 seconds."""
    for _ in range(100):
        if is_true():
            return True
        scenario.simulator.clock.advance(1)
        time.sleep(0.02)
    return False


def make_one_pass(scenario: CrashScenario) -> None:
    """Make the pass that cron starts next."""
    backend = scenario.open_backend()
    main_pass(backend, waits_for_others=True)
    backend.close()
