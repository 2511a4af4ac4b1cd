"""Strike's webhooks: subscriptions, events, and attempts that are repeated when they fail."""

from __future__ import annotations

import hashlib
import heapq
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from lnpay.sandbox.core import Core
from lnpay.sandbox.faults import WEBHOOK_KINDS
from lnpay.sandbox.strike.models import AccountEvent, Subscription
from lnpay.sandbox.strike.views import event_json

EVENT_TYPES = frozenset(
    (
        "invoice.created",
        "invoice.updated",
        "receive-request.receive-pending",
        "receive-request.receive-completed",
        "payment.created",
        "payment.updated",
        "currency-exchange-quote.updated",
        "deposit.updated",
        "payout.created",
        "payout.updated",
        "payout-originator.created",
        "payout-originator.updated",
        "payment-method.bank.created",
        "payment-method.bank.updated",
    )
)
OPT_OUT_STATUSES = (410, 501)

Send = Callable[[str, bytes, dict[str, str]], int]
"""send(url, body, headers) gives the receiver's status, or raises when there is no answer in time."""


@dataclass(order=True, slots=True)
class Attempt:
    """A webhook attempt to make. number: 0 for the first, then the retries."""

    due_at: datetime
    order: int
    subscription: Subscription = field(compare=False)
    event: AccountEvent = field(compare=False)
    body: bytes = field(compare=False)
    number: int = field(compare=False, default=0)
    is_extra: bool = field(compare=False, default=False)
    """A duplicate or a forgery: not retried, and no part of the event's success."""
    is_forged: bool = field(compare=False, default=False)


@dataclass(frozen=True, slots=True)
class SentWebhook:
    """An attempt that was made. status is None when no answer came."""

    at: datetime
    event_id: str
    event_type: str
    entity_id: str
    url: str
    number: int
    status: int | None
    is_extra: bool
    is_forged: bool


class WebhookService:
    """Records events and sends webhooks to their subscribers, with retries."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.subscriptions: dict[str, Subscription] = {}
        self.events: dict[str, AccountEvent] = {}
        self.sent: list[SentWebhook] = []
        self._attempts: list[Attempt] = []
        self._count = 0

    def emit(
        self,
        event_type: str,
        entity_id: str,
        changes: list[str] | None = None,
        details: Mapping[str, str] | None = None,
    ) -> AccountEvent:
        """Record an event and schedule a webhook to every subscription that wants it.

        details: more ids that its data names.
        """
        data: dict[str, object] = {"entityId": entity_id, **(details or {})}
        if changes is not None:
            data["changes"] = changes
        event = AccountEvent(self._core.new_id(), event_type, data, self._core.now())
        self.events[event.event_id] = event
        for subscription in list(self.subscriptions.values()):
            if subscription.is_enabled and event_type in subscription.event_types:
                self._owe(subscription, event)
        return event

    def shown_events(self) -> dict[str, AccountEvent]:
        """The events that the events API still has, the oldest first."""
        start = self._core.now() - timedelta(days=self._core.config.event_days)
        return {event_id: event for event_id, event in self.events.items() if event.created_at >= start}

    def _owe(self, subscription: Subscription, event: AccountEvent) -> None:
        fault = self._core.faults.take("POST", event.event_type, WEBHOOK_KINDS)
        kind = fault.kind if fault else ""
        seconds = fault.seconds if fault else 0.0
        if kind == "webhook_drop":
            event.delivered += 1
            return
        jitter = self._core.config.webhook_jitter_seconds
        due_at = self._core.now() + timedelta(seconds=self._core.random.uniform(0, jitter) if jitter else 0)
        is_later = kind in ("webhook_delay", "webhook_reorder")
        event.waiting += 1
        self._add(due_at + timedelta(seconds=seconds if is_later else 0), subscription, event)
        if kind == "webhook_duplicate":
            self._add(due_at + timedelta(seconds=seconds), subscription, event, is_extra=True)
        elif kind == "webhook_forge":
            self.send_again(event, subscription, is_forged=True)

    def _add(
        self,
        due_at: datetime,
        subscription: Subscription,
        event: AccountEvent,
        *,
        number: int = 0,
        is_extra: bool = False,
        is_forged: bool = False,
    ) -> None:
        self._count += 1
        body = self._body(event, subscription.version)
        heapq.heappush(
            self._attempts, Attempt(due_at, self._count, subscription, event, body, number, is_extra, is_forged)
        )

    def send_again(self, event: AccountEvent, subscription: Subscription, *, is_forged: bool = False) -> None:
        """Schedule a duplicate now: the same bytes, or an unsigned forgery with another id."""
        if is_forged:
            event = replace(event, event_id=self._core.new_id())
        self._add(self._core.now(), subscription, event, is_extra=True, is_forged=is_forged)

    def _body(self, event: AccountEvent, version: str) -> bytes:
        view = {**event_json(event, self._core.config), "webhookVersion": version, "deliverySuccess": True}
        return json.dumps(view, separators=(",", ":")).encode()

    def due(self, now: datetime) -> list[Attempt]:
        """The attempts that should have been made by now, in order."""
        return sorted(attempt for attempt in self._attempts if attempt.due_at <= now)

    def next_at(self) -> datetime | None:
        """When the next attempt is due."""
        return self._attempts[0].due_at if self._attempts else None

    def claim(self, now: datetime) -> Attempt | None:
        """Remove and return the next due attempt, for the caller to make; drop unwanted ones."""
        while self._attempts and self._attempts[0].due_at <= now:
            attempt = heapq.heappop(self._attempts)
            subscription = attempt.subscription
            if subscription.is_enabled and subscription.subscription_id in self.subscriptions:
                return attempt
            if not attempt.is_extra:
                attempt.event.waiting -= 1
        return None

    def headers_of(self, attempt: Attempt) -> dict[str, str]:
        """What is sent with the body."""
        secret = "not the secret" if attempt.is_forged else attempt.subscription.secret
        digest = hmac.new(secret.encode(), attempt.body, hashlib.sha256).hexdigest()
        is_upper = self._core.config.signature_case == "upper"
        return {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Strike-Webhooks",
            "X-Webhook-Signature": digest.upper() if is_upper else digest,
        }

    def record(self, attempt: Attempt, status: int | None) -> None:
        """Record how an attempt went; retry k is due 3**k seconds after the failure before it."""
        now, event = self._core.now(), attempt.event
        self.sent.append(
            SentWebhook(
                now, event.event_id, event.event_type, str(event.data["entityId"]), attempt.subscription.url,
                attempt.number, status, attempt.is_extra, attempt.is_forged,
            )
        )  # fmt: skip
        if attempt.is_extra:
            return
        if status is not None and 200 <= status < 300:
            event.waiting -= 1
            event.delivered += 1
        elif status in OPT_OUT_STATUSES or attempt.number >= self._core.config.webhook_retries:
            event.waiting -= 1
            event.failed += 1
        else:
            number = attempt.number + 1
            due_at = now + timedelta(seconds=3**number)
            self._add(due_at, attempt.subscription, event, number=number)
