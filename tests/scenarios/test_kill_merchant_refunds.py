"""Power cuts in a merchant's refund: server and worker are killed before and after every commit and every call.

Afterwards the shop repeats its request with the same key, and workers continue: one refund, and one payment out.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests

from lnpay.access.api_keys import create_key
from lnpay.domain.model import utc_now
from lnpay.domain.permissions import KeyPurpose, Permission
from lnpay.domain.states import RefundKind, RefundState
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.repository import Repository
from lnpay.runtime.worker_passes import refund_pass
from lnpay.sandbox.server import wait_until
from tests.scenarios.crash_scenarios import CHUNKS, CrashScenario, CrashScenarios, crash_everywhere
from tests.scenarios.live import START_SECONDS, build_live_backend, is_up, serving

ADDRESS = "customer@wallet.example"
AMOUNT_SATS = 1_000
ROUNDS = 6


def serve_until_crash(scenario: CrashScenario) -> None:
    """The server that receives the request and sends the refund is killed."""
    sell_paid(scenario)
    with scenario.run_until_crash("main.py") as process:
        wait_until(lambda: not process.is_alive() or is_up(scenario.url), START_SECONDS)
        if process.is_alive() and ask(scenario) and not scenario.crash_at:
            assert wait_until(lambda: scenario.simulator.ledger.payouts_per_destination() != {}, START_SECONDS)


def work_until_crash(scenario: CrashScenario) -> None:
    """The worker that sends the refund that the server accepted is killed."""
    sell_paid(scenario)
    with serving(scenario.open_backend(), scenario.port, is_sending=False):
        assert ask(scenario)
    scenario.simulator.clock.advance(5)  # two processes know Strike's time to a second or so
    with scenario.run_until_crash("workers/refund_failure_worker.py"):
        pass


def sell_paid(scenario: CrashScenario) -> None:
    """An order that was paid in time, and a key that may refund it."""
    with serving(scenario.open_backend(), scenario.port, is_sending=False):
        assert scenario.buy()
    scenario.pay()
    backend = build_live_backend(scenario.provider.url, scenario.database_url, utc_now)
    assert reconcile_invoice(backend.settlement, invoice_id(scenario)) is Outcome.SETTLED
    permissions = (Permission.REFUND_INVOICES,)
    key = create_key(backend.repository, KeyPurpose.CUSTOM, "shop", backend.clock(), permissions=permissions)
    (scenario.folder / "key").write_text(key.secret)
    backend.close()


def invoice_id(scenario: CrashScenario) -> str:
    return next(entry.invoice_id or "" for entry in scenario.simulator.ledger.entries)


def ask(scenario: CrashScenario) -> bool:
    """The shop's request, always the same. False if there is no answer."""
    try:
        answer = requests.post(
            f"{scenario.url}/invoices/{invoice_id(scenario)}/refunds",
            json={"amount_sats": AMOUNT_SATS, "ln_address": ADDRESS},
            headers={
                "Authorization": f"Bearer {(scenario.folder / 'key').read_text()}",
                "Idempotency-Key": "the-refund",
                "Connection": "close",
            },
            timeout=30,
        )
    except requests.RequestException:
        return False
    assert answer.status_code == 200, answer.text
    return True


def recover(scenario: CrashScenario) -> None:
    """The shop repeats its request, and cron starts workers."""
    with serving(scenario.restart(), scenario.port, is_sending=False):
        assert ask(scenario)
    for _ in range(ROUNDS):
        backend = scenario.restart()
        refund_pass(backend)
        backend.close()


def check_refund(scenario: CrashScenario) -> None:
    """One outgoing payment of exactly the amount requested, and LNPay knows it."""
    ledger = scenario.simulator.ledger
    assert ledger.payouts_per_destination() == {ADDRESS: 1}, scenario.log
    assert ledger.sent(ADDRESS) == AMOUNT_SATS
    repository = Repository(scenario.database_url)
    with repository.reading() as tx:
        (refund,) = tx.refunds.in_states(list(RefundState), limit=10)
        left_sats = tx.refund_requests.left_sats(refund.invoice_id)
    repository.close()
    assert (refund.state, refund.kind, refund.amount_sats) == (RefundState.SENT, RefundKind.MERCHANT, AMOUNT_SATS)
    assert left_sats == ledger.received() - AMOUNT_SATS


def check_paid(scenario: CrashScenario) -> None:
    """Without a crash: the run may have ended between the payment and our record of it."""
    assert scenario.simulator.ledger.payouts_per_destination() == {ADDRESS: 1}, scenario.log


@pytest.mark.parametrize("live", [serve_until_crash, work_until_crash])
def test_the_crash_points_cover_every_step_of_a_refund(
    scenarios: CrashScenarios, live: Callable[[CrashScenario], None]
) -> None:
    scenario = scenarios.build(crash_at=0)
    live(scenario)

    points = iter(scenario.trace)
    steps = ("commit", "POST /v1/payment-quotes/lightning/lnurl", "commit", "PATCH /v1/payment-quotes/*/execute")
    assert all(f"after {step}" in points for step in (*steps, "commit"))


@pytest.mark.parametrize("live", [serve_until_crash, work_until_crash])
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_process_killed_anywhere_leaves_one_payment_out(
    scenarios: CrashScenarios, live: Callable[[CrashScenario], None], chunk: int
) -> None:
    for scenario in crash_everywhere(scenarios, live, chunk, check_paid):
        recover(scenario)
        check_refund(scenario)
