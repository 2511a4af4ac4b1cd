"""The tables, with constraints that hold even if the code is wrong."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
)

from lnpay.domain.permissions import KeyPurpose
from lnpay.domain.states import (
    DeliveryState,
    EndpointForm,
    EndpointSetter,
    InvoiceState,
)
from lnpay.repository.schema.archive import archive_totals as archive_totals
from lnpay.repository.schema.archive import invoice_archive as invoice_archive
from lnpay.repository.schema.base import BigId, one_of, only_where
from lnpay.repository.schema.base import metadata as metadata
from lnpay.repository.schema.column_types import AnyJson, ExactDecimal, JsonText, WholeSats
from lnpay.repository.schema.column_types import UtcDateTime as UtcDateTime
from lnpay.repository.schema.prices import shared_prices as shared_prices
from lnpay.repository.schema.receives import receives as receives
from lnpay.repository.schema.refunds import refund_attempts as refund_attempts
from lnpay.repository.schema.refunds import refunds as refunds

_ISSUED_COLUMNS = (
    "bolt11", "payment_hash", "strike_invoice", "strike_quote", "opened_at", "expires_at", "payable_until",
)  # fmt: skip
_ISSUED_AT_ONCE = " AND ".join(f"(({column} IS NULL) = (strike_invoice_id IS NULL))" for column in _ISSUED_COLUMNS)

IS_MARKED_INVALID = "marked_invalid_at IS NOT NULL"
IS_ACCEPTED = "accepted_by IS NOT NULL"
IS_SETTLED_IN_TIME = "state = 'settled' AND accepted_by IS NULL"
IS_TO_ARCHIVE = "paid_at IS NOT NULL AND archived_at IS NULL"
IS_SEEN_UNPAID = "seen_at IS NOT NULL AND state NOT IN ('settled', 'paid_late')"
"""Conditions of partial indexes. A query must use exactly the same text, or the index is not used."""

IS_ADDRESS_INDEXED = "length(ln_address) <= 320"
"""A shop's address may be any text, and PostgreSQL refuses a row whose indexed text is too long."""


