"""The same payments detected in every way at once: webhooks, each sent twice, and workers in other processes."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import requests

from lnpay.domain.states import DeliveryState, InvoiceState
from lnpay.runtime.backend import Backend
from lnpay.runtime.worker_passes import main_pass
from lnpay.sandbox import (
    Fault,
    SandboxServer,
    Simulator,
    SimulatorConfig,
)
from lnpay.sandbox.server import wait_until
from tests.scenarios.live import ask, build_live_backend, serving, subscribe

INVOICES = 200
WEBHOOK_SENDERS = 4


def test_200_payments_told_by_doubled_webhooks_and_two_pollers_reach_the_shop_under_one_id_each(
    database_url: str,
) -> None:
    simulator = Simulator(seed=1, config=SimulatorConfig(rate_limits="off"))
    with SandboxServer(simulator) as provider:
        server = build_live_backend(provider.url, database_url, simulator.clock.now)
        pollers = [build_live_backend(provider.url, database_url, simulator.clock.now) for _ in range(2)]
        with serving(server) as url:
            subscribe(provider, url)
            sold = sell(url, INVOICES)
            simulator.faults.add(Fault("POST", "invoice.updated", "webhook_duplicate", times=None))

            ending = threading.Event()
            with ThreadPoolExecutor(16) as pool:
                for poller in pollers:
                    pool.submit(poll_until, poller, ending)
                for _ in range(WEBHOOK_SENDERS):
                    pool.submit(send_webhooks_until, simulator, ending)
                list(pool.map(simulator.pay_invoice, sold.values()))
                wait_until(lambda: len(ids_at_shop(simulator)) == INVOICES and not simulator.due_webhooks(), 60)
                ending.set()

            assert set(ids_at_shop(simulator)) == set(sold)
            assert {len(ids) for ids in ids_at_shop(simulator).values()} == {1}
            assert len(set.union(*ids_at_shop(simulator).values())) == INVOICES
            assert Counter(sent.status for sent in simulator.webhooks.sent)[200] >= 2 * INVOICES
            assert rows_of(server) == {
                strike_id: (InvoiceState.SETTLED, simulator.ledger.received(strike_id), [DeliveryState.DELIVERED])
                for strike_id in sold
            }
        for poller in pollers:
            poller.close()


def sell(url: str, count: int) -> dict[str, str]:
    """Payment requests of new invoices, by Strike's id."""
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: ask(url), range(count)))
    shown = [answer.json()["data"] for answer in answers]
    return {one["invoice"]["invoiceId"]: one["quote"]["lnInvoice"] for one in shown}


def poll_until(poller: Backend, ending: threading.Event) -> None:
    """Make one pass after another, as a worker in another process does."""
    while not ending.wait(0.1):
        main_pass(poller)


def send_webhooks_until(simulator: Simulator, ending: threading.Event) -> None:
    """Send webhooks beside the simulator's own sender, so that several arrive at the same time."""
    with requests.Session() as session:
        session.trust_env = False
        while not ending.wait(0.01):
            simulator.pump_webhooks(
                lambda url, body, headers: session.post(url, data=body, headers=headers, timeout=5).status_code
            )


def ids_at_shop(simulator: Simulator) -> dict[str, set[str]]:
    """The webhook-ids that the shop accepted, by invoice."""
    found: dict[str, set[str]] = defaultdict(set)
    for delivery in simulator.shop.accepted():
        found[delivery.json()["data"]["invoice_id"]].add(delivery.headers["webhook-id"])
    return found


def rows_of(backend: Backend) -> dict[str, tuple[InvoiceState, int | None, list[DeliveryState]]]:
    """State, sats received and deliveries' states of every invoice of ours, by Strike's id."""
    with backend.repository.reading() as tx:
        invoices = [tx.invoices.find(number) for number in range(1, INVOICES + 1)]
        return {
            one.strike_invoice_id: (
                one.state,
                one.received_sats,
                [delivery.state for delivery in tx.deliveries.of_invoice(one.id)],
            )
            for one in invoices
            if one is not None
        }
