"""Fill an SQLite database with a year of a busy shop: any number of invoices, a million per minute.

Of a hundred: 92 settled, 3 paid late, 5 lapsed; the newest of those are still expired or unpaid. Most late payments
were sent back; of 10,000 invoices one refund is held, one wants an address, one has failed and one is in flight. Every
sale has its message to the shop; of 10,000 one is pending and one abandoned. Texts are as long as in real life.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from lnpay.repository import Repository

MILLION = 1_000_000
YEAR = timedelta(days=365)

_QUICK = ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -200000", "temp_store = MEMORY")
"""A benchmark's database need not survive a power cut while it is filled."""

# Each row is computed from its number: times are `step` seconds apart, prices and amounts vary a little.
_INVOICES = """
INSERT INTO invoices (
    id, correlation_id, strike_correlation_id, token, amount_fiat, currency, description, ln_address, metadata,
    amount_sats, rate_price, rate_source, rate_as_of, created_at, strike_invoice_id, bolt11, payment_hash,
    strike_invoice, strike_quote, opened_at, expires_at, payable_until, state, paid_at, received_sats, settled_at)
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :count),
seeds AS (
    SELECT n, n % 100 AS percent, :start + n * :step AS at, 100 + n * 7919 % 20000 AS cents,
        9000000 + n * 104729 % 1000000 AS price,
        printf('%08x-a0b1-4c2d-8e3f-%012x', n, n * 2654435761 % 281474976710656) AS uuid
    FROM numbers),
priced AS (SELECT *, (cents * 100000000 + price - 1) / price AS sats FROM seeds),
fated AS (
    SELECT *, CASE
        WHEN percent < 92 THEN 'settled'
        WHEN percent < 95 THEN 'paid_late'
        WHEN at > :now - 120 THEN 'unpaid'
        WHEN at > :now - 4500 THEN 'expired'
        ELSE 'lapsed' END AS state
    FROM priced)
SELECT n + 1, printf('order-%08d', n), printf('order-%08d', n), printf('%08x', n) || substr(hex(uuid), 1, 24),
    printf('%d.%02d', cents / 100, cents % 100), CASE WHEN n % 50 = 7 THEN 'eur' ELSE 'usd' END,
    'Order #' || n || ', two coffees', CASE WHEN n % 3 THEN 'customer' || n || '@wallet.example' END,
    json_object('table', CAST(n % 40 AS TEXT)), sats, printf('%d.%02d', price / 100, price % 100),
    CASE n % 3 WHEN 0 THEN 'coinbase' WHEN 1 THEN 'coingecko' ELSE 'strike' END, {at - 20}, {at}, uuid,
    {bolt11}, {hash},
    json_object('invoiceId', uuid, 'amount', json_object('amount', printf('0.%08d', sats), 'currency', 'BTC'),
        'state', 'UNPAID', 'created', strftime('%Y-%m-%dT%H:%M:%S.123+00:00', at, 'unixepoch'),
        'correlationId', printf('order-%08d', n), 'description', 'Order #' || n || ', two coffees',
        'issuerId', 'df7666c0-36bf-4ead-bed9-faef9188f96b', 'receiverId', 'df7666c0-36bf-4ead-bed9-faef9188f96b'),
    json_object('quoteId', uuid, 'lnInvoice', {bolt11},
        'expiration', strftime('%Y-%m-%dT%H:%M:%S.456+00:00', at + 3600, 'unixepoch'), 'expirationInSec', 3600,
        'sourceAmount', json_object('amount', printf('0.%08d', sats), 'currency', 'BTC'),
        'targetAmount', json_object('amount', printf('0.%08d', sats), 'currency', 'BTC')),
    {at}, {at + 120}, {at + 3600}, state,
    CASE state WHEN 'settled' THEN {at + 10 + n % 100} WHEN 'paid_late' THEN {at + 130 + n % 3000} END,
    CASE WHEN state IN ('settled', 'paid_late') THEN sats END,
    CASE WHEN state = 'settled' THEN {at + 11 + n % 100} END
FROM fated
"""

