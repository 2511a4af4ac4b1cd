"""Common faults, set with one click."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lnpay.sandbox.faults import Fault
from lnpay.sandbox.world import World


@dataclass(frozen=True, slots=True)
class Preset:
    """A fault with a label. apply sets it."""

    title: str
    apply: Callable[[World], object]


def _preset(title: str, *faults: Fault) -> Preset:
    def apply(simulator: World) -> None:
        for fault in faults:
            simulator.faults.add(replace(fault))

    return Preset(title, apply)


PRESETS: dict[str, Preset] = {
    "strike-down": _preset(
        "Strike answers 503, ten times",
        Fault("*", "/v1/*", "error", times=10, status=503, code="SERVICE_UNAVAILABLE"),
    ),
    "strike-slow": _preset(
        "Strike takes 4 seconds to answer, five times", Fault("*", "/v1/*", "delay_after", times=5, seconds=4)
    ),
    "invoice-lost": _preset(
        "The next invoice is made, but its answer is lost", Fault("POST", "/v1/invoices", "lost_answer")
    ),
    "refund-lost": _preset(
        "The next refund is sent, but the answer is lost",
        Fault("PATCH", "/v1/payment-quotes/*/execute", "lost_answer"),
    ),
    "refund-error": _preset(
        "The next refund is sent, but the answer is 500",
        Fault("PATCH", "/v1/payment-quotes/*/execute", "error_after"),
    ),
    "refund-unsent": _preset(
        "The next refund is not sent, and the answer is 500",
        Fault("PATCH", "/v1/payment-quotes/*/execute", "error"),
    ),
    "refund-twice": _preset(
        "The next execution reaches Strike twice, and the second answer comes",
        Fault("PATCH", "/v1/payment-quotes/*/execute", "repeated"),
    ),
    "receive-refused": _preset(
        "Strike refuses the next receive request (503)",
        Fault("POST", "/v1/receive-requests", "error", status=503, code="LN_UNAVAILABLE"),
    ),
    "receive-unreachable": _preset(
        "The next receive request does not reach Strike", Fault("POST", "/v1/receive-requests", "unreachable")
    ),
    "receive-lost": _preset(
        "The next receive request is made, but its answer is lost",
        Fault("POST", "/v1/receive-requests", "lost_answer"),
    ),
    "receive-twice": _preset(
        "The next receive request is made twice", Fault("POST", "/v1/receive-requests", "repeated")
    ),
    "receives-blocked": _preset(
        "Cloudflare blocks the next three checks of many requests at once",
        Fault("GET", "/v1/receive-requests/receives", "html403", times=3),
    ),
    "receives-down": _preset(
        "Strike answers 500 to the next five checks of any receive request",
        Fault("GET", "/v1/receive-requests*", "error", times=5),
    ),
    "webhook-lost": _preset("The next three webhooks never arrive", Fault("POST", "*", "webhook_drop", times=3)),
    "webhook-twice": _preset("The next webhook arrives twice", Fault("POST", "*", "webhook_duplicate", seconds=2)),
    "webhook-late": _preset("The next webhook arrives a minute late", Fault("POST", "*", "webhook_delay", seconds=60)),
    "webhook-forged": _preset("A forged webhook arrives beside the next one", Fault("POST", "*", "webhook_forge")),
    "list-blocked": _preset("Cloudflare blocks the next three lists", Fault("GET", "/v1/invoices", "html403", times=3)),
    "rates-limited": _preset(
        "CoinGecko refuses ten requests (429)",
        Fault("GET", "/coingecko/*", "rate_limited", times=10, seconds=7),
    ),
    "rates-down": _preset(
        "Both rate sources are down, ten times each",
        Fault("GET", "/coingecko/*", "error", times=10, status=503),
        Fault("GET", "/coinbase/*", "error", times=10, status=503),
    ),
    "shop-down": Preset("The shop answers 500, three times", lambda simulator: simulator.shop.answer_with(500, 3)),
}


@dataclass(frozen=True, slots=True)
class Group:
    """A group of presets. hint: what to do next, and what to expect."""

    title: str
    hint: str
    names: tuple[str, ...]


GROUPS = (
    Group(
        "Strike",
        "Then order something. Either the order succeeds, or the shop gets a one-line error and may simply try again.",
        ("strike-down", "strike-slow", "invoice-lost", "list-blocked"),
    ),
    Group(
        "Refunds",
        "Then pay something late and read the ledger: the money is refunded once, no matter what was answered.",
        ("refund-lost", "refund-error", "refund-unsent", "refund-twice"),
    ),
    Group(
        "Receive requests",
        "With RECEIVE_WITH=receive-request, order or pay something. A request whose answer was lost is never shown "
        "to a customer; LNPay makes another, and finds a payment in another way.",
        (
            "receive-refused",
            "receive-unreachable",
            "receive-lost",
            "receive-twice",
            "receives-blocked",
            "receives-down",
        ),
    ),
    Group(
        "Strike's webhooks",
        "Then pay something. A webhook is only a hint: LNPay reads the invoice back, and polls if no webhook arrives.",
        ("webhook-lost", "webhook-twice", "webhook-late", "webhook-forged"),
    ),
    Group(
        "Prices",
        "Then order something. LNPay asks another source. If only an old price is left, it refuses orders.",
        ("rates-limited", "rates-down"),
    ),
    Group(
        "The shop",
        "Then pay something. LNPay notifies the shop again, with growing pauses, until it answers 2xx.",
        ("shop-down",),
    ),
)
"""The panel's layout; every preset appears once."""
