"""What a seed chooses before anything happens: the provider's behaviour, the faults, the shop's settings."""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lnpay.sandbox.clock import FROZEN_START
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.strike.bolt11_writer import PaymentTerms, write_payment_request
from tests.simulation.scheduler import Chances
from tests.world import ALL_EVENTS

EXECUTE = "/v1/payment-quotes/*/execute"
QUOTE = "/v1/payment-quotes/lightning/lnurl"

PATHS = (
    ("POST", "/v1/invoices"), ("POST", "/v1/invoices/*/quote"), ("GET", "/v1/invoices"), ("GET", "/v1/invoices/*"),
    ("POST", QUOTE), ("PATCH", EXECUTE), ("PATCH", EXECUTE), ("PATCH", EXECUTE), ("GET", "/v1/payments/*"),
    ("GET", "/v1/payment-quotes/*"), ("*", "/v1/*"), ("POST", "/shop/webhook"), ("POST", "/shop/webhook"),
    ("GET", "/coingecko/*"), ("GET", "/coinbase/*"), ("GET", "/v1/rates/ticker"),
)  # fmt: skip

AFTER_KINDS = ("error_after", "lost_answer", "timeout_after", "garbage", "truncated", "lost_answer", "error_after")
KINDS = (*AFTER_KINDS, "error", "unreachable", "lost_request", "delay", "delay_after", "html403", "rate_limited")
WEBHOOK_KINDS = ("webhook_duplicate", "webhook_delay", "webhook_reorder", "webhook_forge")

SERVER_ERRORS = (
    (500, "INTERNAL_SERVER_ERROR"), (502, "BAD_GATEWAY"), (503, "SERVICE_UNAVAILABLE"), (503, "MAINTENANCE_MODE"),
    (503, "LN_UNAVAILABLE"), (503, "LN_UNAVAILABLE"), (503, "LN_UNAVAILABLE"), (504, "GATEWAY_TIMEOUT"),
)  # fmt: skip

REFUSALS = ((409, "PROCESSING_CONFLICT"), (425, "ACCOUNT_NOT_READY"), (401, "UNAUTHORIZED"), (403, "FORBIDDEN"))

BEHAVIOURS = (
    "complete", "complete", "complete", "complete", "fail", "noroute", "unknown", "pending", "pending:30",
    "pending:900", "pending:14400", "pendingfail:30", "pendingfail:7200",
)  # fmt: skip

BEHAVIOURS_OF_KIND = {
    "any": BEHAVIOURS,
    "failing": ("fail", "fail", "fail", "pendingfail:30", "complete"),
    "aged": ("complete", "complete", "pending:30"),
    "limits": ("complete", "pending:900", "pending:14400", "pending"),
}

KINDS_OF_DOUBT = ("failing", "aged")

PLANS = ("in time", "in time", "last second", "late", "late", "late", "late", "some time", "never")

OTHER_REQUEST = write_payment_request(
    PaymentTerms(4_711, int(FROZEN_START.timestamp()), 86_400, b"\1" * 32, b"\2" * 32, "something else")
)
"""A valid payment request for another amount."""


ODD_FIELDS: tuple[dict[str, object], ...] = (
    {}, {"amount": {"currency": "BTC"}}, {"amount": None}, {"amount": "0.5"}, {"created": None},
    {"created": "yesterday"}, {"state": "SOMETHING_NEW"}, {"invoiceId": 7}, {"invoiceId": None},
    {"amount": {"amount": "x", "currency": "BTC"}},
)  # fmt: skip
"""The odd fields with which a list may show another program's invoice."""

HOURS: tuple[float, ...] = (10_800.0, 36_000.0)


@dataclass(frozen=True)
class Scene:
    """Who takes part, and what kind of world it is.

    kind: "any"; "failing": lost answers to executions of payments that fail; "aged": the same for payments that
    succeed, whose quotes have expired at the next check; "limits": several late payments of the same amount, of which
    the daily limit permits one.
    is_tight: the limit of "other" calls, here and at the provider, is a fiftieth of the real one. skew_seconds: how far
    the clocks of processes may be off. has_restore: the database is replaced with an earlier raw copy of it.
    has_cancelling: shops cancel orders. has_merchants: shops refund paid orders.
    """

    kind: str
    has_webhooks: bool
    has_workers: bool
    is_tight: bool
    customers: int
    activities: int
    installations: int
    skew_seconds: float
    has_long_pending: bool
    has_odd_rows: bool
    has_restore: bool
    has_cancelling: bool
    has_merchants: bool


