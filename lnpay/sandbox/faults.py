"""Faults on request: each request consumes one, in the order in which they were added."""

from __future__ import annotations

import fnmatch
import random
import re
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

REQUEST_KINDS = (
    "error",  # an error envelope; nothing happened
    "error_after",  # it happened, but the answer is an error
    "unreachable",  # the connection fails; nothing happened
    "lost_request",  # sent but never processed; no answer within any timeout
    "lost_answer",  # it happened, but the connection closes without an answer
    "timeout_after",  # it happened, and no answer comes within any timeout
    "repeated",  # it happens twice, as if a proxy had retried it; the second answer is returned
    "delay",  # waits, processes the request even if the caller has given up, then answers
    "delay_after",  # it happens, then the answer waits
    "html403",  # Cloudflare's page; nothing happened
    "rate_limited",  # 429 with Retry-After; nothing happened
    "garbage",  # it happened, but the answer is a 200 that is not JSON
    "truncated",  # it happened, but the answer's JSON is cut off
    "field_missing",  # it happened, `field` (dotted) is left out of the answer
    "field_changed",  # it happened, `field` (dotted) of the answer is `value`
    "date",  # it happened, the answer's Date is `value`, or (None) `seconds` off
)
WEBHOOK_KINDS = (
    "webhook_drop",  # never sent, although the provider records it as sent
    "webhook_duplicate",  # sent once more, `seconds` later
    "webhook_delay",  # sent `seconds` later
    "webhook_reorder",  # sent after everything that is emitted within `seconds`
    "webhook_forge",  # a copy with another event id and a wrong signature is sent beside it
)

NO_ANSWER_SECONDS = 20.0
"""How long the server keeps the caller of a swallowed request waiting before it closes the connection."""


@dataclass(slots=True)
class Fault:
    """One configured fault.

    path_pattern: a glob over the path ("/v1/payment-quotes/*/execute"), or a regular expression when it
    starts with "^"; for the webhook kinds, over the event type. times: None means always. skip: how many
    matching requests pass unharmed first. probability: of each matching request, by the simulator's seed.
    """

    method: str
    path_pattern: str
    kind: str
    times: int | None = 1
    skip: int = 0
    status: int = 500
    code: str = "INTERNAL_SERVER_ERROR"
    seconds: float = 0.0
    field: str = ""
    value: Any = None
    probability: float = 1.0
    fault_id: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        if self.kind not in REQUEST_KINDS + WEBHOOK_KINDS:
            raise ValueError(f"no such kind of fault: {self.kind}")
        _compile(self.path_pattern)

    def is_about(self, method: str, path: str) -> bool:
        """Whether the fault applies to a request, or to an event with its type as path."""
        return self.method in ("*", method) and _compile(self.path_pattern).match(path) is not None

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern if pattern.startswith("^") else fnmatch.translate(pattern))
    except re.error as error:
        raise ValueError(f"not a pattern: {pattern}") from error


@dataclass(slots=True)
class FaultInjector:
    """The configured faults, and how often each has been applied."""

    random: random.Random
    faults: list[Fault] = field(default_factory=list)
    _count: int = 0

    def add(self, fault: Fault) -> Fault:
        """Set a fault; the same object counts its hits."""
        self._count += 1
        fault.fault_id = self._count
        self.faults.append(fault)
        return fault

    def remove(self, fault_id: int | None = None) -> None:
        """Remove one fault, or all."""
        self.faults = [fault for fault in self.faults if fault_id not in (None, fault.fault_id)]

    def take(self, method: str, path: str, kinds: tuple[str, ...] = REQUEST_KINDS) -> Fault | None:
        """The fault to apply to this request, counted as a hit."""
        for fault in self.faults:
            if fault.kind in kinds and fault.times != 0 and fault.is_about(method, path):
                if fault.skip > 0:
                    fault.skip -= 1
                elif fault.probability >= 1 or self.random.random() < fault.probability:
                    return _hit(fault)
        return None


def _hit(fault: Fault) -> Fault:
    fault.hits += 1
    if fault.times is not None:
        fault.times -= 1
    return fault
