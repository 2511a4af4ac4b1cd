"""Strike's webhooks as the sandbox sends them: signed, repeated, and wrong when told to."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest

from lnpay.sandbox import Fault, Simulator
from tests.sandbox.strike_client import SECRET, Client, error_of


class Receiver:
    """Remembers what it was sent and answers as told."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.got: list[tuple[bytes, dict[str, str]]] = []

    def __call__(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        self.got.append((body, headers))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return answer

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body, _ in self.got]


def is_signed(body: bytes, headers: dict[str, str]) -> bool:
    wanted = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted, headers["X-Webhook-Signature"].lower())


def test_a_payment_is_reported_in_a_signed_body_of_ids(strike: Client) -> None:
    strike.subscribe()
    invoice_id, receiver = strike.paid_invoice(), Receiver()

    assert strike.simulator.pump_webhooks(receiver) == 2

    created, updated = receiver.events()
    assert (created["eventType"], created["data"]) == ("invoice.created", {"entityId": invoice_id})
    assert (updated["eventType"], updated["data"]) == (
        "invoice.updated",
        {"entityId": invoice_id, "changes": ["state"]},
    )
    assert list(updated) == ["id", "eventType", "webhookVersion", "data", "created", "deliverySuccess"]
    assert all(is_signed(*call) for call in receiver.got)
    assert strike.simulator.pump_webhooks(receiver) == 0


@pytest.mark.parametrize(("case", "change"), [("upper", str.upper), ("lower", str.lower)])
def test_the_signature_is_written_in_either_case(strike: Client, case: str, change: Callable[[str], str]) -> None:
    strike.simulator.config.signature_case = case
    strike.subscribe()
    strike.invoice()
    receiver = Receiver()
    strike.simulator.pump_webhooks(receiver)

    signature = receiver.got[0][1]["X-Webhook-Signature"]
    assert signature == change(signature)
    assert len(signature) == 64


def test_failures_are_repeated_three_times_later_each_time(strike: Client) -> None:
    """Twelve retries, the last one 797,160 seconds after the first failure."""
    strike.subscribe()
    strike.invoice()
    receiver = Receiver(500, TimeoutError(), *[404] * 11)
    started_at = simulated = strike.simulator.clock.now()
    waits = []
    strike.simulator.pump_webhooks(receiver)

    while (due_at := strike.simulator.next_webhook_at()) is not None:
        waits.append((due_at - simulated).total_seconds())
        strike.simulator.clock.advance(waits[-1])
        simulated = strike.simulator.clock.now()
        assert strike.simulator.pump_webhooks(receiver) == 1

    assert waits == [3**k for k in range(1, 13)]
    assert (simulated - started_at).total_seconds() == 797_160
    assert len({body for body, _ in receiver.got}) == 1


@pytest.mark.parametrize("status", [410, 501])
def test_a_receiver_can_opt_an_event_out_of_retries(strike: Client, status: int) -> None:
    strike.subscribe()
    strike.invoice()

    strike.simulator.pump_webhooks(Receiver(status))

    assert strike.simulator.next_webhook_at() is None


def test_a_repeat_that_is_accepted_is_the_last(strike: Client) -> None:
    strike.subscribe()
    strike.invoice()
    strike.simulator.pump_webhooks(Receiver(500))
    strike.simulator.clock.advance(3)

    assert strike.simulator.pump_webhooks(Receiver(204)) == 1
    assert strike.simulator.next_webhook_at() is None


def test_the_events_api_knows_whether_telling_worked(strike: Client) -> None:
    strike.invoice()
    strike.subscribe()
    strike.invoice()

    def successes() -> list[bool | None]:
        return [event["deliverySuccess"] for event in strike.get("/v1/events").json()["items"]]

    assert successes() == [False, None]
    strike.simulator.pump_webhooks(Receiver())
    assert successes() == [True, None]
    filtered = strike.get("/v1/events", **{"$filter": "deliverySuccess eq true"}).json()["items"]
    assert strike.get(f"/v1/events/{filtered[0]['id']}").json() == filtered[0]


def sent_with(simulator: Simulator, fault: Fault, seconds: float = 0) -> list[dict[str, Any]]:
    """The events that arrive at once and `seconds` later."""
    simulator.faults.add(fault)
    simulator.webhooks.emit("invoice.created", "first")
    simulator.webhooks.emit("invoice.created", "second")
    receiver = Receiver()
    simulator.pump_webhooks(receiver)
    simulator.clock.advance(seconds)
    simulator.pump_webhooks(receiver)
    return receiver.events()


