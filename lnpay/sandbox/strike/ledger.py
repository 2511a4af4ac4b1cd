"""The provider's append-only ledger. Tests rely on it alone to check where money went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from lnpay.sandbox.strike.models import Money


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Money that has moved, finally. kind is "in" or "out"; sats is what the receiver got, fee_sats beside it."""

    at: datetime
    kind: str
    sats: int
    fee_sats: int = 0
    invoice_id: str | None = None
    quote_id: str | None = None
    """Of the invoice quote that was paid (in), or of the payment quote that was executed (out)."""
    payment_id: str | None = None
    idempotency_key: str | None = None
    destination: str | None = None
    payment_request: str | None = None
    receive_request_id: str | None = None
    credited: Money | None = None
    """What the account was credited for a receive, in the currency of its request."""

    @property
    def source_id(self) -> str | None:
        """The invoice or receive request that money came in for."""
        return self.invoice_id or self.receive_request_id


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt to execute a payment quote. outcome is a payment state, or the code of the refusal."""

    at: datetime
    quote_id: str
    outcome: str


class Ledger:
    """Entries in the order they happened."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []
        self.executions: list[Execution] = []

    def add(self, entry: LedgerEntry) -> None:
        """Append one movement."""
        self.entries.append(entry)

    def received(self, source_id: str | None = None) -> int:
        """Sats that came in, of one invoice or receive request, or altogether."""
        return sum(entry.sats for entry in self.entries if entry.kind == "in" and source_id in (None, entry.source_id))

    def sent(self, destination: str | None = None) -> int:
        """Sats that receivers got, one of them or altogether; fees not counted."""
        return sum(
            entry.sats for entry in self.entries if entry.kind == "out" and destination in (None, entry.destination)
        )

    def fees(self) -> int:
        """Sats paid in fees."""
        return sum(entry.fee_sats for entry in self.entries)

    def payouts_per_destination(self) -> Counter[str]:
        """How many payments each destination got."""
        return Counter(entry.destination or "" for entry in self.entries if entry.kind == "out")

    def payouts_per_quote(self) -> Counter[str]:
        """How many payments each payment quote led to. More than one is impossible by construction."""
        return Counter(entry.quote_id or "" for entry in self.entries if entry.kind == "out")

    def executions_per_quote(self) -> Counter[str]:
        """How often each payment quote was asked to execute, for any answer."""
        return Counter(execution.quote_id for execution in self.executions)
