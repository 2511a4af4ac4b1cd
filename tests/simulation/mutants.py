"""Safeguards to switch off, one at a time: the simulation must notice each."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from lnpay import deliveries, invoices, refunds, refunds_outcomes, settlement, strike, sweeps, webhook_invoice
from lnpay.repository.deliveries import Deliveries
from lnpay.repository.invoices import Invoices
from lnpay.repository.refunds import Refunds
from lnpay.web import webhook
from tests.simulation.host import Disks
from tests.simulation.world import SimulatedWorld


@dataclass(frozen=True)
class Change:
    """One piece of a function's source, and what stands there instead."""

    function: Callable[..., Any]
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A safeguard that is switched off. within: so many seeds must be enough to notice.

    known: a seed that noticed it when this was written; the tests begin there, to be quick, and go on from it.
    """

    name: str
    changes: tuple[Change, ...]
    known: int = 0
    within: int = 300


MUTANTS = (
    Mutant(
        "an execution without an answer counts as not sent, and gets a new key and quote",
        (Change(refunds._execute, "was_in_doubt, lost = True, error",
                'return fail(desk, refund, RefundStep.EXECUTE, "no answer", error)'),),
        known=5,
    ),
    Mutant(
        "the quote is executed before its id is stored",
        (Change(refunds._start, "now = desk.clock()",
                "now = desk.clock()\n    desk.strike.execute_payment_quote(quote.quote_id)"),),
        known=5,
    ),
    Mutant(
        "a payment that is PENDING (202) counts as failed",
        (Change(refunds_outcomes.record, "payment.status is PaymentStatus.FAILED", "True"),),
        known=5,
    ),
    Mutant(
        "PAYMENT_QUOTE_EXPIRED after doubt counts as not sent",
        (Change(refunds._execution_refused, "if was_in_doubt or",
                'if (was_in_doubt and error.strike_code != "PAYMENT_QUOTE_EXPIRED") or'),),
        known=5,
    ),
    Mutant(
        "the doubt is not stored before the execution",
        (Change(Refunds.start, '"is_in_doubt": True', '"is_in_doubt": False'),
         Change(Refunds.doubt, '"is_in_doubt": True', '"is_in_doubt": False')),
        known=5,
    ),
    Mutant(
        "503 LN_UNAVAILABLE counts as not done",
        (
            Change(
                strike._kind_of, "code in _SAFE_TO_REPEAT", 'code in (*_SAFE_TO_REPEAT, "LN_UNAVAILABLE")'
            ),
        ),
        known=5,
    ),
    Mutant(
        "a refund is changed without looking at its state and its claim",
        (Change(Refunds._change, ", t.c.state == refund.state, t.c.claims == refund.claims", ""),),
        known=5,
    ),
    Mutant(
        "an invoice is moved without looking at its state",
        (Change(Invoices._move, ", t.c.state == old", ""),),
        known=47,
    ),
    Mutant(
        "our clock, not the time of the payment, says whether it came late",
        (Change(settlement._paid_at, "return seen.paid_at", "return now"),),
        known=0,
    ),
    Mutant(
        "the message to the shop is owed in a transaction of its own",
        (Change(settlement.settle, "owe_delivery(tx, ledger.events, EventType.INVOICE_SETTLED, invoice, now)", "pass"),
         Change(settlement.settle, "    return Outcome(new.value)",
                "    if new is InvoiceState.SETTLED:\n"
                "        with ledger.repository.transaction() as tx:\n"
                "            owe_delivery(tx, ledger.events, EventType.INVOICE_SETTLED, invoice, now)\n"
                "    return Outcome(new.value)")),
        known=7,
    ),
    Mutant(
        "the refund is owed in a transaction of its own",
        (Change(settlement.settle, "_owe_refund(ledger, tx, invoice, received_sats, now)", "pass"),
         Change(settlement.settle, "    return Outcome(new.value)",
                "    if new is not InvoiceState.SETTLED:\n"
                "        with ledger.repository.transaction() as tx:\n"
                "            _owe_refund(ledger, tx, invoice, received_sats, now)\n"
                "    return Outcome(new.value)")),
        known=38,
    ),
    Mutant(
        "a delivery is marked before the shop has answered",
        (Change(deliveries._send, "    try:\n        outbox.deliver",
                "    with outbox.repository.transaction() as tx:\n"
                "        tx.deliveries.mark_delivered(delivery, outbox.clock())\n"
                "    try:\n        outbox.deliver"),),
        known=1,
    ),
    Mutant(
        "the signature of a webhook is not looked at",
        (Change(webhook.receive, 'verify_strike_signature(body, request.headers.get("X-Webhook-Signature"), '
                "*here.access.webhook_secrets)", "pass"),),
        known=5,
    ),
    Mutant(
        "the amount in the payment request is not compared",
        (Change(invoices._checked_issue, "if request.amount_msats != sats_to_msats(draft.amount_sats):", "if False:"),),
        known=9,
    ),
    Mutant(
        "a refund is changed without looking at its claim",
        (Change(Refunds._change, ", t.c.claims == refund.claims", ""),),
    ),
    Mutant(
        "a list is called without counting it",
        (Change(strike.Strike._send, "self._budget.take(bucket)",
                'if not (method == "GET" and path == "/invoices"):\n        self._budget.take(bucket)'),),
    ),
    Mutant(
        "what was asked, not what was received, is refunded",
        (Change(settlement.settle, "seen.received_sats or invoice.amount_sats", "invoice.amount_sats"),),
    ),
    Mutant(
        "an invoice lapses without a look at the list of pending ones",
        (Change(sweeps._note_pending, "found.unclear.update(page)", "pass"),),
    ),
    Mutant(
        "the daily limit counts only what was sent",
        (Change(Refunds.started_sats, "(RefundState.IN_FLIGHT, RefundState.SENT)", "(RefundState.SENT,)"),),
    ),
    Mutant(
        "PAYMENT_PROCESSED is believed without reading the payment that it names",
        (Change(refunds._processed, 'named_in(error, "paymentId")', "None"),),
    ),
    Mutant(
        "a webhook whose invoice is not final is answered 200",
        (Change(webhook_invoice._receive_invoice, "outcome in (Outcome.NOT_PAID, Outcome.NOT_FINAL)", "False"),),
    ),
    Mutant(
        "a message is claimed without looking at the counter of claims",
        (Change(Deliveries.claim, ", t.c.claims == delivery.claims", ""),),
    ),
    Mutant(
        "a message is claimed without counting the claim",
        (Change(Deliveries.claim, "claims=delivery.claims + 1, ", ""),),
    ),
)  # fmt: skip


@contextmanager
def switched_off(mutant: Mutant) -> Iterator[None]:
    """Put the mutant's code in place of the product's, for whoever has imported it, and put it back."""
    with ExitStack() as stack:
        for function in dict.fromkeys(change.function for change in mutant.changes):
            plain = inspect.unwrap(function)
            assert isinstance(plain, FunctionType)
            stack.callback(setattr, plain, "__code__", plain.__code__)
            changes = [change for change in mutant.changes if change.function is function]
            plain.__code__ = _changed(plain, changes)
        yield


def _changed(function: FunctionType, changes: list[Change]) -> CodeType:
    source = textwrap.dedent(inspect.getsource(function))
    for change in changes:
        if source.count(change.old) != 1:
            raise ValueError(f"{function.__name__} has not exactly one {change.old!r}")
        source = source.replace(change.old, change.new)
    body = source[source.index("def ") :]  # without its decorators
    scope = dict(function.__globals__)
    exec("from __future__ import annotations\n" + body, scope)  # noqa: S102 - our own source
    code = scope[function.__name__].__code__
    assert isinstance(code, CodeType)
    return code


def seeds_to_notice(mutant: Mutant, disks: Disks, first: int = 0) -> tuple[int, str] | None:
    """How many seeds it takes until a promise is seen broken, and which; None when `within` are not enough."""
    with switched_off(mutant):
        for count in range(mutant.within):
            violation = SimulatedWorld(first + count, disks).run().violation
            if violation is not None:
                return count + 1, violation
    return None
