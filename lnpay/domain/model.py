"""LNPay's records, immutable. Money is whole sats or Decimal; times are UTC-aware.

`Draft` is the shop's request, priced and stored before Strike is called; it becomes an `Invoice` once Strike has issued
one for it. Both are the same row: nothing moves between tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from lnpay.domain.money import CurrencyAmount
from lnpay.domain.permissions import KeyPurpose, Permissions
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import (
    Accepter,
    AmountBasis,
    CancelCause,
    Closer,
    DeliveryState,
    EndpointForm,
    EndpointSetter,
    HoldCause,
    InvoiceState,
    RefundAsker,
    RefundKind,
    RefundState,
    RefundStep,
)

Clock = Callable[[], datetime]
"""Returns the current time, UTC-aware. Always passed in, so that tests can control it."""


def utc_now() -> datetime:
    """The system clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Rate:
    """The price of one bitcoin in `currency`, its source and its time."""

    price: Decimal
    currency: str
    source: str
    as_of: datetime


@dataclass(frozen=True)
class Order:
    """A shop's request, validated. Two equal orders are the same request.

    return_url, retry_url: where the customer goes once it is paid, and for a new invoice once it has expired.
    metadata: any JSON value that the shop wants returned, unchanged, in every message and answer about the order.
    order_id: the shop's order, if that may take several attempts, each with its own correlation id.
    checkout_options: what a Greenfield client chose for the payment page. None: the invoice was not created through
    Greenfield.
    expires_in: seconds to pay; None: the installation's default.
    """

    amount_fiat: Decimal
    currency: str
    description: str | None
    ln_address: str | None
    return_url: str | None = None
    retry_url: str | None = None
    metadata: Any = field(default_factory=dict)
    order_id: str | None = None
    checkout_options: dict[str, Any] | None = None
    expires_in: int | None = None


@dataclass(frozen=True)
class Draft:
    """An order with its price, not yet issued at Strike and not yet shown to any customer.

    `strike_correlation_id` makes creating it at Strike safe to repeat. No other program can choose the same one (see
    `strike_names`). A draft that is priced again gets a new one, because Strike keeps the first price under the first
    name.
    """

    id: int
    correlation_id: str
    strike_correlation_id: str
    token: str
    order: Order
    amount_sats: int
    rate: Rate
    created_at: datetime

    @property
    def order_id(self) -> str:
        """The id of the shop's order that this invoice is for: the correlation id, unless the shop gave one."""
        return self.order.order_id or self.correlation_id


@dataclass(frozen=True)
class Issue:
    """What Strike issued for a draft: its invoice, the one quote we show, and what that quote's BOLT11 says.

    receive_with: whether it is a Strike invoice, or a receive request presented as one. For a receive request,
    strike_invoice_id is the request's id, and its payments are credited in target_currency, an upper-case code.
    archived_at: when bolt11 and Strike's two objects were moved to the archive. All three are empty if the archive
    cannot be read.
    """

    strike_invoice_id: str
    bolt11: str
    payment_hash: str
    strike_invoice: dict[str, Any]
    strike_quote: dict[str, Any]
    opened_at: datetime
    expires_at: datetime
    payable_until: datetime
    receive_with: ReceiveWith = ReceiveWith.INVOICE
    target_currency: str | None = None
    archived_at: datetime | None = None


@dataclass(frozen=True)
class Invoice(Draft):
    """A payment request that a customer may have seen, and its state.

    seen_at: when Strike first showed a payment that is not final yet; only displayed, it decides nothing.
    marked_invalid_at: when the shop gave the invoice up; its deadline ended then, so a later payment is late.
    accepted_by: who accepted a late payment; None: it was in time, or is refunded. accepted_price: the price of one
    bitcoin at which it was accepted automatically.
    credited, conversion_rate: what Strike credited for all payments of a receive request, and at which rate.
    """

    issue: Issue
    state: InvoiceState
    paid_at: datetime | None
    received_sats: int | None
    settled_at: datetime | None
    seen_at: datetime | None = None
    marked_invalid_at: datetime | None = None
    accepted_by: Accepter | None = None
    accepted_price: Decimal | None = None
    credited: CurrencyAmount | None = None
    conversion_rate: Decimal | None = None

    @property
    def strike_invoice_id(self) -> str:
        """Strike's `invoiceId`: the id by which shops and operators know this invoice."""
        return self.issue.strike_invoice_id

    @property
    def expires_at(self) -> datetime:
        """The moment after which a payment is late."""
        return self.issue.expires_at


