"""Subscriptions and events as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from lnpay.commands.tables import new_table
from lnpay.domain.text import terminal_safe
from lnpay.monitoring.subscriptions import StrikeEvent, events_of, is_same_url

if TYPE_CHECKING:
    from rich.table import Table

Json = dict[str, Any]

SHOWN_FIELDS = ("id", "webhookUrl", "webhookVersion", "enabled", "created", "eventTypes")
"""The fields of a subscription that are shown. Strike never returns the secret; if it ever did, it would be left
out."""


def subscription_table(subscriptions: Sequence[Json], our_url: str, *, is_numbered: bool) -> Table:
    """A table of subscriptions, marking those that call `our_url`. is_numbered: number the rows from 1, for the
    menu.
    """
    names = ("id", "address", "on", "events", "made")
    table = new_table(*(("#", *names) if is_numbered else names))
    for column in table.columns:
        column.overflow, column.no_wrap = "fold", column.header == "id"
    for number, one in enumerate(subscriptions, 1):
        url = plain(one.get("webhookUrl"))
        cells = (
            plain(one.get("id")),
            f"{url} (this LNPay)" if is_same_url(url, our_url) else url,
            "yes" if one.get("enabled") is True else "no",
            "\n".join(plain(event) for event in events_of(one)),
            plain(one.get("created"))[:10],
        )
        table.add_row(*(Text(cell) for cell in ((str(number), *cells) if is_numbered else cells)))
    return table


def event_table(events: Sequence[StrikeEvent]) -> Table:
    """A table of events and the outcome of Strike's call about each."""
    table = new_table("time (UTC)", "event", "of", "outcome")
    for one in events:
        cells = (f"{one.created_at:%Y-%m-%d %H:%M:%S}", one.event_type, plain(one.entity_id), one.arrival)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def shown_event(event: StrikeEvent) -> Json:
    """An event as JSON."""
    return {
        "created": event.created_at.isoformat(),
        "eventType": event.event_type,
        "entityId": event.entity_id,
        "arrival": event.arrival,
    }


def shown(subscription: Json) -> Json:
    """The fields of a subscription that may be shown: SHOWN_FIELDS."""
    return {name: subscription[name] for name in SHOWN_FIELDS if name in subscription}


def plain(value: object) -> str:
    """A value of Strike's answer as text that any terminal shows safely."""
    return terminal_safe(str(value or ""))


def id_of(subscription: Json) -> str:
    """Strike's id of a subscription."""
    return str(subscription.get("id"))
