"""Safeguards to switch off, one at a time: the simulation must detect each."""

from __future__ import annotations

import inspect
import random
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from lnpay.deliveries import btcpay_message
from lnpay.deliveries import send as deliveries
from lnpay.domain import receives as receive_rules
from lnpay.invoices import (
    create,
    late,
    mark_invalid,
    receives,
    settle,
    sweep,
    webhook_invoice,
)
from lnpay.refunds import by_hand, merchant, outcomes, overpaid
from lnpay.refunds import send as refunds
from lnpay.repository import deliveries as message_queries
from lnpay.repository.deliveries import Deliveries
from lnpay.repository.invoices import Invoices
from lnpay.repository.queries import refund_requests
from lnpay.repository.refunds import Refunds
from lnpay.strike import client, failures
from lnpay.web.api import webhook
from lnpay.web.greenfield import status
from tests.simulation.draws import Scene, draw_scene
from tests.simulation.host import Disks
from tests.simulation.requests import draw_receiving
from tests.simulation.world import SimulatedWorld


@dataclass(frozen=True)
class Change:
    """One piece of a function's source, and its replacement."""

    function: Callable[..., Any]
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A safeguard that is switched off. within: how many seeds must suffice to detect it.

    known: seeds that noticed it when this was written, to try first. They are only hints: what a seed does depends on
    the product's code. shows_in: the worlds that can detect it; the others are skipped. has_requests: only worlds
    with receive requests can, or only those without any.
    """

    name: str
    changes: tuple[Change, ...]
    known: tuple[int, ...] = ()
    shows_in: Callable[[Scene], bool] = lambda scene: True
    has_requests: bool | None = None
    within: int = 300


MISTAKES = ("NameError: ", "UnboundLocalError: ", "AttributeError: ", "TypeError: ")
"""The errors of planted code that no longer fits the product. Such a mutant proves nothing about its safeguard."""


class BrokenMutant(Exception):
    """A mutant's own code fails, so any world would notice it."""


_RESERVED_UNCHECKED = (
    Change(refund_requests._reserve, "after = i.refund_reserved_sats + sats",
           "after = func.min(i.refund_reserved_sats + sats, i.received_sats)"),
    Change(refund_requests._reserve, ", after <= func.coalesce(i.received_sats, 0)", ""),
)  # fmt: skip

_PAYMENTS_UNREAD = Change(refunds._execution_refused, "if is_repeated and not was_in_doubt:", "if False:")
"""The account's payments would show what these faults forget, so they are noticed only without that check."""