@dataclass(frozen=True)
class Refund:
    """Money owed back for an invoice. An invoice may have several; those that are not canceled never add up to more
    than was received (see `invoices.refund_reserved_sats`).

    idempotency_key: for this attempt's payment quote. is_in_doubt: the quote may have been executed at Strike.
    failures, looks: how many attempts have failed, and how often a payment in flight was checked; they determine the
    pauses.
    claims: incremented with every claim; only the holder of the newest one may record that it was not sent.
    reason: why it is not sent yet, for the operator to read; it decides nothing.
    approved_at: when the operator lifted the limits for this refund to its current address.
    started_at: when this attempt was first executed. executed_at: when a call that could still send it was last made.
    stuck_at: since when Strike's answers can no longer tell whether it was sent; the operator must find out.
    key_number: which of its keys idempotency_key is. asked_at: when Strike was last asked for a quote under that key
    and may have made one; None if, as far as this database knows, it cannot have.
    unanswered_quotes: how many requests under that key may have created its quote, because their answer is unknown.
    wanted_at: when the customer or the operator asked for it; small refunds are not sent before that.
    held_because: why it is held. closed_by: on whose evidence it counts as sent.
    sequence: its number among the refunds of its invoice, from 1.
    basis: how its amount was given. amount_fiat, price, price_as_of: the amount in the invoice's currency, and the
    price of one bitcoin that converted it to sats; None if it was given in sats, or as everything that is left.
    asked_by, api_key_id: who asked for it, and with which key; None: one of API_KEYS, or no key.
    request_key, request_hash: the Idempotency-Key of the request, and what was asked under it.
    claim_expires_at: when it is withdrawn if it still needs an address; None: never.
    canceled_at, cancel_cause: when and why it was withdrawn.
    """

    id: int
    invoice_id: int
    token: str
    state: RefundState
    amount_sats: int
    received_sats: int
    address: str | None
    idempotency_key: str
    payment_quote_id: str | None
    fee_sats: int | None
    is_in_doubt: bool
    payment_id: str | None
    failures: int
    looks: int
    claims: int
    claimed_until: datetime | None
    next_attempt_at: datetime
    reason: str | None
    approved_at: datetime | None
    started_at: datetime | None
    sent_at: datetime | None
    created_at: datetime
    executed_at: datetime | None = None
    stuck_at: datetime | None = None
    held_because: HoldCause | None = None
    key_number: int = 0
    asked_at: datetime | None = None
    unanswered_quotes: int = 0
    wanted_at: datetime | None = None
    closed_by: Closer | None = None
    kind: RefundKind = RefundKind.LATE
    sequence: int = 1
    basis: AmountBasis = AmountBasis.WHOLE
    amount_fiat: Decimal | None = None
    price: Decimal | None = None
    price_as_of: datetime | None = None
    asked_by: RefundAsker = RefundAsker.RULE
    api_key_id: int | None = None
    request_key: str | None = None
    request_hash: str | None = None
    claim_expires_at: datetime | None = None
    canceled_at: datetime | None = None
    cancel_cause: CancelCause | None = None


@dataclass(frozen=True)
class RefundKey:
    """An idempotency key, and its number among the keys of its refund (see `lnpay.refunds.keys`)."""

    value: str
    number: int


@dataclass(frozen=True)
class Hold:
    """Why a refund must wait for the operator: as a code, and in words."""

    cause: HoldCause
    reason: str


