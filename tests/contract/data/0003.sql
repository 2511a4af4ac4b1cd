-- What schema 0003, that of 0.1.0, has beside the rows of 0001.sql: its tables of that file are the same.
-- Times are UTC. Never change this file: it stands for databases that exist.

INSERT INTO invoices (id, correlation_id, strike_correlation_id, token, amount_fiat, currency, description, ln_address, return_url, retry_url, metadata, amount_sats, rate_price, rate_source, rate_as_of, created_at, strike_invoice_id, bolt11, payment_hash, strike_invoice, strike_quote, opened_at, expires_at, payable_until, state, seen_at, paid_at, received_sats, settled_at, checked_at)
VALUES (13, 'order-waiting', 'order-waiting', 'token-waiting', '1234567890.12', 'eur', 'Zwei Kaffee ☕', 'alice@example.com', 'https://shop.example/paid', 'https://shop.example/again', '{"table":"7"}', 2100, '103456.78901234567890123', 'coingecko', '2026-05-18 12:00:00.123456', '2026-05-18 12:00:01.123456', 'strike-waiting', 'lnbc13', '000000000000000000000000000000000000000000000000000000000000000d', '{"invoiceId":"strike-waiting","amount":{"amount":"0.00000001"}}', '{"lnInvoice":"lnbc13","conversionRate":{"amount":1.0000000000000001}}', '2026-05-18 12:00:02.123456', '2026-05-18 12:02:01.123456', '2026-05-18 13:00:00.000000', 'settled', NULL, '2026-05-18 12:00:31.123456', 2100, '2026-05-18 12:00:32.123456', NULL);

INSERT INTO deliveries (id, webhook_id, invoice_id, event_type, body, state, attempts, claims, claimed_until, next_attempt_at, created_at, delivered_at, last_error)
VALUES (4, 'msg_4', 13, 'invoice.settled', '{"status":"success","message":"Grüße ☕"}', 'pending', 5, 5, NULL, '2026-05-18 12:10:33.123456', '2026-05-18 12:00:32.123456', NULL, 'the shop answered 503');

INSERT INTO deliveries (id, webhook_id, invoice_id, event_type, body, state, attempts, claims, claimed_until, next_attempt_at, created_at, delivered_at, last_error)
VALUES (5, 'msg_5', 3, 'refund.needs_address', '{"status":"needs_address"}', 'pending', 0, 0, NULL, '2026-05-18 12:00:33.123456', '2026-05-18 12:00:32.123456', NULL, NULL);

INSERT INTO heartbeats (worker, ended_at, trouble)
VALUES ('main', '2026-05-18 12:00:55.123456', NULL), ('refund', '2026-05-18 12:00:56.123456', 'one refund needs an address');

INSERT INTO login_tries (who, wrong, free_at)
VALUES ('203.0.113.7', 6, '2026-05-18 12:05:00.000000');
