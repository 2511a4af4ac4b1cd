"""What Strike's subscriptions and events tell about its calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lnpay.monitoring.subscriptions import (
    Arrival,
    is_same_url,
    judge,
    missing_events,
    read_events,
    subscriptions_of,
)

NOW = datetime(2026, 5, 18, 12, tzinfo=UTC)
URL = "https://pay.shop.example/webhook"


def event(success: object, *, age: timedelta = timedelta(hours=1), **changes: Any) -> dict[str, Any]:
    created = (NOW - age).isoformat()
    return {
        "id": "e",
        "eventType": "invoice.updated",
        "data": {"entityId": "i"},
        "created": created,
        "deliverySuccess": success,
        **changes,
    }


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ("https://PAY.shop.example:443/webhook", True),
        ("https://pay.shop.example/webhook/", False),
        ("http://pay.shop.example/webhook", False),
        ("https://[broken/webhook", False),
        (None, False),
    ],
)
def test_addresses_are_compared_as_places(other: object, is_same: bool) -> None:
    assert is_same_url(other, URL) is is_same


def test_no_address_of_ours_is_the_same_as_none() -> None:
    assert not is_same_url("", "")


def test_of_our_subscriptions_the_enabled_one_comes_first() -> None:
    off, on = {"webhookUrl": URL, "enabled": False}, {"webhookUrl": URL, "enabled": True}

    assert subscriptions_of([off, {"webhookUrl": "https://other.example/webhook"}, on], URL) == [on, off]


def test_events_that_are_needed_and_not_asked_for_are_named() -> None:
    subscription = {"eventTypes": ["invoice.updated", "invoice.created"]}

    assert missing_events(subscription) == ["payment.created", "payment.updated", "receive-request.receive-completed"]
    assert len(missing_events({})) == 4


@pytest.mark.parametrize(
    ("success", "age", "arrival"),
    [
        (True, timedelta(seconds=1), Arrival.ARRIVED),
        (False, timedelta(seconds=59), Arrival.TRYING),
        (False, timedelta(seconds=61), Arrival.REFUSED),
        (None, timedelta(hours=1), Arrival.NOT_SENT),
        ("yes", timedelta(hours=1), Arrival.REFUSED),
    ],
)
def test_what_became_of_an_event(success: object, age: timedelta, arrival: Arrival) -> None:
    [found] = read_events([event(success, age=age)], NOW)

    assert (found.arrival, found.entity_id) == (arrival, "i")


def test_events_of_other_kinds_and_nonsense_are_left_out() -> None:
    rows = [event(True, eventType="deposit.updated"), event(True, created="soon"), event(True, created=None), {}]

    assert read_events(rows, NOW) == []


@pytest.mark.parametrize(
    ("successes", "record", "do_arrive"),
    [
        ([], (0, 0, 0), None),
        ([None], (0, 0, 0), None),
        ([True, False], (1, 2, 0), True),
        ([None, False, True], (1, 2, 1), False),
        ([False, False], (0, 2, 2), False),
        ([True] * 12, (10, 10, 0), True),
    ],
)
def test_the_newest_event_says_whether_calls_arrive(
    successes: list[object], record: tuple[int, int, int], do_arrive: bool | None
) -> None:
    found = judge(read_events([event(success) for success in successes], NOW))

    assert (found.arrived, found.judged, found.refused_in_a_row) == record
    assert found.do_arrive is do_arrive


def test_an_event_without_an_entity_still_counts() -> None:
    [found] = read_events([event(True, data=None)], NOW)

    assert found.entity_id == ""