@dataclass(frozen=True)
class RefundAttempt:
    """One entry in a refund's history: what was tried, with which key and quote, and the result.

    outcome: in words. state: the refund's state afterwards; None in entries that an older version added.
    """

    at: datetime
    step: RefundStep
    outcome: str
    state: RefundState | None
    address: str | None
    idempotency_key: str
    payment_quote_id: str | None
    fee_sats: int | None
    payment_id: str | None
    strike_code: str | None
    trace_id: str | None


@dataclass(frozen=True)
class Delivery:
    """One message owed to the shop. `webhook_id` is the same on every attempt; `body` is the same bytes.

    endpoint_id: the webhook endpoint that it is for; None: the delivery hook (DELIVERY_URL). refund_id: the refund that
    it is about; 0: the invoice itself. last_status: the HTTP status of the endpoint's last answer, if any.
    original_id: for a redelivery, the message that it repeats. place: its position among the messages to an endpoint;
    None: its id is the position.
    """

    id: int
    webhook_id: str
    invoice_id: int
    event_type: str
    body: str
    state: DeliveryState
    attempts: int
    claims: int
    claimed_until: datetime | None
    next_attempt_at: datetime
    created_at: datetime
    delivered_at: datetime | None
    last_error: str | None
    endpoint_id: int | None = None
    refund_id: int = 0
    last_status: int | None = None
    original_id: int | None = None
    place: int | None = None


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """The settings of a webhook endpoint.

    wants_everything: every event of the form, regardless of `events`. secret: signs the messages.
    automatic_redelivery: whether a message that is not accepted is sent again.
    """

    url: str
    form: EndpointForm
    secret: str = field(repr=False)
    events: frozenset[str] = frozenset()
    wants_everything: bool = True
    is_enabled: bool = True
    automatic_redelivery: bool = True

    def wants(self, event_type: str) -> bool:
        """Whether messages of this type are sent to it."""
        return self.wants_everything or event_type in self.events


@dataclass(frozen=True, kw_only=True)
class WebhookEndpoint(EndpointSettings):
    """A URL of the shop that LNPay notifies in addition to the delivery hook.

    public_id: its id in the API. set_by: who chose the URL. last_status: the HTTP status of the last answer; None
    if there was none. last_error: why the last message was not accepted; None if it was.
    """

    id: int
    public_id: str
    set_by: EndpointSetter
    created_at: datetime
    last_answer_at: datetime | None
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True)
class Heartbeat:
    """The last pass of a worker.

    trouble: what the operator should look at, in words, if anything. troubled_since: when the current series of passes
    with trouble began. unreadable: how many rows, Strike's or ours, it skipped. host: the machine that it ran on;
    empty: hosts are not distinguished.
    """

    worker: str
    ended_at: datetime
    trouble: str | None
    troubled_since: datetime | None = None
    unreadable: int = 0
    host: str = ""


@dataclass(frozen=True)
class Event:
    """What the delivery hook receives: one message for the shop, ready to send.

    `content` is the JSON body as bytes and `headers` go with it (webhook-id, webhook-timestamp and, when
    DELIVERY_SECRET is set, webhook-signature); `body` is the same JSON, parsed.
    """

    id: str
    type: str
    body: dict[str, Any]
    content: bytes
    headers: dict[str, str]
    url: str


@dataclass(frozen=True)
class NewApiKey:
    """What is stored about a new API key. The secret itself is not stored.

    key_hash: SHA-256 of the secret, in hex. application_id, redirect_host: if a plugin requested the key, which one,
    and the host that the key was sent to.
    """

    key_hash: str
    label: str
    permissions: Permissions
    made_for: KeyPurpose
    application_id: str | None
    redirect_host: str | None
    created_at: datetime


@dataclass(frozen=True)
class ApiKey(NewApiKey):
    """An API key. revoked_at: from then on it is refused. last_used_at: to the minute."""

    id: int
    last_used_at: datetime | None
    revoked_at: datetime | None
