"""workers/refund_failure_worker.py, as cron runs it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lnpay.domain.model import Invoice
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.sandbox.faults import Fault
from tests.scenarios.live import build_live_backend
from tests.workers.conftest import Cron

WORKER = "refund_failure_worker.py"
CLOCK_BEHIND_SECONDS = 1_200
"""Less than what makes a refund that is not sent a stalled one."""


def owe(cron: Cron, address: str = "alice@example.com") -> Invoice:
    """A late payment, of which a server that has ended since has learned; from then on all live by the same clock."""
    invoice = cron.sell(ln_address=address)
    cron.simulator.clock.advance(300)
    cron.pay(invoice)
    backend = build_live_backend(cron.server.url, cron.database_url, cron.simulator.clock.now)
    assert reconcile_invoice(backend.settlement, invoice.strike_invoice_id) is Outcome.PAID_LATE
    backend.close()
    return invoice


def catch_up(cron: Cron) -> None:
    cron.simulator.clock.advance((datetime.now(UTC) - cron.simulator.clock.now()).total_seconds())


def summary(**counts: int) -> str:
    names = ("sent", "in_flight", "failed", "unanswered", "error")
    return " ".join(f"{name}={counts.get(name, 0)}" for name in names)


def test_what_is_owed_is_sent(cron: Cron) -> None:
    invoice = owe(cron)
    catch_up(cron)

    first, second = cron.run(WORKER), cron.run(WORKER)

    assert (first.stdout, first.returncode) == (summary(sent=1) + "\n", 0)
    assert (second.stdout, second.returncode) == (summary() + "\n", 0)
    assert cron.simulator.ledger.sent() == invoice.amount_sats


@pytest.mark.parametrize(("address", "word"), [("pending@example.com", "in_flight"), ("fail@example.com", "failed")])
def test_what_is_not_there_yet_is_counted(cron: Cron, address: str, word: str) -> None:
    owe(cron, address)
    catch_up(cron)

    run = cron.run(WORKER)

    assert (run.stdout, run.returncode) == (summary(**{word: 1}) + "\n", 0)


def test_a_provider_that_is_down_is_counted(cron: Cron) -> None:
    owe(cron)
    catch_up(cron)

    run = cron.run(WORKER, STRIKE_API_URL="http://127.0.0.1:1/v1")

    assert run.stdout == summary(unanswered=1) + " trouble: refunds could not be worked on: Strike did not answer\n"
    assert run.returncode == 1


def test_a_held_refund_needs_a_person(cron: Cron) -> None:
    owe(cron)
    catch_up(cron)

    run = cron.run(WORKER, REFUNDS_ENABLED="off")

    trouble = "trouble: 1 held and 0 unclear refunds wait for you: python main.py refunds list"
    assert (run.stdout, run.returncode) == (f"{summary()} {trouble}\n", 1)
    assert cron.simulator.ledger.sent() == 0


def test_a_refund_with_an_unknown_outcome_needs_the_operator(cron: Cron) -> None:
    owe(cron)
    catch_up(cron)
    cron.simulator.config.update({"is_quote_expiry_checked_first": True, "payment_quote_seconds": 0})
    cron.simulator.faults.add(Fault("PATCH", "/v1/payment-quotes/*/execute", "lost_answer"))

    run = cron.run(WORKER)

    assert run.returncode == 1
    assert run.stdout.startswith(summary(in_flight=1))
    assert "0 held and 1 unclear refunds wait for you" in run.stdout
