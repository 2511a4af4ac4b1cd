"""A customer who pays too late is refunded once. The provider's ledger shows how often."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lnpay.domain.model import Invoice, Order
from lnpay.domain.states import RefundState
from lnpay.invoices.create import create_invoice
from lnpay.invoices.settle import Outcome, settle
from lnpay.refunds.send import CLAIM, send_due_refunds
from lnpay.runtime.backend import Backend
from lnpay.runtime.worker_passes import expired_pass, refund_pass
from lnpay.sandbox.config import SimulatorConfig
from lnpay.strike.invoices import InvoiceStatus, StrikeInvoice
from tests.owing import EXECUTE, Crash, drain, executions, owe, payouts, refund_of, send, twin
from tests.world import World


@pytest.fixture
def engine_world(database_url: str, tmp_path: Path) -> Iterator[World]:
    """A world over each engine."""
    made = World.make(tmp_path, database_url=database_url, config=SimulatorConfig(rate_limits="off"))
    yield made
    made.close()


def crash_once(world: World, call: str) -> None:
    """End the process after the next call that begins with `call` has done its work."""
    plain = world.adapter.send

    def crashing(request: Any, *arguments: Any, **options: Any) -> Any:
        answer = plain(request, *arguments, **options)
        if f"{request.method} {request.path_url}".startswith(call):
            setattr(world.adapter, "send", plain)  # noqa: B010 - mypy knows it as a method
            raise Crash
        return answer

    setattr(world.adapter, "send", crashing)  # noqa: B010


def test_the_answer_to_the_execution_is_lost(world: World) -> None:
    invoice = owe(world)
    world.fault("PATCH", EXECUTE, "timeout_after")

    drain(world)

    assert refund_of(world, invoice).state is RefundState.SENT
    assert len(payouts(world)) == 1
    assert executions(world) == ["COMPLETED", "PAYMENT_PROCESSED"]


def test_strike_answers_202_and_the_payment_is_pending_for_an_hour(make_world: Callable[..., World]) -> None:
    world = make_world(config=SimulatorConfig(execute_status="202"))
    invoice = owe(world, "pending3600@example.com")

    send(world)
    on_its_way = refund_of(world, invoice)
    drain(world)

    assert on_its_way.state is RefundState.IN_FLIGHT
    assert refund_of(world, invoice).state is RefundState.SENT
    assert len(payouts(world)) == 1
    assert executions(world) == ["PENDING"]


def test_a_pending_payment_fails_and_is_sent_again(world: World) -> None:
    invoice = owe(world, "pendingfail600@example.com")
    send(world)
    world.simulator.config.payout_behaviours = {"*": "complete"}

    drain(world)

    assert refund_of(world, invoice).state is RefundState.SENT
    assert len(payouts(world)) == 1
    assert executions(world) == ["PENDING", "COMPLETED"]


def test_the_process_ends_between_the_execution_and_its_commit(world: World) -> None:
    invoice = owe(world)
    crash_once(world, "PATCH /v1/payment-quotes/")
    with pytest.raises(Crash):
        send(world)
    world.restart()
    world.wait(CLAIM.total_seconds())

    drain(world)

    assert refund_of(world, invoice).state is RefundState.SENT
    assert len(payouts(world)) == 1
    assert executions(world) == ["COMPLETED", "PAYMENT_PROCESSED"]


def run_parallel(*tasks: Callable[[], object]) -> None:
    """Do all of `tasks` in threads that start together."""
    start = threading.Barrier(len(tasks))
    troubles: list[BaseException] = []

    def run(task: Callable[[], object]) -> None:
        start.wait()
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - a test must see anything that ends a thread
            troubles.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert troubles == []


def each_is_paid_back_once(world: World, invoices: list[Invoice]) -> None:
    addresses = [str(refund_of(world, invoice).address) for invoice in invoices]
    assert {refund_of(world, invoice).state for invoice in invoices} == {RefundState.SENT}
    assert world.simulator.ledger.payouts_per_destination() == Counter(addresses)
    assert max(Counter(addresses).values()) == 1
    assert world.simulator.ledger.sent() == world.simulator.ledger.received()


def test_two_workers_at_once(engine_world: World) -> None:
    world = engine_world
    invoices = [owe(world, f"customer{number}@example.com") for number in range(20)]
    first, second = twin(world), twin(world)

    run_parallel(lambda: send_due_refunds(first.refund_sender), lambda: send_due_refunds(second.refund_sender))
    drain(world)

    each_is_paid_back_once(world, invoices)
    assert Counter(executions(world)) == {"COMPLETED": 20}
    first.close()
    second.close()


def test_the_expired_worker_and_the_refund_worker_together(engine_world: World) -> None:
    world = engine_world
    invoices = [world.sell(ln_address=f"customer{number}@example.com") for number in range(20)]
    world.wait(180)
    for invoice in invoices:
        world.pay(invoice)
    first, second = twin(world), twin(world)
    ended = threading.Event()

    def find_late_payments() -> None:
        try:
            expired_pass(first)
        finally:
            ended.set()

    run_parallel(find_late_payments, lambda: repeat_until(second, ended))
    drain(world)

    each_is_paid_back_once(world, invoices)
    assert Counter(executions(world)) == {"COMPLETED": 20}
    first.close()
    second.close()


def repeat_until(backend: Backend, ended: threading.Event) -> None:
    while not ended.is_set():
        refund_pass(backend)
    refund_pass(backend)


@pytest.mark.parametrize("event", ["invoice.updated", "payment.updated"])
def test_a_webhook_takes_30_seconds_and_strike_repeats_it(world: World, event: str) -> None:
    """Strike hangs up after five seconds and calls again 3 and 9 seconds later, while the first is still worked on."""
    world.subscribe()
    invoice = world.sell(ln_address="pending60@example.com")
    world.pay(invoice, late_seconds=180)
    if event == "payment.updated":
        world.pump()
        send(world)
        world.wait(60)
        world.simulator.tick()
    repeated = repeat_while_working(world, event)

    world.pump()
    send(world)
    world.pump()
    drain(world)

    assert len(repeated) >= 2
    assert refund_of(world, invoice).state is RefundState.SENT
    assert len(payouts(world)) == 1
    assert executions(world) == ["PENDING"]


def repeat_while_working(world: World, event_type: str) -> list[int]:
    """While the next event of a type is worked on, 30 seconds pass, and it comes twice again. Gives our answers."""
    statuses: list[int] = []
    plain = world.adapter.send
    path = "/v1/invoices/" if event_type == "invoice.updated" else "/v1/payments/"

    def slow(request: Any, *arguments: Any, **options: Any) -> Any:
        if request.method == "GET" and request.path_url.startswith(path):
            setattr(world.adapter, "send", plain)  # noqa: B010
            for seconds in (8, 14, 8):
                world.wait(seconds)
                send_event_again(world, event_type)
                statuses.extend(world.pump())
                send(world)
        return plain(request, *arguments, **options)

    setattr(world.adapter, "send", slow)  # noqa: B010
    return statuses


def send_event_again(world: World, event_type: str) -> None:
    webhooks = world.simulator.webhooks
    event = next(one for one in reversed(webhooks.events.values()) if one.event_type == event_type)
    for subscription in webhooks.subscriptions.values():
        webhooks.send_again(event, subscription)


LATE_PAYMENTS = 1_000


def test_a_thousand_late_payments_at_once_are_paid_back_within_the_rate_limits(tmp_path: Path) -> None:
    """Each refund first reads its invoice, and Strike permits 1,000 such reads in ten minutes, sweeps included."""
    world = World.make(tmp_path, config=SimulatorConfig(rate_limits="off"))
    invoices = [issue(world, number) for number in range(LATE_PAYMENTS)]
    world.wait(180)
    for invoice in invoices:
        settle_late(world, invoice)
    world.simulator.config.rate_limits = "production"
    started_at = world.backend.clock()

    while world.backend.refund_dispatcher._next_due_at() is not None:
        send(world)
        world.wait(5)

    sent_at = [refund_of(world, invoice).sent_at for invoice in invoices]
    minutes = (max(at for at in sent_at if at is not None) - started_at).total_seconds() / 60
    print(f"{LATE_PAYMENTS} late payments were paid back in {minutes:.2f} minutes of simulated time")
    each_is_paid_back_once(world, invoices)
    assert Counter(executions(world)) == {"COMPLETED": LATE_PAYMENTS}
    assert {bucket.locked_until for bucket in world.simulator.limits._buckets.values()} == {0.0}
    assert 10 <= minutes < 13
    world.close()


def issue(world: World, number: int) -> Invoice:
    order = Order(Decimal("12.34"), "usd", None, f"customer{number}@example.com")
    return create_invoice(world.backend.issuer, f"order-{number}", order)


def settle_late(world: World, invoice: Invoice) -> None:
    """Learn of a late payment from a list, without a call for each."""
    world.pay(invoice)
    seen = StrikeInvoice(
        invoice_id=invoice.strike_invoice_id,
        status=InvoiceStatus.PAID,
        amount_sats=invoice.amount_sats,
        created_at=invoice.created_at,
        paid_at=world.backend.clock(),
        received_sats=invoice.amount_sats,
        raw={},
    )
    assert settle(world.backend.settlement, seen) is Outcome.PAID_LATE