def draw_scene(chance: random.Random) -> Scene:
    """Who takes part."""
    part = chance.random()
    is_tight = chance.random() < 0.1
    has_restore = chance.random() < 0.1 and not is_tight
    kind = chance.choice(("any",) * 13 + ("failing",) * 3 + ("aged",) * 2 + ("limits",) * 2)
    return Scene(
        kind=kind,
        has_webhooks=part > 0.2,
        has_workers=part < 0.85,
        is_tight=is_tight,
        customers=chance.choice((1, 2, 2, 3, 3, 4)) if kind == "any" else 3,
        activities=chance.randint(16, 40) if kind == "any" else chance.randint(30, 60),
        installations=2 if chance.random() < 0.15 and not is_tight else 1,
        skew_seconds=chance.choice((0.0, 30.0, 300.0, 300.0, *HOURS)),
        has_long_pending=chance.random() < 0.25 and kind == "any",
        has_odd_rows=chance.random() < 0.2,
        has_restore=has_restore,
        has_cancelling=kind == "any" and chance.random() < 0.6,
        has_merchants=kind == "any" and not has_restore and chance.random() < 0.4,
    )


def draw_config(chance: random.Random, scene: Scene) -> SimulatorConfig:
    """Draw one reading of Strike's documentation."""
    pick = chance.choice
    config = SimulatorConfig(
        rate_limit_body=pick(("html", "json")),
        retry_after_form=pick(("seconds", "date")),
        start_balance_sats=pick((0, 10_000_000, 10_000_000, 10_000_000)),
        same_currency_quote_seconds=pick((30, 600, 3600, 3600, 3600, 3600)),
        invoice_read_lag_seconds=pick((0.0, 0.0, 0.0, 2.0, 8.0)),
        transactions=pick(("present",) * 10 + ("empty", "missing")),
        transaction_fields_missing=pick(([], [], [], ["completed"], ["created"], ["amountReceived"])),
        timestamp_digits=pick(([3], [6], [7], [3, 6, 7])),
        filter_policy=pick(("allow", "block_or", "block_compound", "block_compound", "block_all")),
        is_count_unknown=pick((False, True)),
        payment_quote_seconds=pick((5, 5, 20, 60, 600)),
        has_valid_until=pick((True, False)),
        has_payment_quote_read=pick((True, False)),
        execute_status=pick(("auto", "200", "202")),
        execute_again_done=pick(("with_id", "without_id", "payment")),
        execute_again_pending=pick(("PROCESSING_PAYMENT", "PROCESSING_CONFLICT", "payment")),
        execute_again_failed=pick(("payment",) * 6 + ("PAYMENT_QUOTE_EXPIRED",) * 3 + ("PAYMENT_PROCESSED",)),
        is_quote_expiry_checked_first=pick((False, True)),
        payout_fee_ppm=pick((0, 1_000, 1_000, 10_000, 50_000)),
        unknown_address_status=pick((422, 404, 400)),
        unknown_address_code=pick(("UNPROCESSABLE_ENTITY", "NOT_FOUND", "INVALID_DATA")),
        signature_case=pick(("upper", "lower")),
        webhook_jitter_seconds=pick((0.0, 0.0, 2.0)),
        is_payable_after_cancel=pick((False, True)),
    )
    if scene.kind != "any":
        config.start_balance_sats = 10_000_000
    if scene.kind == "failing":
        config.payment_quote_seconds = pick((60, 60, 600))
        config.execute_again_failed = pick(("PAYMENT_QUOTE_EXPIRED", "PAYMENT_PROCESSED", "PAYMENT_PROCESSED"))
        config.execute_again_done = pick(("with_id", "with_id", "without_id", "payment"))
    if scene.kind == "aged":
        config.payment_quote_seconds = pick((5, 20))
        config.is_quote_expiry_checked_first = True
    if scene.is_tight:
        busy = ("invoice_creation", "invoice_quote", "rates")
        # LNPay uses 19 of its 20 calls. Really it leaves 50 for calls that reach Strike long after they were counted.
        config.rate_limit_table = {**{name: [250, 60, 60] for name in busy}, "others": [22, 600, 3_600]}
        config.rate_limit_table.update(
            {"payment_quote_creation": [12, 60, 60], "payment_quote_execution": [12, 60, 60]}
        )
    return config