_REFUNDS = """
INSERT INTO refunds (
    id, invoice_id, token, state, amount_sats, received_sats, address, idempotency_key, payment_quote_id, fee_sats,
    is_in_doubt, payment_id, failures, looks, claims, next_attempt_at, reason, started_at, sent_at, created_at)
WITH owed AS (
    SELECT *, CASE id % 10000
        WHEN 95 THEN 'held' WHEN 195 THEN 'needs_address' WHEN 295 THEN 'failed' WHEN 395 THEN 'in_flight'
        ELSE 'sent' END AS fate
    FROM invoices WHERE state = 'paid_late')
SELECT id, id, 'r' || token, fate, received_sats, received_sats,
    CASE WHEN fate <> 'needs_address' THEN 'customer' || id || '@wallet.example' END,
    strike_invoice_id, CASE WHEN fate IN ('sent', 'in_flight') THEN 'q' || strike_invoice_id END,
    CASE WHEN fate IN ('sent', 'in_flight') THEN 1 + received_sats / 1000 END, fate = 'in_flight',
    CASE WHEN fate IN ('sent', 'in_flight') THEN 'p' || substr(strike_invoice_id, 2) END,
    CASE WHEN fate = 'failed' THEN 3 ELSE 0 END, 0, 1, paid_at,
    CASE fate WHEN 'held' THEN 'REFUND_MAX_SATS: a person approves it' WHEN 'failed' THEN 'no route was found' END,
    CASE WHEN fate IN ('sent', 'in_flight') THEN paid_at END, CASE WHEN fate = 'sent' THEN paid_at END, paid_at
FROM owed
"""

_HISTORY = """
INSERT INTO refund_attempts (refund_id, at, step, outcome, address, idempotency_key, payment_quote_id, fee_sats,
    payment_id)
SELECT id, sent_at, 'execute', 'sent', address, idempotency_key, payment_quote_id, fee_sats, payment_id
FROM refunds WHERE state = 'sent'
"""

_DELIVERIES = """
INSERT INTO deliveries (
    id, webhook_id, invoice_id, event_type, body, state, attempts, claims, next_attempt_at, created_at, delivered_at,
    last_error)
WITH told AS (
    SELECT *, CASE id % 10000 WHEN 42 THEN 'pending' WHEN 43 THEN 'abandoned' ELSE 'delivered' END AS fate
    FROM invoices WHERE state = 'settled')
SELECT id, 'msg_' || printf('%08x', id) || substr(token, 9), id, 'invoice.settled',
    json_object('status', 'success', 'message', 'Payment processed successfully!', 'invoice', bolt11,
        'type', 'invoice.settled', 'timestamp', settled_at, 'data', json_object('invoice_id', strike_invoice_id,
        'correlation_id', correlation_id, 'amount_fiat', amount_fiat, 'currency', currency,
        'amount_sats', amount_sats, 'settled_at', settled_at, 'metadata', json(metadata))),
    fate, CASE fate WHEN 'delivered' THEN 1 ELSE 12 END, 1, settled_at, settled_at,
    CASE WHEN fate = 'delivered' THEN settled_at END, CASE WHEN fate <> 'delivered' THEN 'the shop answered 500' END
FROM told
"""


def fill(database_url: str, count: int = MILLION, until: datetime | None = None) -> None:
    """Make an SQLite database with `count` invoices, evenly over the year that ends at `until` (now when absent)."""
    now = int((until or datetime.now(UTC)).timestamp())
    values = {"count": count, "now": now, "start": now - YEAR.total_seconds(), "step": YEAR.total_seconds() / count}
    repository = Repository(database_url)
    try:
        repository.upgrade()
        with repository.engine.connect() as connection:
            _fill(connection.execution_options(isolation_level="AUTOCOMMIT"), values)
    finally:
        repository.close()


def _fill(connection: Connection, values: dict[str, float]) -> None:
    for pragma in _QUICK:
        connection.exec_driver_sql(f"PRAGMA {pragma}")
    connection.execute(text(_written_out(_INVOICES)), values)
    for statement in (_REFUNDS, _HISTORY, _DELIVERIES):
        connection.execute(text(statement))
    connection.exec_driver_sql("PRAGMA journal_mode = WAL")


def _written_out(statement: str) -> str:
    """Put SQL in place of the short forms: a payment request, its hash, and {a number of seconds} as a moment."""
    digits = "substr(hex(uuid) || hex(uuid) || hex(uuid) || hex(uuid), {}, {})"
    statement = statement.replace("{bolt11}", f"'lnbc' || sats || '0n1p' || lower({digits.format(3, 250)})")
    statement = statement.replace("{hash}", f"lower({digits.format(1, 64)})")
    # SQLAlchemy writes six decimals, and texts of one length can be compared.
    return re.sub(r"\{(at[^}]*)\}", r"strftime('%Y-%m-%d %H:%M:%f', \1, 'unixepoch') || '000'", statement)
