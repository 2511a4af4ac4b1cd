"""What the simulator keeps: plain records, whole units of money, aware times."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

CURRENCIES = ("BTC", "USD", "EUR", "USDT", "GBP", "AUD")


class Money(NamedTuple):
    """Whole smallest units (sats, or hundredths) of a currency."""

    units: int
    currency: str

    def text(self) -> str:
        """Decimal string: 8 places for bitcoin, 2 for the rest."""
        places = decimals_of(self.currency)
        sign = "-" if self.units < 0 else ""
        whole, rest = divmod(abs(self.units), 10**places)
        return f"{sign}{whole}.{rest:0{places}d}"


def decimals_of(currency: str) -> int:
    """Decimals of one of Strike's currencies."""
    return 8 if currency == "BTC" else 2


@dataclass(slots=True)
class Transaction:
    """One payment of an invoice."""

    transaction_id: str
    amount: Money
    created_at: datetime
    completed_at: datetime | None = None

    @property
    def state(self) -> str:
        """PENDING until it completes."""
        return "COMPLETED" if self.completed_at else "PENDING"


@dataclass(slots=True)
class Invoice:
    """What is asked for. Has no expiry of its own; its quotes do."""

    invoice_id: str
    amount: Money
    created_at: datetime
    issuer_id: str
    receiver_id: str
    state: str = "UNPAID"
    correlation_id: str | None = None
    description: str | None = None
    transactions: list[Transaction] = field(default_factory=list)
    quotes: list[InvoiceQuote] = field(default_factory=list)
    state_before: str = "UNPAID"
    changed_at: datetime | None = None
    oddities: dict[str, object] = field(default_factory=dict)
    """Fields that Strike shows of it instead of the true ones; None leaves a field out."""


@dataclass(slots=True)
class InvoiceQuote:
    """A price for an invoice, with the payment request that asks for it."""

    quote_id: str
    invoice: Invoice
    sats: int
    rate: Decimal
    created_at: datetime
    expires_at: datetime
    seconds: int
    payment_request: str
    payment_hash: str
    preimage: str
    has_description: bool = True


@dataclass(slots=True)
class Bolt11Part:
    """How a receive request is paid over Lightning. sats: None for a payer who chooses the amount."""

    payment_request: str
    payment_hash: str
    preimage: str
    requested: Money | None
    sats: int | None
    description: str | None
    description_hash: str | None
    expires_at: datetime


@dataclass(slots=True)
class OnchainPart:
    """How a receive request is paid on-chain."""

    address: str
    requested: Money | None
    sats: int | None


@dataclass(slots=True)
class ReceiveRequest:
    """Asks for money in one call. Has no state of its own: what arrives are its receives."""

    request_id: str
    created_at: datetime
    target_currency: str
    bolt11: Bolt11Part | None
    onchain: OnchainPart | None
    receives: list[Receive] = field(default_factory=list)
    oddities: dict[str, object] = field(default_factory=dict)
    """Fields that Strike shows of it instead of the true ones; None leaves a field out."""


@dataclass(slots=True)
class Receive:
    """Money that arrived for a receive request. way is "LIGHTNING", "ONCHAIN" or "P2P" (from a Strike user)."""

    receive_id: str
    request: ReceiveRequest
    way: str
    sats: int
    amount: Money
    created_at: datetime
    completed_at: datetime | None = None
    credited: Money | None = None
    rate: Decimal | None = None
    """Units of the target currency for one of the received currency; None until it completes."""
    payer_account_id: str | None = None
    onchain_transaction_id: str | None = None
    oddities: dict[str, object] = field(default_factory=dict)
    """Fields that Strike shows of it instead of the true ones; None leaves a field out."""

    @property
    def state(self) -> str:
        """PENDING until it completes."""
        return "COMPLETED" if self.completed_at else "PENDING"

    @property
    def transaction_id(self) -> str:
        """Its id, as a payment of an invoice has one."""
        return self.receive_id


@dataclass(slots=True)
class PaymentQuote:
    """A price for a payment. `sats` is what the receiver gets."""

    quote_id: str
    destination: str
    sats: int
    fee_sats: int
    amount: Money
    fee: Money
    created_at: datetime
    expires_at: datetime
    idempotency_key: str | None
    behaviour: str
    description: str | None = None
    payment: Payment | None = None
    rate: Decimal = Decimal(1)
    """Units of the currency paid with, for one bitcoin."""

    @property
    def total(self) -> Money:
        """Amount plus fee: what leaves the account."""
        return Money(self.amount.units + self.fee.units, self.amount.currency)


@dataclass(slots=True)
class Payment:
    """A payment that was started."""

    payment_id: str
    quote: PaymentQuote
    created_at: datetime
    preimage: str
    state: str = "PENDING"
    finished_at: datetime | None = None


@dataclass(slots=True)
class Subscription:
    """Where webhooks go. The secret is never shown."""

    subscription_id: str
    url: str
    version: str
    secret: str = field(repr=False)
    is_enabled: bool
    event_types: list[str]
    created_at: datetime


@dataclass(slots=True)
class AccountEvent:
    """Something that happened, with counts of the webhooks about it."""

    event_id: str
    event_type: str
    data: dict[str, object]
    created_at: datetime
    waiting: int = 0
    failed: int = 0
    delivered: int = 0

    @property
    def delivery_success(self) -> bool | None:
        """None if there was no subscription."""
        if not (self.waiting or self.failed or self.delivered):
            return None
        return not (self.waiting or self.failed)
