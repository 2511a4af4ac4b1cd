"""The end of a world: every fault is repaired, and all work must come to rest."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from lnpay.deliveries.send import send_due
from lnpay.domain.errors import Conflict
from lnpay.domain.model import Refund
from lnpay.domain.states import (
    EXPIRE_MARGIN,
    LAPSE_MARGIN,
    PAYABLE,
    HoldCause,
    InvoiceState,
    RefundKind,
    RefundState,
)
from lnpay.monitoring.overview import attention
from lnpay.refunds.by_hand import (
    BY_HAND_AFTER,
    change_address,
    has_claim_ended,
    retry,
    settle_by_hand,
)
from lnpay.refunds.merchant import cancel_refund
from lnpay.refunds.send import WAITING, send_due_refunds
from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from tests.simulation.draws import KINDS_OF_DOUBT
from tests.simulation.installation import Installation
from tests.simulation.requests import check_end, is_whole, total_of, unexplained
from tests.simulation.scheduler import Chances, Violation
from tests.simulation.watch import SHIPPED_ON

if TYPE_CHECKING:
    from tests.simulation.installation import Installation, LnpayProcess
    from tests.simulation.world import SimulatedWorld

Query = Callable[..., list[sqlite3.Row]]

LONGEST = timedelta(days=14)
"""Strike repeats a webhook for nine days."""

MOST_ROUNDS = 300

DOUBT_ROUNDS = 6
"""In "failing" and "aged" worlds, executions keep failing for this many rounds, as most refunds are sent only now."""

LONGEST_AWAKE = 50
"""After this many rounds, the remaining work may have to wait hours for a pending payment."""

TOGETHER = timedelta(minutes=20)
"""One round does everything that is due within this time: speed does not matter here."""

TICK = timedelta(milliseconds=1)

SMALLEST_WITH_A_FEE = 10
"""Sats. Fees may be a tenth of a refund at most, and the provider's are at least one sat."""


def come_to_rest(world: SimulatedWorld) -> None:
    """Repair everything, and raise Violation unless everything owed is done in the end."""
    _heal(world)
    until = world.simulator.clock.now() + LONGEST
    for number in range(MOST_ROUNDS):
        if number == DOUBT_ROUNDS:
            _end_doubt(world)
        world.counts["rounds to rest"] += 1
        _round(world)
        left = list(_left(world))
        if not left:
            break
        _wait(world)
        if world.simulator.clock.now() > until:
            raise Violation(f"does not come to rest: {'; '.join(left)}")
    else:
        raise Violation(f"does not come to rest in {MOST_ROUNDS} rounds: {'; '.join(left)}")
    _check(world)


def _heal(world: SimulatedWorld) -> None:
    simulator = world.simulator
    world.scheduler.note("everything is repaired")
    world.scheduler.chances = Chances()
    for home in world.homes:
        home.plugin_trouble = 0.0
        for process in home.processes.values():
            process.skew_seconds = 0.0
    for fault in [one for one in world.faults if one not in world.doubts]:
        simulator.faults.remove(fault.fault_id)
    if world.scene.kind not in KINDS_OF_DOUBT:
        _end_doubt(world)
    for invoice in simulator.invoices.by_id.values():
        if invoice.state == "PENDING":
            invoice.oddities = {}  # nothing lapses while a pending row has no id: it could be any of ours
    simulator.config.payout_fee_ppm = 0
    simulator.rates.factors = dict.fromkeys(simulator.rates.factors, Decimal(1))
    simulator.shop.answer_with(200, 0)
    simulator.balances.available["BTC"] += 100_000_000
    for payment in list(simulator.payments.payments.values()):
        if world.random.random() < 0.5:
            simulator.payments.complete(payment)
        else:
            simulator.payments.fail(payment)


def _end_doubt(world: SimulatedWorld) -> None:
    world.simulator.faults.remove()
    config = world.simulator.config
    slow = {address: word for address, word in config.payout_behaviours.items() if word.startswith("pending:")}
    config.payout_behaviours = slow


