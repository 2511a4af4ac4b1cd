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
from tests.scenarios.live import START_SECONDS, build_live_backend, is_up, serving
from tests.scenarios.streets import CHUNKS, Street, Streets, walk

ADDRESS = "customer@wallet.example"
AMOUNT_SATS = 1_000
ROUNDS = 6


def serve_until_death(street: Street) -> None:
    """The server dies that takes the request and sends the refund."""
    sell_paid(street)
    with street.doomed("main.py") as process:
        wait_until(lambda: not process.is_alive() or is_up(street.url), START_SECONDS)
        if process.is_alive() and ask(street) and not street.fatal:
            assert wait_until(lambda: street.simulator.ledger.payouts_per_destination() != {}, START_SECONDS)


def work_until_death(street: Street) -> None:
    """The worker dies that sends what the server has taken."""
    sell_paid(street)
    with serving(street.open_up(), street.port, is_sending=False):
        assert ask(street)
    street.simulator.clock.advance(5)  # two processes know Strike's time to a second or so
    with street.doomed("workers/refund_failure_worker.py"):
        pass


def sell_paid(street: Street) -> None:
    """An order that was paid in time, and a key that may refund it."""
    with serving(street.open_up(), street.port, is_sending=False):
        assert street.buy()
    street.pay()
    backend = build_live_backend(street.provider.url, street.database_url, utc_now)
    assert reconcile_invoice(backend.settlement, invoice_id(street)) is Outcome.SETTLED
    permissions = (Permission.REFUND_INVOICES,)
    key = create_key(backend.repository, KeyPurpose.CUSTOM, "shop", backend.clock(), permissions=permissions)
    (street.folder / "key").write_text(key.secret)
    backend.close()


def invoice_id(street: Street) -> str:
    return next(entry.invoice_id or "" for entry in street.simulator.ledger.entries)


def ask(street: Street) -> bool:
    """The shop's request, always the same. False if there is no answer."""
    try:
        answer = requests.post(
            f"{street.url}/invoices/{invoice_id(street)}/refunds",
            json={"amount_sats": AMOUNT_SATS, "ln_address": ADDRESS},
            headers={
                "Authorization": f"Bearer {(street.folder / 'key').read_text()}",
                "Idempotency-Key": "the-refund",
                "Connection": "close",
            },
            timeout=30,
        )
    except requests.RequestException:
        return False
    assert answer.status_code == 200, answer.text
    return True


def come_back(street: Street) -> None:
    """The shop repeats its request, and cron starts workers."""
    with serving(street.wake_up(), street.port, is_sending=False):
        assert ask(street)
    for _ in range(ROUNDS):
        backend = street.wake_up()
        refund_pass(backend)
        backend.close()


def check_refund(street: Street) -> None:
    """One payment out, of exactly what was asked for, and we know it."""
    ledger = street.simulator.ledger
    assert ledger.payouts_per_destination() == {ADDRESS: 1}, street.log
    assert ledger.sent(ADDRESS) == AMOUNT_SATS
    repository = Repository(street.database_url)
    with repository.reading() as tx:
        (refund,) = tx.refunds.in_states(list(RefundState), limit=10)
        left_sats = tx.refund_requests.left_sats(refund.invoice_id)
    repository.close()
    assert (refund.state, refund.kind, refund.amount_sats) == (RefundState.SENT, RefundKind.MERCHANT, AMOUNT_SATS)
    assert left_sats == ledger.received() - AMOUNT_SATS


def check_paid(street: Street) -> None:
    """The life without death: it may have ended between the payment and our note of it."""
    assert street.simulator.ledger.payouts_per_destination() == {ADDRESS: 1}, street.log


@pytest.mark.parametrize("live", [serve_until_death, work_until_death])
def test_the_walk_passes_every_step_of_a_refund(streets: Streets, live: Callable[[Street], None]) -> None:
    street = streets.build(fatal=0)
    live(street)

    points = iter(street.trace)
    steps = ("commit", "POST /v1/payment-quotes/lightning/lnurl", "commit", "PATCH /v1/payment-quotes/*/execute")
    assert all(f"after {step}" in points for step in (*steps, "commit"))


@pytest.mark.parametrize("live", [serve_until_death, work_until_death])
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_process_killed_anywhere_leaves_one_payment_out(
    streets: Streets, live: Callable[[Street], None], chunk: int
) -> None:
    for street in walk(streets, live, chunk, check_paid):
        come_back(street)
        check_refund(street)
