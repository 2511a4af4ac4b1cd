"""A month of a shop in a World, its books, and what it takes to spoil them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

from sqlalchemy import Executable

from lnpay.accounting.auditor import CALLS_SHARE, Auditor
from lnpay.accounting.discrepancies import Reconciliation
from lnpay.accounting.reconcile import reconcile_books
from lnpay.accounting.report import Period
from lnpay.domain.model import Invoice, Refund
from lnpay.invoices.settle import reconcile_invoice
from lnpay.sandbox.strike.models import Invoice as StrikeInvoice
from lnpay.sandbox.strike.models import Money, Payment
from lnpay.strike.budget import Budget
from tests import owing
from tests.owing import refund_of
from tests.world import World

A_WHILE = 1_200
"""Seconds after which nothing that was done is on its way any more."""


class Month:
    """A shop's month. Its events are known here and at Strike alike, until a test changes one side."""

    def __init__(self, world: World) -> None:
        self.world = world
        today = world.backend.clock().date()
        self.period = Period(today - timedelta(days=10), today + timedelta(days=20), UTC)
        self.pauses: list[float] = []

    def sale(self, **fields: Any) -> Invoice:
        """An order that was paid in time."""
        invoice = self.world.sell(**fields)
        self.world.pay(invoice)
        return self.learn(invoice)

    def late(self, address: str | None = owing.ADDRESS, **fields: Any) -> Invoice:
        """An order that was paid too late; its refund was worked on."""
        invoice = owing.owe(self.world, address, **fields)
        owing.send(self.world)
        return self.world.invoice(invoice.strike_invoice_id)

    def learn(self, invoice: Invoice) -> Invoice:
        """What webhook or worker do."""
        reconcile_invoice(self.world.backend.settlement, invoice.strike_invoice_id)
        return self.world.invoice(invoice.strike_invoice_id)

    def stranger(self, correlation_id: str | None) -> StrikeInvoice:
        """A paid invoice that another program of the same account has made."""
        books = self.world.simulator.invoices
        invoice = books.create(Money(5_000, "BTC"), correlation_id, None)
        self.world.simulator.pay_invoice(books.quote(invoice).payment_request)
        return invoice

    def refund(self, invoice: Invoice) -> Refund:
        """Our row of the refund of an invoice."""
        return refund_of(self.world, invoice)

    def payment(self, invoice: Invoice) -> Payment:
        """Strike's record of what went back for an invoice."""
        return self.world.simulator.payments.payments[self.refund(invoice).payment_id or ""]

    def at_strike(self, invoice: Invoice) -> StrikeInvoice:
        """Strike's record of an invoice."""
        return self.world.simulator.invoices.by_id[invoice.strike_invoice_id]

    def spoil(self, *statements: Executable) -> None:
        """Change our rows behind the back of every rule."""
        with self.world.backend.repository.engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    def reconcile(self, **changes: Any) -> Reconciliation:
        """Compare with Strike, a while later."""
        self.world.wait(A_WHILE)
        backend = self.world.backend
        return reconcile_books(
            Auditor(
                **{
                    "repository": backend.repository,
                    "strike": backend.sweep_settlement.strike,
                    "clock": backend.clock,
                    "events": backend.settlement.events,
                    "calls_left": Budget(backend.repository, share=CALLS_SHARE).remaining,
                    "pause": self._pause,
                    **changes,
                }
            ),
            self.period,
        )

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.world.wait(seconds)


Plant = Callable[[Month], str]
"""Spoils a month in one way. Gives Strike's id of the invoice that the break is to be named by."""


def repeat_list(month: Month, path: str) -> list[str]:
    """Have Strike ignore `$skip` and show the same full page each time. Gives the list of calls, which grows."""
    strike = month.world.backend.sweep_settlement.strike
    real = strike._call
    calls: list[str] = []

    def call(method: str, asked: str, *more: Any, params: Any = None, **options: Any) -> object:
        if asked != path:
            return real(method, asked, *more, params=params, **options)
        calls.append(params["$skip"])
        assert len(calls) < 20, "it goes on reading"
        answer = real(method, asked, *more, params={**params, "$skip": "0"}, **options)
        assert isinstance(answer, dict)
        return {**answer, "items": (answer["items"] * 100)[:100], "count": 1_000}

    strike._call = strike.receive_requests._call = call  # type: ignore[assignment]
    return calls
