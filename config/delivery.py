"""How your shop is notified: the default hook, and the example for your own.

To change it, copy this file to config/local/delivery.py and edit the copy. LNPay uses the copy if there is one, and no
upgrade touches it. Changes to this file are lost with the next upgrade.

`deliver` is called for every event the shop is owed: at once, and again with growing pauses for more than three days
until it returns without raising. It may be called twice for the same event, so drop repeats by `event.id`.

    event.type      "invoice.settled", or another of DELIVERY_EVENTS
    event.body      the message as a dict: status, message, invoice, type, timestamp, data {...}
    event.content   the same as JSON bytes: what the signature in event.headers signs
    event.headers   webhook-id, webhook-timestamp, webhook-signature (when DELIVERY_SECRET is set)
    event.url       DELIVERY_URL

If you mark orders paid here instead of over HTTP, compare event.body["data"]["amount_fiat"] and ["currency"] with your
own order first: the event says what was paid, not that your shop asked for that amount.
"""

import requests

from lnpay.deliveries.shop_answer import require_accepted
from lnpay.domain.errors import ShopRefused
from lnpay.domain.model import Event
from lnpay.http.outgoing import call_for_status, pooled_session

TIMEOUT_SECONDS = (3, 12)
"""To connect, and to answer. After 15 in total the call is cut, before another process may send the same event."""


def deliver(event: Event) -> None:
    """POST the event to the shop. Returns when the shop answered 2xx; raises to be called again."""
    try:
        # The answer's status is all that counts, so its body is not waited for.
        with pooled_session() as session:
            answer = call_for_status(
                session, "POST", event.url, data=event.content, headers=event.headers, timeout=TIMEOUT_SECONDS
            )
    except requests.RequestException as error:
        raise ShopRefused(f"the shop could not be reached: {type(error).__name__}") from error
    require_accepted(answer.status_code)
