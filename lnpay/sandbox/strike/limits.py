"""Strike's rate limits: buckets per caller, with lock-outs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

CREATE_INVOICE = "invoice_creation"
QUOTE_INVOICE = "invoice_quote"
RATES = "rates"
CREATE_PAYMENT_QUOTE = "payment_quote_creation"
EXECUTE_PAYMENT = "payment_quote_execution"
OTHERS = "others"

_BUSY = (CREATE_INVOICE, QUOTE_INVOICE, RATES, CREATE_PAYMENT_QUOTE, EXECUTE_PAYMENT)

Limit = tuple[int, int, int]
"""Calls, window in seconds, lock-out in seconds."""

TABLES: dict[str, dict[str, Limit]] = {
    "production": {**dict.fromkeys(_BUSY, (250, 60, 60)), OTHERS: (1000, 600, 3600)},
    "sandbox": {**dict.fromkeys(_BUSY, (90, 60, 60)), OTHERS: (350, 600, 3600)},
    "off": {},
}


@dataclass(slots=True)
class _Bucket:
    calls: deque[float] = field(default_factory=deque)
    locked_until: float = 0.0


class RateLimiter:
    """Counts calls in sliding windows. One call over the limit locks the bucket for its lock-out."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def seconds_to_wait(self, bucket_name: str, client: str, limit: Limit, now: float) -> float:
        """Count one call; 0 when it may pass, else the seconds until the lock-out ends."""
        bucket = self._buckets.setdefault((bucket_name, client), _Bucket())
        if now < bucket.locked_until:
            return bucket.locked_until - now
        calls, window, lock_out = limit
        while bucket.calls and bucket.calls[0] <= now - window:
            bucket.calls.popleft()
        if len(bucket.calls) < calls:
            bucket.calls.append(now)
            return 0.0
        bucket.calls.clear()
        bucket.locked_until = now + lock_out
        return float(lock_out)

    def clear(self) -> None:
        """Forget every call and lock-out."""
        self._buckets.clear()
