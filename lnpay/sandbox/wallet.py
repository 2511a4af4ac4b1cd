"""The customer's wallet: pays payment requests, receives refunds, can ask for money itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lnpay.sandbox.core import Core
from lnpay.sandbox.strike.bolt11_writer import WALLET_KEY, PaymentTerms, write_payment_request

START_SATS = 100_000_000


def plain_request(text: str) -> str:
    """A payment request or address in lower case, without the prefix and parameters of a link."""
    return text.strip().lower().removeprefix("lightning:").removeprefix("bitcoin:").partition("?")[0]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Money that reached the wallet."""

    at: datetime
    sats: int
    destination: str
    payment_id: str
    comment: str | None


@dataclass(frozen=True, slots=True)
class WalletRequest:
    """A payment request the wallet issued."""

    payment_request: str
    sats: int
    expires_at: datetime
    preimage: str
    """Proves that it was paid: its SHA-256 is the payment hash."""


@dataclass(slots=True)
class Wallet:
    """One wallet behind every Lightning address."""

    sats: int = START_SATS
    receipts: list[Receipt] = field(default_factory=list)
    requests: dict[str, WalletRequest] = field(default_factory=dict)
    paid: set[str] = field(default_factory=set)

    def receive(self, receipt: Receipt) -> None:
        """Receive a payment."""
        self.sats += receipt.sats
        self.receipts.append(receipt)
        if receipt.destination in self.requests:
            self.paid.add(receipt.destination)

    def ask(self, core: Core, sats: int, expiry_seconds: int = 3600) -> WalletRequest:
        """Issue a payment request."""
        now, preimage = core.now(), core.new_secret()
        terms = PaymentTerms(
            sats=sats,
            timestamp=int(now.timestamp()),
            expiry_seconds=expiry_seconds,
            payment_hash=hashlib.sha256(preimage).digest(),
            payment_secret=core.new_secret(),
        )
        text = write_payment_request(terms, WALLET_KEY)
        self.requests[text] = WalletRequest(text, sats, now + timedelta(seconds=expiry_seconds), preimage.hex())
        return self.requests[text]
