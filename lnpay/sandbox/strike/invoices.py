"""Strike's invoices: created, quoted, paid, cancelled."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal

from lnpay.sandbox.core import Core
from lnpay.sandbox.strike.bolt11_writer import PaymentTerms, write_payment_request
from lnpay.sandbox.strike.envelope import ApiError
from lnpay.sandbox.strike.ledger import LedgerEntry
from lnpay.sandbox.strike.models import (
    Invoice,
    InvoiceQuote,
    Money,
    Transaction,
    decimals_of,
)
from lnpay.sandbox.strike.webhooks import WebhookService
from lnpay.sandbox.wallet import Wallet


class PaymentRefused(Exception):
    """The wallet could not pay.

    reason: "unknown", "expired", "paid", "pending", "cancelled", "amount_missing" (the payer has to choose one),
    "amount_refused" (not the amount that is asked for) or "amount_unreadable".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the payment request is {reason}".replace("request is amount_", "request's amount is "))
        self.reason = reason


class InvoiceService:
    """The account's invoices: creates, quotes and pays them."""

    def __init__(self, core: Core, webhooks: WebhookService, wallet: Wallet) -> None:
        self._core = core
        self._webhooks = webhooks
        self._wallet = wallet
        self.by_id: dict[str, Invoice] = {}
        self.by_correlation_id: dict[str, Invoice] = {}
        self.quotes_by_request: dict[str, InvoiceQuote] = {}

    def create(self, amount: Money, correlation_id: str | None, description: str | None) -> Invoice:
        """A new unpaid invoice. Raises ApiError DUPLICATE_INVOICE for a correlation id seen before."""
        if correlation_id is not None and correlation_id in self.by_correlation_id:
            raise ApiError("DUPLICATE_INVOICE")
        core = self._core
        invoice = Invoice(
            core.new_id(), amount, core.now(), core.issuer_id(), core.account_id,
            correlation_id=correlation_id, description=description,
        )  # fmt: skip
        self.by_id[invoice.invoice_id] = invoice
        if correlation_id is not None:
            self.by_correlation_id[correlation_id] = invoice
        self._webhooks.emit("invoice.created", invoice.invoice_id)
        return invoice

    def quote(self, invoice: Invoice, description_hash: bytes | None = None) -> InvoiceQuote:
        """A price and a payment request for an unpaid invoice. Raises ApiError in any other state."""
        require_unpaid(invoice)
        rate = self._core.strike_rate(invoice.amount.currency)
        seconds = self._quote_seconds(invoice.amount.currency)
        created_at, preimage = self._core.now(), self._core.new_secret()
        sats = sats_of(invoice.amount, rate)
        terms = PaymentTerms(
            sats=sats,
            timestamp=int(created_at.timestamp()),
            expiry_seconds=seconds,
            payment_hash=hashlib.sha256(preimage).digest(),
            payment_secret=self._core.new_secret(),
            description=invoice.description or "",
            description_hash=description_hash,
        )
        quote = InvoiceQuote(
            self._core.new_id(), invoice, sats, rate, created_at, created_at + timedelta(seconds=seconds),
            seconds, write_payment_request(terms), terms.payment_hash.hex(), preimage.hex(),
        )  # fmt: skip
        invoice.quotes.append(quote)
        self.quotes_by_request[quote.payment_request] = quote
        return quote

    def _quote_seconds(self, currency: str) -> int:
        config = self._core.config
        if config.quote_seconds is not None:
            return config.quote_seconds
        if currency == "BTC":
            return config.same_currency_quote_seconds
        return config.cross_currency_quote_seconds

    def state_shown(self, invoice: Invoice) -> str:
        """The state that reading it by id shows now: for a while after a change, the one before."""
        lag = timedelta(seconds=self._core.config.invoice_read_lag_seconds)
        if invoice.changed_at is not None and self._core.now() < invoice.changed_at + lag:
            return invoice.state_before
        return invoice.state

    def cancel(self, invoice: Invoice) -> None:
        """Cancel an unpaid invoice. Raises ApiError in any other state."""
        require_unpaid(invoice)
        self._move(invoice, "CANCELLED")

    def pay(
        self, payment_request: str, pending_seconds: float, reverts: bool, received_sats: int | None = None
    ) -> Transaction:
        """Receive a payment now. Raises PaymentRefused.

        pending_seconds: how long it stays PENDING; reverts: it then fails. received_sats: what arrives for
        an invoice in bitcoin (None: what it asks for).
        """
        quote = self._payable_quote(payment_request)
        invoice = quote.invoice
        amount = invoice.amount if received_sats is None else Money(received_sats, "BTC")
        transaction = Transaction(self._core.new_id(), amount, self._core.now())
        invoice.transactions.append(transaction)
        if not pending_seconds:
            self._complete(quote, transaction)
            return transaction
        self._move(invoice, "PENDING")
        finish = self._revert if reverts else self._complete
        due_at = transaction.created_at + timedelta(seconds=pending_seconds)
        self._core.schedule.add(due_at, lambda: finish(quote, transaction))
        return transaction

    def _payable_quote(self, payment_request: str) -> InvoiceQuote:
        quote = self.quotes_by_request.get(payment_request)
        if quote is None:
            raise PaymentRefused("unknown")
        state = quote.invoice.state
        if state in ("PAID", "PENDING"):
            raise PaymentRefused(state.lower())
        if state == "CANCELLED" and not self._core.config.is_payable_after_cancel:
            raise PaymentRefused("cancelled")
        if self._core.now() >= quote.expires_at:
            raise PaymentRefused("expired")
        return quote

    def _complete(self, quote: InvoiceQuote, transaction: Transaction) -> None:
        core, invoice = self._core, quote.invoice
        transaction.completed_at = core.now()
        sats = transaction.amount.units if transaction.amount != invoice.amount else quote.sats
        core.balances.credit(transaction.amount)
        self._wallet.sats -= sats
        core.ledger.add(
            LedgerEntry(
                transaction.created_at, "in", sats, invoice_id=invoice.invoice_id,
                quote_id=quote.quote_id, payment_id=transaction.transaction_id,
                payment_request=quote.payment_request,
            )
        )  # fmt: skip
        self._move(invoice, "PAID")

    def _revert(self, quote: InvoiceQuote, transaction: Transaction) -> None:
        quote.invoice.transactions.remove(transaction)
        self._move(quote.invoice, "UNPAID")

    def _move(self, invoice: Invoice, state: str) -> None:
        invoice.state_before, invoice.changed_at = invoice.state, self._core.now()
        invoice.state = state
        self._webhooks.emit("invoice.updated", invoice.invoice_id, ["state"])


def require_unpaid(invoice: Invoice) -> None:
    """Raise Strike's refusal unless the invoice is unpaid."""
    if invoice.state == "PENDING":
        raise ApiError("PROCESSING_PAYMENT")
    if invoice.state != "UNPAID":
        raise ApiError(f"INVALID_STATE_FOR_INVOICE_{invoice.state}")


def sats_of(amount: Money, rate: Decimal) -> int:
    """Sats for an amount at a price, rounded up."""
    if amount.currency == "BTC":
        return amount.units
    exact = Decimal(amount.units).scaleb(8 - decimals_of(amount.currency)) / rate
    return int(exact.to_integral_value(rounding=ROUND_CEILING))
