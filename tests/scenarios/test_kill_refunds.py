"""Power cuts in a refund: the workers are killed before and after every commit and every call to Strike.

However far a worker got, those that cron starts next must finish with exactly one outgoing payment.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lnpay.domain.model import utc_now
from lnpay.domain.states import RefundState
from lnpay.repository import Repository
from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from tests.scenarios.crash_scenarios import CHUNKS, CrashScenario, CrashScenarios, crash_everywhere
from tests.scenarios.live import build_live_backend, serving

ADDRESS = "customer@wallet.example"
LATE_SECONDS = 600
ROUNDS = 10
TIME_IS_KNOWN_TO_SECONDS = 5


def find_until_crash(scenario: CrashScenario) -> None:
    """The worker that finds a late payment and starts to refund it is killed."""
    pay_late(scenario)
    with scenario.run_until_crash("workers/expired_worker.py"):
        pass


def refund_until_crash(scenario: CrashScenario) -> None:
    """The worker that sends a refund found by another one is killed."""
    pay_late(scenario)
    finder = build_live_backend(scenario.provider.url, scenario.database_url, utc_now)
    main_pass(finder)
    finder.close()
    # Two processes know Strike's time to a second or so: by then, the refund is due for both.
    scenario.simulator.clock.advance(TIME_IS_KNOWN_TO_SECONDS)
    with scenario.run_until_crash("workers/refund_failure_worker.py"):
        pass


def pay_late(scenario: CrashScenario) -> None:
    """A customer with an address pays too late, and no webhook reports it."""
    with serving(scenario.open_backend(), scenario.port, is_sending=False):
        assert scenario.buy(ln_address=ADDRESS)
    scenario.simulator.pay_invoice(scenario.shown[0], late_seconds=LATE_SECONDS)


def recover(scenario: CrashScenario) -> None:
    """Run what cron starts in the minutes after a crash."""
    for _ in range(ROUNDS):
        backend = scenario.restart()
        expired_pass(backend)
        refund_pass(backend)
        backend.close()


def check_refund(scenario: CrashScenario) -> None:
    """The ledger shows one outgoing payment, of the amount received, and LNPay knows it."""
    ledger = scenario.simulator.ledger
    assert ledger.payouts_per_destination() == {ADDRESS: 1}, scenario.log
    assert ledger.sent(ADDRESS) == ledger.received() > 0
    repository = Repository(scenario.database_url)
    with repository.reading() as tx:
        (refund,) = tx.refunds.in_states(list(RefundState), limit=10)
    repository.close()
    assert (refund.state, refund.amount_sats) == (RefundState.SENT, ledger.received())


@pytest.mark.parametrize("live", [find_until_crash, refund_until_crash])
def test_the_crash_points_cover_every_step_of_a_refund(
    scenarios: CrashScenarios, live: Callable[[CrashScenario], None]
) -> None:
    scenario = scenarios.build(crash_at=0)
    live(scenario)

    points = iter(scenario.trace)
    steps = ("commit", "POST /v1/payment-quotes/lightning/lnurl", "commit", "PATCH /v1/payment-quotes/*/execute")
    assert all(f"after {step}" in points for step in (*steps, "commit"))


@pytest.mark.parametrize("live", [find_until_crash, refund_until_crash])
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_worker_killed_anywhere_leaves_one_payment_out(
    scenarios: CrashScenarios, live: Callable[[CrashScenario], None], chunk: int
) -> None:
    for scenario in crash_everywhere(scenarios, live, chunk, check_refund):
        recover(scenario)
        check_refund(scenario)
