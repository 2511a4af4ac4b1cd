"""The simulator's options, most of them where Strike's behaviour is uncertain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

ACCOUNTS: dict[str, dict[str, Any]] = {
    "bitcoin": {},
    "us": {"available_currencies": ["BTC", "USD"], "invoiceable_currencies": ["USD"], "default_currency": "USD"},
}
"""Kinds of accounts. "us" is like a recorded US account: it holds bitcoin and cannot issue an invoice in bitcoin."""


@dataclass(slots=True)
class SimulatorConfig:
    """Options of a simulator. The defaults follow the best evidence; tests switch to the others.

    Values are plain JSON values, so that the control API can set any of them.
    """

    # Authentication and rate limits.
    api_keys: dict[str, list[str]] | None = None
    """None: any non-empty bearer key with all scopes. Else key to scopes; "*" stands for all."""
    rate_limits: str = "production"
    """ "production", "sandbox" or "off"."""
    rate_limit_table: dict[str, list[int]] | None = None
    """Replaces the table: bucket to [calls, window seconds, lock-out seconds]; see limits.py."""
    rate_limit_body: str = "html"
    """ "html" or "json"."""
    retry_after_form: str = "seconds"
    """ "seconds" or "date"."""
    invoice_reads_share_creation_bucket: bool = False

    # The account and its currencies.
    currencies: list[str] = field(default_factory=lambda: ["BTC", "USD", "EUR", "USDT", "GBP", "AUD"])
    available_currencies: list[str] | None = None
    """What the account can hold; None: all of them."""
    invoiceable_currencies: list[str] = field(default_factory=lambda: ["BTC", "USD"])
    default_currency: str = "BTC"
    start_balance_sats: int = 10_000_000
    handle: str = "corner-shop"
    issuer_of_invoices: str = "integration"
    """What `issuerId` says: the "integration", which accounts share, or the "account" itself, like `receiverId`."""

    # Invoices.
    same_currency_quote_seconds: int = 3600
    cross_currency_quote_seconds: int = 30
    quote_seconds: int | None = None
    """Overrides both when set."""
    is_payable_after_cancel: bool = False
    """True: a payment request that was issued can still be paid after its invoice was cancelled."""
    invoice_pending_seconds: float = 0
    """How long a paid invoice stays PENDING before it is PAID."""
    invoice_read_lag_seconds: float = 0
    """For how long after an invoice has changed, reading it by id still shows its previous state."""
    transactions: str = "present"
    """ "present", "empty" (an empty list) or "missing" (no such field) with includeTransactions."""
    transaction_fields_missing: list[str] = field(default_factory=list)
    """For example ["completed"] or ["created"]."""
    timestamp_digits: list[int] = field(default_factory=lambda: [3, 6, 7])
    filter_policy: str = "block_compound"
    """What Cloudflare lets through: "allow", "block_or", "block_compound" (dates too) or "block_all"."""
    multi_value_in: str = "pass"
    """Several values in `in (...)`: "pass" or "refuse" (400)."""
    is_count_unknown: bool = False

    # Receive requests.
    receive_expiry_seconds: int = 3600
    """How long a payment request is valid by default."""
    max_receive_expiry_seconds: int = 31_536_000
    """A longer expiry is refused."""
    receive_grace_seconds: float = 0
    """For how long after its expiry a payment request can still be paid."""
    is_strike_user_held_to_expiry: bool = True
    """False: a Strike user can pay a request that has expired."""
    strike_user_currency: str = "BTC"
    """What a Strike user pays in: the currency of such a receive's amountReceived."""
    receives_per_request: str = "many"
    """ "many", or "one": a request that was paid cannot be paid again."""
    receive_amounts: str = "any"
    """What may arrive for a request of a fixed amount: "any", "not_less" or "exact"."""
    receive_read_lag_seconds: float = 0
    """For how long after a receive has arrived or completed, reads do not show that yet."""
    onchain_pending_seconds: float = 600
    """How long an on-chain receive stays PENDING."""
    receive_fields_missing: list[str] = field(default_factory=list)
    """Fields omitted from receives, for example ["amountCredited"] or ["completed"]."""
    empty_receive_fields: str = "null"
    """Fields without a value are "null" or "absent"."""
    has_conversion_rate_of_one: bool = False
    """Whether an unconverted receive also has a conversionRate."""
    has_receive_id_in_events: bool = True
    array_filters: str = "both"
    """Which form of an array filter is understood: "both", "comma" (a,b) or "repeated" (the key again); or the
    filter is "ignored" (every row comes), or "refused"."""
    unknown_array_form: str = "refused"
    """A form that is not understood is "refused" or "narrow": of repeated keys the first counts, and values with a
    comma match nothing."""
    array_refusal_status: int = 400
    most_array_values: int = 100
    most_query_bytes: int | None = None
    """A longer query string is answered 414."""
    receive_default_top: int = 50

    # Payouts.
    payment_quote_seconds: int = 60
    has_valid_until: bool = True
    has_payment_quote_read: bool = False
    """Whether GET /v1/payment-quotes/{id} exists."""
    execute_status: str = "auto"
    """Answer to execute: "200", "202", or "auto" (202 while pending)."""
    execute_again_done: str = "with_id"
    """Executing a completed quote: 422 PAYMENT_PROCESSED "with_id" or "without_id", "older_code" (422
    INVALID_STATE_FOR_INVOICE_PAID, as before 2024-07), or "payment" (200). With "with_id", PAYMENT_PROCESSED names the
    payment also where it failed."""
    execute_again_pending: str = "PROCESSING_PAYMENT"
    """ "PROCESSING_PAYMENT" (422), "PROCESSING_CONFLICT" (409) or "payment" (202)."""
    execute_again_failed: str = "payment"
    """Executing a quote whose payment failed: "payment" (200, FAILED), "PAYMENT_PROCESSED" or
    "PAYMENT_QUOTE_EXPIRED"."""
    is_quote_expiry_checked_first: bool = False
    """True: an old quote answers PAYMENT_QUOTE_EXPIRED even when it was paid long ago."""
    payment_form: str = "full"
    """Fields of a payment: "full" (documented), "recorded" (the few that an operator recorded), or "everything" (all
    documented fields at all times, null while they have no value)."""
    payout_fee_base_sats: int = 1
    payout_fee_ppm: int = 1000
    payout_behaviours: dict[str, str] = field(default_factory=dict)
    """Glob of a destination to a behaviour (see destinations.py), before the built-in names."""
    unknown_address_status: int = 422
    unknown_address_code: str = "UNPROCESSABLE_ENTITY"
    min_sendable_sats: int = 1
    max_sendable_sats: int = 100_000_000
    comment_allowed: int = 120

    # Webhooks.
    signature_case: str = "upper"
    """ "upper" or "lower" hexadecimal digits."""
    webhook_jitter_seconds: float = 0
    """The first attempt of each webhook is delayed by up to this much."""
    webhook_retries: int = 12
    event_days: int = 30
    """How long the events API shows an event."""

    # The demo shop and the pages.
    backend_url: str = "http://127.0.0.1:5000"
    """LNPay's URL, which the demo shop calls."""
    backend_api_key: str = ""
    """The API key that the demo shop sends if LNPay requires one."""
    shop_currency: str = "usd"
    late_seconds: int = 180
    """How far "pay late" moves the clock."""

    def usable_currencies(self) -> list[str]:
        """What the account can hold."""
        return self.currencies if self.available_currencies is None else self.available_currencies

    def update(self, values: Mapping[str, Any]) -> None:
        """Set fields by name. Raises ValueError for a name or a type that does not fit; then nothing is set."""
        hints = get_type_hints(type(self))
        known = {item.name for item in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"no such setting: {name}")
            if not _fits(value, str(hints[name])):
                raise ValueError(f"wrong type for {name}: {hints[name]}")
        for name, value in values.items():
            setattr(self, name, value)


def _fits(value: object, hint: str) -> bool:
    """Whether a JSON value is valid for a field with this type hint, given as text."""
    if value is None:
        return "None" in hint
    if isinstance(value, bool):
        return "bool" in hint
    if isinstance(value, int):
        return "float" in hint or hint in ("<class 'int'>", "int | None")
    return type(value).__name__ in hint.partition("[")[0]
