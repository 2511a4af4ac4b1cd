"""Payouts: quotes, their execution, and the outcomes of the payments."""

from __future__ import annotations

from datetime import timedelta
from decimal import ROUND_CEILING, Decimal

from lnpay.sandbox.core import Core
from lnpay.sandbox.strike.destinations import Destination, look_up, split_behaviour
from lnpay.sandbox.strike.envelope import ApiError
from lnpay.sandbox.strike.ledger import Execution, LedgerEntry
from lnpay.sandbox.strike.models import (
    Money,
    Payment,
    PaymentQuote,
    decimals_of,
)
from lnpay.sandbox.strike.webhooks import WebhookService
from lnpay.sandbox.wallet import Receipt, Wallet

_ANSWERS_WHEN_DONE = {
    "with_id": "PAYMENT_PROCESSED",
    "without_id": "PAYMENT_PROCESSED",
    "older_code": "INVALID_STATE_FOR_INVOICE_PAID",
    "payment": "payment",
}


class PaymentService:
    """The account's outgoing payments: quotes, executes and finishes them."""

    def __init__(self, core: Core, webhooks: WebhookService, wallet: Wallet) -> None:
        self._core = core
        self._webhooks = webhooks
        self._wallet = wallet
        self.quotes: dict[str, PaymentQuote] = {}
        self.payments: dict[str, Payment] = {}
        self.quote_of_key: dict[str, PaymentQuote] = {}

    def refuse_repeat(self, key: str | None) -> None:
        """Raise DUPLICATE_PAYMENT_QUOTE, with the first quote's id, for an idempotency key seen before."""
        if key is not None and key in self.quote_of_key:
            values = {"paymentQuoteId": self.quote_of_key[key].quote_id}
            raise ApiError("DUPLICATE_PAYMENT_QUOTE", values=values)

    def quote(
        self, destination: Destination, sats: int, currency: str, key: str | None, description: str | None
    ) -> PaymentQuote:
        """A price for sending `sats` out of the account's `currency`. Moves nothing."""
        core, config = self._core, self._core.config
        fee_sats = config.payout_fee_base_sats - (-sats * config.payout_fee_ppm // 1_000_000)
        if destination.is_dear:
            fee_sats = max(1000, sats)
        created_at = core.now()
        quote = PaymentQuote(
            core.new_id(), destination.name, sats, fee_sats, self._value(sats, currency),
            self._value(fee_sats, currency), created_at,
            created_at + timedelta(seconds=config.payment_quote_seconds), key, destination.behaviour, description,
            rate=core.strike_rate(currency),
        )  # fmt: skip
        self.quotes[quote.quote_id] = quote
        if key is not None:
            self.quote_of_key[key] = quote
        return quote

    def _value(self, sats: int, currency: str) -> Money:
        if currency == "BTC":
            return Money(sats, currency)
        worth = Decimal(sats) * self._core.strike_rate(currency)
        units = worth.scaleb(decimals_of(currency) - 8).to_integral_value(rounding=ROUND_CEILING)
        return Money(int(units), currency)

    def execute(self, quote: PaymentQuote) -> Payment:
        """Pay a quote, once. Raises ApiError when it was executed before, is too old or cannot be paid."""
        try:
            payment = self._execute(quote)
        except ApiError as error:
            self._note_execution(quote, error.code)
            raise
        self._note_execution(quote, payment.state)
        return payment

    def _note_execution(self, quote: PaymentQuote, outcome: str) -> None:
        self._core.ledger.executions.append(Execution(self._core.now(), quote.quote_id, outcome))

    def _execute(self, quote: PaymentQuote) -> Payment:
        is_old = self._core.now() >= quote.expires_at
        if is_old and self._core.config.is_quote_expiry_checked_first:
            raise ApiError("PAYMENT_QUOTE_EXPIRED")
        if quote.payment is not None:
            return self._answer_again(quote.payment)
        if is_old:
            raise ApiError("PAYMENT_QUOTE_EXPIRED")
        # The rules may have changed since the quote was made: a destination can go away in between.
        word, seconds = split_behaviour(look_up(quote.destination, self._core.config).behaviour)
        if word in ("noroute", "unknown"):
            raise ApiError("LN_ROUTE_NOT_FOUND")
        if quote.destination in self._wallet.paid:
            raise ApiError("LN_INVOICE_PROCESSED")
        return self._start(quote, word, seconds)

    def _start(self, quote: PaymentQuote, word: str, seconds: float | None) -> Payment:
        core = self._core
        core.balances.reserve(quote.total)
        own = self._wallet.requests.get(quote.destination)
        payment_id, preimage = core.new_id(), core.new_secret().hex()
        payment = Payment(payment_id, quote, core.now(), own.preimage if own else preimage)
        quote.payment = payment
        self.payments[payment.payment_id] = payment
        self._webhooks.emit("payment.created", payment.payment_id)
        if word == "complete":
            self.complete(payment)
        elif word == "fail":
            self.fail(payment)
        elif seconds is not None:
            finish = self.fail if word == "pendingfail" else self.complete
            core.schedule.add(payment.created_at + timedelta(seconds=seconds), lambda: finish(payment))
        return payment

    def _answer_again(self, payment: Payment) -> Payment:
        config = self._core.config
        answers = {
            "PENDING": config.execute_again_pending,
            "FAILED": config.execute_again_failed,
            "COMPLETED": _ANSWERS_WHEN_DONE[config.execute_again_done],
        }
        answer = answers[payment.state]
        if answer == "payment":
            return payment
        has_id = answer == "PAYMENT_PROCESSED" and config.execute_again_done == "with_id"
        raise ApiError(answer, values={"paymentId": payment.payment_id} if has_id else None)

    def complete(self, payment: Payment) -> bool:
        """Complete the payment. False if it had already ended."""
        if payment.state != "PENDING":
            return False
        core, quote = self._core, payment.quote
        self._finish(payment, "COMPLETED")
        core.ledger.add(
            LedgerEntry(
                core.now(), "out", quote.sats, quote.fee_sats, quote_id=quote.quote_id,
                payment_id=payment.payment_id, idempotency_key=quote.idempotency_key,
                destination=quote.destination,
            )
        )  # fmt: skip
        self._wallet.receive(Receipt(core.now(), quote.sats, quote.destination, payment.payment_id, quote.description))
        return True

    def fail(self, payment: Payment) -> bool:
        """Fail the payment. False if it had already ended."""
        if payment.state != "PENDING":
            return False
        self._finish(payment, "FAILED")
        return True

    def _finish(self, payment: Payment, state: str) -> None:
        payment.state = state
        payment.finished_at = self._core.now()
        self._core.balances.release(payment.quote.total, is_spent=state == "COMPLETED")
        self._webhooks.emit("payment.updated", payment.payment_id, ["state"])
