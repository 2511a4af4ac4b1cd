"""Use case: send the shop the messages it is owed, at least once, under one id, for more than three days.

They go through the delivery hook, and to every webhook endpoint. Each of these has separate messages.

An outbox row is written in the commit that makes its event true. The server's dispatcher and every worker pass send
what is due. A claim keeps two of them from sending the same message at the same time.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lnpay.deliveries.call_endpoint import call_endpoint
from lnpay.deliveries.dispatcher import Dispatcher
from lnpay.deliveries.lanes import run_lanes
from lnpay.domain.errors import NotFound, ShopGone, ShopRefused
from lnpay.domain.events import UNTRUE_ONCE_SETTLED
from lnpay.domain.model import (
    Clock,
    Delivery,
    Event,
    Invoice,
)
from lnpay.domain.states import DeliveryState, InvoiceState
from lnpay.domain.text import printable
from lnpay.domain.webhook_signature import delivery_headers
from lnpay.http.post import Post, post_for_status
from lnpay.repository import Repository
from lnpay.repository.deliveries import Credible

log = logging.getLogger(__name__)

PAUSES = tuple(
    timedelta(seconds=seconds) for seconds in (2, 5, 15, 60, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""Pauses after the first, second, ... failure: 75 hours in all, and short at first, because a customer is waiting."""

JITTER = 0.1
"""Each pause is extended by up to this fraction, so that retries of many orders do not arrive all at once."""

CLAIM = timedelta(seconds=20)
"""How long a sender owns a message: the shop's 15 seconds plus a margin. A crash delays a message by that, no more."""

CLOCKS_DIFFER = timedelta(seconds=60)
"""How far the clocks of two machines may differ before one ignores the other's claims and pauses."""

SENDERS = 8
"""Messages sent concurrently by one process, so that one slow answer does not delay the others."""

MAX_REASON_CHARACTERS = 300


@dataclass(frozen=True)
class Outbox:
    """Everything needed to notify the shop. `deliver` raises to be retried; ShopGone means never again.

    signing_clock: dates signatures, which shops compare with their own clocks; None: use `clock`.
    post: sends to webhook endpoints. allow_private: an API key may name an address in a private network.
    """

    repository: Repository
    deliver: Callable[[Event], None]
    clock: Clock
    url: str
    secret: str
    stop: threading.Event
    jitter: Callable[[], float] = random.random
    signing_clock: Clock | None = None
    post: Post = post_for_status
    allow_private: bool = False


def send_due(outbox: Outbox, *, senders: int = SENDERS) -> Counter[str]:
    """Send everything due now, untried messages first. Returns counts of "delivered" and "refused".

    The delivery hook and each endpoint have `senders` of their own: one that is slow delays no other.
    """
    if senders == 1:
        return _send_until_none(outbox)
    due = _count_due(outbox, senders)
    with outbox.repository.reading() as tx:
        is_hook_alone = not tx.webhook_endpoints.enabled()
    if is_hook_alone and sum(due.values()) <= 1:
        return _send_until_none(outbox)

    def work(lane: int, leaving: threading.Event) -> Counter[str]:
        return _send_until_none(outbox, lane, leaving)

    return run_lanes(lambda: _count_due(outbox, senders), work, workers=senders, stop=outbox.stop)


def _count_due(outbox: Outbox, limit: int) -> dict[int, int]:
    """How many messages are due now for each endpoint and for the hook; no more than `limit` of each."""
    now = outbox.clock()
    credible = _credible(now)
    with outbox.repository.reading() as tx:
        # An unreadable message is not due; otherwise the pass would never end.
        return {
            lane: len(tx.deliveries.due(now, limit, credible, lane)) for lane in tx.deliveries.lanes_due(now, credible)
        }


