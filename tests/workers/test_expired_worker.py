"""workers/expired_worker.py, as cron runs it."""

from __future__ import annotations

import signal

from lnpay.sandbox.faults import Fault
from lnpay.sandbox.server import wait_until
from tests.workers.conftest import LIMIT_SECONDS, Cron

WORKER = "expired_worker.py"
TWO_HOURS = CLOCK_BEHIND_SECONDS = 7_200


def test_a_late_payment_is_found_and_sent_back(cron: Cron) -> None:
    invoice = cron.sell(ln_address="alice@example.com")
    cron.simulator.clock.advance(300)
    cron.pay(invoice)
    cron.simulator.clock.advance(TWO_HOURS - 300)

    run = cron.run(WORKER)

    assert run.stdout == "settled=0 paid_late=1 failed=0 expired=0 lapsed=0 refunded=1\n"
    assert (run.returncode, cron.state(invoice)) == (0, "paid_late")
    assert cron.simulator.ledger.sent() == invoice.amount_sats


def test_an_unpaid_invoice_expires_and_then_lapses(cron: Cron) -> None:
    invoice = cron.sell()
    cron.simulator.clock.advance(TWO_HOURS)

    first, second = cron.run(WORKER), cron.run(WORKER)

    assert first.stdout == "settled=0 paid_late=0 failed=0 expired=1 lapsed=0 refunded=0\n"
    assert second.stdout == "settled=0 paid_late=0 failed=0 expired=0 lapsed=1 refunded=0\n"
    assert (first.returncode, second.returncode, cron.state(invoice)) == (0, 0, "lapsed")


def test_nothing_ends_while_the_provider_is_down(cron: Cron) -> None:
    invoice = cron.sell()
    cron.simulator.clock.advance(TWO_HOURS)

    run = cron.run(WORKER, STRIKE_API_URL="http://127.0.0.1:1/v1")

    assert run.stdout.startswith(
        "settled=0 paid_late=0 failed=0 expired=0 lapsed=0 refunded=0 "
        "trouble: payments could not be checked at Strike: Strike could not be reached; "
    )
    assert (run.returncode, cron.state(invoice)) == (1, "unpaid")


def test_an_invoice_that_cannot_be_read_is_for_a_person(cron: Cron) -> None:
    cron.pay(cron.sell())
    cron.simulator.faults.add(Fault("GET", "/v1/invoices/*", "garbage", times=None))

    run = cron.run(WORKER)

    assert run.returncode == 1
    assert "failed=1" in run.stdout
    assert "trouble: 1 invoices could not be reconciled" in run.stdout


def test_wrong_settings_are_named(cron: Cron) -> None:
    run = cron.run(WORKER, STRIKE_API_KEY="", RATE_MAX_AGE="old")

    assert run.returncode == 1
    assert "STRIKE_API_KEY" in run.stderr
    assert "RATE_MAX_AGE" in run.stderr


def test_watching_ends_when_asked(cron: Cron) -> None:
    invoice = cron.sell()
    cron.simulator.clock.advance(TWO_HOURS)
    worker = cron.start(WORKER, "--watch", "3600", LOG_LEVEL="info")
    assert wait_until(lambda: cron.state(invoice) == "expired", LIMIT_SECONDS)

    worker.send_signal(signal.SIGINT)
    out, err = worker.communicate(timeout=LIMIT_SECONDS)

    assert (worker.returncode, out) == (0, "")
    assert "Traceback" not in err
