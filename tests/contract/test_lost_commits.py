"""PostgreSQL carries out a COMMIT and its answer is lost: what was stored is found, and nothing happens twice."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from lnpay.deliveries.send import CLAIM, send_due
from lnpay.domain.errors import StorageUnavailable
from lnpay.domain.states import InvoiceState, RefundState
from lnpay.repository import Repository
from tests.databases import fresh_postgres
from tests.integration.refunds.refund_steps import CLAIM_SECONDS
from tests.owing import drain, owe, payouts, refund_of, send
from tests.pooler import Pooler, pooling
from tests.world import World


@pytest.fixture
def pooler(postgres_server: str) -> Iterator[Pooler]:
    with fresh_postgres(postgres_server) as url, pooling(url) as pooler:
        repository = Repository(url)
        repository.upgrade()
        repository.close()
        yield pooler


@pytest.fixture
def shop(pooler: Pooler, tmp_path: Path) -> Iterator[World]:
    world = World.make(tmp_path, database_url=pooler.client_url)
    world.subscribe()
    # What only the first sale commits.
    world.sell()
    yield world
    world.close()


class LosingEach:
    """Loses one commit in each round: the first of what happens in it, then the second, until none is left."""

    def __init__(self, pooler: Pooler) -> None:
        self._pooler = pooler
        self.rounds = 0

    def __iter__(self) -> Iterator[int]:
        for number in count():
            yield number
            if not self.was_lost():
                break
            self.rounds += 1

    def begin(self, number: int) -> None:
        """From here on the commit `number` is the one to lose."""
        self._pooler.lost_commit = self._pooler.commits + number

    def was_lost(self) -> bool:
        """Whether it was reached."""
        assert self._pooler.lost_commit is not None
        return self._pooler.commits > self._pooler.lost_commit


def test_a_repeated_request_finds_the_invoice_that_was_stored(shop: World, pooler: Pooler) -> None:
    losing = LosingEach(pooler)
    for number in losing:
        order = f"order-{number}"
        losing.begin(number)
        first = shop.ask(correlation_id=order)
        again = shop.ask(correlation_id=order)
        third = shop.ask(correlation_id=order)

        assert first.status_code == (503 if losing.was_lost() else 200)
        assert again.status_code == third.status_code == 200
        invoice_id = again.get_json()["data"]["invoice"]["invoiceId"]
        assert third.get_json()["data"]["invoice"]["invoiceId"] == invoice_id
        assert list(shop.simulator.invoices.by_id)[1:][number:] == [invoice_id]
    assert losing.rounds >= 2


def test_a_payment_is_settled_once_and_the_shop_hears_of_it(shop: World, pooler: Pooler) -> None:
    losing = LosingEach(pooler)
    for number in losing:
        invoice = shop.sell(correlation_id=f"order-{number}")
        shop.pump()
        shop.pay(invoice)
        losing.begin(number)
        for _ in range(4):
            with contextlib.suppress(StorageUnavailable):
                shop.pump()
                send_due(shop.backend.outbox, senders=1)
            shop.wait(CLAIM.total_seconds() + 1)

        assert shop.invoice(invoice.strike_invoice_id or "").state is InvoiceState.SETTLED
        (delivery,) = shop.deliveries(invoice)
        assert delivery.delivered_at is not None
    told = Counter(body["data"]["correlation_id"] for body in shop.told())
    assert told == {f"order-{number}": 1 for number in range(losing.rounds + 1)}
    assert losing.rounds >= 3


def test_a_refund_is_sent_once(shop: World, pooler: Pooler) -> None:
    losing = LosingEach(pooler)
    for number in losing:
        invoice = owe(shop, correlation_id=f"order-{number}")
        losing.begin(number)
        with contextlib.suppress(StorageUnavailable):
            send(shop)
        shop.wait(CLAIM_SECONDS)
        drain(shop, hours=1)

        assert refund_of(shop, invoice).state is RefundState.SENT
        assert len(payouts(shop)) == number + 1
    assert losing.rounds >= 4