def _send_until_none(outbox: Outbox, lane: int | None = None, leaving: threading.Event | None = None) -> Counter[str]:
    counts: Counter[str] = Counter()
    while not outbox.stop.is_set() and not (leaving and leaving.is_set()):
        delivery = _claim_next(outbox, lane)
        if delivery is None:
            break
        counts[_send(outbox, delivery)] += 1
    return counts


def _claim_next(outbox: Outbox, lane: int | None) -> Delivery | None:
    """Claim the next due message; None if nothing is due that is not claimed by others."""
    now = outbox.clock()
    with outbox.repository.reading() as tx:
        due = tx.deliveries.due(now, SENDERS, _credible(now), lane)
    for delivery in due:
        with outbox.repository.transaction() as tx:
            # The claim starts now: waiting for a busy database must not shorten the shop's time to answer.
            if tx.deliveries.claim(delivery, until=outbox.clock() + CLAIM):
                return delivery
    return None


def _credible(now: datetime) -> Credible:
    """Times that another process may plausibly have written. A fast clock must not delay a message.

    An untried message may be waiting for another claim to end.
    """
    latest = now + CLOCKS_DIFFER
    pauses = (CLAIM, *(pause * (1 + JITTER) for pause in PAUSES))
    return Credible(latest + CLAIM, [latest + pause for pause in pauses])


def _send(outbox: Outbox, delivery: Delivery) -> str:
    """Call the shop once and record the outcome; "taken": the claim was lost before, and nothing was sent."""
    if delivery.endpoint_id is not None:
        return _send_to_endpoint(outbox, delivery, delivery.endpoint_id)
    event = make_event(outbox, delivery)
    with outbox.repository.reading() as tx:
        # The last step before sending: this process may have stalled, and the message may no longer be true.
        if not tx.deliveries.is_held(delivery):
            return "taken"
    try:
        outbox.deliver(event)
    except ShopGone as error:
        _give_up(outbox, delivery, _reason(error))
    except ShopRefused as error:
        _put_off(outbox, delivery, _reason(error))
    # The hook is the merchant's own code: anything it raises, even sys.exit(), means "retry later".
    except (Exception, SystemExit) as error:
        log.exception("delivery hook failed webhook_id=%s", delivery.webhook_id)
        _put_off(outbox, delivery, f"the delivery hook raised {type(error).__name__}")
    else:
        with outbox.repository.transaction() as tx:
            tx.deliveries.mark_delivered(delivery, outbox.clock())
        log.info("delivered webhook_id=%s type=%s", delivery.webhook_id, delivery.event_type)
        return "delivered"
    return "refused"


def _send_to_endpoint(outbox: Outbox, delivery: Delivery, endpoint_id: int) -> str:
    """Send a message to a webhook endpoint and record the outcome."""
    with outbox.repository.reading() as tx:
        endpoint = tx.webhook_endpoints.find(endpoint_id)
        is_held = tx.deliveries.is_held(delivery)
    if endpoint is None:
        return "withdrawn"
    if not is_held:
        return "taken"
    signed_at = (outbox.signing_clock or outbox.clock)()
    answer = call_endpoint(
        outbox.post, endpoint, delivery.webhook_id, delivery.body, signed_at, allow_private=outbox.allow_private
    )
    at = outbox.clock()
    if answer.error is None:
        with outbox.repository.transaction() as tx:
            # Lock the endpoint before the message, as deleting it does, so that transactions cannot deadlock.
            tx.webhook_endpoints.note_answer(endpoint_id, at, answer.status, None)
            tx.deliveries.mark_delivered(delivery, at, answer.status)
        log.info(
            "delivered webhook_id=%s type=%s endpoint=%s", delivery.webhook_id, delivery.event_type, endpoint.public_id
        )
        return "delivered"
    with outbox.repository.transaction() as tx:
        tx.webhook_endpoints.note_answer(endpoint_id, at, answer.status, answer.error)
    if answer.is_gone or not endpoint.automatic_redelivery:
        _give_up(outbox, delivery, answer.error, answer.status)
    else:
        _put_off(outbox, delivery, answer.error, answer.status)
    return "refused"


