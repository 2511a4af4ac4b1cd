"""What Strike's subscriptions and events show: is the right subscription in place, and do its calls arrive?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from lnpay.strike.client import SUBSCRIBED_EVENTS
from lnpay.strike.reading import parse_time

Json = dict[str, Any]

STILL_TRYING = timedelta(minutes=1)
"""An undelivered event this young is not judged yet: Strike repeats it after 3, 9 and 27 seconds."""

JUDGED_EVENTS = 10
"""How many of the newest events are judged."""


def is_same_url(one: object, other: str) -> bool:
    """Whether a subscription's URL is equivalent to ours."""
    return isinstance(one, str) and bool(other) and _url_parts(one) == _url_parts(other)


def _url_parts(url: str) -> tuple[str, str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", "", url
    return parts.scheme.lower(), parts.netloc.lower().removesuffix(":443"), parts.path


def subscriptions_of(subscriptions: Iterable[Json], url: str) -> list[Json]:
    """The subscriptions of `url`, enabled ones first."""
    ours = [one for one in subscriptions if is_same_url(one.get("webhookUrl"), url)]
    return sorted(ours, key=lambda one: one.get("enabled") is not True)


def missing_events(subscription: Mapping[str, Any], *, ignoring: Iterable[str] = ()) -> list[str]:
    """The required events that a subscription lacks."""
    return sorted(set(SUBSCRIBED_EVENTS) - set(ignoring) - set(events_of(subscription)))


def events_of(subscription: Mapping[str, Any]) -> list[str]:
    """The events that a subscription names; what is not a text is left out."""
    named = subscription.get("eventTypes")
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []


class Arrival(StrEnum):
    """The outcome of Strike's calls about one event."""

    ARRIVED = "arrived"
    REFUSED = "refused"  # by this LNPay, or by another subscriber on the account
    TRYING = "trying"  # Strike is still making its first, quick attempts
    NOT_SENT = "not sent"  # there was no subscription


@dataclass(frozen=True)
class StrikeEvent:
    """One event of a kind that we subscribe to."""

    event_type: str
    entity_id: str
    created_at: datetime
    arrival: Arrival


def read_events(rows: Iterable[Json], now: datetime) -> list[StrikeEvent]:
    """Strike's events of our types, in Strike's order; invalid ones are left out."""
    found = (_read_event(row, now) for row in rows if row.get("eventType") in SUBSCRIBED_EVENTS)
    return [event for event in found if event is not None]


def _read_event(row: Json, now: datetime) -> StrikeEvent | None:
    data = row.get("data")
    entity_id = data.get("entityId") if isinstance(data, dict) else None
    try:
        created_at = parse_time(row.get("created"))
    except (ValueError, TypeError):
        return None
    arrival = _arrival(row.get("deliverySuccess"), now - created_at)
    return StrikeEvent(str(row["eventType"]), str(entity_id or ""), created_at, arrival)


def _arrival(success: object, age: timedelta) -> Arrival:
    if success is None:
        return Arrival.NOT_SENT
    if success is True:
        return Arrival.ARRIVED
    return Arrival.TRYING if age < STILL_TRYING else Arrival.REFUSED


@dataclass(frozen=True)
class Record:
    """The outcomes of the newest events. refused_in_a_row: the latest streak. do_arrive: None without a judged
    event.
    """

    arrived: int
    judged: int
    refused_in_a_row: int

    @property
    def do_arrive(self) -> bool | None:
        """Whether the newest has arrived."""
        return self.refused_in_a_row == 0 if self.judged else None


def judge(events: Sequence[StrikeEvent]) -> Record:
    """Judge whether Strike's calls arrive. events: newest first; those still being tried are left out."""
    arrivals = [event.arrival for event in events if event.arrival in (Arrival.ARRIVED, Arrival.REFUSED)]
    newest = arrivals[:JUDGED_EVENTS]
    in_a_row = newest.index(Arrival.ARRIVED) if Arrival.ARRIVED in newest else len(newest)
    return Record(newest.count(Arrival.ARRIVED), len(newest), in_a_row)
