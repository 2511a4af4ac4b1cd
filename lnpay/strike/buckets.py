"""Strike's call limits as a client meets them: which calls are counted together, and the budget asked before each."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Bucket(StrEnum):
    """Calls that Strike counts together. OTHER is strict: past 1,000 in ten minutes, Strike blocks for an hour."""

    INVOICE_CREATE = "invoice_create"
    INVOICE_QUOTE = "invoice_quote"
    RATES = "rates"
    PAYMENT_QUOTE = "payment_quote"
    PAYMENT_EXECUTE = "payment_execute"
    OTHER = "other"


class CallBudget(Protocol):
    """Consulted before each call, and informed when Strike rate-limits one."""

    def take(self, bucket: Bucket) -> None:
        """Count one call. Raises StrikeUnavailable, with retry_after_seconds, if it must not be made now."""
        ...

    def block(self, bucket: Bucket, retry_after_seconds: int | None) -> None:
        """Record a 429. None: it had no Retry-After."""
        ...
