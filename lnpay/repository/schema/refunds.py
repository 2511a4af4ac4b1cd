"""Refunds and their history."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text

from lnpay.domain.states import AmountBasis, RefundAsker, RefundKind, RefundState
from lnpay.repository.schema.base import BigId, metadata, one_of, only_where
from lnpay.repository.schema.column_types import ExactDecimal, UtcDateTime, WholeSats

refunds = Table(
    "refunds",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("invoice_id", ForeignKey("invoices.id"), nullable=False),
    Column("token", String(64), nullable=False, unique=True),
    Column("state", String(15), nullable=False),
    Column("amount_sats", WholeSats, nullable=False),
    Column("received_sats", WholeSats, nullable=False),
    Column("address", Text),
    Column("idempotency_key", String(36), nullable=False, unique=True),
    # Strike's price for sending it, stored before it is executed.
    Column("payment_quote_id", String(64), unique=True),
    Column("fee_sats", WholeSats),
    # Strike may have been told to send it: set in the commit before each execution.
    Column("is_in_doubt", Boolean, nullable=False, default=False),
    Column("payment_id", String(64), unique=True),
    Column("failures", Integer, nullable=False, default=0),
    Column("looks", Integer, nullable=False, default=0),
    Column("claims", Integer, nullable=False, default=0),
    Column("claimed_until", UtcDateTime),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("reason", Text),
    Column("approved_at", UtcDateTime),
    Column("started_at", UtcDateTime),
    Column("sent_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    # Code decides by these columns alone; `reason` is only for people.
    Column("executed_at", UtcDateTime),
    Column("stuck_at", UtcDateTime),
    # Which of the keys in `refunds_keys` this is; 0: an older one. Each begins with asked_at NULL: as far as this
    # database knows, Strike was never asked for a quote under it.
    Column("key_number", Integer, nullable=False, default=0, server_default="0"),
    Column("asked_at", UtcDateTime),
    Column("unanswered_quotes", Integer, nullable=False, default=0, server_default="0"),
    # When someone, mostly the customer, requested it; small refunds are sent only after that.
    Column("wanted_at", UtcDateTime),
    Column("held_because", String(20)),
    Column("closed_by", String(10)),
    Column("kind", String(10), nullable=False, default=RefundKind.LATE, server_default="late"),
    # Which refund of its invoice it is.
    Column("sequence", Integer, nullable=False, default=1, server_default="1"),
    # How its amount was given, and the price that converted an amount in the invoice's currency to sats.
    Column("basis", String(15), nullable=False, default=AmountBasis.WHOLE, server_default="whole"),
    Column("amount_fiat", ExactDecimal),
    Column("price", ExactDecimal),
    Column("price_as_of", UtcDateTime),
    Column("asked_by", String(10), nullable=False, default=RefundAsker.RULE, server_default="rule"),
    Column("api_key_id", BigInteger),
    # The Idempotency-Key of the request, and a SHA-256 of what was asked under it.
    Column("request_key", String(255)),
    Column("request_hash", String(64)),
    # When it is withdrawn if it still has no address; NULL: never.
    Column("claim_expires_at", UtcDateTime),
    Column("canceled_at", UtcDateTime),
    Column("cancel_cause", String(15)),
    CheckConstraint("amount_sats > 0", name="ck_refunds_amount_positive"),
    CheckConstraint("amount_sats <= received_sats", name="ck_refunds_never_more_than_received"),
    CheckConstraint("fee_sats >= 0", name="ck_refunds_fee_not_negative"),
    CheckConstraint(one_of("state", RefundState), name="ck_refunds_state_known"),
    CheckConstraint(
        "address IS NOT NULL OR state IN ('needs_address', 'sent', 'held', 'canceled')", name="ck_refunds_has_address"
    ),
    CheckConstraint(
        "state NOT IN ('quoted', 'in_flight') OR (payment_quote_id IS NOT NULL AND fee_sats IS NOT NULL)",
        name="ck_refunds_quote_before_execute",
    ),
    CheckConstraint("(state = 'sent') = (sent_at IS NOT NULL)", name="ck_refunds_sent_at"),
    CheckConstraint(one_of("kind", RefundKind), name="ck_refunds_kind_known"),
    CheckConstraint(
        "(state = 'canceled') = (canceled_at IS NOT NULL) AND (canceled_at IS NULL) = (cancel_cause IS NULL)",
        name="ck_refunds_canceled_at",
    ),
    CheckConstraint("(request_key IS NULL) = (request_hash IS NULL)", name="ck_refunds_request_has_hash"),
    # An invoice is paid late once.
    Index("uq_refunds_late", "invoice_id", unique=True, **only_where("kind = 'late'")),
    Index("uq_refunds_invoice_id_sequence", "invoice_id", "sequence", unique=True),
    Index("uq_refunds_invoice_id_request_key", "invoice_id", "request_key", unique=True),
    Index("ix_refunds_claim_expires_at", "claim_expires_at", **only_where("claim_expires_at IS NOT NULL")),
    Index("ix_refunds_state_next_attempt_at", "state", "next_attempt_at"),
    # The operator's list, in the order of the ids.
    Index("ix_refunds_state_kind_id", "state", "kind", "id"),
    Index("ix_refunds_started_at", "started_at"),
    Index("ix_refunds_address", "address"),
    Index("ix_refunds_sent_at", "sent_at", "id", "amount_sats", **only_where("sent_at IS NOT NULL")),
)

refund_attempts = Table(
    "refund_attempts",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("refund_id", ForeignKey("refunds.id"), nullable=False, index=True),
    Column("at", UtcDateTime, nullable=False),
    Column("step", String(20), nullable=False),
    Column("outcome", Text, nullable=False),
    Column("address", Text),
    Column("idempotency_key", String(36), nullable=False),
    Column("payment_quote_id", String(64)),
    Column("fee_sats", WholeSats),
    Column("payment_id", String(64)),
    Column("strike_code", Text),
    Column("trace_id", Text),
    # The refund's state after this entry; NULL in older versions' entries that did not end it.
    Column("state", String(15)),
)