def entities(events: list[dict[str, Any]]) -> list[str]:
    return [event["data"]["entityId"] for event in events]


def test_a_webhook_can_be_dropped(strike: Client) -> None:
    strike.subscribe()

    events = sent_with(strike.simulator, Fault("POST", "invoice.*", "webhook_drop"), 10_000)

    assert entities(events) == ["second"]


def test_a_webhook_can_come_twice_with_one_id(strike: Client) -> None:
    strike.subscribe()

    events = sent_with(strike.simulator, Fault("POST", "invoice.*", "webhook_duplicate", seconds=9), 9)

    assert entities(events) == ["first", "second", "first"]
    assert events[0] == events[2]


@pytest.mark.parametrize("kind", ["webhook_delay", "webhook_reorder"])
def test_a_webhook_can_come_after_a_later_one(strike: Client, kind: str) -> None:
    strike.subscribe()

    events = sent_with(strike.simulator, Fault("POST", "invoice.*", kind, seconds=5), 5)

    assert entities(events) == ["second", "first"]


def test_a_forged_webhook_has_another_id_and_a_wrong_signature(strike: Client) -> None:
    strike.subscribe()
    strike.simulator.faults.add(Fault("POST", "invoice.created", "webhook_forge"))
    strike.invoice()
    receiver = Receiver(200, 401)

    strike.simulator.pump_webhooks(receiver)

    assert [is_signed(*call) for call in receiver.got] == [True, False]
    assert len({event["id"] for event in receiver.events()}) == 2
    assert strike.simulator.next_webhook_at() is None


def test_an_event_is_sent_again_when_told(strike: Client) -> None:
    strike.subscribe()
    invoice_id, receiver = strike.paid_invoice(), Receiver()
    strike.simulator.pump_webhooks(receiver)

    strike.control("/webhooks/send-event", entity_id=invoice_id, times=2)
    strike.simulator.pump_webhooks(receiver)

    assert receiver.got[1:] == [receiver.got[1]] * 3


def test_a_subscription_is_made_changed_and_removed(strike: Client) -> None:
    made = strike.subscribe()
    path = f"/v1/subscriptions/{made.json()['id']}"

    assert made.status_code == 201
    assert set(made.json()) == {"id", "webhookUrl", "webhookVersion", "enabled", "created", "eventTypes"}
    assert strike.get("/v1/subscriptions").json() == [made.json()]
    assert strike.call("PATCH", path, json={"enabled": False}).json()["enabled"] is False
    strike.invoice()
    assert strike.simulator.next_webhook_at() is None
    assert strike.call("DELETE", path).status_code == 204
    assert error_of(strike.get(path)) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("webhookUrl", "http://shop.example/webhook"),
        ("webhookUrl", "shop.example"),
        ("webhookUrl", "https://["),
        ("webhookUrl", None),
        ("webhookVersion", "v3"),
        ("secret", "too short"),
        ("secret", "x" * 51),
        ("enabled", "yes"),
        ("eventTypes", []),
        ("eventTypes", ["invoice.paid"]),
    ],
)
def test_a_wrong_subscription_is_refused(strike: Client, field: str, value: object) -> None:
    answer = strike.subscribe(**{field: value})

    assert error_of(answer) == (400, "INVALID_DATA")
    assert field in answer.json()["data"]["validationErrors"]


def test_there_are_at_most_fifty_subscriptions(strike: Client) -> None:
    statuses = [strike.subscribe().status_code for _ in range(51)]

    assert statuses == [201] * 50 + [422]


def test_events_are_kept_for_thirty_days_with_or_without_a_subscription(strike_over_http: Client) -> None:
    strike = strike_over_http
    old = strike.invoice()["invoiceId"]
    (event,) = strike.get("/v1/events").json()["items"]
    strike.simulator.clock.advance(86_400 * 30)
    new = strike.invoice()["invoiceId"]

    at_the_end = strike.get("/v1/events").json()
    assert [item["data"]["entityId"] for item in at_the_end["items"]] == [new, old]
    assert strike.get(f"/v1/events/{event['id']}").json() == event
    strike.simulator.clock.advance(1)
    after = strike.get("/v1/events").json()
    assert ([item["data"]["entityId"] for item in after["items"]], after["count"]) == ([new], 1)
    assert error_of(strike.get(f"/v1/events/{event['id']}")) == (404, "NOT_FOUND")