MUTANTS = (
    Mutant(
        "an execution without an answer counts as not sent, and gets a new key and quote",
        (Change(refunds._execute, "was_in_doubt, lost = True, error",
                'return fail(sender, refund, RefundStep.EXECUTE, "no answer", error)'),),
        known=(5, 9),
    ),
    Mutant(
        "the quote is executed before its id is stored",
        (Change(refunds._start, "now = sender.clock()",
                "now = sender.clock()\n    sender.strike.execute_payment_quote(quote.quote_id)"),),
        known=(5, 3),
    ),
    Mutant(
        "a payment that is PENDING (202) counts as failed",
        (Change(outcomes.record, "payment.status is PaymentStatus.FAILED", "True"),),
        known=(24, 13),
    ),
    Mutant(
        "PAYMENT_QUOTE_EXPIRED after doubt counts as not sent",
        (Change(refunds._execution_refused, "if was_in_doubt or",
                'if (was_in_doubt and error.strike_code != "PAYMENT_QUOTE_EXPIRED") or'),),
        known=(5, 19),
    ),
    Mutant(
        "the doubt is not stored before the execution",
        (Change(Refunds.start, '"is_in_doubt": True', '"is_in_doubt": False'),
         Change(Refunds.doubt, '"is_in_doubt": True', '"is_in_doubt": False'),
         _PAYMENTS_UNREAD),
        known=(5, 19),
    ),
    Mutant(
        "a quote that may be another copy's is replaced without looking for its payment",
        (Change(refunds._first_quote, "may_be_paid = may_be_paid_elsewhere(sender, asked)", "may_be_paid = False"),),
        shows_in=lambda scene: scene.has_restore,
        known=(3805,), within=6_000,
    ),
    Mutant(
        "503 LN_UNAVAILABLE counts as not done",
        (
            Change(
                failures.kind_of, "code in _SAFE_TO_REPEAT", 'code in (*_SAFE_TO_REPEAT, "LN_UNAVAILABLE")'
            ),
            _PAYMENTS_UNREAD,
        ),
        known=(5, 37),
        shows_in=lambda scene: scene.kind == "aged",
    ),
    Mutant(
        "a refund is changed without checking its state and its claim",
        (Change(Refunds._change, ", t.c.state == refund.state, t.c.claims == refund.claims", ""),),
        known=(3, 5),
    ),
    Mutant(
        "an invoice is moved without checking its state",
        (Change(Invoices._move, ", t.c.state == old", ""),),
        known=(5, 11),
        shows_in=lambda scene: scene.has_workers,
    ),
    Mutant(
        "our clock, not the time of the payment, decides whether it was late",
        (Change(settle._paid_at, "return seen.paid_at", "return now"),),
        known=(1, 3),
    ),
    Mutant(
        "the message to the shop is recorded in a separate transaction",
        (Change(settle.record_paid, "owe_settled(tx, context.events, paid, at)", "pass"),
         Change(settle._settle_paid, "    return Outcome(paid.state.value)",
                "    if paid.state is InvoiceState.SETTLED:\n"
                "        with context.repository.transaction() as tx:\n"
                "            owe_settled(tx, context.events, paid, now)\n"
                "    return Outcome(paid.state.value)")),
        known=(99,), has_requests=False,
    ),
    Mutant(
        "the refund is recorded in a separate transaction",
        (Change(settle.record_paid, "_owe_late_refund(context, tx, paid, verdict, at)", "pass"),
         Change(settle._settle_paid, "    return Outcome(paid.state.value)",
                "    if paid.state is not InvoiceState.SETTLED:\n"
                "        with context.repository.transaction() as tx:\n"
                "            _owe_late_refund(context, tx, paid, verdict, now)\n"
                "    return Outcome(paid.state.value)")),
        known=(120,), has_requests=False,
    ),
    Mutant(
        "a message is marked as delivered before the shop has answered",
        (Change(deliveries._send, "    try:\n        outbox.deliver",
                "    with outbox.repository.transaction() as tx:\n"
                "        tx.deliveries.mark_delivered(delivery, outbox.clock())\n"
                "    try:\n        outbox.deliver"),),
        known=(1, 2),
    ),
    Mutant(
        "the signature of a webhook is not verified",
        (Change(webhook.receive, 'verify_strike_signature(body, request.headers.get("X-Webhook-Signature"), '
                "*backend.access.webhook_secrets)", "pass"),),
        known=(2, 3),
    ),
    Mutant(
        "the amount in the payment request is not compared",
        (Change(create._checked_issue, "if request.amount_msats != sats_to_msats(draft.amount_sats):", "if False:"),),
        known=(9, 4),
    ),
    Mutant(
        "a refund is changed without checking its claim",
        (Change(Refunds._change, ", t.c.claims == refund.claims", ""),),
        known=(19, 3),
    ),
    Mutant(
        "a call for a list is not counted",
        (Change(client.Strike._send, "self._budget.take(bucket)",
                'if not (method == "GET" and path == "/invoices"):\n        self._budget.take(bucket)'),),
        known=(1, 0),
    ),
    Mutant(
        "the price, not the amount received, is refunded",
        (Change(settle._settle_paid, "seen.received_sats or invoice.amount_sats", "invoice.amount_sats"),),
        known=(5, 12),
    ),
    Mutant(
        "an invoice lapses without checking the list of pending ones",
        (Change(sweep._note_pending, "found.unclear.update(page.ids)", "pass"),),
        known=(36,),
        shows_in=lambda scene: scene.has_workers and scene.has_long_pending,
    ),
    Mutant(
        "the daily limit counts only what was sent",
        (Change(Refunds.started_sats, "(RefundState.IN_FLIGHT, RefundState.SENT)", "(RefundState.SENT,)"),),
        known=(120, 92),
        shows_in=lambda scene: scene.kind == "limits",
    ),
    Mutant(
        "PAYMENT_PROCESSED is accepted without reading the payment that it names",
        (Change(refunds._processed, 'named_in(error, "paymentId")', "None"),),
        known=(272, 186),
        shows_in=lambda scene: scene.kind == "failing",
    ),
    Mutant(
        "a webhook whose invoice is not final is answered 200",
        (Change(webhook_invoice._receive_invoice, "outcome in (Outcome.NOT_PAID, Outcome.NOT_FINAL)", "False"),),
        known=(2,),
        shows_in=lambda scene: scene.has_webhooks and not scene.has_workers,
    ),
    Mutant(
        "a message is claimed without checking the counter of claims",
        (Change(Deliveries.claim, ", t.c.claims == delivery.claims", ""),),
        known=(5, 10),
    ),
    Mutant(
        "a message is claimed without counting the claim",
        (Change(Deliveries.claim, "claims=delivery.claims + 1, ", ""),),
        known=(1, 2),
    ),
    Mutant(
        "a message is sent although its claim was lost",
        (Change(deliveries._send, "if not tx.deliveries.is_held(delivery):", "if False:"),),
        known=(11, 79),
    ),
    Mutant(
        "a plugin is notified of a late payment",
        (Change(btcpay_message.btcpay_events, "BTCPAY_EVENTS.get(event_type, ())",
                "BTCPAY_EVENTS.get(EventType.INVOICE_SETTLED if event_type == EventType.INVOICE_PAID_LATE "
                "else event_type, ())"),),
        known=(11, 32),
    ),
    Mutant(
        "events of an order are sent out of order",
        (Change(message_queries._is_its_turn, "is_enabled & ~is_former_pending", "is_enabled"),),
        known=(68,),
    ),
    Mutant(
        "an invoice that is unpaid at Strike counts as cancelled",
        (Change(settle.settle, "if seen.status is InvoiceStatus.CANCELLED:", "if True:"),),
        known=(5, 2),
    ),
    Mutant(
        "a payment for a cancelled invoice does not count",
        (Change(settle._settle_paid, "invoice.state not in PAYABLE", "invoice.state not in WATCHED"),),
        known=(42, 18),
        shows_in=lambda scene: scene.has_cancelling,
    ),
    Mutant(
        "an order's own expiry is ignored",
        (Change(create.InvoiceIssuer.time_to_pay, "if order.expires_in is None else order.expires_in", ""),),
        known=(2, 3),
    ),
    Mutant(
        "an order is marked as invalid by our own clock",
        (Change(mark_invalid.mark_invalid, "context.strike.confirm_time()", "pass"),),
        known=(478,),
        shows_in=lambda scene: scene.skew_seconds > 0,
    ),
    Mutant(
        "a refund's amount is not reserved on its invoice",
        (Change(refund_requests.add_refund, "not _reserve(connection, new.invoice_id, new.amount_sats)", "False"),),
        known=(1, 27),
        shows_in=lambda scene: scene.has_merchants,
    ),
    Mutant(
        "the deadline for claiming a refund is ignored",
        (Change(by_hand.has_claim_ended, "return refund.claim_expires_at <= now", "return False"),),
        known=(825,), within=1_000,
        shows_in=lambda scene: scene.has_merchants,
    ),
    Mutant(
        "a late payment is shown to plugins as settled",
        (Change(status.derive_status, "return DerivedStatus(Status.EXPIRED)", "return DerivedStatus(Status.SETTLED)"),),
        known=(153, 174),
    ),
    Mutant(
        "LATE_ACCEPT_PERCENT is ignored",
        (Change(late._has_fallen, "fall > 0 and fall * 100 >= sold_at * percent", "False"),),
        known=(99,),
        shows_in=lambda scene: scene.kind == "any",
    ),
    Mutant(
        "the refund of an accepted late payment is not canceled",
        (Change(late.accept_late_payment, "tx.refund_requests.cancel_accepted(refund, now)", "refund"),),
        known=(50,),
        shows_in=lambda scene: scene.kind == "any",
    ),
    Mutant(
        "the refundable amount is read outside the transaction",
        (Change(merchant.create_refund, "    with issuer.repository.transaction() as tx:",
                "    with issuer.repository.reading() as tx:\n"
                "        left = tx.refund_requests.left_sats(invoice.id)\n"
                "    with issuer.repository.transaction() as tx:"),
         Change(merchant.create_refund, "_add(issuer, tx, invoice.id, request, rate)",
                "_add(issuer, tx, invoice.id, request, rate, left)"),
         Change(merchant._add, "request: RefundRequest, rate: Rate)", "request: RefundRequest, rate: Rate, left: int)"),
         Change(merchant._add, "tx.refund_requests.left_sats(invoice.id)", "left"),
         *_RESERVED_UNCHECKED),
        known=(1,),
        shows_in=lambda scene: scene.has_merchants,
    ),
    Mutant(
        "an overpayment is refunded twice",
        (Change(overpaid.owe_overpaid, "min(owed_sats - by_rule, tx.refund_requests.left_sats(invoice.id))",
                "owed_sats"), *_RESERVED_UNCHECKED),
        known=(31, 74), has_requests=True,
    ),
    Mutant(
        "a receive without a payment hash is not counted",
        (Change(receives.settle_receives, "if one.request_id == request_id]",
                "if one.request_id == request_id and one.payment_hash is not None]"),),
        known=(0, 9), has_requests=True,
    ),
    Mutant(
        "two receives with the same payment hash count as one",
        (Change(receives.settle_receives, "if one.request_id == request_id]",
                "if one.request_id == request_id]\n"
                "    ours = list({one.payment_hash: one for one in ours}.values())"),),
        known=(31, 46), has_requests=True,
    ),
    Mutant(
        "an underpayment settles",
        (Change(receive_rules.judge, "if paid_sats >= amount_sats:", "if paid_sats > 0:"),),
        known=(35, 39), has_requests=True,
    ),
    Mutant(
        "a late payment of a receive request counts as one in time",
        (Change(receive_rules.judge, "if one.paid_at <= expires_at else 0", ""),),
        known=(0, 9), has_requests=True,
    ),
    Mutant(
        "a payment beyond the price is kept",
        (Change(receives._add_to_paid, "owe_beyond_price(tx, context.events, invoice, receives, now)", "pass"),),
        known=(31, 78), has_requests=True,
    ),
)  # fmt: skip