def draw_settings(chance: random.Random, scene: Scene) -> dict[str, Any]:
    """Draw the shop's settings of LNPay."""
    settings: dict[str, Any] = {
        "time_offset_seconds": chance.choice((30, 120, 120, 600)),
        "delivery_events": ALL_EVENTS if chance.random() < 0.6 else frozenset({"invoice.settled"}),
        "refund_max_fee_percent": Decimal(chance.choice((0, 1, 2, 2))),
        "refunds_enabled": chance.random() > 0.04,
        "refund_max_sats": chance.choice((None,) * 9 + (5_000,)),
        "refund_daily_max_sats": chance.choice((None,) * 7 + (1_600, 13_000, 20_000)),
    }
    if scene.has_merchants:
        settings["refund_claim_days"] = 1
    if scene.kind == "limits":
        settings.update(refunds_enabled=True, refund_max_sats=None, refund_daily_max_sats=20_000)
    return settings


def draw_chances(chance: random.Random, scene: Scene, config: SimulatorConfig) -> Chances:
    """Draw how often processes crash, are suspended, and find the database locked."""
    return Chances(
        stall=chance.choice((0.0, 0.0, 0.0, 0.3)),
        stall_seconds=(15.0, config.payment_quote_seconds + 60.0),
        crash=chance.choice((0.0, 0.0, 0.005, 0.02, 0.05) if scene.kind == "any" else (0.0, 0.0, 0.01)),
        pause=chance.choice((0.0, 0.0, 0.005, 0.02)),
        locked=chance.choice((0.0, 0.0, 0.0, 0.01, 0.05)),
        longest_pause_seconds=chance.choice((10.0, 200.0, 1_000.0)),
    )


def draw_doubt(chance: random.Random, scene: Scene) -> Fault:
    """Draw a fault in which money moves, but the answer does not say so."""
    kind, times = chance.choice(AFTER_KINDS), chance.choice((1, 3, 4, 8))
    status, code = chance.choice(SERVER_ERRORS)
    if scene.kind == "aged" and chance.random() < 0.5:
        kind, status, code = "error_after", 503, "LN_UNAVAILABLE"
    return Fault("PATCH", EXECUTE, kind, times=times, status=status, code=code)


def draw_fault(chance: random.Random, scene: Scene) -> Fault:
    """Draw one fault."""
    if chance.random() < 0.15 and scene.has_webhooks:
        kinds = (*WEBHOOK_KINDS, "webhook_drop") if scene.has_workers else WEBHOOK_KINDS
        return Fault("POST", "*", chance.choice(kinds), times=chance.choice((1, 3)), seconds=chance.uniform(1, 90))
    if chance.random() < 0.15:
        return draw_doubt(chance, scene)
    if chance.random() < 0.05:
        off_seconds = chance.choice((-90_000.0, -7_200.0, 3.0, 7_200.0, 90_000.0))
        return Fault("*", "/v1/*", "date", times=chance.choice((1, 3)), seconds=off_seconds)
    if chance.random() < 0.06:
        return Fault("POST", "/v1/invoices/*/quote", "field_changed", field="lnInvoice", value=OTHER_REQUEST)
    method, path = chance.choice(PATHS)
    kind = chance.choice(KINDS)
    if kind == "garbage" and path == "/shop/webhook":
        kind = "truncated"  # the simulator's garbage is a 200, regardless of the shop's answer
    status, code = chance.choice(SERVER_ERRORS)
    if kind == "error" and chance.random() < 0.3:
        status, code = chance.choice(REFUSALS)
    longest = 8.0 if scene.is_tight else 90.0
    seconds = (1.0, 60.0, 3_600.0) if kind == "rate_limited" else (0.5, 4.0, 12.0, longest)
    fault = Fault(
        method, path, kind, status=status, code=code,
        times=chance.choice((1, 1, 2, 5, None)),
        skip=chance.choice((0, 0, 0, 1, 2)),
        seconds=chance.choice(seconds),
        probability=chance.choice((1.0, 0.5, 0.2)),
    )  # fmt: skip
    if kind == "delay" and scene.is_tight:
        fault.seconds = 2.0
    return fault
