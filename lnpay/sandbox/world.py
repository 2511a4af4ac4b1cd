"""The whole simulated world: Strike's account, rate sources, a customer's wallet and a shop.

No sockets and no threads: time passes when the clock says so, and things happen when the state is read. Everything
random comes from one seed, so that the same calls give the same world.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import requests

from lnpay.sandbox.clock import VirtualClock
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.core import Core
from lnpay.sandbox.shop.orders import Shop
from lnpay.sandbox.strike.invoices import InvoiceService
from lnpay.sandbox.strike.models import Receive, Transaction
from lnpay.sandbox.strike.payments import PaymentService
from lnpay.sandbox.strike.receive_requests import ReceiveRequestService
from lnpay.sandbox.strike.webhooks import Attempt, Send, WebhookService
from lnpay.sandbox.wallet import Wallet, plain_request


class World(Core):
    """One world, without its HTTP front (application.py). Safe to call from several threads."""

    def __init__(
        self,
        *,
        clock: VirtualClock | None = None,
        seed: int | None = None,
        config: SimulatorConfig | None = None,
    ) -> None:
        self.new_shop_session: Callable[[], requests.Session] = requests.Session
        """How the demo shop reaches LNPay; a test inside one process gives sessions of its own."""
        super().__init__(clock=clock, seed=seed, config=config)

    def reset(self) -> None:
        """Reset everything but the clock and the settings, and start from the seed again."""
        with self.lock:
            super().reset()
            self.webhooks = WebhookService(self)
            self.wallet = Wallet()
            self.invoices = InvoiceService(self, self.webhooks, self.wallet)
            self.receive_requests = ReceiveRequestService(self, self.webhooks, self.wallet)
            self.payments = PaymentService(self, self.webhooks, self.wallet)
            self.shop = Shop()

    def pay_invoice(
        self,
        payment_request: str,
        *,
        late_seconds: float = 0,
        pending_seconds: float | None = None,
        reverts: bool = False,
        received_sats: int | None = None,
        is_strike_user: bool = False,
    ) -> Transaction | Receive:
        """Pay a BOLT11 payment request or an address (any case, as a link or not) from the wallet.

        late_seconds: the clock moves forward that much first. pending_seconds: the payment takes that long
        (None: as configured); with `reverts` it then fails. received_sats: what arrives for an invoice in
        bitcoin or a receive request, when it is not what was asked. is_strike_user: the customer pays with Strike's
        app, which a receive request shows. Raises PaymentRefused.
        """
        if late_seconds:
            self.clock.advance(late_seconds)
        with self.lock:
            self.tick()
            text = plain_request(payment_request)
            seconds = self.config.invoice_pending_seconds if pending_seconds is None else pending_seconds
            if self.receive_requests.find(text) is None:
                return self.invoices.pay(text, seconds, reverts, received_sats)
            return self.receive_requests.pay(
                text, sats=received_sats, pending_seconds=seconds, reverts=reverts, is_strike_user=is_strike_user
            )

    def complete_payment(self, payment_id: str) -> bool:
        """Complete a pending payout. False if it had already ended; KeyError if there is none."""
        with self.lock:
            self.tick()
            return self.payments.complete(self.payments.payments[payment_id])

    def fail_payment(self, payment_id: str) -> bool:
        """Fail a pending payout. False if it had already ended; KeyError if there is none."""
        with self.lock:
            self.tick()
            return self.payments.fail(self.payments.payments[payment_id])

    def due_webhooks(self) -> list[Attempt]:
        """The webhook attempts that should be made now, in order."""
        with self.lock:
            self.tick()
            return self.webhooks.due(self.clock.now())

    def next_webhook_at(self) -> datetime | None:
        """When the next webhook attempt is due; None when none is owed."""
        with self.lock:
            return self.webhooks.next_at()

    def pump_webhooks(self, send: Send) -> int:
        """Make every attempt due now with `send`, and schedule retries of those that fail. Returns their number."""
        count = 0
        while self._send_one(send):
            count += 1
        return count

    def _send_one(self, send: Send) -> bool:
        with self.lock:
            self.tick()
            attempt = self.webhooks.claim(self.clock.now())
            if attempt is None:
                return False
            headers = self.webhooks.headers_of(attempt)
        status: int | None = None
        try:
            status = send(attempt.subscription.url, attempt.body, headers)
        except Exception:  # noqa: BLE001 - for any fault of the receiver, the provider sees no answer
            status = None
        with self.lock:
            self.webhooks.record(attempt, status)
        return True