@contextmanager
def switched_off(mutant: Mutant) -> Iterator[None]:
    """Replace the product's code with the mutant's in every module that imports it, and restore it afterwards."""
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


def seeds_to_notice(mutant: Mutant, disks: Disks) -> tuple[int, str] | None:
    """How many seeds, from 0 on, it takes to detect the mutant, and the promise broken; None if `within` are not
    enough.
    """
    return next(_noticing(mutant, disks, range(mutant.within)), None)


def is_noticed(mutant: Mutant, disks: Disks) -> bool:
    """Whether one of `within` seeds detects it, or one of the known seeds, which are tried first."""
    return next(_noticing(mutant, disks, (*mutant.known, *range(mutant.within))), None) is not None


def _may_show(mutant: Mutant, seed: int) -> bool:
    scene = draw_scene(random.Random(seed))
    has_requests = draw_receiving(seed, "shop", scene) is not None
    return mutant.shows_in(scene) and mutant.has_requests in (None, has_requests)


def _noticing(mutant: Mutant, disks: Disks, seeds: Iterable[int]) -> Iterator[tuple[int, str]]:
    with switched_off(mutant):
        for seed in seeds:
            if _may_show(mutant, seed):
                violation = SimulatedWorld(seed, disks).run().violation
                if violation is not None:
                    if any(mistake in violation for mistake in MISTAKES):
                        raise BrokenMutant(f"{mutant.name}: {violation}")
                    yield seed + 1, violation
