"""Refunds in a World: owe them, send them, see what money they moved, and disturb them at any moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import requests

from lnpay.domain.model import Invoice, Refund, RefundAttempt
from lnpay.domain.states import RefundState
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.refunds.send import WAITING, send_due_refunds
from lnpay.repository import Transaction
from lnpay.runtime.backend import Backend
from lnpay.runtime.bootstrap import build_backend
from lnpay.sandbox.strike.ledger import LedgerEntry
from tests.world import World, world_settings

ADDRESS = "alice@example.com"
QUOTE = "/v1/payment-quotes/lightning/lnurl"
EXECUTE = "/v1/payment-quotes/*/execute"
PAYMENT = "/v1/payments/*"


def owe(world: World, address: str | None = ADDRESS, **fields: Any) -> Invoice:
    """An invoice that was paid late, as LNPay knows; its refund is due now."""
    invoice = world.sell(ln_address=address, **fields)
    world.pay(invoice, late_seconds=180)
    assert reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id) is Outcome.PAID_LATE
    return invoice


def send(world: World, states: Collection[RefundState] = WAITING) -> Counter[str]:
    """What a worker's pass does about refunds."""
    return send_due_refunds(world.backend.refund_sender, states)


def refund_of(world: World, invoice: Invoice) -> Refund:
    """Our row as it is now."""
    refund = world.refund(invoice)
    assert refund is not None
    return refund


def history(world: World, invoice: Invoice) -> list[RefundAttempt]:
    """Everything that was tried."""
    with world.backend.repository.reading() as tx:
        return tx.refunds.history(refund_of(world, invoice))


def payouts(world: World) -> list[LedgerEntry]:
    """What went out for good, by the provider's book."""
    return [entry for entry in world.simulator.ledger.entries if entry.kind == "out"]


def executions(world: World) -> list[str]:
    """What came of each execution, in order, by the provider's book."""
    return [execution.outcome for execution in world.simulator.ledger.executions]


def drain(world: World, hours: float = 6) -> None:
    """Let time pass, from one moment at which a refund is due to the next."""
    end = world.backend.clock() + timedelta(hours=hours)
    while True:
        with world.backend.repository.reading() as tx:
            due_at = tx.refunds.next_due_at(WAITING)
        if due_at is None or due_at > end:
            return
        world.wait(max(0.0, (due_at - world.backend.clock()).total_seconds()))
        send(world)


def twin(world: World) -> Backend:
    """Another process over the same database and the same provider."""
    return build_backend(
        world_settings(world.database_url, **world.changes),
        world.deliver,
        clock=world.simulator.clock.now,
        session=world.session,
        run_in_background=lambda task: task(),
    )


class Crash(BaseException):
    """The process ends here: nothing catches this."""


class Moments:
    """Counts the moments around each transaction and each call of a World's backend, and disturbs the fatal one.

    act: what happens at it. is_inside: whether the moment just before a commit counts too.
    """

    def __init__(self, world: World, fatal: int, act: Callable[[], None], *, is_inside: bool) -> None:
        self.passed: list[str] = []
        self._fatal = fatal
        self._act = act
        self._is_inside = is_inside
        self._is_paused = False
        self._surround_transactions(world)
        self._surround_calls(world)

    @property
    def is_over(self) -> bool:
        """Whether the fatal moment was reached."""
        return len(self.passed) > self._fatal

    def end(self) -> None:
        """Disturb nothing any more: what comes now is the recovery."""
        self._is_paused = True

    def _reach(self, name: str) -> None:
        if self._is_paused:
            return
        self.passed.append(name)
        if len(self.passed) == self._fatal + 1:
            self._is_paused = True
            self._act()
            self._is_paused = False

    def _surround_transactions(self, world: World) -> None:
        transaction = world.backend.repository.transaction

        @contextmanager
        def surrounded(**options: Any) -> Iterator[Transaction]:
            self._reach("before a transaction")
            with transaction(**options) as tx:
                yield tx
                if self._is_inside:
                    self._reach("before its commit")
            self._reach("after its commit")

        setattr(world.backend.repository, "transaction", surrounded)  # noqa: B010 - mypy knows it as a method

    def _surround_calls(self, world: World) -> None:
        transport_send = world.adapter.send

        def surrounded(request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
            name = f"{request.method} {request.path_url}"
            self._reach(f"before {name}")
            try:
                return transport_send(request, *arguments, **options)
            finally:
                self._reach(f"after {name}")

        setattr(world.adapter, "send", surrounded)  # noqa: B010