def make_event(outbox: Outbox, delivery: Delivery) -> Event:
    """The message as the hook receives it, signed for this attempt."""
    content = delivery.body.encode()
    signed_at = (outbox.signing_clock or outbox.clock)()
    headers = delivery_headers(outbox.secret, delivery.webhook_id, signed_at, content)
    return Event(
        id=delivery.webhook_id,
        type=delivery.event_type,
        body=json.loads(delivery.body),
        content=content,
        headers={"Content-Type": "application/json", **headers},
        url=outbox.url,
    )


def _reason(error: ShopRefused) -> str:
    """The hook's reason, safe for log and database: it may quote anything that the shop answered."""
    return printable(str(error.message))[:MAX_REASON_CHARACTERS]


def _put_off(outbox: Outbox, delivery: Delivery, reason: str, status: int | None = None) -> None:
    if delivery.attempts >= len(PAUSES):
        _give_up(outbox, delivery, reason, status)
        return
    pause = PAUSES[delivery.attempts] * (1 + JITTER * outbox.jitter())
    with outbox.repository.transaction() as tx:
        tx.deliveries.put_off(delivery, outbox.clock() + pause, reason, status)
    log.warning(
        "delivery refused webhook_id=%s attempt=%d again_in_seconds=%d reason=%s",
        delivery.webhook_id, delivery.attempts + 1, pause.total_seconds(), reason,
    )  # fmt: skip


def _give_up(outbox: Outbox, delivery: Delivery, reason: str, status: int | None = None) -> None:
    with outbox.repository.transaction() as tx:
        tx.deliveries.abandon(delivery, reason, status)
    log.error("delivery abandoned webhook_id=%s reason=%s", delivery.webhook_id, reason)


def send_due_and_wait(outbox: Outbox, *, sleep: Callable[[float], None] = time.sleep) -> Counter[str]:
    """Send everything due, and wait for messages that another process is sending right now.

    A sender that was killed leaves its claim behind; after at most CLAIM it expires and the message is sent here.
    """
    counts = send_due(outbox)
    for _ in range(int(CLAIM.total_seconds()) * 2):
        with outbox.repository.reading() as tx:
            if not tx.deliveries.is_any_claimed():
                return counts
        sleep(0.5)
        counts += send_due(outbox)
    return counts


def send_again(repository: Repository, strike_invoice_id: str, now: datetime) -> list[Delivery]:
    """Make every message about an invoice due now, under its original id. Returns them. Raises NotFound."""
    with repository.transaction() as tx:
        found = tx.invoices.find_by_strike_id(strike_invoice_id)
        # Locked: a concurrent settlement would find no expiry to withdraw, and the shop would get both messages.
        invoice = None if found is None else tx.deliveries.lock_invoice(found.id)
        known = [] if invoice is None else tx.deliveries.of_invoice(invoice.id)
        owed = [one for one in known if one.state is not DeliveryState.WITHDRAWN and invoice and is_true(one, invoice)]
        if not owed:
            raise NotFound("no message to the shop was ever recorded for this invoice id")
        for delivery in owed:
            # A message that has just changed is being sent by another process.
            tx.deliveries.send_again(delivery, now)
        return owed


def is_true(delivery: Delivery, invoice: Invoice) -> bool:
    """Whether a message is still true. An expiry would make the shop cancel an order that was paid in time."""
    return not (delivery.event_type in UNTRUE_ONCE_SETTLED and invoice.state is InvoiceState.SETTLED)


def delivery_dispatcher(outbox: Outbox) -> Dispatcher:
    """The server's thread that notifies the shop."""

    def next_due_at() -> datetime | None:
        with outbox.repository.reading() as tx:
            return tx.deliveries.next_due_at()

    return Dispatcher("delivery dispatcher", lambda: send_due(outbox), next_due_at, outbox.clock, outbox.stop)