def _round(world: SimulatedWorld) -> None:
    """Each participant does once what is due now."""
    world.simulator.tick()
    trouble = world.activities.trouble
    while (attempt := world.simulator.webhooks.claim(world.simulator.clock.now())) is not None:
        server = trouble.receiver(attempt).processes["server 1"]
        world.simulator.webhooks.record(attempt, trouble.receive(server, attempt))
    for home in world.homes:
        _round_of(world, home)
    world.check()


def _round_of(world: SimulatedWorld, home: Installation) -> None:
    query, is_first = home.rows.query, world.counts["rounds to rest"] == 1
    server = home.processes["server 1"]
    is_any_watched = any("invoice" in one for one in _left_of(world, home))
    if world.scene.has_workers:
        if is_first or is_any_watched:
            one_pass, name = (main_pass, "main 1") if is_first else (expired_pass, "expired 1")
            one_pass(home.processes[name].backend)
        if is_first or query("SELECT 1 FROM refunds WHERE state NOT IN ('sent', 'canceled') LIMIT 1"):
            refund_pass(home.processes["refund 1"].backend)
    else:
        send_due_refunds(server.backend.refund_sender, WAITING)
        if home.is_copied and is_first:
            # No webhook reports again what a restored database has lost, so the operator runs a pass.
            main_pass(home.processes["operator"].backend)
        if _is_any_incomplete(world, home):
            # No webhook reports that an underpaid invoice has expired, so the operator runs a pass now and then.
            expired_pass(home.processes["operator"].backend)
    if query("SELECT 1 FROM deliveries WHERE state = 'pending' LIMIT 1"):
        send_due(server.backend.outbox, senders=1)
    _help(world, home)


def _help(world: SimulatedWorld, home: Installation) -> None:
    """What customers and operators do: give addresses, approve refunds, and resolve stuck ones by the ledger."""
    operator, activities = home.processes["operator"], world.activities
    repository, now = operator.backend.repository, operator.backend.clock()
    with repository.reading() as tx:
        refunds = tx.refunds.in_states(set(RefundState) - {RefundState.SENT, RefundState.CANCELED}, 100)
        ids = {refund.id: getattr(tx.invoices.find(refund.invoice_id), "strike_invoice_id", "") for refund in refunds}
    for refund in refunds:
        strike_id = ids[refund.id]
        if refund.state is RefundState.HELD:
            _decide(world, operator, refund, strike_id)
        elif refund.state is RefundState.NEEDS_ADDRESS:
            if has_claim_ended(refund, now):
                cancel_refund(operator.backend.refund_issuer, refund.id, is_checked=True)
            else:
                activities.give_good_address(home, refund.token, strike_id)
        elif refund.state is RefundState.FAILED and (refund.address or "").startswith("dear"):
            change_address(repository, strike_id, activities.new_address(strike_id), now, refund.id)
        elif refund.state is RefundState.IN_FLIGHT and refund.stuck_at is not None:
            _say_what_is_true(world, operator, refund, strike_id)


def _decide(world: SimulatedWorld, operator: LnpayProcess, refund: Refund, strike_id: str) -> None:
    """Decide a held refund: the dashboard shows whether it was sent before a restore."""
    backend = operator.backend
    is_late = refund.held_because is HoldCause.LATE_PAYMENT
    if is_late and world.activities.policies.accepts_at_last(operator, strike_id):
        return
    payments = world.watch.payments_of(world.watch.customers[strike_id])
    if refund.kind is RefundKind.MERCHANT:
        payments = [one for one in payments if one.quote.destination == refund.address]
    elif world.watch.requests.find(strike_id):
        payments = unexplained(operator.home, refund, payments)
    if any(payment.state == "COMPLETED" for payment in payments):
        events = backend.refund_sender.events
        settle_by_hand(
            backend.repository, strike_id, "the dashboard shows it", events, operator.backend.clock(), refund.id
        )
    elif not any(payment.state == "PENDING" for payment in payments):
        world.activities.approve(operator, strike_id, refund.address or "", refund.id, payments)


