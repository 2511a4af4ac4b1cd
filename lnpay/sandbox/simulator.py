"""The whole simulated world: Strike's account, rate sources, a customer's wallet and a shop.

No sockets and no threads: time passes when the clock says so, and things happen when somebody looks. Everything
random comes from one seed, so that the same calls give the same world.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import requests

from lnpay.sandbox.application import answer_wsgi
from lnpay.sandbox.balances import Balances
from lnpay.sandbox.clock import VirtualClock
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.envelope import ApiError
from lnpay.sandbox.faults import FaultBox
from lnpay.sandbox.invoices import InvoiceBook
from lnpay.sandbox.ledger import Ledger
from lnpay.sandbox.limits import RateLimiter
from lnpay.sandbox.models import Transaction
from lnpay.sandbox.payments import PaymentDesk
from lnpay.sandbox.rates import Rates
from lnpay.sandbox.schedule import Schedule
from lnpay.sandbox.shop import Shop
from lnpay.sandbox.wallet import Wallet
from lnpay.sandbox.webhooks import Attempt, Send, WebhookDesk


class Simulator:
    """One world. Safe to call from several threads.

    seed: same seed, same calls, same frozen clock: same ids, keys and chances. None: different every time.
    """

    shop: Shop
    """Named here for the type checker: the shop and the simulator know each other."""

    def __init__(
        self,
        *,
        clock: VirtualClock | None = None,
        seed: int | None = None,
        config: SimulatorConfig | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.clock = clock or VirtualClock()
        self.seed = seed
        self.config = config or SimulatorConfig()
        self.new_shop_session: Callable[[], requests.Session] = requests.Session
        """How the demo shop reaches LNPay; a test inside one process gives sessions of its own."""
        self._moment: datetime | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything but the clock and the settings, and start from the seed again."""
        with self.lock:
            self.random = random.Random(self.seed)
            self.account_id = self.new_id()
            self.schedule = Schedule()
            self.faults = FaultBox(random.Random(self.random.getrandbits(64)))
            self.limits = RateLimiter()
            self.rates = Rates()
            self.ledger = Ledger()
            self.balances = Balances(self.config.start_balance_sats)
            self.invoices = InvoiceBook(self)
            self.payments = PaymentDesk(self)
            self.webhooks = WebhookDesk(self)
            self.wallet = Wallet()
            self.shop = Shop()

    def now(self) -> datetime:
        """The moment things happen at, in whole milliseconds, so that any way of writing it is exact."""
        moment = self._moment or self.clock.now()
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def new_id(self) -> str:
        """The next UUID."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def new_secret(self) -> bytes:
        """The next 32 bytes."""
        return self.random.getrandbits(256).to_bytes(32, "big")

    def strike_rate(self, currency: str) -> Decimal:
        """Strike's price of one bitcoin; 1 for bitcoin. Raises ApiError EXCHANGE_RATE_NOT_AVAILABLE."""
        if currency == "BTC":
            return Decimal(1)
        price = self.rates.price("strike", currency)
        if price is None:
            raise ApiError("EXCHANGE_RATE_NOT_AVAILABLE")
        return price.quantize(Decimal("0.0001"))

    def tick(self) -> None:
        """Let everything happen that is due by now, each thing at its own moment."""
        with self.lock:
            while due := self.schedule.pop_due(self.clock.now()):
                self._moment, action = due
                try:
                    action()
                finally:
                    self._moment = None

    def next_scheduled_at(self) -> datetime | None:
        """When something happens by itself next: a pending payment ends, a delayed request takes effect."""
        return self.schedule.next_at()

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Everything over HTTP: Strike, rates, control, shop, wallet."""
        return answer_wsgi(self, environ, start_response)

    def pay_invoice(
        self,
        payment_request: str,
        *,
        late_seconds: float = 0,
        pending_seconds: float | None = None,
        reverts: bool = False,
        received_sats: int | None = None,
    ) -> Transaction:
        """Pay a BOLT11 payment request (any case, with or without "lightning:") from the wallet.

        late_seconds: the clock moves forward that much first. pending_seconds: the payment takes that long
        (None: as configured); with `reverts` it then comes to nothing. received_sats: what arrives for an invoice in
        bitcoin, when it is not what was asked. Raises PaymentRefused.
        """
        if late_seconds:
            self.clock.advance(late_seconds)
        with self.lock:
            self.tick()
            text = payment_request.strip().lower().removeprefix("lightning:")
            seconds = self.config.invoice_pending_seconds if pending_seconds is None else pending_seconds
            return self.invoices.pay(text, seconds, reverts, received_sats)

    def complete_payment(self, payment_id: str) -> bool:
        """End a pending payout well. False when it had ended; KeyError when there is none."""
        with self.lock:
            self.tick()
            return self.payments.complete(self.payments.payments[payment_id])

    def fail_payment(self, payment_id: str) -> bool:
        """End a pending payout badly. False when it had ended; KeyError when there is none."""
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
        """Make every attempt that is due now through `send`; gives their number. Plan the repeats of failures."""
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
        except Exception:  # noqa: BLE001 - whatever keeps the receiver from answering, the provider sees no answer
            status = None
        with self.lock:
            self.webhooks.record(attempt, status)
        return True