invoices = Table(
    "invoices",
    metadata,
    Column("id", BigId, primary_key=True),
    # The shop's request, stored before Strike is asked.
    Column("correlation_id", String(40), nullable=False, unique=True),
    Column("order_id", String(40)),
    # The former correlation_id of a cancelled invoice, which the next invoice now has.
    Column("former_correlation_id", String(40)),
    Column("strike_correlation_id", String(40), nullable=False),
    Column("token", String(64), nullable=False, unique=True),
    Column("amount_fiat", ExactDecimal, nullable=False),
    Column("currency", String(10), nullable=False),
    Column("description", Text),
    Column("ln_address", Text),
    Column("return_url", Text),
    Column("retry_url", Text),
    # A Greenfield client's options for the payment page; NULL: the invoice was not created through Greenfield.
    Column("checkout_options", JsonText),
    Column("metadata", AnyJson, nullable=False),
    # Seconds to pay; NULL: the installation's default at that time.
    Column("expires_in", Integer),
    Column("amount_sats", WholeSats, nullable=False),
    Column("rate_price", ExactDecimal, nullable=False),
    Column("rate_source", String(20), nullable=False),
    Column("rate_as_of", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # What Strike issued for it: all of it or nothing.
    Column("strike_invoice_id", String(64), unique=True),
    Column("bolt11", Text),
    Column("payment_hash", String(64)),
    Column("strike_invoice", JsonText),
    Column("strike_quote", JsonText),
    Column("opened_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
    Column("payable_until", UtcDateTime),
    # The way that it is paid: strike_invoice_id names an invoice or a receive request, whose payments are credited in
    # target_currency.
    Column("receive_with", String(20), nullable=False, server_default="invoice"),
    Column("target_currency", String(10)),
    # Its outcome.
    Column("state", String(10), nullable=False),
    Column("seen_at", UtcDateTime),
    Column("paid_at", UtcDateTime),
    Column("received_sats", WholeSats),
    # The sum of the refunds that are not canceled; changed in the transaction that adds or cancels one.
    Column("refund_reserved_sats", WholeSats, nullable=False, default=0, server_default="0"),
    # What Strike credited for it, and at which rate; NULL where Strike did not say, or was not asked.
    Column("credited_amount", ExactDecimal),
    Column("credited_currency", String(20)),
    Column("conversion_rate", ExactDecimal),
    Column("settled_at", UtcDateTime),
    Column("checked_at", UtcDateTime),
    # When Strike first listed it as paid although it could not be settled.
    Column("listed_paid_at", UtcDateTime),
    # When the shop marked it as invalid; expires_at is not later.
    Column("marked_invalid_at", UtcDateTime),
    # Who accepted a late payment, and at which price the rule did.
    Column("accepted_by", String(10)),
    Column("accepted_price", ExactDecimal),
    # When bolt11, strike_invoice and strike_quote were moved to invoice_archive; since then they are empty here.
    Column("archived_at", UtcDateTime),
    CheckConstraint("accepted_by IS NULL OR state = 'settled'", name="ck_invoices_accepted_is_settled"),
    CheckConstraint("amount_sats > 0", name="ck_invoices_amount_positive"),
    CheckConstraint("received_sats > 0", name="ck_invoices_received_positive"),
    CheckConstraint(one_of("state", InvoiceState), name="ck_invoices_state_known"),
    CheckConstraint(_ISSUED_AT_ONCE, name="ck_invoices_issued_at_once"),
    CheckConstraint("strike_invoice_id IS NOT NULL OR state = 'unpaid'", name="ck_invoices_draft_unpaid"),
    CheckConstraint("(state IN ('settled', 'paid_late')) = (paid_at IS NOT NULL)", name="ck_invoices_paid_has_time"),
    CheckConstraint(
        "(paid_at IS NULL) = (received_sats IS NULL) AND (state = 'settled') = (settled_at IS NOT NULL)",
        name="ck_invoices_paid_has_amount",
    ),
    CheckConstraint(
        "refund_reserved_sats = 0 OR (refund_reserved_sats > 0 AND refund_reserved_sats <= COALESCE(received_sats, 0))",
        name="ck_invoices_refunds_within_received",
    ),
    # Indexes for the workers' queries, so that a million rows of history cost nothing.
    Index("ix_invoices_state_opened_at", "state", "opened_at"),
    Index("ix_invoices_state_expires_at", "state", "expires_at"),
    Index("ix_invoices_state_payable_until", "state", "payable_until"),
    Index("ix_invoices_state_checked_at", "state", "checked_at"),
    # Indexes for people: lists, searches and daily totals.
    Index("ix_invoices_opened_at", "opened_at"),
    # The price of the last sale in a currency, which may be a rare one.
    Index("ix_invoices_currency", "currency", "id"),
    Index("ix_invoices_payment_hash", "payment_hash"),
    Index("ix_invoices_strike_correlation_id", "strike_correlation_id"),
    Index("ix_invoices_order_id", "order_id", **only_where("order_id IS NOT NULL")),
    Index("ix_invoices_ln_address", "ln_address", "opened_at", **only_where(IS_ADDRESS_INDEXED)),
    Index("ix_invoices_listed_paid_at", "listed_paid_at", **only_where("listed_paid_at IS NOT NULL")),
    Index("ix_invoices_marked_invalid", "opened_at", **only_where(IS_MARKED_INVALID)),
    Index("ix_invoices_accepted", "opened_at", **only_where(IS_ACCEPTED)),
    Index("ix_invoices_seen", "opened_at", **only_where(IS_SEEN_UNPAID)),
    # A client that skips far into the settled ones must not read each of their rows.
    Index("ix_invoices_settled_in_time", "state", "opened_at", "id", **only_where(IS_SETTLED_IN_TIME)),
    Index("ix_invoices_paid_at", "paid_at", "id", "state", "received_sats", **only_where("paid_at IS NOT NULL")),
    Index("ix_invoices_to_archive", "paid_at", **only_where(IS_TO_ARCHIVE)),
)

SHOWN_CORRELATION_ID = func.coalesce(invoices.c.former_correlation_id, invoices.c.correlation_id).label(
    "correlation_id"
)
"""The shop's id for an invoice, even if a later invoice has taken it over."""

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("public_id", String(32), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("form", String(10), nullable=False),
    # Names, separated by spaces.
    Column("events", Text, nullable=False),
    Column("wants_everything", Boolean, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("automatic_redelivery", Boolean, nullable=False),
    Column("set_by", String(10), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    Column("last_answer_at", UtcDateTime),
    Column("last_status", Integer),
    Column("last_error", Text),
    CheckConstraint(one_of("form", EndpointForm), name="ck_webhook_endpoints_form_known"),
    CheckConstraint(one_of("set_by", EndpointSetter), name="ck_webhook_endpoints_set_by_known"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("webhook_id", String(64), nullable=False, unique=True),
    Column("invoice_id", ForeignKey("invoices.id"), nullable=False),
    Column("event_type", String(40), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("claims", Integer, nullable=False),
    Column("claimed_until", UtcDateTime),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("delivered_at", UtcDateTime),
    Column("last_error", Text),
    # NULL: for the delivery hook (DELIVERY_URL). Messages of one invoice to one endpoint are sent in the order of ids.
    Column("endpoint_id", ForeignKey("webhook_endpoints.id")),
    # Which refund it is about; 0: the invoice itself.
    Column("refund_id", BigInteger, nullable=False, default=0, server_default="0"),
    # The HTTP status that the endpoint answered last; NULL without one.
    Column("last_status", Integer),
    # Of a redelivery: the message that is repeated, and, if that one was still waiting, the place it had in the order.
    Column("original_id", BigInteger),
    Column("place", BigInteger),
    CheckConstraint(one_of("state", DeliveryState), name="ck_deliveries_state_known"),
    CheckConstraint("(state = 'delivered') = (delivered_at IS NOT NULL)", name="ck_deliveries_delivered_at"),
    Index(
        "uq_deliveries_invoice_id_event_type",
        "invoice_id",
        "event_type",
        "refund_id",
        unique=True,
        **only_where("endpoint_id IS NULL"),
    ),
    Index(
        "uq_deliveries_invoice_id_endpoint_id_event_type",
        *("invoice_id", "endpoint_id", "event_type", "refund_id"),
        unique=True,
        **only_where("original_id IS NULL"),
    ),
    Index("ix_deliveries_invoice_id_endpoint_id", "invoice_id", "endpoint_id"),
    Index("ix_deliveries_endpoint_id", "endpoint_id", "id", **only_where("endpoint_id IS NOT NULL")),
    Index("ix_deliveries_state_next_attempt_at", "state", "next_attempt_at"),
)

provider_blocks = Table(
    "provider_blocks",
    metadata,
    Column("bucket", String(30), primary_key=True),
    Column("blocked_until", UtcDateTime, nullable=False),
)

provider_calls = Table(
    "provider_calls",
    metadata,
    Column("bucket", String(30), primary_key=True),
    Column("slot_at", UtcDateTime, primary_key=True),
    Column("calls", Integer, nullable=False),
)

milestones = Table(
    "milestones",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("reached_at", UtcDateTime, nullable=False),
)

# The last pass on any host: all that LNPay before version 0025 knows.
heartbeats = Table(
    "heartbeats",
    metadata,
    Column("worker", String(20), primary_key=True),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("trouble", Text),
    Column("troubled_since", UtcDateTime),
    Column("unreadable", Integer, nullable=False, server_default="0"),
)

host_heartbeats = Table(
    "host_heartbeats",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("worker", String(20), nullable=False),
    Column("host", String(64), nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("trouble", Text),
    Column("troubled_since", UtcDateTime),
    Column("unreadable", Integer, nullable=False, server_default="0"),
    UniqueConstraint("worker", "host"),
)

installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(10), nullable=False),
    # What Greenfield clients call this shop; never changes.
    Column("store_id", String(40)),
    CheckConstraint("id = 1", name="ck_installation_is_one"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", BigId, primary_key=True),
    # SHA-256 of the secret; the secret itself is not stored.
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("label", String(100), nullable=False),
    # Names, separated by spaces.
    Column("permissions", Text, nullable=False),
    Column("made_for", String(20), nullable=False),
    # Which program asked for it, and where its answer went, when it was authorized from a shop.
    Column("application_id", String(200)),
    Column("redirect_host", String(260)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    CheckConstraint(one_of("made_for", KeyPurpose), name="ck_api_keys_made_for_known"),
    CheckConstraint("length(key_hash) = 64", name="ck_api_keys_key_hash_is_sha256"),
)

restores = Table(
    "restores",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("noticed_at", UtcDateTime, nullable=False),
    Column("cause", String(20), nullable=False),
    Column("copied_at", UtcDateTime),
    Column("last_invoice_id", BigInteger, nullable=False),
)

login_tries = Table(
    "login_tries",
    metadata,
    Column("who", String(80), primary_key=True),
    Column("wrong", Integer, nullable=False),
    Column("free_at", UtcDateTime, nullable=False),
)

pruned_invoices = Table(
    "pruned_invoices",
    metadata,
    Column("strike_invoice_id", String(64), primary_key=True),
    Column("correlation_id", String(40), nullable=False),
    Column("order_id", String(40)),
    Column("amount_sats", WholeSats, nullable=False),
    Column("currency", String(10), nullable=False),
    Column("amount_fiat", ExactDecimal, nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("pruned_at", UtcDateTime, nullable=False),
    Column("found_paid_at", UtcDateTime),
    Column("received_sats", WholeSats),
    Index("ix_pruned_invoices_found_paid_at", "found_paid_at", **only_where("found_paid_at IS NOT NULL")),
)

pruned_totals = Table(
    "pruned_totals",
    metadata,
    Column("id", BigId, primary_key=True),
    # A day in UTC, as 2026-01-31.
    Column("day", String(10), nullable=False),
    Column("currency", String(10), nullable=False),
    Column("state", String(10), nullable=False),
    Column("invoices", Integer, nullable=False),
    # The amounts of strangers' requests may add up to more than a database integer can hold.
    Column("amount_sats", ExactDecimal, nullable=False),
    Column("amount_fiat", ExactDecimal, nullable=False),
    Column("pruned_at", UtcDateTime, nullable=False),
    CheckConstraint("invoices > 0", name="ck_pruned_totals_some"),
    Index("ix_pruned_totals_day", "day"),
)