def _say_what_is_true(world: SimulatedWorld, operator: LnpayProcess, refund: Refund, strike_id: str) -> None:
    backend, now = operator.backend, operator.backend.clock()
    quote = world.simulator.payments.quotes[refund.payment_quote_id or ""]
    payment = quote.payment
    if payment is not None and payment.state == "PENDING":
        return
    if world.simulator.now() < quote.expires_at and world.simulator.config.execute_again_failed == "payment":
        raise Violation("a refund is marked as stuck although its quote is still valid")
    try:
        if payment is not None and payment.state == "COMPLETED":
            settle_by_hand(
                backend.repository, strike_id, "the dashboard shows it", backend.refund_sender.events, now, refund.id
            )
        else:
            retry(backend.repository, strike_id, "the dashboard does not show it", now, refund.id)
    except Conflict:
        return  # too early, or a worker has it
    world.scheduler.note(f"the operator says what became of the refund of {strike_id[:8]}")
    world.counts["stuck, resolved by the operator"] += 1


def _left(world: SimulatedWorld) -> Iterator[str]:
    """Describe what is not done yet."""
    for home in world.homes:
        yield from _left_of(world, home)
    if world.simulator.next_webhook_at() is not None:
        yield "webhook"
    if world.simulator.next_scheduled_at() is not None:
        yield "provider"


def _left_of(world: SimulatedWorld, home: Installation) -> Iterator[str]:
    query = home.rows.query
    for row in query("SELECT strike_invoice_id AS id, state FROM invoices WHERE strike_invoice_id NOT NULL"):
        at_provider = world.watch.state_of(row["id"])
        is_watched = row["state"] in ("unpaid", "expired") and world.scene.has_workers
        if is_watched or (row["state"] in PAYABLE and at_provider == "PAID"):
            yield f"invoice {row['state']}, {at_provider} at the provider"
    known = {row[0] for row in query("SELECT receive_id FROM receives")}
    for receive in world.simulator.receive_requests.receives.values():
        customer = world.watch.customers[receive.request.request_id]
        if receive.receive_id not in known and customer.home == home.name and not customer.is_forgotten:
            yield f"payment of an invoice that is not counted, {receive.state} at the provider"
    for row in query("SELECT * FROM refunds WHERE state NOT IN ('sent', 'canceled')"):
        if row["amount_sats"] < SMALLEST_WITH_A_FEE and (row["kind"] == "merchant" or home.has_requests):
            continue  # any fee is too high for it, so it stays in the operator's list
        if not world.scene.has_workers and row["state"] == "needs_address" and row["claim_expires_at"] is not None:
            continue  # its time to claim is over, but without a worker nothing withdraws it
        yield f"refund {row['state']} ({row['reason']})"
    for row in query("SELECT state, last_error FROM deliveries WHERE state = 'pending'"):
        yield f"delivery {row['state']} ({row['last_error']})"


def _is_any_incomplete(world: SimulatedWorld, home: Installation) -> bool:
    """Whether any receive request was paid only in part by its deadline."""
    over = _text(world, EXPIRE_MARGIN)
    open_rows = "SELECT strike_invoice_id, expires_at FROM invoices WHERE state IN ('unpaid', 'expired')"
    for row in home.rows.query(f"{open_rows} AND expires_at < ?", over):
        request = world.watch.requests.find(row[0])
        if request is not None and total_of(request) and not is_whole(request, _time(row[1])):
            return True
    return False


def _wait(world: SimulatedWorld) -> None:
    """Advance the time until something is due, and past anything due shortly after."""
    now = world.simulator.clock.now()
    all_of_them = list(moments(world))
    later = [moment for moment in all_of_them if moment > now]
    if len(later) < len(all_of_them) or not later:
        # With tight rate limits, too frequent passes would spend all calls on lists.
        is_slow = world.scene.is_tight or world.counts["rounds to rest"] > LONGEST_AWAKE
        later = [now + timedelta(seconds=601 if is_slow else 61)]
    soon = min(later) + TOGETHER
    world.simulator.clock.advance((max(one for one in later if one <= soon) + TICK - now).total_seconds())


def moments(world: SimulatedWorld) -> Iterator[datetime]:
    """The times at which LNPay or the provider has something to do."""
    for home in world.homes:
        yield from _moments_of(world, home.rows.query)
    for moment in (world.simulator.next_webhook_at(), world.simulator.next_scheduled_at()):
        if moment is not None:
            yield moment


