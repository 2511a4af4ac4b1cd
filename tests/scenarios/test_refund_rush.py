"""A hundred requests to refund one order at the same time, to two servers over one database."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from lnpay.domain.states import RefundState
from lnpay.invoices.settle import reconcile_invoice
from lnpay.refunds.send import send_due_refunds
from lnpay.repository import Repository
from lnpay.runtime.backend import Backend
from lnpay.sandbox import SandboxServer, Simulator, SimulatorConfig
from tests.owing import ADDRESS
from tests.scenarios.live import build_live_backend, serving

REQUESTS, AT_ONCE = 100, 16
KEY = "a-shop-key-for-the-tests"


class Rush:
    """Two servers over one database, and a paid order."""

    def __init__(self, provider: SandboxServer, servers: list[Backend], urls: list[str]) -> None:
        self.simulator, self.servers = provider.simulator, servers
        self.urls = itertools.cycle(urls)
        made = requests.post(
            f"{urls[0]}/generate-invoice", json={"amount_fiat": "12.34"}, headers=self._headers, timeout=30
        ).json()["data"]["invoice"]
        self.invoice_id: str = made["invoiceId"]
        with self.repository.reading() as tx:
            invoice = tx.invoices.find_by_strike_id(self.invoice_id)
        assert invoice is not None
        self.simulator.pay_invoice(invoice.issue.bolt11)
        reconcile_invoice(servers[0].settlement, self.invoice_id)
        self.received = invoice.amount_sats

    @property
    def repository(self) -> Repository:
        return self.servers[0].repository

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {KEY}", "Connection": "close"}

    def ask(self, key: str, **body: object) -> requests.Response:
        """One request, to the next server."""
        return requests.post(
            f"{next(self.urls)}/invoices/{self.invoice_id}/refunds",
            json={"ln_address": ADDRESS, **body},
            headers={**self._headers, "Idempotency-Key": key},
            timeout=60,
        )

    def cancel(self, refund_id: int) -> int:
        return requests.post(
            f"{next(self.urls)}/refunds/{refund_id}/cancel", headers=self._headers, timeout=60
        ).status_code

    def send(self) -> None:
        """Send refunds as the workers of two processes do, until there is nothing left to send."""
        while any(sum(send_due_refunds(server.refund_sender).values()) for server in self.servers):
            pass

    def states(self) -> Counter[RefundState]:
        with self.repository.reading() as tx:
            return Counter(one.state for one in tx.refunds.in_states(list(RefundState), 1_000))

    def sent(self) -> int:
        """According to the provider's ledger."""
        return sum(entry.sats for entry in self.simulator.ledger.entries if entry.kind == "out")

    def left(self) -> int:
        with self.repository.reading() as tx:
            invoice = tx.invoices.find_by_strike_id(self.invoice_id)
            assert invoice is not None
            return tx.refund_requests.left_sats(invoice.id)


@pytest.fixture
def rush(database_url: str) -> Iterator[Rush]:
    with started(database_url) as made:
        yield made


@contextmanager
def started(database_url: str) -> Iterator[Rush]:
    simulator = Simulator(seed=1, config=SimulatorConfig(rate_limits="off"))
    with SandboxServer(simulator) as provider:
        servers = [
            build_live_backend(provider.url, database_url, simulator.clock.now, api_keys=(KEY,)) for _ in range(2)
        ]
        with serving(servers[0], is_sending=False) as one, serving(servers[1], is_sending=False) as other:
            yield Rush(provider, servers, [one, other])


def test_a_hundred_requests_with_keys_of_their_own_refund_no_more_than_was_received(rush: Rush) -> None:
    part = rush.received // 7 + 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda n: rush.ask(f"key-{n}", amount_sats=part), range(REQUESTS)))
    rush.send()

    assert Counter(one.status_code for one in answers) == {200: 6, 409: REQUESTS - 6}
    assert {one.json()["code"] for one in answers if one.status_code == 409} == {"refund_exceeds_received"}
    assert rush.states() == {RefundState.SENT: 6}
    assert (rush.sent(), rush.left()) == (6 * part, rush.received - 6 * part)


def test_a_hundred_requests_for_the_whole_order_refund_it_once(rush: Rush) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda n: rush.ask(f"key-{n}"), range(REQUESTS)))
    rush.send()

    assert Counter(one.status_code for one in answers) == {200: 1, 409: REQUESTS - 1}
    assert (rush.sent(), rush.left()) == (rush.received, 0)


def test_a_hundred_requests_with_one_key_give_one_refund(rush: Rush) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: rush.ask("the-key", amount_sats=1_000), range(REQUESTS)))
    rush.send()

    assert {one.status_code for one in answers} == {200}
    assert len({one.json()["id"] for one in answers}) == 1
    assert (rush.states(), rush.sent()) == ({RefundState.SENT: 1}, 1_000)


def test_canceling_while_workers_send_leaves_each_refund_either_sent_or_canceled(rush: Rush) -> None:
    part = rush.received // 20
    made = [rush.ask(f"key-{n}", amount_sats=part).json()["id"] for n in range(20)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sending = [pool.submit(send_due_refunds, server.refund_sender) for server in rush.servers]
        statuses = list(pool.map(rush.cancel, made))
        for one in sending:
            one.result()
    rush.send()

    canceled = statuses.count(200)
    assert set(statuses) <= {200, 409}
    assert rush.states() == Counter({RefundState.CANCELED: canceled, RefundState.SENT: 20 - canceled})
    assert rush.sent() == (20 - canceled) * part
    assert rush.left() == rush.received - rush.sent()
