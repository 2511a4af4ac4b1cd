"""What the tests of refunds share: what they call Strike's calls, and ways to come in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lnpay.domain.model import Invoice
from lnpay.refunds.send import (
    CLAIM,
    send_due_refunds,
)
from tests.owing import (
    QUOTE,
    Crash,
    refund_of,
)
from tests.world import World

MakeWorld = Callable[..., World]

POST_QUOTE = f"POST {QUOTE}"

PATCH = "PATCH /v1/payment-quotes/"

CLAIM_SECONDS = CLAIM.total_seconds()

VALID_SECONDS = 60
"""How long the simulator's payment quotes are valid."""


def later(world: World, invoice: Invoice) -> float:
    """Seconds until the refund is due again."""
    return (refund_of(world, invoice).next_attempt_at - world.backend.clock()).total_seconds()


def told_of(world: World, invoice: Invoice) -> list[str]:
    """Which events the shop is owed about an invoice, beside that it was paid late."""
    return [one.event_type for one in world.deliveries(invoice) if one.event_type != "invoice.paid_late"]


def change_quotes(world: World, change: Callable[[Any], Any]) -> None:
    """Have every new payment quote arrive as `change` makes it."""
    create = world.backend.strike.create_payment_quote
    setattr(  # noqa: B010 - mypy knows it as a method
        world.backend.strike, "create_payment_quote", lambda *arguments: change(create(*arguments))
    )


def before_call(world: World, start: str, act: Callable[[], object]) -> None:
    """Do `act` once, just before the next call that begins with `start` is made."""
    plain = world.adapter.send

    def interrupted(request: Any, *arguments: Any, **options: Any) -> Any:
        if f"{request.method} {request.path_url}".startswith(start):
            setattr(world.adapter, "send", plain)  # noqa: B010
            act()
        return plain(request, *arguments, **options)

    setattr(world.adapter, "send", interrupted)  # noqa: B010


def after_call(world: World, start: str, act: Callable[[], object]) -> None:
    """Do `act` once, after the next call that begins with `start` was answered and before its caller goes on."""
    plain = world.adapter.send

    def interrupted(request: Any, *arguments: Any, **options: Any) -> Any:
        response = plain(request, *arguments, **options)
        if f"{request.method} {request.path_url}".startswith(start):
            setattr(world.adapter, "send", plain)  # noqa: B010
            act()
        return response

    setattr(world.adapter, "send", interrupted)  # noqa: B010


def crash() -> None:
    raise Crash


def oversleep(world: World, other: Any) -> None:
    """Sleep until our claim has run out, while another process takes the refund as far as it gets."""
    world.wait(CLAIM_SECONDS)
    send_due_refunds(other.refund_sender)