def _moments_of(world: SimulatedWorld, query: Query) -> Iterator[datetime]:
    for table, states in (("refunds", WAITING), ("deliveries", ("pending",))):
        for row in query(f"SELECT state, claimed_until, next_attempt_at FROM {table}"):  # noqa: S608 - names of ours
            if row["state"] in states:
                yield max(_time(row["next_attempt_at"]), _time(row["claimed_until"] or row["next_attempt_at"]))
    for row in query("SELECT started_at FROM refunds WHERE stuck_at IS NOT NULL"):
        yield _time(row["started_at"]) + BY_HAND_AFTER
    for row in query("SELECT MAX(blocked_until) FROM provider_blocks HAVING MAX(blocked_until) > ?", _text(world)):
        yield _time(row[0])
    if world.scene.has_workers:
        yield from _ends_of_invoices(query)


def _ends_of_invoices(query: Query) -> Iterator[datetime]:
    for row in query("SELECT state, expires_at, payable_until FROM invoices WHERE opened_at NOT NULL"):
        if row["state"] == InvoiceState.UNPAID:
            yield _time(row["expires_at"]) + EXPIRE_MARGIN
        elif row["state"] == InvoiceState.EXPIRED:
            yield _time(row["payable_until"]) + LAPSE_MARGIN


def _text(world: SimulatedWorld, before: timedelta = timedelta()) -> str:
    return f"{world.simulator.clock.now() - before:%Y-%m-%d %H:%M:%S.%f}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _check(world: SimulatedWorld) -> None:
    """Every invoice PAID at the provider was reported to its shop, refunded, or is in the operator's list."""
    told = {
        one.json()["data"]["invoice_id"]
        for one in world.simulator.shop.accepted()
        if one.json()["type"] == "invoice.settled"
    }
    for home in world.homes:
        if home.plugin_chance is not None:
            _check_plugin(world, home)
    gone = {strike_id for home in world.homes for strike_id in home.gone}
    for strike_id, customer in world.watch.customers.items():
        if not world.watch.is_paid(customer) or customer.is_forgotten:
            continue
        request = world.watch.requests.find(strike_id)
        if request is not None:
            is_notified, is_listed = strike_id in told | gone, strike_id in _listed(world, customer.home)
            check_end(world.watch, customer, request, is_notified=is_notified, is_listed=is_listed)
            continue
        is_sent = any(payment.state == "COMPLETED" for payment in world.watch.payments_of(customer))
        if strike_id in told | gone or is_sent or world.watch.is_taken_for_sent(customer):
            continue
        if strike_id in _listed(world, customer.home):
            world.counts["paid, and in the operator's list"] += 1
        elif world.watch.is_late(customer):
            raise Violation(f"{customer} paid late, but was not refunded")
        else:
            raise Violation(f"{customer} paid in time, but the shop was never notified")


def _check_plugin(world: SimulatedWorld, home: Installation) -> None:
    """A plugin got all four events of every settled invoice, and in order unless a process stalled for long."""
    settled = {row[0] for row in home.rows.query("SELECT strike_invoice_id FROM invoices WHERE state = 'settled'")}
    chances = world.chances
    for strike_id in settled:
        heard = world.watch.plugins_heard[home.name, strike_id]
        if not home.is_copied and not set(SHIPPED_ON) <= set(heard):
            raise Violation(f"the plugin of {home.name} received only {heard} for a settled order")
        if not (chances.pause or chances.stall) and [one for one in dict.fromkeys(heard) if one in SHIPPED_ON] != [
            *SHIPPED_ON
        ]:
            raise Violation(f"the plugin of {home.name} received the events of an order in the wrong sequence: {heard}")


def _listed(world: SimulatedWorld, home: str) -> set[str]:
    """Strike's ids of the invoices that the operator's list shows."""
    operator = world.watch.homes[home].processes["operator"]
    shown = attention(operator.backend.repository, operator.backend.clock())
    entries = [entry for name in vars(shown) if isinstance(one := getattr(shown, name), list) for entry in one]
    named = [getattr(entry, "invoice", entry) for entry in entries]
    return {entry.strike_invoice_id for entry in named if hasattr(entry, "strike_invoice_id")}
