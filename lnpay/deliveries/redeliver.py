"""Use case: list the messages to one webhook endpoint, and send one again as a new message.

The new message names the one that it repeats. A message that is no longer true is not repeated.
"""

from __future__ import annotations

from datetime import datetime

from lnpay.deliveries.btcpay_message import btcpay_body
from lnpay.deliveries.send import Outbox, is_true
from lnpay.domain.errors import Conflict, NotFound
from lnpay.domain.events import BtcpayEventType, new_webhook_id
from lnpay.domain.model import Delivery, WebhookEndpoint
from lnpay.domain.states import DeliveryState
from lnpay.repository import Transaction


def list_deliveries(outbox: Outbox, endpoint: WebhookEndpoint, limit: int) -> list[Delivery]:
    """The newest messages to an endpoint, newest first, also those that wait or are withdrawn."""
    with outbox.repository.reading() as tx:
        return tx.deliveries.newest_of_endpoint(endpoint.id, limit)


def get_delivery(outbox: Outbox, endpoint: WebhookEndpoint, delivery_id: str) -> Delivery:
    """One message to an endpoint. Raises NotFound, also for one to another endpoint."""
    with outbox.repository.reading() as tx:
        return _find(tx, endpoint, delivery_id)


def redeliver(outbox: Outbox, endpoint: WebhookEndpoint, delivery_id: str) -> str:
    """Send a message to an endpoint of the btcpay form again. Returns the id under which it is sent.

    A message that waits for its first attempt is due at once, under its own id. Otherwise the repetition has an id of
    its own, and it replaces one that waits to be retried, or was given up: it is sent in its place, before what follows
    about the same invoice. Raises NotFound, and Conflict if the message is no longer true.
    """
    now = outbox.clock()
    with outbox.repository.transaction() as tx:
        invoice = tx.deliveries.lock_invoice(_find(tx, endpoint, delivery_id).invoice_id)
        # Read again under the lock, which keeps others from settling the invoice or requesting the same redelivery.
        wanted = _find(tx, endpoint, delivery_id)
        assert invoice is not None  # noqa: S101 - deliveries.invoice_id is a foreign key to an issued invoice
        if not is_true(wanted, invoice):
            raise Conflict("the invoice has been paid since: this message is no longer true and is not sent again")
        same = tx.deliveries.same_as(wanted)
        untried = next((one for one in same if one.state is DeliveryState.PENDING and not one.attempts), None)
        if untried is not None:
            tx.deliveries.send_again(untried, now)
            return untried.webhook_id
        place, due_at = _make_room(tx, same, now)
        original, new_id = same[0], new_webhook_id()
        store_id = tx.installation.make_store_id()
        body = btcpay_body(
            BtcpayEventType(wanted.event_type), invoice, original.created_at, new_id, endpoint.public_id, store_id,
            original.webhook_id,
        )  # fmt: skip
        tx.deliveries.add(
            invoice.id, wanted.event_type, new_id, body, now, due_at, endpoint.id, wanted.refund_id, original.id, place
        )
        return new_id


def _make_room(tx: Transaction, same: list[Delivery], now: datetime) -> tuple[int | None, datetime]:
    """Withdraw the message that a redelivery replaces. Returns its place in the order, and when it is out of the way.

    A message that is being sent right now cannot be stopped: the repetition waits until that is over.
    """
    place, due_at = None, now
    for one in same:
        if one.state in (DeliveryState.PENDING, DeliveryState.ABANDONED):
            due_at = max(due_at, tx.deliveries.replace(one) or now)
        if one.state is DeliveryState.PENDING:
            place = one.place or one.id
    return place, due_at


def _find(tx: Transaction, endpoint: WebhookEndpoint, delivery_id: str) -> Delivery:
    found = tx.deliveries.find_of_endpoint(endpoint.id, delivery_id)
    if found is None:
        raise NotFound("there is no such delivery to this webhook endpoint")
    return found
